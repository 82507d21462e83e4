//! Where outputs meet the engine: a record finds its message, a digested message waits for what it produced, and a revoke or
//! stop waits for what is on its way.

use std::time::{Duration, Instant};

use devour_abi::{Failure, MessageId};

use super::{Ended, Outlet, Outputs, Owner, Standing as Written};
use crate::{
    lane::{Cause, Produced, Slot},
    worker::{
        RouteStats,
        calls::{InHand, Item, Standing},
        engine::Engine,
        outcomes::{Bytes, Decision, Trouble},
        queues::{QueueId, Waiting},
    },
};

/// What the engine keeps beside the records themselves.
#[derive(Default)]
pub(in crate::worker) struct OutputsState {
    /// Messages that are digested and wait for what they produced.
    pub unwritten: usize,
    /// What was digested behind these messages, tag, partition and offset, is digested again behind them.
    replays: Vec<(u64, Slot, i64)>,
    /// Such messages may still return.
    replayed: bool,
    /// The brokers are slow: no digest misses its deadline.
    slow: bool,
    /// It was said that the brokers do not acknowledge.
    told: bool,
}

/// Records that are not acknowledged for so long are worth a line in the log.
const WORTH_SAYING: Duration = Duration::from_secs(5);

// === impl Engine ===

impl Engine {
    /// The plugin has produced something.
    pub(in crate::worker) fn produced(&mut self, produced: &Produced) {
        let now = Instant::now();
        let mut count = 0;
        for output in produced.iter() {
            let owner = match output.cause {
                Cause::Message(id) => self.owner(id),
                Cause::All => Owner::All(self.calls.keys().copied().max().unwrap_or(0)),
            };
            self.outputs.take(owner, &output, now);
            count += 1;
        }
        RouteStats::add(&self.stats.produced, count);
    }

    /// The plugin before this one, or the next, has: it has no message in hand.
    pub(in crate::worker) fn produced_by_other(&mut self, produced: &Produced) {
        let now = Instant::now();
        let mut count = 0;
        for output in produced.iter() {
            self.outputs.take(Owner::Nobody, &output, now);
            count += 1;
        }
        RouteStats::add(&self.stats.produced, count);
    }

    fn owner(&self, id: MessageId) -> Owner {
        let Some(call) = self.calls.get(&id.call) else {
            return Owner::Nobody;
        };
        if self.config.takes_batches {
            return Owner::Call(id.call);
        }
        match call.items.get(id.index as usize).map(|item| item.standing) {
            Some(Standing::Out | Standing::Taken | Standing::Buffered) => Owner::Message(id.call, id.index),
            _ => Owner::Nobody,
        }
    }

    /// Whether messages that were digested may have to wait, or to be digested again.
    #[inline]
    pub(in crate::worker) fn is_quiet(&self) -> bool {
        self.outputs.is_quiet() && !self.outputs_state.replayed
    }

    /// Whether a message that is digested is finished. If it is not, it waits for what it produced, or its failure was dealt
    /// with.
    pub(in crate::worker) fn is_written(&mut self, call: &mut InHand, index: usize) -> bool {
        if self.is_quiet() {
            return true;
        }
        let Some(item) = call.items.get(index).copied() else {
            return false;
        };
        if item.standing == Standing::Settled {
            return false;
        }
        if self.is_to_be_replayed(&item) {
            self.put_back(call, index);
            return false;
        }
        match self.outputs.digested(call.number, index as u32) {
            Written::Finished => true,
            Written::Waits => {
                self.wait_for_outputs(call, index, item);
                false
            }
            Written::Failed(failure) => {
                if let Some(item) = call.settle(index) {
                    self.outputs_failed(call.number, index, item, &failure);
                }
                false
            }
        }
    }

    fn wait_for_outputs(&mut self, call: &mut InHand, index: usize, item: Item) {
        if item.queue != QueueId::NONE && item.standing != Standing::Buffered {
            // What follows it in its order goes to the same lane meanwhile.
            self.queues.buffer(item.queue, call.lane);
        }
        call.await_outputs(index);
        self.outputs_state.unwritten += 1;
        self.partitions.get_mut(item.slot).unwritten += 1;
    }

