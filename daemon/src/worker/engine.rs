//! The state of a route at work, owned by its thread. Each stage's part of it is in the stage's own file; here are
//! its nouns.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::AsFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use devour_abi::Progress;

use super::{
    Event, Listener, RouteStats, WorkerConfig,
    blocked::Blocked,
    by_order::Restarting,
    calls::InHand,
    commit::Committer,
    dead_letter::Letters,
    dispatch::Outgoing,
    intake::Pending,
    lifecycle::Step,
    outputs::{KafkaOutlet, Outlet, Outputs, OutputsState, RouteOutputs},
    pace::Pace,
    partitions::Partitions,
    progress,
    queues::{Emptied, Queues, Taken},
    rate::Rate,
    release::Release,
    shaping::Shaping,
    suspects::Suspects,
    swap::Swap,
    transaction::{Transaction, TransactionalOutlet},
};
use crate::{
    lane::{CallNumber, Home, HomeEvent, Slot},
    os::{Interest, Poller, wait_readable},
};

/// One route at work.
pub(super) struct Engine {
    pub config: WorkerConfig,
    pub listener: Listener,
    pub stats: Arc<RouteStats>,
    pub home: Box<dyn Home>,
    /// What it sleeps on for the plugin: its home, the other one during a swap, and the producer of what it produces.
    pub homes: Poller,
    /// What is made of messages before the plugin sees them, if anything.
    pub shaping: Option<Shaping>,
    /// Another plugin is taking over.
    pub swap: Option<Swap>,
    /// The plugin was told to end for a successor that does not come.
    pub ends_for_nothing: bool,
    /// What instances hold that go on after a swap that failed, by lane: they are to let it go.
    pub owed: Vec<(usize, u64)>,
    pub plugin: Plugin,
    /// Its process.
    pub pid: Option<u32>,
    pub partitions: Partitions,
    pub progress: progress::Progress,
    pub lanes: Vec<Lane>,
    /// Calls with messages whose outcome is not known.
    pub calls: HashMap<CallNumber, InHand>,
    /// What waits for a lane, by order tag.
    pub queues: Queues,
    /// Messages that were read and have no place in the stock yet.
    pub pending: Pending,
    /// Calls that are made and do not fit yet, in their order.
    pub outgoing: VecDeque<Outgoing>,
    pub pace: Pace,
    pub rate: Option<Rate>,
    /// Messages with the lanes of a route that is fed from the queues.
    pub in_hand_now: usize,
    /// Bytes of a message, on average of those that came last.
    pub mean_bytes: usize,
    /// Some partition is not fetched.
    pub any_paused: bool,
    /// Since when a call waits to become full.
    pub filling: Option<Instant>,
    /// When the first message came that a buffering consumer has taken, and how many it has.
    pub buffered: Option<Instant>,
    pub buffered_messages: usize,
    /// Of some partition nothing new begins.
    pub any_crowded: bool,
    /// When partitions are looked at next whose finished offsets may fill their room.
    pub next_crowd_look: Instant,
    /// Partitions of which too much waits behind digests that take long.
    pub blocked: Blocked,
    /// When lanes are looked at next that may be slow.
    pub next_look: Instant,
    pub committer: Committer,
    /// Messages on their way to the dead-letter topic; `None` where the route has none.
    pub letters: Option<Letters>,
    /// Their producer has something to say.
    pub letters_woke: bool,
    /// What digests have produced and the brokers have not acknowledged.
    pub outputs: RouteOutputs,
    pub outputs_state: OutputsState,
    /// Where what is read and produced is committed together.
    pub transaction: Option<Transaction>,
    /// Lifecycle steps that are called or to be called and not answered, in order.
    pub steps: VecDeque<Step>,
    /// A person ordered that nothing is fetched or handed out.
    pub paused: bool,
    /// A person ordered another plugin.
    pub restarting: Option<Restarting>,
    /// A swap that waits for that.
    pub swap_later: Option<Box<WorkerConfig>>,
    /// Whether the plugin has not run for so long that others are to have the partitions.
    pub release: Release,
    /// Messages that may have killed the plugin.
    pub suspects: Suspects,
    /// What is left when a call comes back cut is read again later, not now.
    pub stopping: bool,
    /// The plugin does not give back what it has, and cannot be ended or is out of time: nothing more is asked of it.
    pub stuck: bool,
    /// Partitions whose start offsets came from the plugin outside a rebalance: to be sought.
    pub seeks: Vec<(Slot, i64)>,
    /// Everything is paused because the lanes take nothing.
    pub held_back: bool,
    /// Partitions came while everything was paused: they are to be paused too.
    pub came_while_held: bool,
    /// The stop's deadline: no wait goes beyond it.
    pub until: Option<Instant>,
    pub events: Vec<HomeEvent>,
    /// Used again from call to call.
    pub taken: Vec<Taken>,
}

/// One lane, as the worker sees it.
pub(super) struct Lane {
    /// Calls that have not come back.
    pub calls: usize,
    /// Order tags that its next call lets go.
    pub release_next: Vec<u64>,
    /// Order tags that its next call holds: a new instance does not know who waits.
    pub hold_next: Vec<u64>,
    /// When it last gave a call back: the next one began then.
    pub last_return: Instant,
    /// Where it was when it was last seen to move.
    pub seen: (Progress, Instant),
    /// What it had not begun was taken back where it is.
    pub recalled: bool,
    /// Calls of which it holds messages until it has flushed.
    pub buffered: Vec<CallNumber>,
}

