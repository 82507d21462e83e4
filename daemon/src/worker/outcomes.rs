//! What became of the messages of a call: done, failed, passed over, not reached.

use std::time::Instant;

use devour_abi::{Failure, FailureKind, LifecycleAnswer, Progress};

use super::{
    Event, RouteStats,
    engine::{Engine, Plugin},
    retry::{Waiting, backoff},
};
use crate::{
    lane::{CallNumber, DownCause, HomeEvent, Slot},
    settings::Then,
};

/// A call that is not over.
pub(super) struct InHand {
    pub number: CallNumber,
    /// First item that a successor of a gone instance has to get.
    pub from: u32,
    handed: Instant,
    items: Vec<Item>,
    /// Reported failed or not begun: first index and how many.
    excepted: Vec<(u32, u32)>,
    /// It came back with a broken instance: only what follows `from` is left of it.
    returned: bool,
}

/// One message of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub offset: i64,
    pub slot: Slot,
    pub attempt: u32,
}

/// What a failure leads to.
enum Decision {
    Retry,
    Skip,
    Stop,
}

// === impl InHand ===

impl InHand {
    pub(super) fn new(number: CallNumber, items: Vec<Item>) -> Self {
        Self {
            number,
            from: 0,
            handed: Instant::now(),
            items,
            excepted: Vec::new(),
            returned: false,
        }
    }

    /// The plugin has given it back (or is gone with it).
    pub(super) fn is_over(&self) -> bool {
        self.returned
    }

    /// Messages that are not known to be done.
    pub(super) fn left(&self) -> usize {
        self.items.len() - self.from as usize
    }

    /// Drops what lies before `from`: the successor counts from there.
    pub(super) fn forget_done(&mut self) {
        self.items.drain(..self.from as usize);
        self.from = 0;
        self.excepted.clear();
        self.returned = false;
        self.handed = Instant::now();
    }

    fn is_excepted(&self, index: u32) -> bool {
        self.excepted
            .iter()
            .any(|(first, count)| (*first..first + count).contains(&index))
    }

    /// The messages from `first` on that are still the plugin's, with their index.
    fn rest(&self, first: u32) -> Vec<(u32, Item)> {
        (first..self.items.len() as u32)
            .filter(|index| !self.is_excepted(*index))
            .map(|index| (index, self.items[index as usize]))
            .collect()
    }
}

// === impl Engine ===

impl Engine {
    /// Applies one thing that the plugin, or its end, said.
    pub(super) fn apply(&mut self, event: HomeEvent) {
        match event {
            HomeEvent::Up { pid } => self.greet(pid),
            HomeEvent::Failed { call, index, failure } => self.failed(call, index, &failure),
            HomeEvent::NotBegun { call, first, count } => self.not_begun(call, first, count),
            HomeEvent::Returned {
                call,
                finished,
                broken,
            } => self.returned(call, finished, broken),
            HomeEvent::Lifecycle(answer) => self.answered(answer),
            HomeEvent::Stuck(why) => {
                self.stuck = true;
                self.tell(Event::PluginStuck(why));
            }
            HomeEvent::Down { cause, progress } => self.down(cause, progress),
        }
    }

    fn position(&self, call: CallNumber) -> Option<usize> {
        let at = self.calls.iter().position(|in_hand| in_hand.number == call);
        if at.is_none() {
            // The home checks that a plugin speaks of calls that it has; a bug of ours must not stay silent.
            tracing::error!(route = %self.config.route, call, "an outcome of a call that is not in hand");
        }
        at
    }

    fn failed(&mut self, call: CallNumber, index: u32, failure: &Failure) {
        let Some(at) = self.position(call) else { return };
        let Some(item) = self.calls[at].items.get(index as usize).copied() else {
            return;
        };
        self.calls[at].excepted.push((index, 1));
        RouteStats::add(&self.stats.failed, 1);
        self.take_failure(call, index, item, failure);
    }

