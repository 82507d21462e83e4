//! From a batch of fetched messages, or from what waits for a retry, to calls for the lane.

use std::{sync::Arc, time::Instant};

use devour_abi::TimestampType;

use super::{
    engine::Engine,
    offsets::Seen,
    outcomes::{InHand, Item},
    retry::Waiting,
};
use crate::{
    kafka::{Batch, Consumer, Message, Timestamp},
    lane::{Entry, Handout, Record, Slot, Source},
};

/// A call that is ready to go out.
pub(super) struct Outgoing {
    pub handout: Handout,
    pub items: Vec<Item>,
}

/// A run of messages of one partition in a batch.
struct Run {
    handle: crate::kafka::TopicHandle,
    partition: i32,
    /// `None`: not ours (any more).
    slot: Option<Slot>,
    waits: bool,
}

/// Whether librdkafka fetches a partition.
#[derive(Clone, Copy, Debug)]
enum Fetching {
    Paused,
    On,
}

// === impl Engine ===

impl Engine {
    /// Whether another batch may be read: the lane has room, and nothing older is in front of it.
    pub(super) fn wants_messages(&self) -> bool {
        self.is_up()
            && !self.stopping
            && self.outgoing.is_empty()
            && self.seeks.is_empty()
            && self.home.room() > 0
    }

    /// Takes a batch apart: what is ours and new goes into calls, what belongs to a waiting partition is copied.
    pub(super) fn take_batch(&mut self, client: &Consumer, batch: Batch) {
        let batch = Arc::new(batch);
        let mut entries: Vec<Entry> = Vec::with_capacity(batch.len());
        let mut items: Vec<Item> = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        let mut run: Option<Run> = None;
        for (index, message) in (0..).zip(batch.iter()) {
            let (handle, number) = (message.topic_handle(), message.partition());
            let slot = match &run {
                Some(run) if run.handle == handle && run.partition == number => run.slot,
                _ => {
                    let slot = self.partitions.find(&client.topic_name(&message), number);
                    let waits = slot.is_some_and(|slot| self.partitions.get(slot).parked.is_some());
                    run = Some(Run {
                        handle,
                        partition: number,
                        slot,
                        waits,
                    });
                    slot
                }
            };
            // Read by a client that has given the partition up since: another member has it.
            let Some(mut slot) = slot else { continue };
            let offset = message.offset();
            if self.partitions.get_mut(slot).tracker.begin(offset) == Seen::Before {
                slot = self.rewind(slot, offset);
                run = Some(Run {
                    handle,
                    partition: number,
                    slot: Some(slot),
                    waits: false,
                });
            }
            let partition = self.partitions.get_mut(slot);
            partition.note_epoch(offset, message.leader_epoch().unwrap_or(-1));
            if run.as_ref().is_some_and(|run| run.waits) {
                let reads_headers = self.config.home.digest.reads_headers;
                self.partitions
                    .park(slot, Waiting::Ready)
                    .keep(copy(&message, slot, reads_headers));
                continue;
            }
            partition.in_hand += 1;
            bytes += message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
            entries.push(Entry {
                index,
                slot,
                attempt: 1,
                tag: u64::from(slot.0),
            });
            items.push(Item {
                offset,
                slot,
                attempt: 1,
            });
            if bytes >= self.config.batch.max_bytes || entries.len() >= self.config.batch.max_messages {
                bytes = 0;
                let source = Source::Fetched(Arc::clone(&batch));
                self.queue(source, std::mem::take(&mut entries), std::mem::take(&mut items));
            }
        }
        if !entries.is_empty() {
            self.queue(Source::Fetched(batch), entries, items);
        }
    }

    /// The partition's log begins again below what was read of it. It gets a new slot, so nothing of the old log is
    /// committed on top of the new one.
    fn rewind(&mut self, slot: Slot, offset: i64) -> Slot {
        let old = self.partitions.get(slot);
        let (topic, number, committed) = (Arc::clone(&old.topic), old.number, old.committed);
        tracing::warn!(route = %self.config.route, topic = &*topic, partition = number, offset,
            expected = old.tracker.position(), "offsets went back: the log was cut or its topic made again; reading on from there");
        self.partitions.revoke(slot);
        let slot = self.partitions.assign(&topic, number, committed, Some(offset));
        self.home.learn(slot, &topic, number);
        let _first = self.partitions.get_mut(slot).tracker.begin(offset);
        slot
    }

    fn queue(&mut self, source: Source, entries: Vec<Entry>, items: Vec<Item>) {
        let handout = Handout {
            source,
            entries,
            released: Vec::new(),
            held: Vec::new(),
        };
        self.outgoing.push_back(Outgoing { handout, items });
    }

    /// Hands out what is ready, oldest first, while the lane has room.
    pub(super) fn hand_out(&mut self) -> bool {
        let mut any = false;
        while self.is_up() && self.home.room() > 0 {
            let Some(mut next) = self.outgoing.pop_front() else {
                break;
            };
            next.handout.released.append(&mut self.release_next);
            next.handout.held.append(&mut self.hold_next);
            match self.home.hand_out(next.handout) {
                Ok(number) => {
                    any = true;
                    self.calls.push_back(InHand::new(number, next.items));
                }
                Err(mut handout) => {
                    // Full: it goes first when a call has been given back.
                    self.release_next.append(&mut handout.released);
                    self.hold_next.append(&mut handout.held);
                    self.outgoing.push_front(Outgoing {
                        handout,
                        items: next.items,
                    });
                    break;
                }
            }
        }
        any
    }

