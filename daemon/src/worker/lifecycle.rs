//! The life of the plugin's instances: what they are told, in which order, and what they answer.

use std::time::{Duration, Instant};

use devour_abi::{AssignedPartition, Failure, LifecycleAnswer, LifecycleCall};

use super::{
    Event,
    calls::Standing,
    engine::{Engine, Plugin},
    release::Move,
};
use crate::lane::{DownCause, Slot};

/// A lifecycle call to all lanes.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub name: &'static str,
    call: LifecycleCall,
    /// The partitions whose start offsets the answer may name.
    assigned: Vec<Slot>,
    /// Lanes that have been asked and have not answered.
    asked: Vec<usize>,
    /// Lanes that are asked when those have.
    later: Vec<usize>,
}

// === impl Step ===

impl Step {
    /// Whether a lane is still to be heard about it that has nothing else to do.
    fn waits_for(&self, idle: impl Fn(usize) -> bool) -> bool {
        self.asked.iter().chain(&self.later).any(|lane| idle(*lane))
    }
}

// === impl Engine ===

impl Engine {
    /// Builds the instances.
    pub(super) fn start_plugin(&mut self) {
        if self.plugin == Plugin::Down && !self.stopping && !self.hands_over() {
            self.plugin = Plugin::Starting;
            self.home.start();
        }
    }

    /// The instances stand: they are told where they are before they digest.
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

    /// Tells the instances that partitions are their route's.
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

    /// A step is called when the one before it was answered by all lanes.
    pub(super) fn step(&mut self, name: &'static str, call: LifecycleCall, assigned: Vec<Slot>) {
        let mut lanes: Vec<usize> = (0..self.lanes.len()).collect();
        // Start offsets are asked of the first lane alone, before the others hear of the partitions.
        let asks = self.config.keeps_offsets && matches!(call, LifecycleCall::Assigned { .. });
        let later = lanes.split_off(if asks { 1 } else { lanes.len() });
        self.steps.push_back(Step {
            name,
            call,
            assigned,
            asked: lanes,
            later,
        });
        if self.steps.len() == 1 {
            self.ask();
        }
    }