    /// Decides about a failed message. Its place in the call stays valid until the call is finished.
    fn take_failure(&mut self, call: CallNumber, index: u32, item: Item, failure: &Failure) {
        let decision = self.decide(item, failure);
        let lets_go = self.lets_go(failure);
        let partition = self.partitions.get_mut(item.slot);
        if !partition.assigned {
            return;
        }
        let route = &self.config.route;
        let (topic, number, offset) = (&*partition.topic, partition.number, item.offset);
        let (kind, error, attempt) = (failure.kind.name(), failure.message.as_str(), item.attempt);
        match decision {
            Decision::Retry => {
                let asked =
                    (failure.delay_ms > 0).then(|| std::time::Duration::from_millis(failure.delay_ms));
                let chance = chance(item);
                let wait = asked.unwrap_or_else(|| backoff(&self.config.on_error.backoff, attempt, chance));
                let wait_ms = wait.as_millis() as u64;
                tracing::warn!(%route, topic, partition = number, offset, attempt, kind, error, wait_ms,
                    "digest failed; this partition waits and tries again");
                let mut record = self.home.copy_out(call, index);
                record.attempt = attempt.saturating_add(1);
                let parked = self.partitions.park(item.slot, Waiting::Ready);
                parked.keep(record);
                parked.wait(Waiting::Until(Instant::now() + wait));
            }
            Decision::Skip => {
                tracing::warn!(%route, topic, partition = number, offset, attempt, kind, error,
                    "digest failed; the message is skipped, as `on_error.then: skip` says");
                RouteStats::add(&self.stats.skipped, 1);
                partition.tracker.finish(offset);
                // After a retry the plugin holds what follows: it is to be let go.
                if !lets_go {
                    self.partitions
                        .park(item.slot, Waiting::Ready)
                        .wait(Waiting::Ready);
                }
            }
            Decision::Stop => {
                tracing::error!(%route, topic, partition = number, offset, attempt, kind, error,
                    "digest failed; this partition stops here, as `on_error.then: stop` says. The others go on. Mend \
                     the plugin or the message, then change the route and reload, or restart the daemon");
                let mut record = self.home.copy_out(call, index);
                record.attempt = attempt.saturating_add(1);
                let parked = self.partitions.park(item.slot, Waiting::Ready);
                parked.keep(record);
                parked.wait(Waiting::Stopped {
                    offset,
                    error: error.to_owned(),
                });
            }
        }
    }

    fn decide(&self, item: Item, failure: &Failure) -> Decision {
        let spent = self
            .config
            .on_error
            .attempts
            .is_some_and(|attempts| item.attempt >= attempts);
        let reject = matches!(failure.kind, FailureKind::REJECT | FailureKind::UNDECODABLE);
        match self.config.on_error.then {
            _ if !reject && !spent => Decision::Retry,
            Then::Skip => Decision::Skip,
            Then::Stop | Then::DeadLetter => Decision::Stop,
        }
    }

    /// Whether the plugin goes on with the tag of a message that failed so: a reject under `then: skip`.
    fn lets_go(&self, failure: &Failure) -> bool {
        matches!(failure.kind, FailureKind::REJECT | FailureKind::UNDECODABLE)
            && self.config.on_error.then == Then::Skip
    }

    fn not_begun(&mut self, call: CallNumber, first: u32, count: u32) {
        let Some(at) = self.position(call) else { return };
        self.calls[at].excepted.push((first, count));
        for index in first..first.saturating_add(count) {
            let Some(item) = self.calls[at].items.get(index as usize).copied() else {
                return;
            };
            self.put_back(call, index, item);
        }
    }

    /// A message that was not digested waits in its partition's queue again.
    fn put_back(&mut self, call: CallNumber, index: u32, item: Item) {
        if self.partitions.get(item.slot).assigned {
            let mut record = self.home.copy_out(call, index);
            record.attempt = item.attempt;
            self.partitions.park(item.slot, Waiting::Ready).keep(record);
        }
    }

    fn returned(&mut self, number: CallNumber, finished: u32, broken: Option<Failure>) {
        let Some(at) = self.position(number) else { return };
        let now = Instant::now();
        let began = self.calls[at].handed.max(self.last_return);
        self.last_return = now;
        self.pace
            .measured(finished as usize, now.saturating_duration_since(began));
        self.finish_below(at, finished);
        if let Some(failure) = broken {
            self.returned_broken(at, number, finished, &failure);
            return;
        }
        // Cut: what was not reached is tried again, unless the route is going.
        if !self.stopping {
            for (index, item) in self.calls[at].rest(finished) {
                self.put_back(number, index, item);
                // What is ready to go out behind it must not overtake it.
                let tag = u64::from(item.slot.0);
                if !self.hold_next.contains(&tag) {
                    self.hold_next.push(tag);
                }
            }
        }
        self.end_call(at);
    }

    /// The instance is broken: the message that broke it has failed, what follows it goes to the next instance.
    fn returned_broken(&mut self, at: usize, number: CallNumber, finished: u32, failure: &Failure) {
        let mut from = finished;
        if let Some(item) = self.calls[at].items.get(finished as usize).copied() {
            if !self.calls[at].is_excepted(finished) {
                RouteStats::add(&self.stats.failed, 1);
                self.take_failure(number, finished, item, failure);
            }
            from += 1;
        }
        self.drop_items(at, from);
        let call = &mut self.calls[at];
        call.from = from;
        call.returned = true;
        self.home.end(DownCause::Broken(failure.clone()));
    }

    /// Marks the messages below `end` done, but for those that were reported otherwise.
    fn finish_below(&mut self, at: usize, end: u32) {
        let call = &self.calls[at];
        let end = (end as usize).min(call.items.len());
        let start = call.from as usize;
        if start >= end {
            return;
        }
        let plain = call.excepted.is_empty();
        let mut done = 0;
        for (index, item) in (start as u32..).zip(&call.items[start..end]) {
            if plain || !call.is_excepted(index) {
                self.partitions.get_mut(item.slot).tracker.finish(item.offset);
                done += 1;
            }
        }
        RouteStats::add(&self.stats.digested, done);
    }

