//! The state of a route at work, owned by its thread. Each stage's part of it is in the stage's own file; here are
//! its nouns and the life of the plugin's instance.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use devour_abi::{AssignedPartition, LifecycleCall};

use super::{
    Event, Listener, RouteStats, WorkerConfig, commit::Committer, dispatch::Outgoing, outcomes::InHand,
    pace::Pace, partitions::Partitions,
};
use crate::{
    lane::{DownCause, Home, HomeEvent, Slot},
    os::wait_readable,
};

/// One route at work.
pub(super) struct Engine {
    pub config: WorkerConfig,
    pub listener: Listener,
    pub stats: Arc<RouteStats>,
    pub home: Box<dyn Home>,
    pub plugin: Plugin,
    /// Its process.
    pub pid: Option<u32>,
    pub partitions: Partitions,
    /// Calls that are not over, in the order of their numbers.
    pub calls: VecDeque<InHand>,
    /// Calls that are made and do not fit yet, in their order.
    pub outgoing: VecDeque<Outgoing>,
    /// Order tags that the next call lets go.
    pub release_next: Vec<u64>,
    /// Order tags that the next call holds: a new instance does not know who waits.
    pub hold_next: Vec<u64>,
    pub pace: Pace,
    /// When the lane last gave a call back: the next one began then.
    pub last_return: Instant,
    pub committer: Committer,
    /// Lifecycle steps that are called and not answered, in order.
    pub steps: VecDeque<Step>,
    /// What is left when a call comes back cut is read again later, not now.
    pub stopping: bool,
    /// The plugin does not give back what it has, and cannot be ended or is out of time: nothing more is asked of it.
    pub stuck: bool,
    /// Partitions whose start offsets came from the plugin outside a rebalance: to be sought.
    pub seeks: Vec<(Slot, i64)>,
    /// Everything is paused because the lane takes nothing.
    pub held_back: bool,
    /// Partitions came while everything was paused: they are to be paused too.
    pub came_while_held: bool,
    /// The stop's deadline: no wait goes beyond it.
    pub until: Option<Instant>,
    pub events: Vec<HomeEvent>,
}

/// The life of the plugin's instance.
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

/// A lifecycle call on its way.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub name: &'static str,
    /// The partitions whose start offsets the answer may name.
    pub assigned: Vec<Slot>,
}

// === impl Engine ===

impl Engine {
    pub(super) fn new(
        config: WorkerConfig,
        home: Box<dyn Home>,
        listener: Listener,
        stats: Arc<RouteStats>,
    ) -> Self {
        Self {
            pace: Pace::new(config.batch.max_messages),
            committer: Committer::new(config.commit.clone(), Instant::now()),
            config,
            listener,
            stats,
            home,
            plugin: Plugin::Down,
            pid: None,
            partitions: Partitions::default(),
            calls: VecDeque::new(),
            outgoing: VecDeque::new(),
            release_next: Vec::new(),
            hold_next: Vec::new(),
            last_return: Instant::now(),
            steps: VecDeque::new(),
            stopping: false,
            stuck: false,
            seeks: Vec::new(),
            held_back: false,
            came_while_held: false,
            until: None,
            events: Vec::new(),
        }
    }

    pub(super) fn tell(&self, event: Event) {
        (self.listener)(event);
    }

    /// Builds the instance.
    pub(super) fn start_plugin(&mut self) {
        if self.plugin == Plugin::Down && !self.stopping {
            self.plugin = Plugin::Starting;
            self.home.start();
        }
    }

    /// The instance stands: it is told where it is before it digests.
    pub(super) fn greet(&mut self, pid: Option<u32>) {
        tracing::debug!(route = %self.config.route, pid, "plugin built");
        self.plugin = Plugin::Greeting;
        self.steps.clear();
        self.step("started", LifecycleCall::Started, Vec::new());
        let slots = self.partitions.assigned_slots();
        if !slots.is_empty() {
            self.step_assigned(slots);
        }
        self.pid = pid;
    }

    /// Tells the instance that partitions are its route's.
    pub(super) fn step_assigned(&mut self, slots: Vec<Slot>) {
        let partitions = self.describe(&slots);
        self.step(
            "assigned",
            LifecycleCall::Assigned {
                partitions,
                ask_start_offsets: true,
            },
            slots,
        );
    }

    pub(super) fn step(&mut self, name: &'static str, call: LifecycleCall, assigned: Vec<Slot>) {
        self.home.lifecycle(&call);
        self.steps.push_back(Step { name, assigned });
    }

    pub(super) fn describe(&self, slots: &[Slot]) -> Vec<AssignedPartition> {
        let describe = |slot: &Slot| {
            let partition = self.partitions.get(*slot);
            AssignedPartition {
                topic: partition.topic.to_string(),
                partition: partition.number,
                committed: partition.committed,
            }
        };
        slots.iter().map(describe).collect()
    }

    /// All steps are answered: the instance digests, beginning with what its predecessor had in hand.
    pub(super) fn welcome(&mut self) {
        self.plugin = Plugin::Up {
            since: Instant::now(),
        };
        self.last_return = Instant::now();
        self.tell(Event::PluginUp { pid: self.pid });
        if !self.seeks.is_empty() {
            // It starts elsewhere: what its predecessor had in hand waits until the seek has decided about it.
            self.take_back();
        }
        self.release_next.clear();
        self.hold_next = self
            .partitions
            .assigned()
            .filter(|(_, partition)| partition.parked.is_some())
            .map(|(slot, _)| u64::from(slot.0))
            .collect();
        self.hand_again();
    }

    /// The instance is gone.
    pub(super) fn plugin_down(&mut self, cause: DownCause) {
        let lived = match self.plugin {
            Plugin::Up { since } => since.elapsed(),
            _ => Duration::ZERO,
        };
        self.plugin = Plugin::Down;
        self.steps.clear();
        self.tell(Event::PluginDown { cause, lived });
    }

    /// A deadline that the stop's own bounds.
    pub(super) fn bounded(&self, deadline: Instant) -> Instant {
        self.until.map_or(deadline, |until| deadline.min(until))
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.plugin, Plugin::Up { .. })
    }

    /// Messages that a plugin has or is about to get.
    pub(super) fn in_hand(&self) -> usize {
        self.calls.iter().map(InHand::left).sum()
    }

    /// Applies what the plugin says until `done` or the deadline. Used where the thread must not go on before (in a
    /// rebalance, at the stop): it sleeps on the plugin's descriptor alone. Whether it was done in time.
    pub(super) fn pump_until(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            self.pump();
            if done(self) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // A failed wait only means another turn of a loop that has a deadline.
            let _ = wait_readable(self.home.wake_fd(), Some(deadline));
        }
    }

    /// Applies what the plugin has said.
    pub(super) fn pump(&mut self) -> bool {
        let mut events = std::mem::take(&mut self.events);
        self.home.pump(&mut events);
        let any = !events.is_empty();
        for event in events.drain(..) {
            self.apply(event);
        }
        self.events = events;
        any
    }
}