    /// One that waited does not any more.
    pub(in crate::worker) fn waits_no_more(&mut self, item: &Item) {
        self.outputs_state.unwritten = self.outputs_state.unwritten.saturating_sub(1);
        let partition = self.partitions.get_mut(item.slot);
        partition.unwritten = partition.unwritten.saturating_sub(1);
    }

    /// What a message produced was not written: the message has failed.
    fn outputs_failed(&mut self, call: u64, index: usize, item: Item, failure: &Failure) {
        RouteStats::add(&self.stats.failed, 1);
        let trouble = Trouble {
            happened: "what the digest produced was not written",
            kind: failure.kind.name(),
            error: failure.message.as_str(),
            delay_ms: failure.delay_ms,
            attempts: item.attempt,
        };
        let decision = self.decide(item, failure);
        let tag = self.tag_of(&item);
        self.carry_out(decision, Bytes::OfCall(call, index), item, &trouble, None);
        if matches!(decision, Decision::Retry | Decision::Stop) && self.transaction.is_none() {
            self.outputs_state.replays.push((tag, item.slot, item.offset));
        }
    }

    /// Its order waits for an earlier message, which the plugin was not told: it was digested out of turn.
    fn is_to_be_replayed(&self, item: &Item) -> bool {
        if !self.outputs_state.replayed {
            return false;
        }
        let tag = self.tag_of(item);
        let waiting = self.queues.waiting(tag, item.slot);
        matches!(waiting, Some(Waiting::Until(_) | Waiting::Stopped { .. }))
            && self
                .queues
                .first(tag, item.slot)
                .is_some_and(|first| first < item.offset)
    }

    /// What stands behind messages whose records failed is taken back: what is not begun, and what is digested and waits.
    fn replay(&mut self) {
        let replays = std::mem::take(&mut self.outputs_state.replays);
        self.outputs_state.replayed = true;
        if !self.config.asynchronous {
            self.recall_all();
        }
        let mut numbers: Vec<u64> = self.calls.keys().copied().collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        for number in numbers {
            let Some(mut call) = self.calls.remove(&number) else {
                continue;
            };
            for index in (0..call.items.len()).rev() {
                let item = call.items[index];
                let behind = |(tag, slot, offset): &(u64, Slot, i64)| {
                    item.slot == *slot && item.offset > *offset && self.tag_of(&item) == *tag
                };
                if item.standing == Standing::Unwritten && replays.iter().any(behind) {
                    self.put_back(&mut call, index);
                }
            }
            self.keep_if_open(call);
        }
        if self.config.is_straight() {
            for (_, slot, _) in replays {
                self.hold_straight(slot);
            }
        }
    }

    /// Messages that waited for what they produced, and wait no longer.
    fn end_waiting(&mut self, ended: Vec<Ended>) {
        let mut ended = ended.into_iter().peekable();
        while let Some(first) = ended.next() {
            let number = first.call;
            let Some(mut call) = self.calls.remove(&number) else {
                continue;
            };
            let mut next = Some(first);
            let mut done = 0;
            while let Some(one) = next {
                let index = one.index as usize;
                let waits = |item: &Item| item.standing == Standing::Unwritten;
                if call.items.get(index).is_some_and(waits)
                    && let Some(item) = call.settle(index)
                {
                    match one.outcome {
                        Ok(()) => {
                            self.done(item);
                            done += 1;
                        }
                        Err(failure) => self.outputs_failed(number, index, item, &failure),
                    }
                }
                next = ended.next_if(|next| next.call == number);
            }
            if !self.config.buffers() {
                // There they count when they are taken.
                RouteStats::add(&self.stats.digested, done);
            }
            self.keep_if_open(call);
        }
    }

