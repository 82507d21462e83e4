//! The loop of a route's thread: it reads messages, and sleeps in one epoll for librdkafka, the plugin and the
//! supervisor together.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Command, Ended, Event, Inbox, Listener, RouteStats, WorkerConfig,
    assignment::all_partitions,
    dead_letter::Letters,
    engine::{Engine, Plugin},
    shaping::Shaping,
    transaction::Transaction,
};
use crate::{
    kafka::{Batch, ClientError, ClientEvent, Consumer, ErrorCode, Rebalance, Revocation, TopicPartition},
    lane::{self, DownCause},
    os::{Interest, Poller, heap},
    settings::ConsumerType,
};

const KAFKA: u64 = 1;
const PLUGIN: u64 = 2;
const SUPERVISOR: u64 = 3;
const LETTERS: u64 = 4;
const SCHEMAS: u64 = 8;

/// A lane that takes nothing for this long has its partitions paused, so that the client can be asked again.
const HOLD_BACK_AFTER: Duration = Duration::from_secs(5);
/// Without a message for this long, the memory of those before is given back, if they were so many.
const TIDY_AFTER: Duration = Duration::from_secs(5);
const WORTH_TIDYING: usize = 1000;
/// How often a simple consumer looks for new partitions, and how soon again when it could not look.
const DISCOVER_EVERY: Duration = Duration::from_secs(10);
const DISCOVER_AGAIN: Duration = Duration::from_secs(2);
/// How long an ended plugin may take to be gone.
const END_GRACE: Duration = Duration::from_secs(5);

/// What runs beside the engine in the route's thread.
struct Loop {
    client: Consumer,
    engine: Engine,
    poller: Poller,
    /// librdkafka's queue may hold something: its descriptor tells of the change from empty only.
    unread: bool,
    last_read: Instant,
    last_message: Instant,
    /// Messages that were read since the heap's free memory was given back.
    read_since_tidy: usize,
    discover_at: Option<Instant>,
    /// Topics of a simple consumer that were said to be missing.
    told_missing: BTreeSet<Arc<str>>,
    /// The route left its group because its plugin is stuck, or does not run.
    left_group: bool,
}

/// Runs a route until it is stopped or cannot go on.
pub(super) fn run(config: WorkerConfig, inbox: &Inbox, stats: Arc<RouteStats>, listener: Listener) -> Ended {
    let mut work = match Loop::new(config, inbox, stats, Arc::clone(&listener)) {
        Ok(work) => work,
        Err(ended) => return ended,
    };
    listener(Event::Polling);
    let ended = work.turn_until_told(inbox);
    work.close(ended)
}

/// What a loop was told to do.
enum Told {
    Stop { deadline: Instant, leave: bool },
    Idle,
    Failed(Ended),
}

// === impl Loop ===

impl Loop {
    fn new(
        config: WorkerConfig,
        inbox: &Inbox,
        stats: Arc<RouteStats>,
        listener: Listener,
    ) -> Result<Self, Ended> {
        let wrong = |error: ClientError| Ended::Misconfigured(error.to_string());
        let system =
            |error: std::io::Error| Ended::Misconfigured(format!("the system has no more to give: {error}"));
        let client = Consumer::create(&config.properties, config.route.clone()).map_err(wrong)?;
        let home = lane::home(config.home.clone()).map_err(system)?;
        let simple = config.consumer_type == ConsumerType::Simple;
        if !simple {
            client.subscribe(&config.topics).map_err(wrong)?;
        }
        let poller = Poller::new().map_err(system)?;
        poller
            .add(client.wake_fd(), KAFKA, Interest::Read)
            .map_err(system)?;
        poller
            .add(inbox.wake(), SUPERVISOR, Interest::Read)
            .map_err(system)?;
        let mut letters = Letters::of(&config).map_err(system)?;
        let now = Instant::now();
        let mut engine = Engine::new(config, home, listener, stats).map_err(system)?;
        if let Some(letters) = &mut letters {
            if let Some(transaction) = &engine.transaction {
                letters.post_mut().join(&transaction.link);
            }
            poller
                .add(letters.post_mut().wake_fd(), LETTERS, Interest::Read)
                .map_err(system)?;
        }
        poller
            .add(&engine.homes, PLUGIN, Interest::Read)
            .map_err(system)?;
        if let Some(wake) = engine.shaping.as_ref().and_then(Shaping::wake_fd) {
            poller.add(wake, SCHEMAS, Interest::Read).map_err(system)?;
        }
        engine.letters = letters;
        Ok(Self {
            client,
            engine,
            poller,
            unread: true,
            last_read: now,
            last_message: now,
            read_since_tidy: 0,
            discover_at: simple.then_some(now),
            told_missing: BTreeSet::new(),
            left_group: false,
        })
    }

