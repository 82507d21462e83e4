//! One route at work: a thread that reads messages, hands them to the plugin's lane, hears what became of them and
//! commits what is finished. One file per stage, named as a message meets them: [`poll`], [`dispatch`], [`retry`],
//! [`outcomes`], [`outputs`], [`dead_letter`], [`offsets`], [`commit`]; beside them [`assignment`], which takes partitions and gives them up.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub mod assignment;
mod blocked;
mod by_order;
mod calls;
pub mod commit;
pub mod completed;
pub mod dead_letter;
pub mod dispatch;
mod engine;
pub mod intake;
mod lifecycle;
pub mod offsets;
pub mod outcomes;
pub mod outputs;
pub mod pace;
pub mod partitions;
pub mod poll;
mod progress;
pub mod queues;
pub mod rate;
mod recall;
pub mod release;
mod report;
pub mod retry;
mod shaping;
mod stopped;
pub mod suspects;
mod swap;
pub mod transaction;

use devour_abi::SwapMode;

pub use self::by_order::Restarted;
use self::dead_letter::DeadLetterConfig;
pub use self::report::{Parked, PartitionReport, Report};
use crate::{
    kafka::{ClientProperties, StartOffset},
    lane::{DownCause, HomeConfig, Intake},
    os::EventFd,
    schema::SchemaConfig,
    settings::{Batch, ConsumerType, OnError, Order, RateLimit, RouteName},
};

/// All that a worker needs to know; settings and descriptor joined.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The route.
    pub route: RouteName,
    /// Topics, and patterns (`^...`).
    pub topics: Vec<String>,
    /// Whether patterns may match internal topics.
    pub exclude_internal_topics: bool,
    /// How partitions are got.
    pub consumer_type: ConsumerType,
    /// Properties of the Kafka client.
    pub properties: ClientProperties,
    /// What is committed, and when.
    pub commit: CommitPolicy,
    /// Bounds of a call.
    pub batch: Batch,
    /// What keeps its order.
    pub order: Order,
    /// What is made of messages before the plugin sees them.
    pub schema: Option<SchemaConfig>,
    /// Messages that an async consumer has going at once.
    pub in_flight: usize,
    /// The consumer takes messages beyond their call and completes them later.
    pub asynchronous: bool,
    /// When a buffering consumer is told to flush; `None` for one that does not buffer.
    pub flush: Option<FlushPolicy>,
    /// The digest takes a call's messages at once: they are in hand together.
    pub takes_batches: bool,
    /// Calls are as large as the bounds allow, whatever a digest costs.
    pub fixed_batches: bool,
    /// Messages digested in a time at most.
    pub rate_limit: Option<RateLimit>,
    /// Messages of a partition that are read and not finished, at most.
    pub queued_max_messages: Option<usize>,
    /// The route's budget in bytes.
    pub memory: usize,
    /// What a failed digest does.
    pub on_error: OnError,
    /// Where messages go that are given up, where that is what `on_error` says.
    pub dead_letter: Option<DeadLetterConfig>,
    /// Properties of the producer of what the plugin produces.
    pub outputs: ClientProperties,
    /// What its transactions are made of, where it has `delivery: exactly_once`.
    pub transaction: Option<transaction::TransactionConfig>,
    /// Bound of each lifecycle call.
    pub lifecycle_timeout: Duration,
    /// How long a revoke waits for what is in hand.
    pub drain_timeout: Duration,
    /// Whether the route has a group, whose offsets can be read.
    pub has_group: bool,
    /// Where a partition begins for which nothing is committed and there is no group.
    pub without_offset: StartOffset,
    /// The plugin answers `assigned` with its own start offsets.
    pub keeps_offsets: bool,
    /// Where the first assignment after the start of the daemon begins, whatever is committed.
    pub reset_to: Option<ResetTo>,
    /// Ends the worker after this long without a message.
    pub idle_limit: Option<Duration>,
    /// How long a partition that has messages may bring none before its reading begins anew.
    pub stall_timeout: Option<Duration>,
    /// How long the partitions are kept while the plugin cannot digest.
    pub release_after: Option<Duration>,
    /// Deaths of the plugin at which a message was alone in hand, until it is given up.
    pub poison_after: Option<u32>,
    /// `max.poll.interval.ms` of the client.
    pub max_poll_interval: Duration,
    /// How another plugin takes over.
    pub swap: SwapMode,
    /// The plugin's home.
    pub home: HomeConfig,
}

/// When and how offsets are committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPolicy {
    /// False without a group, or where the settings ask for it.
    pub enabled: bool,
    /// Time between commits.
    pub interval: Duration,
    /// Bound of one commit.
    pub timeout: Duration,
    /// Tries after the first before an error is told.
    pub retries: u32,
    /// Wait before try n: n times this.
    pub backoff: Duration,
}

/// When a buffering consumer is told to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// So long after the first message that it took.
    pub max_wait: Duration,
    /// When it has taken so many.
    pub max_messages: usize,
}

