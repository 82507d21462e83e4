//! Messages that fail in a transaction: what aborts it, what is known of them when they are read again, and where they end if
//! they do not meet the plugin any more.

use std::{sync::Arc, time::Duration};

use super::{
    Phase,
    notes::{GivenUp, SKIPPED},
};
use crate::{
    kafka::Message,
    lane::{CallNumber, Slot},
    worker::{
        RouteStats,
        calls::{InHand, Item},
        engine::Engine,
        intake,
        outcomes::{Decision, Trouble},
        queues::{QueueId, Queued, Taken, Waiting},
        retry::backoff,
        suspects::Held,
    },
};

const STOPS: &str = "the partition stops here, as `on_error.then: stop` says. Mend the plugin and `devourd resume` the route, or \
                     `devourd skip` the message";

// === impl Engine ===

impl Engine {
    /// Whether a failed message, which was settled, is dealt with by aborting its transaction. `of_call`: its call and index, if it has one. `holder`: the lane that holds
    /// its tag because of it.
    pub(in crate::worker) fn fails_transaction(
        &mut self,
        decision: Decision,
        of_call: Option<(CallNumber, usize)>,
        item: Item,
        trouble: &Trouble<'_>,
        holder: Option<usize>,
    ) -> bool {
        let Some(txn) = &mut self.transaction else {
            return false;
        };
        let poison = trouble.kind == "poison";
        let doomed = !matches!(
            txn.phase(),
            Phase::Ready | Phase::Open | Phase::Closing | Phase::Flushing
        );
        let retried = matches!(decision, Decision::Retry);
        // What was in no call has met no plugin.
        let produced = of_call.is_some_and(|(call, index)| self.outputs.has_produced(call, index as u32));
        if !doomed && !retried && !poison && !produced {
            // Nothing has to be undone: it goes its way within the transaction.
            return false;
        }
        let partition = self.partitions.get(item.slot);
        let mut wait = Duration::ZERO;
        // What fails in a transaction that is doomed already may fail because of that; not so a record that brokers refuse.
        let refused = produced && trouble.kind == "reject";
        if refused && txn.is_anybodys() {
            txn.most = 1;
            self.doom(
                "brokers have refused a record of it; whose, is found out one message at a time",
                Duration::ZERO,
            );
            if let Some(txn) = &mut self.transaction {
                txn.most = 1;
            }
        } else if !doomed || poison || refused {
            let note = txn.notes.of(&partition.topic, partition.number, item.offset);
            note.attempts = note.attempts.max(item.attempt);
            if retried {
                let asked = (trouble.delay_ms > 0).then(|| Duration::from_millis(trouble.delay_ms));
                wait = asked.unwrap_or_else(|| backoff(&self.config.on_error.backoff, item.attempt, 0.5));
            } else {
                note.deaths = None;
                note.given_up = Some(GivenUp {
                    kind: trouble.kind,
                    error: trouble.error.to_owned(),
                    attempts: trouble.attempts,
                });
            }
            let why = format!(
                "{} at {} offset {} (attempt {}, {}): {}",
                trouble.happened,
                partition.name(),
                item.offset,
                item.attempt,
                trouble.kind,
                trouble.error
            );
            self.doom(&why, wait);
        }
        if let Some(lane) = holder {
            let tag = self.tag_of(&item);
            self.lanes[lane].release_next.push(tag);
        }
        if poison {
            self.suspects.finished(item.slot, item.offset);
        }
        self.free(item);
        self.out_of_hand(item);
        true
    }

    /// The plugin is gone, or its calls go to another: what it had begun may have produced.
    pub(in crate::worker) fn doom_what_is_in_hand(&mut self, why: &str) {
        if self.transaction.is_some() && self.calls.values().any(InHand::is_with_plugin) {
            self.doom(why, Duration::ZERO);
        }
    }