    fn turn_until_told(&mut self, inbox: &Inbox) -> Told {
        let mut ready = Vec::new();
        loop {
            if let Some(told) = self.obey(inbox) {
                return told;
            }
            let mut busy = self.engine.pump();
            let now = Instant::now();
            if busy {
                // It was at work until now, also where the digest took longer than an idle limit.
                self.last_message = now;
            }
            self.engine.seek(&self.client);
            self.engine.serve_commits(&self.client, now);
            self.discover(now);
            self.mind_membership(now);
            self.engine.serve_letters(now);
            busy |= self.engine.mind_transaction(&self.client, now);
            self.engine.mind_slow_lanes(now);
            self.engine.mind_restart(now);
            self.engine.mind_crowded(now);
            self.engine.mind_blocked(now);
            self.engine.flush_if_due(now);
            busy |= self.engine.hand_out(now);
            busy |= self.engine.mind_swap(now);
            match self.read(now) {
                Ok(read) => busy |= read,
                Err(ended) => return Told::Failed(ended),
            }
            if let Err(ended) = self.engine.mind_progress(&self.client, now) {
                return Told::Failed(ended);
            }
            self.engine.bound_parked(&self.client);
            let idle_at = self.idle_at(now);
            if idle_at.is_some_and(|at| at <= now) {
                return Told::Idle;
            }
            if busy {
                continue;
            }
            self.tidy(now);
            // A failed wait only means another turn.
            let sleep = self.sleep(now, idle_at);
            let _ = self.poller.wait(&mut ready, Some(sleep));
            if ready.contains(&KAFKA) {
                self.client.clear_wake();
                self.unread = true;
            }
            if ready.contains(&SUPERVISOR) {
                inbox.wake().drain();
            }
            if ready.contains(&SCHEMAS) {
                self.engine.schemas_came();
            }
            if ready.contains(&LETTERS) {
                self.engine.letters_came();
            }
        }
    }

    fn obey(&mut self, inbox: &Inbox) -> Option<Told> {
        while let Some(command) = inbox.take() {
            match command {
                Command::StartPlugin => self.engine.start_plugin(),
                Command::Swap(config) => self.engine.begin_swap(*config),
                Command::Stop { deadline, leave } => return Some(Told::Stop { deadline, leave }),
                Command::Dump => self.dump(),
                Command::Report(reply) => reply.answer(self.engine.report(&self.client)),
                Command::Pause(reply) => reply.answer(self.engine.pause(&self.client)),
                Command::RestartPlugin(reply) => self.engine.restart_plugin(reply, Instant::now()),
                Command::Resume(reply) => {
                    self.engine.end_pause();
                    if let Some(transaction) = &mut self.engine.transaction {
                        transaction.forgive();
                    }
                    self.unread = true;
                    reply.answer(self.engine.try_again("by order"));
                }
                Command::Skip {
                    topic,
                    partition,
                    offset,
                    reply,
                } => reply.answer(self.engine.skip(&topic, partition, offset)),
            }
        }
        None
    }

    /// Reads a batch if the lane wants one, or if the client must be asked to keep its place in the group.
    fn read(&mut self, now: Instant) -> Result<bool, Ended> {
        let wants = self.engine.wants_messages();
        if wants {
            self.engine.go_on(&self.client);
        } else if now.saturating_duration_since(self.last_read) >= self.patience() {
            self.engine.hold_back(&self.client);
        } else if !self.engine.held_back {
            return Ok(false);
        }
        let patient = now.saturating_duration_since(self.last_read) < self.patience();
        if !wants && patient && self.engine.has_unhanded() {
            return Ok(false);
        }
        // While held back a turn that nothing woke still asks now and then: that is the sign of life.
        if !self.unread && patient {
            return Ok(false);
        }
        let mut batch = Batch::default();
        let size = self.engine.read_size();
        let info = self
            .client
            .batch(size, Duration::ZERO, &mut self.engine, &mut batch)
            .map_err(|e| self.failed(&e))?;
        let made_again = |event: &&ClientEvent| event.code == ErrorCode::UNKNOWN_TOPIC_ID;
        for event in info.events.iter().filter(made_again) {
            self.engine.made_again(event.topic.as_deref().unwrap_or_default());
        }
        self.engine.hold_back_what_came(&self.client);
        self.last_read = now;
        self.unread = !info.drained;
        self.engine.progress.read(info.drained);
        if batch.is_empty() {
            // A rebalance may have heard what a swap waits for.
            return Ok(self.unread || self.engine.swap.is_some());
        }
        self.last_message = now;
        self.read_since_tidy += batch.len();
        self.engine.take_batch(&self.client, batch);
        self.engine.hand_out(now);
        Ok(true)
    }

