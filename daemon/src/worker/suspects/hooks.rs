//! Where suspects meet the engine: what was in hand at a death, who goes alone next, and that nobody goes beside it.

use std::time::Instant;

use devour_abi::Progress;

use super::{Held, Judgement, counts};
use crate::{
    lane::{CallNumber, DownCause, Handout, Slot, Source},
    worker::{
        RouteStats,
        calls::{InHand, Item, Standing},
        engine::Engine,
        intake,
        outcomes::{Bytes, Trouble},
        queues::{Body, Queued, Taken},
    },
};

// === impl Engine ===

impl Engine {
    /// The plugin is gone and its last word is applied: what an end of its own making says of what it had in hand.
    pub(in crate::worker) fn judge_death(&mut self, cause: &DownCause, progress: &[Progress]) {
        self.suspects.alone = None;
        if !counts(cause) {
            return;
        }
        let in_hand = self.in_hand_at(progress);
        let held: Vec<Held> = in_hand.iter().map(|(_, _, item)| self.held(item)).collect();
        let judgement = self.suspects.died(&held, self.config.poison_after);
        let route = self.config.route.clone();
        match (judgement, in_hand.first()) {
            (Judgement::Suspects, _) => {
                tracing::warn!(%route, cause = %cause, in_hand = held.len(),
                    "the plugin died with several messages in hand; each is digested alone, to find the one that kills it");
            }
            (Judgement::Alone(deaths), Some((_, _, item))) => {
                let partition = self.partitions.get(item.slot);
                tracing::warn!(%route, cause = %cause, topic = &*partition.topic, partition = partition.number,
                    offset = item.offset, deaths, poison_after = self.config.poison_after,
                    "the plugin died with this message alone in hand; it is tried again, alone");
            }
            (Judgement::Poison(deaths), Some((number, index, _))) => {
                self.give_up_poison(*number, *index, deaths, cause);
            }
            _ => {}
        }
        for one in held {
            if !self.partitions.get(one.slot).assigned {
                self.suspects.forget(one.slot);
            }
        }
    }

    /// Where nobody can say which message of a call it was, all that were in hand together are digested alone. Whether that
    /// is so: with one message it is known.
    pub(in crate::worker) fn suspect_call(&mut self, call: &InHand, why: &str) -> bool {
        let in_hand = call.items.iter().filter(|item| item.standing == Standing::Out);
        let held: Vec<Held> = in_hand.map(|item| self.held(item)).collect();
        if !self.config.takes_batches || held.len() < 2 {
            return false;
        }
        tracing::warn!(route = %self.config.route, error = why, in_hand = held.len(),
            "the digest of several messages at once broke; each is digested alone, to find the one that breaks it");
        self.suspects.suspect(&held);
        true
    }

    fn held(&self, item: &Item) -> Held {
        Held {
            slot: item.slot,
            offset: item.offset,
            tag: self.tag_of(item),
        }
    }

    /// What the plugin was at when it died: of each lane the message that its cell names; of a `digest_batch` the whole call;
    /// of what was taken or buffered, all that is not settled.
    fn in_hand_at(&self, progress: &[Progress]) -> Vec<(CallNumber, usize, Item)> {
        let mut found = Vec::new();
        for call in self.calls.values() {
            let Some(at) = progress.get(call.lane) else {
                continue;
            };
            for (index, item) in call.items.iter().enumerate() {
                let begun = call.number < at.call
                    || (call.number == at.call && (self.config.takes_batches || index <= at.index as usize));
                let in_hand = match item.standing {
                    Standing::Settled | Standing::Unwritten => false,
                    Standing::Taken | Standing::Buffered => true,
                    Standing::Out => !call.returned && begun,
                };
                if in_hand {
                    found.push((call.number, index, *item));
                }
            }
        }
        found
    }

    /// It takes the route's `then` and does not meet the plugin again.
    fn give_up_poison(&mut self, number: CallNumber, index: usize, deaths: u32, cause: &DownCause) {
        let Some(mut call) = self.calls.remove(&number) else {
            return;
        };
        if let Some(item) = call.settle(index) {
            RouteStats::add(&self.stats.failed, 1);
            let error = format!(
                "the plugin died {deaths} times with this message alone in hand, the last time {cause}"
            );
            let trouble = Trouble {
                happened: "the message kills its plugin",
                kind: "poison",
                error: &error,
                delay_ms: 0,
                attempts: item.attempt.saturating_sub(1).saturating_add(deaths),
            };
            // One that stops is as new for who resumes it.
            self.suspects.forgive(item.slot, item.offset);
            let decision = self.last_resort();
            self.carry_out(decision, Bytes::OfCall(number, index), item, &trouble, None);
        }
        self.calls.insert(number, call);
    }

    /// A message is done, given up or passed by.
    pub(in crate::worker) fn clear_suspect(&mut self, slot: Slot, offset: i64) {
        if !self.suspects.is_empty() && self.suspects.finished(slot, offset) {
            tracing::info!(route = %self.config.route,
                "all that was in hand when the plugin died is settled; the route goes on as before");
        }
    }

