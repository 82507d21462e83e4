//! Another plugin takes over from the present one, under the same client and assignment: new code, or other settings of
//! the plugin. Beside: the new is built and `started` while the old digests; then the old gets no more calls, gives back
//! what it has and hears `revoked`; the new hears `assigned` and digests; the old is stopped outside of that pause.
//! After, for what may exist only once: the old is stopped and gone before the new is built.
//!
//! At no time do two plugins have messages of the route in hand: the bytes change hands when the old holds nothing any
//! more, or is reaped.

use std::{
    mem,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use devour_abi::{Delivered, HostFailure, LifecycleCall, SwapMode};

use super::{
    Event, WorkerConfig,
    engine::{Engine, Plugin},
    pace::Pace,
    rate::Rate,
};
use crate::{
    lane::{Asker, DownCause, Home, HomeEvent, Slot},
    os::Interest,
    settings::Isolation,
};

/// A swap under way.
pub(super) struct Swap {
    /// What the route will run as; once the new has taken over, what it ran as.
    config: WorkerConfig,
    /// The new plugin's home; once it has taken over, the old one's.
    other: Box<dyn Home>,
    /// The process of `other`.
    pid: Option<u32>,
    /// The old is gone before the new is built.
    after: bool,
    phase: Phase,
    /// Lanes of `other` that have not answered what they were told last.
    asked: Vec<usize>,
    /// Since when the old gets no calls.
    gate: Instant,
    /// When it last gave something back.
    last_outcome: Option<Instant>,
    /// Why the new one ended before it digested.
    new_ended: Option<DownCause>,
    /// The old one has ended.
    old_ended: bool,
    /// What the old one's instances pass over until they are told to let it go.
    held: Vec<(usize, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The new is being built, the old digests.
    Building,
    /// The new has been told `started`.
    Starting,
    /// The old gets no calls and gives back what it has, until the deadline.
    GivingBack(Instant),
    /// The old has been told what there is to tell before it is replaced.
    Leaving,
    /// The old is being ended: it may exist no longer, or it did not give back in time.
    Ending,
    /// The new has everything and has been told where it is.
    Assigning,
    /// The new digests from this turn on.
    FirstCall,
    /// The old has been told `stopped`.
    Stopping,
    /// The old has been ended.
    Gone,
}

// === impl Swap ===

impl Swap {
    /// Tells the other plugin what became of a record, if it is the one that asked.
    pub(super) fn answer(&mut self, asker: Asker, outcome: Result<Delivered, HostFailure>) {
        self.other.answer(asker, outcome);
    }
}

// === impl Engine ===

impl Engine {
    /// Begins to replace the plugin; after its restart, where one was ordered.
    pub(super) fn begin_swap(&mut self, config: WorkerConfig) {
        if self.restarting.is_some() && !self.stopping && !self.stuck {
            self.swap_later = Some(Box::new(config));
            return;
        }
        if self.stopping || self.stuck {
            let why = if self.stuck {
                "its plugin is stuck in the daemon's own thread and cannot be replaced: only a restart of the daemon \
                 frees it"
            } else {
                "the route is stopping"
            };
            return self.tell(Event::SwapFailed(why.to_owned()));
        }
        if self.swap.is_some() {
            // The plugin before the last is told `stopped` first.
            self.swap_later = Some(Box::new(config));
            return;
        }
        let made = self.home.successor(config.home.clone()).and_then(|other| {
            self.homes.add(other.wake_fd(), 1, Interest::Read)?;
            Ok(other)
        });
        let other = match made {
            Ok(mut other) => {
                // So that it can produce in its `started`; the rest when it has taken over.
                other.grant(config.home.output_bytes / 8);
                other
            }
            Err(error) => {
                return self.tell(Event::SwapFailed(format!(
                    "the system has no descriptors for another plugin: {error}"
                )));
            }
        };
        let now = Instant::now();
        // What may exist only once may not meet its successor either.
        let after = [self.config.swap, config.swap].contains(&SwapMode::After);
        tracing::debug!(route = %config.route, after, "swap begins");
        self.swap = Some(Swap {
            config,
            other,
            pid: None,
            after,
            phase: Phase::Building,
            asked: Vec::new(),
            gate: now,
            last_outcome: None,
            new_ended: None,
            old_ended: false,
            held: Vec::new(),
        });
        if after {
            self.close_gate(now);
        } else {
            self.with_swap(|swap| swap.other.start());
        }
    }

    fn with_swap(&mut self, act: impl FnOnce(&mut Swap)) {
        if let Some(swap) = &mut self.swap {
            act(swap);
        }
    }

    fn phase(&self) -> Option<Phase> {
        self.swap.as_ref().map(|swap| swap.phase)
    }

    fn enter(&mut self, phase: Phase) {
        self.with_swap(|swap| swap.phase = phase);
    }

    /// Nothing is handed out, because the old plugin gives back what it has.
    pub(super) fn hands_over(&self) -> bool {
        matches!(
            self.phase(),
            Some(Phase::GivingBack(_) | Phase::Leaving | Phase::Ending)
        )
    }

    /// Another plugin is taking over; what the old one does after that does not matter.
    pub(super) fn is_swapping(&self) -> bool {
        !matches!(self.phase(), None | Some(Phase::Stopping | Phase::Gone))
    }

    /// The new plugin has everything, and nobody was told yet that it digests.
    pub(super) fn has_taken_over(&self) -> bool {
        matches!(self.phase(), Some(Phase::Assigning | Phase::FirstCall))
    }

    /// The old plugin gave something back.
    #[inline]
    pub(super) fn note_last_outcome(&mut self) {
        if self.swap.is_some() && self.hands_over() {
            self.with_swap(|swap| swap.last_outcome = Some(Instant::now()));
        }
    }

    /// Whether the plugin's end is a step of the swap, which goes on with it: the supervisor has nothing to do then.
    pub(super) fn is_gone_by_swap(&mut self, cause: &DownCause) -> bool {
        let (hands_over, phase) = (self.hands_over(), self.phase());
        let Some(swap) = &mut self.swap else { return false };
        if hands_over {
            swap.old_ended = true;
            swap.last_outcome.get_or_insert_with(Instant::now);
            return true;
        }
        if phase == Some(Phase::Assigning) {
            swap.new_ended = Some(cause.clone());
            return true;
        }
        if phase == Some(Phase::FirstCall) {
            // It did take over, and died of its first calls.
            self.swapped(Instant::now());
        }
        false
    }

    /// The old plugin hears of no partitions any more: it has been told that all of them go.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase(), Some(Phase::Leaving | Phase::Ending))
    }

    /// From here on the old plugin gets no calls.
    fn close_gate(&mut self, now: Instant) {
        let deadline = now + self.config.drain_timeout;
        self.with_swap(|swap| swap.gate = now);
        match self.plugin {
            Plugin::Up { .. } => {
                self.enter(Phase::GivingBack(deadline));
                self.recall_all();
            }
            Plugin::Starting | Plugin::Greeting => {
                self.enter(Phase::Ending);
                self.home.end(DownCause::Ordered);
            }
            Plugin::Down => {
                self.enter(Phase::Ending);
                self.with_swap(|swap| swap.old_ended = true);
            }
        }
    }

    /// Hears the other plugin: the new one until it takes over, then the old one.
    pub(super) fn pump_other(&mut self) -> bool {
        let Some(swap) = &mut self.swap else { return false };
        let mut events = Vec::new();
        swap.other.pump(&mut events);
        let any = !events.is_empty();
        for event in events {
            match event {
                HomeEvent::Produced(produced) => self.produced_by_other(&produced),
                event => self.hear_other(event),
            }
        }
        any
    }

    fn hear_other(&mut self, event: HomeEvent) {
        let lanes = self.lanes.len();
        let Some(swap) = &mut self.swap else { return };
        match (swap.phase, event) {
            (Phase::Building, HomeEvent::Up { pid }) => {
                swap.pid = pid;
                swap.phase = Phase::Starting;
                swap.asked = (0..lanes).collect();
                for lane in 0..lanes {
                    swap.other.lifecycle(lane, &LifecycleCall::Started);
                }
            }
            (Phase::Starting, HomeEvent::Lifecycle { lane, answer }) => {
                swap.asked.retain(|asked| *asked != lane);
                match answer {
                    Err(failure) => {
                        let why = format!("its `started` failed: {}", failure.message);
                        self.fail_swap(&why);
                    }
                    Ok(_) if swap.asked.is_empty() => self.close_gate(Instant::now()),
                    Ok(_) => {}
                }
            }
            (Phase::Building | Phase::Starting, HomeEvent::Down { cause, .. }) => {
                self.fail_swap(&cause.to_string());
            }
            (Phase::Building | Phase::Starting, HomeEvent::Stuck(why)) => self.fail_swap(&why),
            // Both have ended, or are about to.
            (Phase::GivingBack(_) | Phase::Leaving, HomeEvent::Down { cause, .. }) if swap.old_ended => {
                swap.new_ended = Some(cause);
            }
            // The new one ended while the old gives back: the old goes on.
            (Phase::GivingBack(_) | Phase::Leaving, HomeEvent::Down { cause, .. }) => {
                self.fail_swap(&cause.to_string());
            }
            (Phase::Stopping, HomeEvent::Lifecycle { lane, .. }) => {
                // What its `stopped` says changes nothing.
                swap.asked.retain(|asked| *asked != lane);
                if swap.asked.is_empty() {
                    swap.phase = Phase::Gone;
                    swap.other.end(DownCause::Ordered);
                }
            }
            (Phase::Stopping | Phase::Gone, HomeEvent::Down { .. }) => self.forget_other(),
            (Phase::Stopping | Phase::Gone, HomeEvent::Stuck(why)) => {
                tracing::warn!(route = %self.config.route, why, "the old plugin's thread does not end: it stays in the \
                    daemon until that ends, and has nothing in hand");
                self.forget_other();
            }
            (Phase::Ending, HomeEvent::Down { cause, .. }) => swap.new_ended = Some(cause),
            (Phase::Assigning | Phase::FirstCall, HomeEvent::Down { .. }) => swap.old_ended = true,
            _ => {}
        }
    }

    /// Goes on with the swap, as far as it can now.
    pub(super) fn mind_swap(&mut self, now: Instant) -> bool {
        let before = self.phase();
        let Some(phase) = before else { return false };
        match phase {
            Phase::GivingBack(deadline) => self.mind_giving_back(deadline, now),
            Phase::Leaving => self.mind_leaving(),
            Phase::Ending if self.old_has_ended() => self.take_over(now),
            Phase::Ending if self.stuck => self.fail_swap("the old plugin does not end"),
            Phase::Assigning => self.mind_assigning(),
            Phase::FirstCall => self.swapped(now),
            _ => {}
        }
        self.phase() != before
    }

    /// When something is to be done about it.
    pub(super) fn swap_due(&self) -> Option<Instant> {
        match self.phase() {
            Some(Phase::GivingBack(deadline)) => Some(deadline),
            _ => None,
        }
    }

    fn old_has_ended(&self) -> bool {
        self.swap.as_ref().is_some_and(|swap| swap.old_ended)
    }

    fn mind_giving_back(&mut self, deadline: Instant, now: Instant) {
        if self.old_has_ended() {
            self.take_over(now);
        } else if self.has_given_back() {
            let slots = self.partitions.assigned_slots();
            if !slots.is_empty() {
                let partitions = self.describe(&slots);
                let revoked = LifecycleCall::Revoked {
                    partitions,
                    lost: false,
                };
                self.step("revoked", revoked, Vec::new());
            }
            if self.is_after() {
                self.step("stopped", LifecycleCall::Stopped, Vec::new());
            }
            self.enter(Phase::Leaving);
        } else if self.stuck {
            self.fail_swap("the old plugin does not give back what it has");
        } else if now >= deadline {
            let blocked_by = self.blocked_by();
            if self.config.home.isolation == Isolation::Thread {
                self.fail_swap(&format!(
                    "the old plugin did not give back what it has, and a thread cannot be ended: {blocked_by}"
                ));
            } else {
                tracing::warn!(route = %self.config.route, blocked_by,
                    "the old plugin did not give back what it has in time; it is ended, and the new one gets that");
                self.enter(Phase::Ending);
                self.home.end(DownCause::Ordered);
            }
        } else if self.config.buffers() && self.flush_at().is_some() {
            // A flush that was asked for before does not cover what was digested since.
            self.flush();
        }
    }

    fn is_after(&self) -> bool {
        self.swap.as_ref().is_some_and(|swap| swap.after)
    }

    fn mind_leaving(&mut self) {
        if self.old_has_ended() {
            self.take_over(Instant::now());
        } else if self.stuck {
            self.fail_swap("the old plugin does not return from its `revoked`");
        } else if self.steps.is_empty() {
            if self.is_after() {
                self.enter(Phase::Ending);
                self.home.end(DownCause::Ordered);
            } else {
                self.take_over(Instant::now());
            }
        }
    }

    /// The new plugin gets everything that the old had. It is told where it is before it digests.
    fn take_over(&mut self, now: Instant) {
        if let Some(cause) = self.swap.as_mut().and_then(|swap| swap.new_ended.take()) {
            // Neither is left: the old is built again.
            self.forget_other();
            return self.nobody_is_left(&cause);
        }
        if let Err(error) = self.exchange() {
            self.fail_swap(&format!("the system has no descriptors for it: {error}"));
            return;
        }
        self.enter(Phase::Assigning);
        self.with_swap(|swap| {
            swap.last_outcome.get_or_insert(now);
        });
        if self.is_after() {
            self.plugin = Plugin::Starting;
            self.home.start();
        } else {
            self.plugin = Plugin::Greeting;
            self.tell_where_it_is();
        }
    }

    /// The two homes change places, with what the one has, and their configurations.
    fn exchange(&mut self) -> std::io::Result<()> {
        let belongings = self.home.hand_over()?;
        let held = self.held_tags();
        self.nothing_is_told();
        let Some(swap) = &mut self.swap else { return Ok(()) };
        swap.other.take_over(belongings);
        swap.held = held;
        mem::swap(&mut self.home, &mut swap.other);
        mem::swap(&mut self.config, &mut swap.config);
        // It acts at the first assignment after the daemon starts, whichever plugin there is by then.
        mem::swap(&mut self.config.reset_to, &mut swap.config.reset_to);
        mem::swap(&mut self.pid, &mut swap.pid);
        self.suspects.forgive_all();
        self.pace = Pace::of(&self.config);
        self.rate = self
            .config
            .rate_limit
            .map(|limit| Rate::new(limit, Instant::now()));
        if let (Some(letters), Some(config)) = (&mut self.letters, &self.config.dead_letter) {
            letters.post_mut().come_from(config.origin.clone());
        }
        Ok(())
    }

    /// What the instances pass over until they are told to let it go, by lane.
    fn held_tags(&self) -> Vec<(usize, u64)> {
        let waiting = self
            .lanes
            .iter()
            .enumerate()
            .flat_map(|(lane, state)| state.release_next.iter().map(move |tag| (lane, *tag)));
        self.queues.held_tags().chain(waiting).collect()
    }

    /// A plugin that has been `started` hears of the partitions that it has.
    fn tell_where_it_is(&mut self) {
        let slots: Vec<Slot> = self.partitions.assigned_slots();
        if slots.is_empty() {
            self.welcome();
        } else {
            self.step_assigned(slots);
        }
    }

    fn mind_assigning(&mut self) {
        let Some(swap) = &mut self.swap else { return };
        if let Some(cause) = swap.new_ended.take() {
            self.go_back(cause);
        } else if mem::take(&mut self.stuck) {
            // In a thread that is never used again; it has been given nothing.
            let limit = self.config.lifecycle_timeout;
            self.go_back(DownCause::Deadline(format!(
                "it did not answer within {limit:?}; its thread stays in the daemon until it ends"
            )));
        } else if self.is_up() {
            self.enter(Phase::FirstCall);
        }
    }

    /// The new plugin ended before it digested: the old goes on, or is built again.
    fn go_back(&mut self, cause: DownCause) {
        let held = self.swap.as_mut().map(|swap| mem::take(&mut swap.held));
        if let Err(error) = self.exchange() {
            // The bytes stay with the new one's home, which is started again instead.
            tracing::error!(route = %self.config.route, %error, "the system has no descriptors for the old plugin");
            self.swap = None;
            return self.nobody_is_left(&cause);
        }
        let old_lives = self.swap.as_ref().is_some_and(|swap| !swap.old_ended);
        self.forget_other();
        if old_lives {
            self.plugin = Plugin::Greeting;
            // Its instances know what they hold; nobody else does any more.
            self.owed = held.unwrap_or_default();
            self.tell_where_it_is();
            self.tell(Event::SwapFailed(cause.to_string()));
        } else {
            self.nobody_is_left(&cause);
        }
    }

    /// The supervisor decides when the plugin is built again.
    fn nobody_is_left(&mut self, cause: &DownCause) {
        self.plugin = Plugin::Down;
        self.tell(Event::PluginDown {
            cause: cause.clone(),
            lived: Duration::ZERO,
        });
        self.tell(Event::SwapFailed(cause.to_string()));
    }

    /// The new plugin digests. The old one is told that it is over, outside of the pause.
    fn swapped(&mut self, now: Instant) {
        let lanes = self.lanes.len();
        let pid = self.pid;
        let Some(swap) = &mut self.swap else { return };
        let from = swap.last_outcome.map_or(swap.gate, |last| last.max(swap.gate));
        let pause = now.saturating_duration_since(from);
        if swap.old_ended {
            self.forget_other();
        } else {
            swap.phase = Phase::Stopping;
            swap.asked = (0..lanes).collect();
            for lane in 0..lanes {
                swap.other.lifecycle(lane, &LifecycleCall::Stopped);
            }
        }
        self.tell(Event::Swapped { pid, pause });
        if let Some(transaction) = &mut self.transaction {
            transaction.forgive();
        }
        self.try_again("another plugin has taken over");
    }

    /// Nothing comes of it; the old plugin goes on, if it can.
    fn fail_swap(&mut self, why: &str) {
        let (old_ended, phase) = (self.old_has_ended(), self.phase());
        self.end_swap();
        if old_ended {
            return self.nobody_is_left(&DownCause::NotBuilt(why.to_owned()));
        }
        self.tell(Event::SwapFailed(why.to_owned()));
        // Told to end for a successor that does not come: where it does end, it is built again.
        self.ends_for_nothing = phase == Some(Phase::Ending);
        let slots = self.partitions.assigned_slots();
        if phase == Some(Phase::Leaving) && self.is_up() && !slots.is_empty() {
            // It was told that they go.
            self.step_assigned(slots);
        }
    }

    /// Before a stop: a plugin that has everything and is being told where it is gets the time for that, and one that is
    /// over to hear of it.
    pub(super) fn settle_swap(&mut self, deadline: Instant) {
        while self.swap.is_some() && self.has_taken_over() {
            self.mind_swap(Instant::now());
            let settled =
                |engine: &Self| engine.phase() != Some(Phase::Assigning) || engine.is_up() || engine.stuck;
            if !self.pump_until(deadline, |engine| {
                settled(engine) || engine.plugin == Plugin::Down
            }) {
                break;
            }
        }
    }

    /// At the end: what is left of a swap is told that it is over, if it has not been, and ended.
    pub(super) fn close_swap(&mut self, deadline: Instant) {
        let over = |engine: &Self| !matches!(engine.phase(), Some(Phase::Stopping | Phase::Gone));
        self.pump_until(deadline, over);
        self.end_swap();
    }

    /// Ends whatever is left of a swap.
    fn end_swap(&mut self) {
        self.with_swap(|swap| swap.other.end(DownCause::Ordered));
        self.forget_other();
    }

    fn forget_other(&mut self) {
        if let Some(swap) = self.swap.take() {
            // Dropped, it leaves the poller by itself where this fails.
            let _ = self.homes.remove(swap.other.wake_fd().as_fd());
        }
    }
}
