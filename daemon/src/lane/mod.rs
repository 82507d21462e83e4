//! Where a plugin's instance digests: one trait, [`Home`], with two implementations. [`thread`] keeps the instance in
//! a thread of the daemon, [`process`] in the route's plugin process (`devourd host`), behind an arena and two
//! sockets. `worker/` speaks to the trait alone.

use std::{
    ffi::OsString,
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use devour_abi::{
    ConstructRequest, Delivered, DigestInfo, Failure, HostFailure, LifecycleAnswer, LifecycleCall, Progress,
};

mod arena;
mod bounded_voice;
mod calls;
mod channel;
mod current;
mod deadline;
mod frame;
mod host;
mod host_call;
mod host_lane;
mod host_talk;
mod in_hand;
mod layout;
mod outbox;
mod plugin_process;
mod printed;
mod process;
mod produced;
pub mod record;
pub mod stock;
mod taken;
mod thread;
mod thread_lane;
mod views;
mod voice;

pub use host::host_main;
pub use process::ProcessHome;
pub use produced::{Asker, Cause, Output, Produced};
pub use record::Record;
pub use stock::{Kept, Stock};
pub use thread::ThreadHome;
pub use voice::{Durations, Lost, PluginLog, PluginVoice, Position, Printed, Stream};

use bounded_voice::BoundedVoice;

use crate::{
    kafka::Batch,
    os::{Bounds, Spawner},
    plugin::Library,
    settings::{Isolation, RouteName, format_size},
};

/// Number of a call: numbers ascend over all lanes of a home.
pub type CallNumber = u64;

/// A number that the worker gives to a topic's partition, for the life of a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// One message of a handout.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its index in the handout's source.
    pub index: u32,
    /// Its partition.
    pub slot: Slot,
    /// 1 at the first delivery.
    pub attempt: u32,
    /// Messages of one tag are digested in offset order.
    pub tag: u64,
}

/// How messages reach a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// As calls, straight from what was fetched: one lane, in the order of the partitions.
    Calls,
    /// Each is kept in the home's stock first, so that any of them can be handed to any lane.
    Stock,
}

/// Where the bytes of a handout are.
#[derive(Clone)]
pub enum Source {
    /// In librdkafka's fetch buffers.
    Fetched(Arc<Batch>),
    /// In copies that waited for their turn (a retry, a partition in back-off).
    Parked(Arc<[Record]>),
    /// In the home's stock. The records there say slot, attempt and tag; the handout has no entries.
    Stored(Arc<[Kept]>),
}

/// What the worker gives a lane to digest in one call.
pub struct Handout {
    /// The bytes.
    pub source: Source,
    /// Which messages, in the order they are to be digested.
    pub entries: Vec<Entry>,
    /// Order tags that may be digested again.
    pub released: Vec<u64>,
    /// Order tags that wait for an earlier failure although this instance has not seen it.
    pub held: Vec<u64>,
}