    /// Hears what became of records, and finishes the messages that waited for them.
    pub(in crate::worker) fn serve_outputs(&mut self) -> bool {
        let mut any = false;
        self.hear_transaction();
        if self.outputs.open() > 0 {
            let served = self.outputs.serve();
            any = !served.ended.is_empty() || !served.aborted.is_empty() || !served.answers.is_empty();
            RouteStats::add(&self.stats.acknowledged, served.acknowledged);
            RouteStats::add(&self.stats.output_failures, served.failed);
            self.stats.set_output_bytes(self.outputs.bytes());
            if served.is_refused
                && let Some(transaction) = &mut self.transaction
            {
                transaction.is_refused();
            }
            for (asker, outcome) in served.answers {
                let outcome = outcome.map_err(|error| error.to_host_failure());
                if let Some(swap) = &mut self.swap {
                    swap.answer(asker, outcome.clone());
                }
                self.home.answer(asker, outcome);
            }
            self.end_waiting(served.ended);
            if served.is_aborted {
                // Before its messages are looked at: they have not failed by themselves.
                self.doom("its producer has given up what was on its way", Duration::ZERO);
            }
            self.end_waiting(served.aborted);
            if !self.outputs.is_quiet() {
                let oldest = self.calls.keys().copied().min();
                self.outputs.none_before(oldest);
            }
        }
        if !self.outputs_state.replays.is_empty() {
            self.replay();
            any = true;
        }
        if self.outputs_state.replayed && self.queues.waiting_tags() == 0 {
            self.outputs_state.replayed = false;
        }
        self.grant_room();
        self.mind_slow_brokers();
        any
    }

    /// The plugin may produce as much as the route's budget for that has room.
    fn grant_room(&mut self) {
        let (most, left) = (self.config.home.output_bytes, self.home.granted());
        let free = most.saturating_sub(self.outputs.bytes() + left);
        if free > 0 && (free >= most / 8 || left == 0 || self.outputs.open() == 0) {
            self.home.grant(free);
        }
    }

    /// While the brokers acknowledge nothing, a digest that waits for them, or for room, is not the one that is slow.
    fn mind_slow_brokers(&mut self) {
        if self.outputs.open() == 0 && !self.outputs_state.slow {
            return;
        }
        let now = Instant::now();
        let slow = self.outputs.are_slow(now);
        if slow || self.outputs_state.slow {
            self.home.suspend_deadlines(slow);
        }
        self.outputs_state.slow = slow;
        let oldest = self.outputs.oldest();
        let waited = oldest.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if waited >= WORTH_SAYING && !self.outputs_state.told {
            self.outputs_state.told = true;
            tracing::warn!(route = %self.config.route, records = self.outputs.open(), waited_ms = waited.as_millis() as u64,
                "the brokers do not acknowledge what was produced; it is tried on, and the offsets of its messages wait");
        } else if !slow && self.outputs_state.told {
            self.outputs_state.told = false;
            tracing::info!(route = %self.config.route, "the brokers acknowledge what is produced again");
        }
    }

    /// When slow brokers are to be looked at next.
    pub(in crate::worker) fn outputs_due(&self, now: Instant) -> Option<Instant> {
        (self.outputs.open() > 0).then(|| now + Duration::from_millis(100))
    }

    /// Waits for what messages of `slots` produced, until `deadline`; what is left then is digested again elsewhere.
    pub(in crate::worker) fn await_outputs(&mut self, slots: &[Slot], deadline: Instant) {
        let written = |engine: &Self| {
            let waits = |slot: &Slot| engine.partitions.get(*slot).unwritten > 0;
            !slots.iter().any(waits)
        };
        if !written(self) && !self.pump_until(deadline, written) {
            tracing::warn!(route = %self.config.route, messages = self.outputs_state.unwritten, records = self.outputs.open(),
                "what was produced was not acknowledged in time; the messages that produced it are digested again");
        }
    }

    /// Waits until all that was produced is acknowledged. Whether it was in time.
    pub(in crate::worker) fn flush_outputs(&mut self, deadline: Instant) -> bool {
        let in_time =
            self.outputs.open() == 0 || self.pump_until(deadline, |engine| engine.outputs.open() == 0);
        if !in_time {
            tracing::error!(route = %self.config.route, records = self.outputs.open(), bytes = self.outputs.bytes(),
                messages = self.outputs_state.unwritten,
                "the deadline of the stop passed before all that was produced was acknowledged; what is not is given up, and \
                 the messages that produced it are digested again");
        }
        in_time
    }
}

impl<O: Outlet + ?Sized> Outlet for Box<O> {
    fn send(
        &mut self,
        id: super::OutputId,
        record: &crate::kafka::Record<'_>,
    ) -> Result<(), super::OutputError> {
        (**self).send(id, record)
    }

    fn outcomes(&mut self, into: &mut super::Outcomes) {
        (**self).outcomes(into);
    }

    fn wake_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        (**self).wake_fd()
    }
}

/// The records of a route, wherever they go.
pub(in crate::worker) type RouteOutputs = Outputs<Box<dyn Outlet>>;