    /// A suspect is alone in hand, or is about to be: nobody else gets anything.
    pub(in crate::worker) fn is_solitary(&self) -> bool {
        !self.suspects.is_empty() && (self.is_suspect_out() || self.next_suspect().is_some())
    }

    fn is_suspect_out(&self) -> bool {
        let alone = self.suspects.alone;
        alone.is_some_and(|number| self.calls.contains_key(&number))
    }

    fn next_suspect(&self) -> Option<Held> {
        let first = |held: Held| self.queues.is_next(held.tag, held.slot, held.offset);
        self.suspects.next(first)
    }

    /// Hands out a suspect once nothing else is in hand. `None`: there is none that could go, and the others may.
    pub(in crate::worker) fn hand_out_suspect(&mut self, now: Instant) -> Option<bool> {
        if self.suspects.is_empty() || !self.may_digest() || self.stopping || !self.seeks.is_empty() {
            return None;
        }
        self.end_waits(now);
        if self.is_suspect_out() {
            self.flush_for_solitude();
            return Some(false);
        }
        let next = self.next_suspect()?;
        self.return_outgoing();
        if !self.calls.is_empty() {
            self.flush_for_solitude();
            return Some(false);
        }
        let allowed = self.rate.as_mut().is_none_or(|rate| rate.allowed(now) > 0);
        if !allowed || self.home.room(0) == 0 {
            return Some(false);
        }
        let taken = self.queues.take_first(next.tag, next.slot)?;
        let handed = if self.config.is_straight() {
            self.hand_straight(taken)
        } else {
            self.hand_to(0, &mut vec![taken])
        };
        // Nothing else is in hand.
        self.suspects.alone = self.calls.keys().next().copied();
        Some(handed)
    }

    /// What a buffering consumer holds is done when it has flushed: alone in hand means flushed alone.
    fn flush_for_solitude(&mut self) {
        if self.config.buffers() && self.calls.values().all(|call| call.returned) {
            self.flush();
        }
    }

    /// Hands one message of a queue to the lane that is otherwise fed straight.
    fn hand_straight(&mut self, taken: Taken) -> bool {
        let (slot, tag) = (taken.slot, taken.tag);
        // What is fed straight waits in copies only.
        let Body::Copy(record) = taken.message.body else {
            return false;
        };
        let lane = &mut self.lanes[0];
        if taken.held_by.is_some() {
            lane.hold_next.retain(|held| *held != tag);
            lane.release_next.push(tag);
        }
        let handout = Handout {
            entries: vec![record.entry(0)],
            source: Source::Parked(vec![*record].into()),
            released: std::mem::take(&mut lane.release_next),
            held: std::mem::take(&mut lane.hold_next),
        };
        let item = Item {
            queue: taken.queue,
            attempt: taken.message.attempt,
            ..Item::straight(taken.message.offset, slot)
        };
        match self.home.hand_out(0, handout) {
            Ok(number) => {
                self.partitions.get_mut(slot).in_hand += 1;
                if let Some(rate) = &mut self.rate {
                    rate.spend(1, Instant::now());
                }
                self.lanes[0].calls += 1;
                self.calls.insert(number, InHand::new(number, 0, vec![item]));
                true
            }
            Err(mut handout) => {
                let lane = &mut self.lanes[0];
                lane.release_next.append(&mut handout.released);
                lane.hold_next.append(&mut handout.held);
                if let Source::Parked(records) = handout.source
                    && let Some(record) = records.first()
                {
                    self.return_to_queue(tag, slot, Queued::of_record(record.clone()));
                }
                if let Some(emptied) = self.queues.let_go(taken.queue) {
                    self.emptied(emptied);
                }
                false
            }
        }
    }

    /// What is ready to go out straight waits in its queues: it comes after what is handed out alone.
    pub(in crate::worker) fn return_outgoing(&mut self) {
        let outgoing = std::mem::take(&mut self.outgoing);
        // The last first: each then stands before all that were put back.
        for mut outgoing in outgoing.into_iter().rev() {
            let handout = &mut outgoing.handout;
            self.lanes[0].release_next.append(&mut handout.released);
            self.lanes[0].hold_next.append(&mut handout.held);
            for (item, entry) in outgoing.items.iter().zip(&handout.entries).rev() {
                let index = entry.index as usize;
                let record = match &handout.source {
                    Source::Fetched(batch) => batch.get(index).map(|message| {
                        intake::copy(&message, item.slot, entry.tag, self.config.home.keeps_headers)
                    }),
                    Source::Parked(records) => records.get(index).cloned(),
                    Source::Stored(_) => None,
                };
                if let Some(mut record) = record {
                    record.attempt = item.attempt;
                    self.wait_again(*item, record);
                }
            }
        }
    }
}