/// What a home tells its worker.
#[derive(Debug)]
pub enum HomeEvent {
    /// All instances stand: `hand_out` and `lifecycle` may be used.
    Up {
        /// The plugin's process, `None` in a thread.
        pid: Option<u32>,
    },
    /// A message failed: in its call, or later if it was taken beyond it.
    Failed {
        /// The call.
        call: CallNumber,
        /// Index among the call's messages.
        index: u32,
        /// Why, and what to do.
        failure: Failure,
    },
    /// Messages were passed over because an earlier one of their tag waits.
    NotBegun {
        /// The call.
        call: CallNumber,
        /// First index.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Messages were taken beyond their call: each is completed, or fails, later.
    Taken {
        /// The call.
        call: CallNumber,
        /// First index.
        first: u32,
        /// How many.
        count: u32,
    },
    /// A message that was taken is done. May come before [`HomeEvent::Taken`].
    Completed {
        /// The call.
        call: CallNumber,
        /// Its index.
        index: u32,
    },
    /// A call is over. What lies below `finished` and was reported neither failed nor not begun nor taken is done.
    Returned {
        /// The call.
        call: CallNumber,
        /// Index of the first message that was not reached.
        finished: u32,
        /// How long the lane was at it, by its own clock.
        took: Duration,
        /// The instance is broken (panic, fatal error): the home goes down next.
        broken: Option<Failure>,
    },
    /// Records that were produced, before every outcome that was told behind them.
    Produced(Produced),
    /// The answer to a lifecycle call, in the order of the lane's calls.
    Lifecycle {
        /// The lane.
        lane: usize,
        /// What it said.
        answer: Result<LifecycleAnswer, Failure>,
    },
    /// It missed a deadline and cannot be ended (a thread): nothing more comes of it, unless it ends after all.
    Stuck(String),
    /// The plugin is gone: reaped, its last frames applied. `room` is 0 until the next `start` is up.
    Down {
        /// Why.
        cause: DownCause,
        /// The cell of each lane as the plugin left it: what lies below it and was not reported failed, not begun or
        /// taken is done.
        progress: Vec<Progress>,
        /// The same, but no further than to where all that was produced has come here.
        told: Vec<Progress>,
        /// The message that missed its deadline, if that is why.
        missed: Option<Progress>,
    },
}

/// Why a plugin is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownCause {
    /// It could not be made: the process could not be started, the library not opened, the constructor failed.
    #[error("{0}")]
    NotBuilt(String),
    /// It panicked or returned a fatal error.
    #[error("{}: {}", .0.kind.name(), .0.message)]
    Broken(Failure),
    /// It used more memory than its limit allows: the kernel ended it.
    #[error("used more memory than its limit of {}; the kernel ended it", format_size(*.0))]
    Memory(u64),
    /// Its process ended by a signal.
    #[error("killed by {0}")]
    Signal(String),
    /// Its process ended although nobody had ordered it.
    #[error("exited with status {0}, which nobody ordered")]
    Exited(i32),
    /// It said something over its sockets that it must not say; it was ended.
    #[error("its process broke the protocol: {0}; it was ended")]
    Protocol(String),
    /// It missed a deadline and was ended.
    #[error("{0}")]
    Deadline(String),
    /// It was ended because the host wanted it.
    #[error("ended by order")]
    Ordered,
}

/// Where a route's lanes live. Used by the route's own thread; no call blocks. All lanes come and go together.
pub trait Home {
    /// Builds the instances: spawns the process or the threads, opens the library, constructs. Ends in
    /// [`HomeEvent::Up`] or [`HomeEvent::Down`].
    fn start(&mut self);
    /// Descriptors that are readable when [`Home::pump`] has something to do. Stays valid for the home's life (an
    /// epoll of the home's own may stand behind one descriptor).
    fn wake_fd(&self) -> BorrowedFd<'_>;
    /// Tells the topic and partition of a slot before its first message is handed out.
    fn learn(&mut self, slot: Slot, topic: &Arc<str>, partition: i32);
    /// Nothing of a slot is in hand, and nothing of it comes any more.
    fn forget(&mut self, slot: Slot);
    /// Where messages are kept until they are digested, with [`Intake::Stock`].
    fn stock(&mut self) -> Option<&mut Stock>;
    /// How many calls may be handed to a lane now: 0 while not up, or while two wait behind the one at work.
    fn room(&self, lane: usize) -> usize;
    /// Hands out a call.
    ///
    /// # Errors
    /// Gives the handout back when its bytes do not fit now: try again after a call was finished.
    fn hand_out(&mut self, lane: usize, handout: Handout) -> Result<CallNumber, Handout>;
    /// After [`HomeEvent::Down`] and the next [`HomeEvent::Up`]: hands the bytes of `call` from entry `from` on to the
    /// new instance of lane 0, without a copy, under a new number. Indexes of the new call count from `from`.
    fn hand_again(&mut self, call: CallNumber, from: u32, held: Vec<u64>) -> CallNumber;
    /// A copy of one message of a call that is not finished.
    fn copy_out(&self, call: CallNumber, index: u32) -> Record;
    /// The worker is done with a call: its bytes may be used again.
    fn finish(&mut self, call: CallNumber);
    /// Calls a step of a lane's lifecycle, after the calls handed out before it.
    fn lifecycle(&mut self, lane: usize, step: &LifecycleCall);
    /// Makes every call handed out so far end at its next message.
    fn cut(&mut self);
    /// Takes back what a lane has not begun: its calls up to now are cut, and the answer says from where on nothing was
    /// or will be begun: calls before the first are over or about to be, of it the messages from this index on, and
    /// all calls behind it, are not begun. `None` if that cannot be known here.
    fn recall(&mut self, lane: usize) -> Option<(CallNumber, u32)>;
    /// What a lane has in hand.
    fn progress(&self, lane: usize) -> Progress;
    /// Lets the plugin produce so many bytes more; before it is started, once it is.
    fn grant(&mut self, bytes: usize);
    /// What is left of that.
    fn granted(&self) -> usize;
    /// Tells who waits what became of a record.
    fn answer(&mut self, asker: Asker, outcome: Result<Delivered, HostFailure>);
    /// No digest misses its deadline, because none can go on, until this is taken back.
    fn suspend_deadlines(&mut self, suspended: bool);
    /// What a lane has in hand, but no further than to where all that was produced is here after the next `pump`.
    fn told(&self, lane: usize) -> Progress;
    /// Says that the route is being stopped (the plugin may ask).
    fn request_stop(&mut self);
    /// Ends the plugin: at once in a process (KILL), never in a thread that is blocked. Ends in [`HomeEvent::Down`].
    fn end(&mut self, cause: DownCause);
    /// Reads what the plugin said, applies it, and appends what the worker must know.
    fn pump(&mut self, events: &mut Vec<HomeEvent>);
    /// Whether it counts ticks towards a deadline, each of which wants a `pump`.
    fn has_deadline(&self) -> bool;
    /// A home for the plugin that follows, of the same kind. It may be started, told its lifecycle and ended; it can be
    /// handed calls once it has taken over what this one has.
    ///
    /// # Errors
    /// When descriptors for it are missing.
    fn successor(&self, config: HomeConfig) -> io::Result<Box<dyn Home>>;
    /// Gives away the bytes of all calls and the stock, for [`Home::take_over`] of the other. No call may be with the
    /// plugin any more.
    ///
    /// # Errors
    /// When a descriptor is missing; nothing was given away then.
    fn hand_over(&mut self) -> io::Result<Belongings>;
    /// Takes what the other home of the route had.
    fn take_over(&mut self, belongings: Belongings);
}