    /// When the memory that a burst of messages took is given back, if none comes.
    fn tidy_at(&self) -> Option<Instant> {
        (self.read_since_tidy >= WORTH_TIDYING).then(|| self.last_message + TIDY_AFTER)
    }

    fn tidy(&mut self, now: Instant) {
        if self.tidy_at().is_some_and(|at| at <= now) {
            self.read_since_tidy = 0;
            heap::give_back();
        }
    }

    fn patience(&self) -> Duration {
        HOLD_BACK_AFTER.min(self.engine.config.max_poll_interval / 3)
    }

    fn failed(&self, error: &ClientError) -> Ended {
        match error.code() {
            Some(ErrorCode::FENCED_INSTANCE_ID | ErrorCode::UNRELEASED_INSTANCE_ID) => {
                let id = self
                    .engine
                    .config
                    .properties
                    .get("group.instance.id")
                    .unwrap_or_default();
                Ended::Misconfigured(format!(
                    "another consumer uses the same static member id `{id}`: {error}. Give one of the \
                     two `membership: dynamic`"
                ))
            }
            _ => Ended::ClientFailed(error.to_string()),
        }
    }

    /// The simple consumer assigns itself what there is, and what comes later.
    fn discover(&mut self, now: Instant) {
        if self.discover_at.is_none_or(|at| at > now) {
            return;
        }
        let config = &self.engine.config;
        let found = all_partitions(&self.client, &config.topics, config.exclude_internal_topics);
        self.discover_at = Some(now + DISCOVER_EVERY);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                // The client names a broker that is away.
                tracing::debug!(route = %config.route, %error, "cannot look for partitions");
                self.discover_at = Some(now + DISCOVER_AGAIN);
                return;
            }
        };
        for (topic, error) in found.missing {
            self.discover_at = Some(now + DISCOVER_AGAIN);
            if self.told_missing.insert(Arc::clone(&topic)) {
                tracing::warn!(route = %config.route, topic = &*topic, error, "topic cannot be read; it is looked for again");
            }
        }
        let known = |at: &TopicPartition| self.engine.partitions.find(&at.topic, at.partition).is_some();
        let new: Vec<TopicPartition> = found.partitions.into_iter().filter(|at| !known(at)).collect();
        if !new.is_empty() {
            self.take_new(&new, now);
        }
    }

    fn take_new(&mut self, new: &[TopicPartition], now: Instant) {
        let first = self.engine.partitions.assigned_slots().is_empty();
        let starts = self.engine.take_partitions(&self.client, new);
        let assigned = if first {
            self.client.assign_all(&starts)
        } else {
            self.client.assign_more(&starts)
        };
        if let Err(error) = assigned {
            tracing::error!(route = %self.engine.config.route, %error, "cannot assign partitions; trying again");
            for at in new {
                if let Some(slot) = self.engine.partitions.find(&at.topic, at.partition) {
                    self.engine.partitions.revoke(slot);
                }
            }
            self.discover_at = Some(now + DISCOVER_AGAIN);
        }
        self.engine.hold_back_what_came(&self.client);
        self.unread = true;
    }

    /// The partitions of a plugin that cannot be ended, or that has not run for long, go to who can digest them, and come
    /// back when it runs again.
    fn mind_membership(&mut self, now: Instant) {
        let engine = &mut self.engine;
        if engine.config.consumer_type != ConsumerType::Balanced {
            return;
        }
        engine.mind_release(now);
        let leave = engine.stuck || engine.release.is_released();
        if leave == self.left_group || (leave && self.client.is_joining()) {
            return;
        }
        self.left_group = leave;
        let done = if self.left_group {
            self.client.unsubscribe()
        } else {
            self.client.subscribe(&self.engine.config.topics)
        };
        if let Err(error) = done {
            tracing::error!(route = %self.engine.config.route, %error, "cannot leave or join the group");
        }
        self.unread = true;
    }

    /// When a route with an idle limit ends, if nothing comes. While anything is at work, waits or is not there yet,
    /// the limit has not begun to run.
    fn idle_at(&mut self, now: Instant) -> Option<Instant> {
        let limit = self.engine.config.idle_limit?;
        let engine = &mut self.engine;
        let at_work = !engine.calls.is_empty()
            || engine.has_unhanded()
            || engine.queues.any()
            || engine.swap.is_some()
            || engine.transaction.as_ref().is_some_and(Transaction::is_at_work);
        if at_work || !engine.may_digest() || engine.partitions.assigned_slots().is_empty() {
            self.last_message = now;
            return None;
        }
        Some(self.last_message + limit)
    }

    /// How long nothing will be due.
    fn sleep(&mut self, now: Instant, idle_at: Option<Instant>) -> Duration {
        let mut next = self.last_read + self.patience();
        let tidy_at = self.tidy_at();
        let engine = &mut self.engine;
        // What waits for the lane, or for a plugin that is down, is woken by them.
        let up = engine.may_digest();
        let parked = up.then(|| engine.queues.next_end()).flatten();
        let limited = engine.rate.as_ref().filter(|_| up).map(super::rate::Rate::next);
        let limited = limited.filter(|at| *at > now);
        for at in parked
            .into_iter()
            .chain(limited)
            .chain(engine.full_at().filter(|at| up && *at > now))
            .chain(engine.any_crowded.then_some(engine.next_crowd_look))
            .chain(engine.blocked.next())
            .chain(engine.flush_at().filter(|_| engine.is_up()))
            .chain(engine.restart_due())
            .chain(engine.look_at())
            .chain(engine.swap_due())
            .chain(
                engine
                    .release
                    .next_look(engine.up_since(), engine.config.release_after),
            )
            .chain(engine.committer.next())
            .chain(engine.transaction.as_ref().and_then(Transaction::next_due))
            .chain(engine.outputs_due(now))
            .chain(engine.letters.as_ref().and_then(|letters| letters.next_due(now)))
            .chain(self.discover_at)
            .chain(tidy_at)
            .chain(idle_at)
        {
            next = next.min(at);
        }
        next.saturating_duration_since(now)
    }

    fn dump(&self) {
        let engine = &self.engine;
        let waiting: Vec<String> = engine
            .queues
            .all_waiting()
            .take(100)
            .map(|(_, slot, waiting)| {
                let partition = engine.partitions.get(slot);
                format!(
                    "{} at {:?}: {waiting:?}",
                    partition.name(),
                    partition.tracker.frontier()
                )
            })
            .collect();
        tracing::info!(
            route = %engine.config.route,
            plugin = ?engine.plugin,
            partitions = engine.partitions.assigned().count(),
            in_hand = engine.in_hand(),
            queued = engine.queues.len(),
            at_work = engine.blocked_by(),
            waiting = waiting.join(", "),
            behind = engine.describe_progress(Instant::now()),
            dead_letters = engine.letters.as_ref().map(Letters::in_hand),
            member = ?self.client.group_member(),
            "route dump"
        );
    }

    /// Drains, commits, leaves and ends the plugin.
    fn close(self, told: Told) -> Ended {
        let Self {
            client, mut engine, ..
        } = self;
        let (deadline, leave, ended) = match told {
            Told::Stop { deadline, leave } => (deadline, leave, Ended::Drained),
            Told::Idle => (Instant::now() + engine.config.drain_timeout, true, Ended::Idle),
            Told::Failed(ended) => (Instant::now() + END_GRACE, false, ended),
        };
        engine.stopping = true;
        engine.home.request_stop();
        engine.outgoing.clear();
        engine.pending.clear();
        engine.settle_swap(deadline);
        engine.recall_all();
        let up = engine.is_up();
        let in_time = !engine.stuck && engine.finish_all(deadline);
        if !in_time {
            engine.take_progress();
        }
        let written = in_time && engine.flush_outputs(deadline);
        let mut left = if written { 0 } else { engine.in_hand() };
        let mut blocked_by = if left == 0 {
            String::new()
        } else {
            engine.blocked_by()
        };
        if !in_time {
            tracing::error!(route = %engine.config.route, left, blocked_by, "the deadline of the stop passed; what is in hand is left");
        }
        if !in_time {
            // It must not go on with messages that others may get. (A thread cannot be ended.)
            engine.home.end(DownCause::Ordered);
            engine.pump_until(Instant::now() + Duration::from_secs(1), |engine| {
                engine.plugin == Plugin::Down
            });
        }
        engine.stuck = !in_time && engine.plugin != Plugin::Down;
        engine.take_back();
        // What is left to say to plugin and group may take a little beyond the deadline, not a time-out each.
        let soon = Instant::now() + Duration::from_secs(2);
        // With a thread that is stuck the client cannot be destroyed, however long it is waited for.
        let until = if engine.stuck { soon } else { deadline.max(soon) };
        engine.until = Some(until);
        if matches!(ended, Ended::Drained | Ended::Idle) {
            let slots = engine.partitions.assigned_slots();
            engine.await_letters(&slots, deadline);
            engine.forget_letters(&slots);
            if left > 0 || !in_time {
                // It may have produced, and its offset is not among those that would be committed.
                engine.doom(
                    "the route stops, and not all that is in hand is finished",
                    Duration::ZERO,
                );
            }
            let uncommitted = engine.end_transaction(&client, until);
            if left == 0 && uncommitted > 0 {
                left = uncommitted;
                blocked_by = "the brokers, which have not committed its last transaction".to_owned();
            }
            engine.commit_now(&client, &slots, until);
            if leave {
                // A static member that does not come back must say so, or its partitions wait for the session to end.
                client.leave_at_close();
            }
        }
        if up && in_time && engine.is_up() {
            // Those of a simple consumer nobody revokes.
            let slots = engine.partitions.assigned_slots();
            if engine.config.consumer_type == ConsumerType::Simple && !slots.is_empty() {
                engine.give_up(&client, &slots, Revocation::Ordered);
            }
        }
        let outcome = client.close(
            until
                .saturating_duration_since(Instant::now())
                .max(Duration::from_secs(1)),
            &mut Closing(&mut engine),
        );
        tracing::debug!(route = %engine.config.route, ?outcome, "client closed");
        engine.close_letters(until);
        end_plugin(&mut engine);
        if written {
            // What it produced in its last calls.
            engine.flush_outputs(until);
        }
        match ended {
            Ended::Drained if left > 0 => Ended::Left {
                messages: left,
                blocked_by,
            },
            ended => ended,
        }
    }
}