    /// A message was read; what is known of it from a transaction that was aborted. Whether that settles it.
    pub(in crate::worker) fn is_known(&mut self, slot: Slot, message: &Message<'_>, tag: u64) -> bool {
        let offset = message.offset();
        self.partitions.get_mut(slot).begins_at(offset);
        let Some(txn) = self.transaction.as_ref().filter(|txn| !txn.notes.is_empty()) else {
            return false;
        };
        let partition = self.partitions.get(slot);
        let Some(note) = txn
            .notes
            .find(&partition.topic, partition.number, offset)
            .cloned()
        else {
            return false;
        };
        if let Some(deaths) = note.deaths {
            self.suspects.suspect_again(Held { slot, offset, tag }, deaths);
        }
        let Some(given_up) = note.given_up else {
            return false;
        };
        if given_up.kind == SKIPPED {
            self.partitions.get_mut(slot).tracker.finish(offset);
            return true;
        }
        if matches!(self.last_resort(), Decision::Stop) && !self.config.is_straight() {
            // It waits once it is the first of its order: see `park_known`.
            return false;
        }
        let (topic, number) = (Arc::clone(&partition.topic), partition.number);
        let (route, topic, error) = (self.config.route.clone(), &*topic, &given_up.error);
        let mut record = intake::copy(message, slot, tag, self.config.home.keeps_headers);
        record.attempt = given_up.attempts;
        match self.last_resort() {
            Decision::Skip | Decision::Retry => {
                tracing::warn!(%route, topic, partition = number, offset, kind = given_up.kind, error,
                    "the message is skipped, as `on_error.then: skip` says");
                RouteStats::add(&self.stats.skipped, 1);
                self.partitions.get_mut(slot).tracker.finish(offset);
            }
            Decision::DeadLetter => {
                tracing::warn!(%route, topic, partition = number, offset, kind = given_up.kind, error,
                    "the message becomes a dead letter, as `on_error.then: dead_letter` says");
                self.dead_letter(record, given_up.attempts, given_up.kind, error);
            }
            Decision::Stop => {
                tracing::error!(%route, topic, partition = number, offset, kind = given_up.kind, error,
                    "{STOPS}");
                let in_hand = self.in_hand_of(slot);
                let waiting = Waiting::Stopped {
                    offset,
                    error: given_up.error.clone(),
                };
                self.queues.wait(tag, slot, waiting, None, in_hand);
                self.queues
                    .put_back(tag, slot, in_hand, Queued::of_record(record));
                self.note_queue(tag, slot);
            }
        }
        true
    }

    /// Of what was taken from the queues for a call: messages that are given up, where `then` says stop, go back with all
    /// that follows them, and wait when they are first of their order. Whether any does.
    pub(in crate::worker) fn park_known(&mut self, taken: &mut Vec<Taken>) -> bool {
        let Some(txn) = self.transaction.as_ref().filter(|txn| !txn.notes.is_empty()) else {
            return false;
        };
        if !matches!(self.last_resort(), Decision::Stop) {
            return false;
        }
        let (mut kept, mut back, mut stops) = (Vec::with_capacity(taken.len()), Vec::new(), Vec::new());
        for one in taken.drain(..) {
            let same = |queue: QueueId| queue == one.queue;
            if back.iter().any(|one: &Taken| same(one.queue)) {
                back.push(one);
                continue;
            }
            let partition = self.partitions.get(one.slot);
            let note = txn
                .notes
                .find(&partition.topic, partition.number, one.message.offset);
            match note.and_then(|note| note.given_up.clone()) {
                None => kept.push(one),
                Some(given_up) => {
                    if !kept.iter().any(|one: &Taken| same(one.queue)) {
                        stops.push((one.tag, one.slot, one.message.offset, given_up));
                    }
                    back.push(one);
                }
            }
        }
        *taken = kept;
        back.into_iter().rev().for_each(|one| self.give_back(one));
        let any = !stops.is_empty();
        for (tag, slot, offset, given_up) in stops {
            let partition = self.partitions.get(slot);
            tracing::error!(route = %self.config.route, topic = &*partition.topic, partition = partition.number, offset,
                kind = given_up.kind, error = given_up.error, "{STOPS}");
            let error = given_up.error;
            self.queues
                .wait(tag, slot, Waiting::Stopped { offset, error }, None, 0);
            self.move_out(tag, slot);
        }
        any
    }

    /// Which attempt the next one of a message is.
    #[inline]
    pub(in crate::worker) fn attempt_of(&self, slot: Slot, offset: i64) -> u32 {
        let Some(txn) = self.transaction.as_ref().filter(|txn| !txn.notes.is_empty()) else {
            return 1;
        };
        let partition = self.partitions.get(slot);
        let note = txn.notes.find(&partition.topic, partition.number, offset);
        note.map_or(1, |note| note.attempts.saturating_add(1))
    }
}