/// What one home of a route gives to the next: messages in hand, the memory that they lie in, and the partitions' names.
pub struct Belongings(Whose);

/// Of which kind of home.
enum Whose {
    Process(process::Belongings),
    Thread(thread::Belongings),
}

/// What a home is made of.
#[derive(Clone)]
pub struct HomeConfig {
    /// The route.
    pub route: RouteName,
    /// In the plugin's process or in a thread.
    pub isolation: Isolation,
    /// The plugin.
    pub library: Library,
    /// The consumer in it.
    pub symbol: String,
    /// What its constructors are told; `lanes` says how many there are.
    pub construct: ConstructRequest,
    /// The digest that is called.
    pub digest: DigestInfo,
    /// How messages reach the lanes.
    pub intake: Intake,
    /// Messages can be taken beyond their call.
    pub takes: bool,
    /// Headers are kept: the consumer may ask for them, or a dead letter needs them.
    pub keeps_headers: bool,
    /// The route's budget: messages in hand lie in so many bytes.
    pub arena_bytes: usize,
    /// Bytes of produced records that may wait for the brokers.
    pub output_bytes: usize,
    /// A reject holds its order tag, as a retry does (`then: stop`, `then: dead_letter`).
    pub hold_on_reject: bool,
    /// Bound of the constructor and of each lifecycle call.
    pub lifecycle_timeout: Duration,
    /// Bound of one digest; none if absent.
    pub digest_timeout: Option<Duration>,
    /// The whole environment of the plugin's process.
    pub environment: Vec<(OsString, OsString)>,
    /// What bounds the plugin's process.
    pub bounds: Bounds,
    /// What becomes of its stdout.
    pub stdout: Printed,
    /// Where what it says goes.
    pub voice: Arc<dyn PluginVoice>,
    /// What starts its process.
    pub spawner: Spawner,
}

/// The number of the next life of a plugin: they differ in all homes.
fn next_life() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Makes the home that the configuration asks for. Nothing is started yet.
///
/// # Errors
/// When descriptors or memory for it are missing.
pub fn home(mut config: HomeConfig) -> io::Result<Box<dyn Home>> {
    // Where a person looks on, at one route, all of it is wanted.
    if config.stdout == Printed::Log {
        let voice = BoundedVoice::new(config.route.clone(), config.voice);
        config.voice = Arc::new(voice);
    }
    Ok(match config.isolation {
        Isolation::Process => Box::new(ProcessHome::new(config)?),
        Isolation::Thread => Box::new(ThreadHome::new(config)?),
    })
}