    /// Nobody has in hand what is left of the calls: it waits in its partitions' queues, or is read again after a stop.
    pub(super) fn take_back(&mut self) {
        while !self.calls.is_empty() {
            let (number, from) = (self.calls[0].number, self.calls[0].from);
            if !self.stopping {
                for (index, item) in self.calls[0].rest(from) {
                    self.put_back(number, index, item);
                }
            }
            self.end_call(0);
        }
    }

    /// What the plugin is at, for who waits for it.
    pub(super) fn blocked_by(&self) -> String {
        let progress = self.home.progress();
        let call = self.calls.iter().find(|call| call.number == progress.call);
        let item = call.and_then(|call| call.items.get(progress.index as usize));
        match item {
            Some(item) => format!(
                "the digest of {} at offset {}, at work for {:.1} s",
                self.partitions.get(item.slot).name(),
                item.offset,
                self.last_return.elapsed().as_secs_f64()
            ),
            None => match self.steps.front() {
                Some(step) => format!("its `{}`", step.name),
                None => format!("{} messages in {} calls", self.in_hand(), self.calls.len()),
            },
        }
    }

    /// A call is over: its partitions have fewer messages in hand, its bytes may be used again.
    fn end_call(&mut self, at: usize) {
        let all = self.calls[at].items.len() as u32;
        self.drop_items(at, all);
        if let Some(call) = self.calls.remove(at) {
            self.home.finish(call.number);
        }
    }

    /// The items from `from` on to `to` are not in hand any more. What waited for them may go on.
    fn drop_items(&mut self, at: usize, to: u32) {
        let call = &self.calls[at];
        let mut last = None;
        for item in &call.items[call.from as usize..to as usize] {
            let partition = self.partitions.get_mut(item.slot);
            partition.in_hand -= 1;
            // What was handed out of the waiting queue is over, and nothing of it failed: the rest may follow.
            if last != Some(item.slot) {
                last = Some(item.slot);
                if let Some(parked) = &mut partition.parked
                    && *parked.waiting() == Waiting::InHand
                {
                    parked.wait(Waiting::Ready);
                }
            }
        }
    }

    fn answered(&mut self, answer: Result<LifecycleAnswer, Failure>) {
        let Some(step) = self.steps.pop_front() else {
            return;
        };
        match answer {
            Ok(answer) => {
                for start in &answer.start_offsets {
                    let named = |slot: &&Slot| {
                        let partition = self.partitions.get(**slot);
                        *partition.topic == *start.topic && partition.number == start.partition
                    };
                    if let Some(slot) = step.assigned.iter().find(named) {
                        self.seeks.push((*slot, start.offset));
                    }
                }
                if self.plugin == Plugin::Greeting && self.steps.is_empty() {
                    self.welcome();
                }
            }
            Err(failure) => {
                tracing::error!(route = %self.config.route, call = step.name, error = failure.message.as_str(),
                    "the plugin's lifecycle call failed");
                self.home.end(DownCause::Broken(failure));
            }
        }
    }

    /// The plugin is gone and its last word is applied: what the cell says is done is done, the rest stays in hand
    /// for its successor. The message that missed its deadline has failed.
    fn down(&mut self, cause: DownCause, progress: Progress) {
        self.finish_to(progress);
        if let DownCause::Deadline(error) = &cause
            && let Some(at) = self
                .calls
                .iter()
                .position(|call| call.number == progress.call && !call.returned)
        {
            let (number, from) = (self.calls[at].number, self.calls[at].from);
            if let Some(item) = self.calls[at].items.get(from as usize).copied()
                && !self.calls[at].is_excepted(from)
            {
                RouteStats::add(&self.stats.failed, 1);
                self.take_failure(
                    number,
                    from,
                    item,
                    &Failure::new(FailureKind::RETRY, error.clone()),
                );
                self.drop_items(at, from + 1);
                self.calls[at].from = from + 1;
            }
        }
        if std::mem::take(&mut self.stuck) {
            // Its partitions were given up meanwhile: nothing of theirs goes to the next instance.
            self.take_back();
        }
        self.plugin_down(cause);
    }

    /// Takes what a plugin that still lives has finished of its call. The cell is read first: a failure is told before
    /// the cell moves on, so what is told by then is known when the cell is applied.
    pub(super) fn take_progress(&mut self) {
        let progress = self.home.progress();
        self.pump();
        self.finish_to(progress);
    }

    fn finish_to(&mut self, progress: Progress) {
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            if call.returned || call.number > progress.call {
                continue;
            }
            let end = call.items.len() as u32;
            let reached = if call.number == progress.call {
                progress.index
            } else {
                end
            };
            let reached = reached.clamp(call.from, end);
            self.finish_below(at, reached);
            self.drop_items(at, reached);
            self.calls[at].from = reached;
        }
    }

    /// The listener's word for how many partitions there are.
    pub(super) fn tell_assignment(&self) {
        self.tell(Event::Assigned(self.partitions.assigned().count()));
    }
}

/// A number between 0 and 1 that differs from message to message: enough to spread retries, and needs no generator.
fn chance(item: Item) -> f64 {
    let mixed = (item.offset as u64 ^ (u64::from(item.slot.0) << 40) ^ u64::from(item.attempt))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