/// The life of the plugin's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// None, until the supervisor says so.
    Down,
    /// Being built.
    Starting,
    /// Built; it has been told `started` and the present assignment, and has not answered.
    Greeting,
    /// It digests.
    Up { since: Instant },
}

// === impl Engine ===

impl Engine {
    pub(super) fn new(
        config: WorkerConfig,
        home: Box<dyn Home>,
        listener: Listener,
        stats: Arc<RouteStats>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let homes = Poller::new()?;
        homes.add(home.wake_fd(), 0, Interest::Read)?;
        let transaction = config.transaction.clone();
        let transaction = transaction.map(|made_of| Transaction::new(made_of, config.route.clone(), now));
        let transaction = transaction.transpose()?;
        let outlet: Box<dyn Outlet> = match &transaction {
            Some(transaction) => Box::new(TransactionalOutlet(Rc::clone(&transaction.link))),
            None => Box::new(KafkaOutlet::new(config.outputs.clone())?),
        };
        homes.add(outlet.wake_fd(), 2, Interest::Read)?;
        let mut outputs = Outputs::new(outlet, config.home.output_bytes);
        if transaction.is_some() {
            outputs.in_transactions();
        }
        let lane = |_| Lane {
            calls: 0,
            release_next: Vec::new(),
            hold_next: Vec::new(),
            last_return: now,
            seen: (Progress::default(), now),
            recalled: false,
            buffered: Vec::new(),
        };
        Ok(Self {
            pace: Pace::of(&config),
            rate: config.rate_limit.map(|limit| Rate::new(limit, now)),
            committer: Committer::new(config.commit.clone(), now),
            progress: progress::Progress::new(config.stall_timeout),
            release: Release::default(),
            suspects: Suspects::default(),
            lanes: (0..config.lanes()).map(lane).collect(),
            outputs,
            outputs_state: OutputsState::default(),
            shaping: Shaping::of(&config)?,
            transaction,
            config,
            listener,
            stats,
            home,
            homes,
            swap: None,
            owed: Vec::new(),
            ends_for_nothing: false,
            plugin: Plugin::Down,
            pid: None,
            partitions: Partitions::new(),
            calls: HashMap::new(),
            queues: Queues::default(),
            pending: Pending::default(),
            outgoing: VecDeque::new(),
            in_hand_now: 0,
            mean_bytes: 0,
            any_paused: false,
            filling: None,
            buffered: None,
            buffered_messages: 0,
            any_crowded: false,
            next_crowd_look: now,
            blocked: Blocked::new(now),
            next_look: now,
            letters: None,
            letters_woke: false,
            steps: VecDeque::new(),
            paused: false,
            restarting: None,
            swap_later: None,
            stopping: false,
            stuck: false,
            seeks: Vec::new(),
            held_back: false,
            came_while_held: false,
            until: None,
            events: Vec::new(),
            taken: Vec::new(),
        })
    }

    pub(super) fn tell(&self, event: Event) {
        (self.listener)(event);
    }

    /// A deadline that the stop's own bounds.
    pub(super) fn bounded(&self, deadline: Instant) -> Instant {
        self.until.map_or(deadline, |until| deadline.min(until))
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.plugin, Plugin::Up { .. })
    }

    /// Since when the plugin digests, if it does.
    pub(super) fn up_since(&self) -> Option<Instant> {
        match self.plugin {
            Plugin::Up { since } => Some(since),
            _ => None,
        }
    }

    /// Messages that the plugin has and whose outcome is not known.
    pub(super) fn in_hand(&self) -> usize {
        self.calls.values().map(|call| call.open).sum()
    }

    /// A queue has nothing left: its tag may be digested again wherever it was held.
    pub(super) fn emptied(&mut self, emptied: Emptied) {
        if let Some(lane) = emptied.held_by {
            self.lanes[lane].release_next.push(emptied.tag);
        }
        if self.config.is_straight() {
            self.partitions.get_mut(emptied.slot).queue = super::queues::QueueId::NONE;
        }
    }

    /// Applies what the plugin says until `done` or the deadline. Used where the thread must not go on before (in a
    /// rebalance, at the stop): it sleeps on the plugin's descriptor alone. Partitions that stay are served meanwhile.
    /// Whether it was done in time.
    pub(super) fn pump_until(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) -> bool {
        /// Waits that end in between, such as a back-off, are seen that late.
        const LOOK: Duration = Duration::from_millis(20);
        loop {
            self.pump();
            if done(self) {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            let mut wake = deadline;
            if !self.config.is_straight() && !self.stopping {
                self.dispatch(now);
                wake = wake.min(now + LOOK);
            }
            // A failed wait only means another turn of a loop that has a deadline.
            let _ = wait_readable(self.homes.as_fd(), Some(wake));
        }
    }

    /// Applies what the plugin has said.
    pub(super) fn pump(&mut self) -> bool {
        let mut events = std::mem::take(&mut self.events);
        self.home.pump(&mut events);
        self.stats.turned(self.home.has_deadline());
        let any = !events.is_empty();
        for event in events.drain(..) {
            self.apply(event);
        }
        self.events = events;
        any | self.pump_other() | self.serve_outputs()
    }
}