/// The plugin's last calls, and its end.
fn end_plugin(engine: &mut Engine) {
    if !engine.stuck && engine.is_up() && engine.steps.is_empty() && engine.has_given_back() {
        engine.step("stopped", devour_abi::LifecycleCall::Stopped, Vec::new());
        let deadline = engine.bounded(Instant::now() + engine.config.lifecycle_timeout);
        engine.pump_until(deadline, |engine| engine.steps.is_empty() || !engine.is_up());
    }
    if engine.plugin != Plugin::Down {
        if engine.is_up() && !engine.steps.is_empty() {
            tracing::warn!(route = %engine.config.route,
                "the plugin did not return from its last lifecycle call in time; it is ended");
        }
        engine.home.end(DownCause::Ordered);
        // A thread that is stuck stays behind; a process is gone at once.
        let grace = if engine.stuck {
            Duration::from_secs(1)
        } else {
            END_GRACE
        };
        engine.pump_until(Instant::now() + grace, |engine| engine.plugin == Plugin::Down);
    }
    let soon = Instant::now() + engine.config.lifecycle_timeout;
    engine.close_swap(engine.bounded(soon));
}

/// The handler of a client that is being closed: gives up, takes nothing.
struct Closing<'a>(&'a mut Engine);

impl Rebalance for Closing<'_> {
    fn assigned(&mut self, _: &Consumer, _: Vec<TopicPartition>) -> Vec<crate::kafka::Start> {
        Vec::new()
    }

    fn revoked(&mut self, client: &Consumer, partitions: Vec<TopicPartition>, why: Revocation) {
        self.0.revoked(client, partitions, why);
    }
}