    /// Makes calls of the partitions whose wait is over, and lets go those that have nothing left to wait for.
    pub(super) fn hand_out_parked(&mut self, now: Instant) {
        if !self.is_up() || self.stopping {
            return;
        }
        for slot in self.partitions.waiting() {
            let partition = self.partitions.get_mut(slot);
            // What was handed out before the failure must have come back, or it would overtake.
            if partition.in_hand > 0 {
                continue;
            }
            let Some(parked) = partition.parked.as_mut().filter(|parked| parked.is_due(now)) else {
                continue;
            };
            let tag = u64::from(slot.0);
            self.hold_next.retain(|held| *held != tag);
            let records = parked.take(self.config.batch.max_messages, self.config.batch.max_bytes);
            if records.is_empty() {
                partition.parked = None;
                self.release_next.push(tag);
                continue;
            }
            parked.wait(Waiting::InHand);
            partition.in_hand += records.len();
            let item = |record: &Record| Item {
                offset: record.offset,
                slot,
                attempt: record.attempt,
            };
            let items = records.iter().map(item).collect();
            let entries = (0..)
                .zip(&records)
                .map(|(index, record)| record.entry(index))
                .collect();
            let handout = Handout {
                source: Source::Parked(records.into()),
                entries,
                released: vec![tag],
                held: vec![],
            };
            self.outgoing.push_back(Outgoing { handout, items });
        }
    }

    /// Hands what a gone instance had in hand to its successor: the same bytes, in their order.
    pub(super) fn hand_again(&mut self) {
        for mut call in std::mem::take(&mut self.calls) {
            if call.left() == 0 {
                self.home.finish(call.number);
                continue;
            }
            call.number = self
                .home
                .hand_again(call.number, call.from, std::mem::take(&mut self.hold_next));
            call.forget_done();
            self.calls.push_back(call);
        }
    }

    /// Stops and starts fetching of waiting partitions, so that what waits stays within the route's budget.
    pub(super) fn bound_parked(&mut self, client: &Consumer) {
        let waiting = self.partitions.waiting();
        if waiting.is_empty() || self.held_back {
            return;
        }
        let full = self.partitions.parked_bytes() > self.config.memory / 4;
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for slot in waiting {
            let partition = self.partitions.get_mut(slot);
            let stopped = partition
                .parked
                .as_ref()
                .is_some_and(|parked| matches!(parked.waiting(), Waiting::Stopped { .. }));
            let waits = partition.parked.as_ref().is_some_and(|parked| !parked.is_empty());
            if !partition.paused && (stopped || (waits && full)) {
                partition.paused = true;
                pause.push(slot);
            } else if partition.paused && !stopped && !waits {
                partition.paused = false;
                resume.push(slot);
            }
        }
        self.fetch(client, &pause, Fetching::Paused);
        self.fetch(client, &resume, Fetching::On);
    }

    /// While the lane takes nothing the client must still be asked, or it loses its place in the group: everything is
    /// paused, so that asking brings no messages.
    pub(super) fn hold_back(&mut self, client: &Consumer) {
        if !self.held_back {
            self.held_back = true;
            self.fetch(client, &self.partitions.assigned_slots(), Fetching::Paused);
        }
    }

    /// Pauses what came while everything is paused. After the assignment: before it, librdkafka knows them not.
    pub(super) fn hold_back_what_came(&mut self, client: &Consumer) {
        if std::mem::take(&mut self.came_while_held) && self.held_back {
            self.fetch(client, &self.partitions.assigned_slots(), Fetching::Paused);
        }
    }

    /// The lane takes messages again.
    pub(super) fn go_on(&mut self, client: &Consumer) {
        if self.held_back {
            self.held_back = false;
            let mut slots = self.partitions.assigned_slots();
            slots.retain(|slot| !self.partitions.get(*slot).paused);
            self.fetch(client, &slots, Fetching::On);
        }
    }

    fn fetch(&self, client: &Consumer, slots: &[Slot], fetching: Fetching) {
        if slots.is_empty() {
            return;
        }
        let names = self.partitions.names(slots);
        let done = match fetching {
            Fetching::Paused => client.pause(&names),
            Fetching::On => client.resume(&names),
        };
        if let Err(error) = done {
            tracing::warn!(route = %self.config.route, %error, ?fetching, "cannot change what is fetched");
        }
    }
}

/// A copy of a fetched message that has to wait.
fn copy(message: &Message<'_>, slot: Slot, reads_headers: bool) -> Record {
    let (timestamp_ms, timestamp_type) = match message.timestamp() {
        Timestamp::None => (-1, TimestampType::NOT_AVAILABLE),
        Timestamp::Created(at) => (at, TimestampType::CREATE_TIME),
        Timestamp::Appended(at) => (at, TimestampType::LOG_APPEND_TIME),
    };
    let headers = if reads_headers {
        message
            .headers()
            .into_iter()
            .map(|(name, value)| (Box::from(name), value.map(Box::from)))
            .collect()
    } else {
        Vec::new()
    };
    Record {
        slot,
        tag: u64::from(slot.0),
        attempt: 1,
        offset: message.offset(),
        leader_epoch: message.leader_epoch().unwrap_or(-1),
        timestamp_ms,
        timestamp_type: timestamp_type.0,
        key: message.key().map(Box::from),
        payload: message.payload().map(Box::from),
        headers,
    }
}