    /// Calls the first step.
    fn ask(&mut self) {
        if let Some(step) = self.steps.front() {
            for lane in &step.asked {
                self.home.lifecycle(*lane, &step.call);
            }
        }
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

    pub(super) fn answered(&mut self, lane: usize, answer: Result<LifecycleAnswer, Failure>) {
        let Some(step) = self.steps.front_mut() else {
            return;
        };
        step.asked.retain(|asked| *asked != lane);
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                let name = step.name;
                tracing::error!(route = %self.config.route, call = name, lane, error = failure.message.as_str(),
                    "the plugin's lifecycle call failed");
                self.home.end(DownCause::Broken(failure));
                return;
            }
        };
        let flushed = step.call == LifecycleCall::Flush;
        let mut seeks = Vec::new();
        // In a transaction the group's offsets count; who keeps its own is refused.
        let obeyed = answer.start_offsets.iter().filter(|_| self.transaction.is_none());
        for start in obeyed {
            let named = |slot: &&Slot| {
                let partition = self.partitions.get(**slot);
                *partition.topic == *start.topic && partition.number == start.partition
            };
            if let Some(slot) = step.assigned.iter().find(named) {
                seeks.push((*slot, start.offset));
            }
        }
        if step.asked.is_empty() && !step.later.is_empty() {
            step.asked = std::mem::take(&mut step.later);
            if let LifecycleCall::Assigned {
                ask_start_offsets, ..
            } = &mut step.call
            {
                *ask_start_offsets = false;
            }
            self.ask();
        } else if step.asked.is_empty() {
            self.steps.pop_front();
            self.ask();
        }
        self.seeks.append(&mut seeks);
        if flushed {
            self.flushed(lane);
        }
        if self.plugin == Plugin::Greeting && self.steps.is_empty() {
            self.welcome();
        }
    }

    /// All steps are answered: the instances digest, beginning with what their predecessors had in hand.
    pub(super) fn welcome(&mut self) {
        let now = Instant::now();
        self.plugin = Plugin::Up { since: now };
        for lane in &mut self.lanes {
            lane.last_return = now;
            lane.release_next.clear();
            lane.hold_next.clear();
        }
        for (lane, tag) in std::mem::take(&mut self.owed) {
            self.lanes[lane].release_next.push(tag);
        }
        if !self.has_taken_over() {
            self.tell(Event::PluginUp { pid: self.pid });
        }
        self.succeeded();
        if !self.config.is_straight() {
            return;
        }
        if !self.seeks.is_empty() {
            // It starts elsewhere: what its predecessor had in hand waits until the seek has decided about it.
            self.take_back();
        }
        // Whatever stands in a queue comes before what the next calls have of it.
        self.lanes[0].hold_next.clear();
        for (tag, slot) in self.queues.all_tags() {
            self.lanes[0].hold_next.push(tag);
            self.queues.hold(tag, slot, 0, 0);
        }
        self.hand_again();
    }

    /// The instances are gone.
    pub(super) fn plugin_down(&mut self, cause: DownCause) {
        let lived = match self.plugin {
            Plugin::Up { since } => since.elapsed(),
            _ => Duration::ZERO,
        };
        self.plugin = Plugin::Down;
        self.nothing_is_told();
        if !self.is_gone_by_swap(&cause) {
            let cause = self.ended_by_order(cause);
            let cause = if std::mem::take(&mut self.ends_for_nothing) {
                DownCause::NotBuilt("it was ended for a successor that was not built".to_owned())
            } else {
                cause
            };
            self.tell(Event::PluginDown { cause, lived });
            self.start_successor();
        }
    }

    /// The instances know nothing of what goes on: those before them were told.
    pub(super) fn nothing_is_told(&mut self) {
        self.steps.clear();
        self.owed.clear();
        self.queues.forget_holds();
        for lane in &mut self.lanes {
            lane.calls = 0;
            lane.buffered.clear();
            lane.release_next.clear();
            lane.hold_next.clear();
            lane.recalled = false;
        }
        (self.buffered, self.buffered_messages) = (None, 0);
    }

    /// Notes since when the plugin does not run, and whether that is too long.
    pub(super) fn mind_release(&mut self, now: Instant) {
        let settled = self.stats.settled();
        let Some(next) = self
            .release
            .look(now, self.up_since(), settled, self.config.release_after)
        else {
            return;
        };
        let route = &self.config.route;
        match next {
            Move::Leave => {
                let release_after_ms = self.config.release_after.map(|after| after.as_millis() as u64);
                tracing::warn!(%route, release_after_ms,
                    "nothing could be digested for too long: the route leaves its group, so that others take its \
                     partitions; it joins again when its plugin runs");
            }
            Move::Join => tracing::info!(%route, "the plugin runs again: the route joins its group again"),
        }
        let released = self.release.is_released();
        self.tell(Event::Released { released });
    }

    /// Whether a step waits for a lane that could answer it: one that digests answers when it has digested.
    pub(super) fn step_is_due(&self) -> bool {
        self.steps
            .iter()
            .any(|step| step.waits_for(|lane| self.lanes[lane].calls == 0))
    }

    // === buffering consumers ===

    /// A buffering consumer has digested so many messages more.
    pub(super) fn note_buffered(&mut self, messages: usize, now: Instant) {
        if messages > 0 {
            self.buffered.get_or_insert(now);
            self.buffered_messages += messages;
        }
    }

    /// Tells a buffering consumer to flush when it is time: by its age, its count, or because it fills the stock.
    pub(super) fn flush_if_due(&mut self, now: Instant) {
        let Some(policy) = self.config.flush else { return };
        let Some(since) = self.buffered else { return };
        let is_due = self.buffered_messages >= policy.max_messages || since + policy.max_wait <= now;
        if is_due || self.buffered_fills_the_stock() {
            self.flush();
        }
    }

    /// What is buffered takes half of the stock, or all its room is taken and there is nothing else to do.
    fn buffered_fills_the_stock(&mut self) -> bool {
        let held = self.buffered_messages.saturating_mul(self.mean_bytes);
        let is_blocked = self.queues.ready().messages == 0;
        let waits = !self.pending.is_empty();
        self.home.stock().is_some_and(|stock| {
            let is_full = waits || stock.used() >= stock.size();
            held.saturating_mul(2) >= stock.size() || (is_full && is_blocked)
        })
    }

    /// When it is time by age.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        let policy = self.config.flush?;
        let asked = self.steps.iter().any(|step| step.call == LifecycleCall::Flush);
        self.buffered
            .filter(|_| !asked)
            .map(|since| since + policy.max_wait)
    }

    /// Asks all lanes to flush, unless they are asked already.
    pub(super) fn flush(&mut self) {
        let asked = self.steps.iter().any(|step| step.call == LifecycleCall::Flush);
        if !asked && self.is_up() {
            self.step("flush", LifecycleCall::Flush, Vec::new());
        }
    }

    /// A lane has flushed: what it had digested before is done.
    fn flushed(&mut self, lane: usize) {
        for number in std::mem::take(&mut self.lanes[lane].buffered) {
            let Some(mut call) = self.calls.remove(&number) else {
                continue;
            };
            for index in 0..call.items.len() {
                if call.items[index].standing != Standing::Buffered {
                    continue;
                }
                self.buffered_messages = self.buffered_messages.saturating_sub(1);
                if self.is_written(&mut call, index)
                    && let Some(item) = call.settle(index)
                {
                    self.done(item);
                }
            }
            self.keep_if_open(call);
        }
        let any = self.lanes.iter().any(|lane| !lane.buffered.is_empty());
        self.buffered = any.then(Instant::now);
        if !any {
            self.buffered_messages = 0;
        }
    }
}