/// An end of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// Its first message.
    Beginning,
    /// After its last.
    End,
}

/// What the supervisor tells a worker.
pub enum Command {
    /// Build the plugin's instance (again).
    StartPlugin,
    /// Go on as this says, with another plugin: its configuration [has the shape](WorkerConfig::has_the_shape_of) of the
    /// present one. Answered by [`Event::Swapped`] or [`Event::SwapFailed`].
    Swap(Box<WorkerConfig>),
    /// Drain, commit, leave, end.
    Stop {
        /// What is not finished then is left.
        deadline: Instant,
        /// Whether a static member leaves its group (the route is removed) or keeps its place (it comes back).
        leave: bool,
    },
    /// Log what is in hand.
    Dump,
    /// Say how it stands.
    Report(Reply<Report>),
    /// Fetch nothing more and hand nothing more out, until [`Command::Resume`]; the answer is how many messages are in hand.
    Pause(Reply<usize>),
    /// Put a new plugin in the place of the present one; the answer comes when it digests, or cannot.
    RestartPlugin(Reply<Restarted>),
    /// End a pause, and try again what is stopped; the answer names it.
    Resume(Reply<Vec<String>>),
    /// Pass a message by that is parked.
    Skip {
        /// Its topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Whether that was done, or why not.
        reply: Reply<Result<(), String>>,
    },
}

/// Who wants to know what became of a command. A worker that ends before it has answered drops it.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

/// What a worker tells the supervisor.
#[derive(Clone, Debug)]
pub enum Event {
    /// The client was made and polls.
    Polling,
    /// Partitions were assigned, or given up: how many it has now.
    Assigned(usize),
    /// The instance digests.
    PluginUp {
        /// Its process.
        pid: Option<u32>,
    },
    /// The instance is gone; it is started again on [`Command::StartPlugin`].
    PluginDown {
        /// Why.
        cause: DownCause,
        /// How long it had digested.
        lived: Duration,
    },
    /// Another plugin digests now, by [`Command::Swap`].
    Swapped {
        /// Its process.
        pid: Option<u32>,
        /// From the last outcome of the old to the first call of the new.
        pause: Duration,
    },
    /// It does not, for this reason: the old digests on, or is started again.
    SwapFailed(String),
    /// The instance is blocked and cannot be ended; [`Event::PluginDown`] follows if it ends after all.
    PluginStuck(String),
    /// The route left its group because it could not digest for `release_after`, or has joined it again.
    Released {
        /// It left.
        released: bool,
    },
    /// A partition has messages and brings none.
    Stalled {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: i32,
        /// What is to be read next.
        offset: i64,
        /// How long it has stood still.
        waited: Duration,
        /// What is done.
        remedy: Remedy,
    },
    /// The worker's thread is over.
    Ended(Ended),
}

/// What is done about a partition that is stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is read again from its frontier.
    Seek,
    /// The worker ends, so that a new client is made.
    NewClient,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By order; everything in hand was finished.
    Drained,
    /// By order, but the deadline passed: so many messages were left to be read again.
    Left {
        /// Messages in hand at the deadline.
        messages: usize,
        /// What held them up.
        blocked_by: String,
    },
    /// Nothing came for `consumer_timeout_ms`.
    Idle,
    /// The Kafka client cannot go on.
    ClientFailed(String),
    /// The client cannot work as it is configured: a new one would fail likewise.
    Misconfigured(String),
    /// A bug: the worker's thread panicked.
    Panicked(String),
}

/// What a route has done, readable from any thread.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Messages digested.
    pub digested: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Messages passed by `then: skip`.
    pub skipped: AtomicU64,
    /// Messages whose dead letters the brokers have.
    pub dead_lettered: AtomicU64,
    /// Records that digests produced.
    pub produced: AtomicU64,
    /// Of those, what the brokers have acknowledged.
    pub acknowledged: AtomicU64,
    /// Of those, what was not written.
    pub output_failures: AtomicU64,
    /// Bytes that are produced and not acknowledged.
    pub output_bytes: AtomicU64,
    /// Commits that the group acknowledged; under `delivery: exactly_once`, transactions that count.
    pub commits: AtomicU64,
    /// Transactions that were aborted.
    pub aborts: AtomicU64,
    /// Seeks in partitions that were stalled.
    pub stall_seeks: AtomicU64,
    /// Clients that were given up because of a partition that was stalled.
    pub stall_restarts: AtomicU64,
    /// [`Turns`] in one word: twice the count, and one more under a deadline.
    turns: AtomicU64,
}

/// What a route's thread shows of its own life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// How often it has looked after its plugin.
    pub count: u64,
    /// Whether the plugin had a deadline then: it looks again within half a second.
    pub under_deadline: bool,
}

/// A worker's thread, as the supervisor holds it.
pub struct WorkerHandle {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
    /// What the route has done.
    pub stats: Arc<RouteStats>,
}

/// Commands on their way, and the descriptor that wakes the worker.
pub(crate) struct Inbox {
    commands: Mutex<VecDeque<Command>>,
    wake: EventFd,
}

/// Where a worker's events go. Called from the worker's thread; must not block.
pub type Listener = std::sync::Arc<dyn Fn(Event) + Send + Sync>;

// === impl WorkerConfig ===

impl WorkerConfig {
    /// Messages go straight from what was fetched to the one lane.
    pub(super) fn is_straight(&self) -> bool {
        self.home.intake == Intake::Calls
    }

    /// How many lanes there are.
    pub(super) fn lanes(&self) -> usize {
        self.home.construct.lanes.max(1) as usize
    }

    /// Whether a worker that runs as `self` can go on as `other` with another plugin: the same client, and room for what
    /// is in hand in the same form.
    #[must_use]
    pub fn has_the_shape_of(&self, other: &Self) -> bool {
        let letters = |config: &Self| {
            let letters = config.dead_letter.as_ref();
            letters.map(|letters| (letters.to.clone(), letters.properties.clone()))
        };
        let of_client = |config: &Self| {
            (
                config.topics.clone(),
                config.exclude_internal_topics,
                config.consumer_type,
                config.properties.clone(),
                config.commit.clone(),
                (config.has_group, config.without_offset),
                (
                    config.queued_max_messages,
                    config.idle_limit,
                    config.stall_timeout,
                ),
                (
                    config.max_poll_interval,
                    config.outputs.clone(),
                    config.transaction.clone(),
                ),
            )
        };
        let of_work = |config: &Self| {
            (
                (config.order, config.lanes(), config.in_flight),
                (config.asynchronous, config.buffers()),
                (config.memory, config.home.arena_bytes, config.home.output_bytes),
                config.schema.clone(),
                (
                    config.home.isolation,
                    config.home.intake,
                    config.home.keeps_headers,
                ),
            )
        };
        of_client(self) == of_client(other)
            && of_work(self) == of_work(other)
            && letters(self) == letters(other)
    }

    /// What the consumer digests is done when it has flushed.
    pub(super) fn buffers(&self) -> bool {
        self.flush.is_some()
    }
}

// === impl WorkerHandle ===

impl WorkerHandle {
    /// Starts the worker's thread, which counts on in `stats`. Its last event is always [`Event::Ended`].
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn start(config: WorkerConfig, stats: Arc<RouteStats>, listener: Listener) -> std::io::Result<Self> {
        let inbox = Arc::new(Inbox {
            commands: Mutex::new(VecDeque::new()),
            wake: EventFd::new()?,
        });
        let thread = std::thread::Builder::new()
            .name(format!("route {}", config.route))
            .spawn({
                let (inbox, stats) = (Arc::clone(&inbox), Arc::clone(&stats));
                move || {
                    let work = std::panic::AssertUnwindSafe(|| {
                        poll::run(config, &inbox, stats, Arc::clone(&listener))
                    });
                    let ended = std::panic::catch_unwind(work).unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text =
                            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        Ended::Panicked(text.unwrap_or_default())
                    });
                    listener(Event::Ended(ended));
                }
            })?;
        Ok(Self {
            inbox,
            thread: Some(thread),
            stats,
        })
    }

    /// Tells the worker something.
    pub fn tell(&self, command: Command) {
        self.inbox.put(command);
    }

    /// Waits for the thread, which has said [`Event::Ended`] or is about to.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread catches its own panics.
            let _ = thread.join();
        }
    }
}

// === impl Reply ===

impl<T> Reply<T> {
    /// Calls `hear` with the answer, from the worker's thread; it must not block.
    pub fn new(hear: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(hear))
    }

    fn answer(self, answer: T) {
        (self.0)(answer);
    }
}

// === impl Inbox ===

impl Inbox {
    fn put(&self, command: Command) {
        self.commands
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push_back(command);
        self.wake.signal();
    }

    /// The next command, if there is one.
    pub(crate) fn take(&self) -> Option<Command> {
        self.commands
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_front()
    }

    /// Readable when a command waits.
    pub(crate) fn wake(&self) -> &EventFd {
        &self.wake
    }
}

// === impl RouteStats ===

impl RouteStats {
    /// Messages that are done with, in whatever way.
    pub(crate) fn settled(&self) -> u64 {
        [&self.digested, &self.skipped, &self.dead_lettered]
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }

    pub(crate) fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// Bytes that are on their way now.
    pub(crate) fn set_output_bytes(&self, bytes: usize) {
        self.output_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// What the route's thread shows.
    #[must_use]
    pub fn turns(&self) -> Turns {
        let word = self.turns.load(Ordering::Relaxed);
        Turns {
            count: word >> 1,
            under_deadline: word & 1 == 1,
        }
    }

    /// The route's thread, the only one that writes this, has looked after its plugin.
    pub(crate) fn turned(&self, under_deadline: bool) {
        let next = (self.turns.load(Ordering::Relaxed) >> 1).wrapping_add(1) << 1;
        self.turns
            .store(next | u64::from(under_deadline), Ordering::Relaxed);
    }
}
