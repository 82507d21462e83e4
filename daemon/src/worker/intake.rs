//! From a batch of fetched messages to calls for the lane, or to the ready queues: what is ours and new is begun, and
//! goes its way.

use std::{sync::Arc, time::Instant};

use devour_abi::TimestampType;
use foldhash::fast::FixedState;

use super::{
    calls::Item,
    dispatch::Outgoing,
    engine::Engine,
    offsets::Seen,
    queues::{AHEAD, Body, Queued},
    shaping::Put,
    transaction::Transaction,
};
use crate::{
    kafka::{Batch, Consumer, Message, Timestamp, TopicHandle},
    lane::{Entry, Handout, Record, Slot, Source},
    os::cache,
    settings::Order,
};

/// Messages that were read and have no place in the stock yet; nothing more is read until they have.
#[derive(Default)]
pub(super) struct Pending {
    batch: Arc<Batch>,
    messages: Vec<Read>,
    next: usize,
}

/// A message that was read: its place in the batch, its partition and its order tag.
#[derive(Clone, Copy)]
struct Read {
    index: u32,
    slot: Slot,
    tag: u64,
}

/// A run of messages of one partition in a batch.
#[derive(Clone, Copy)]
struct Run {
    handle: TopicHandle,
    partition: i32,
    /// `None`: not ours (any more).
    slot: Option<Slot>,
}

/// Messages that wait in queues, for all partitions together; what they weigh, the stock bounds.
pub const MAX_QUEUED: usize = 20_000;
/// Messages in one batch for the queues.
const READ_AT_ONCE: usize = 1000;

// === impl Pending ===

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.messages.len()
    }

    /// What was read is read again later.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

// === impl Engine ===

impl Engine {
    /// Whether another batch may be read: there is room for it, and nothing older is in front of it.
    pub(super) fn wants_messages(&mut self) -> bool {
        if !self.may_digest()
            || self.stopping
            || !self.seeks.is_empty()
            || self.read_bound() == 0
            || !self.transaction_reads()
        {
            return false;
        }
        if self.config.is_straight() {
            if self.hands_over() {
                return false;
            }
            let allowed = self
                .rate
                .as_mut()
                .is_none_or(|rate| rate.allowed(Instant::now()) > 0);
            return allowed
                && self.may_wait_for_more()
                && self.outgoing.is_empty()
                && self.home.room(0) > 0
                && !self.is_solitary();
        }
        let has_room = self.home.stock().is_some_and(|stock| stock.used() < stock.size());
        // What is buffered is to have most of the room, not what waits.
        let most = self.config.memory / if self.config.buffers() { 4 } else { 1 };
        self.pending.is_empty()
            && has_room
            && self.queues.len() < MAX_QUEUED.max(self.config.in_flight)
            && self.queues.ready().bytes < most
            && self.queues.copied_bytes() + self.shaping_bytes() < self.config.memory
            && !self.has_plenty()
    }

    /// Calls that wait for what they produced keep their messages, here or in librdkafka's buffers.
    fn may_wait_for_more(&self) -> bool {
        self.outputs_state.unwritten == 0
            || self.calls.len().saturating_mul(self.config.batch.max_bytes) < self.config.memory
    }

    /// How many messages to read at once.
    pub(super) fn read_size(&mut self) -> usize {
        let of_transaction = self.transaction.as_ref().map_or(usize::MAX, Transaction::room);
        let bound = self.read_bound().min(of_transaction);
        if self.config.is_straight() {
            let allowed = self.rate.as_mut().map(|rate| rate.allowed(Instant::now()));
            return self
                .pace
                .size()
                .min(bound)
                .min(allowed.unwrap_or(usize::MAX))
                .max(1);
        }
        // Not many more than have a place: what has none pins its whole fetch buffer.
        let free = self
            .home
            .stock()
            .map_or(0, |stock| stock.size().saturating_sub(stock.used()));
        (free / self.mean_bytes.max(1)).clamp(1, READ_AT_ONCE).min(bound)
    }

    /// Messages that may be read before a partition has more of them begun than `queued_max_messages` allows.
    fn read_bound(&self) -> usize {
        let Some(most) = self.config.queued_max_messages else {
            return usize::MAX;
        };
        let begun = self
            .partitions
            .assigned()
            .filter(|(_, partition)| !partition.paused)
            .map(|(_, partition)| partition.tracker.unfinished())
            .max();
        most.saturating_sub(begun.unwrap_or(0))
    }

    /// Takes a batch apart: what is ours and new is begun. With one lane it goes out in calls, except what belongs to a
    /// waiting partition, which is copied; else each message gets a place in the stock and stands in its queue.
    pub(super) fn take_batch(&mut self, client: &Consumer, batch: Batch) {
        self.transaction_takes(batch.len());
        if self.config.is_straight() {
            self.take_straight(client, Arc::new(batch));
        } else {
            self.take_to_queues(client, batch);
        }
    }

    /// The slot of a message, if its partition is ours and the message new; a new slot where the log begins again.
    #[inline]
    fn begin(&mut self, client: &Consumer, message: &Message<'_>, run: &mut Option<Run>) -> Option<Slot> {
        let (handle, number) = (message.topic_handle(), message.partition());
        let slot = match run {
            Some(run) if run.handle == handle && run.partition == number => run.slot,
            _ => {
                let slot = self.partitions.find(&client.topic_name(message), number);
                let slot = slot.filter(|slot| !self.partitions.get(*slot).going && !self.is_sought(*slot));
                *run = Some(Run {
                    handle,
                    partition: number,
                    slot,
                });
                slot
            }
        };
        // Read by a client that has given the partition up since: another member has it.
        let mut slot = slot?;
        let offset = message.offset();
        let seen = self.partitions.get_mut(slot).tracker.begin(offset);
        if seen == Seen::Before {
            slot = self.rewind(slot, offset);
            *run = Some(Run {
                handle,
                partition: number,
                slot: Some(slot),
            });
        }
        let partition = self.partitions.get_mut(slot);
        partition.note_epoch(offset, message.leader_epoch().unwrap_or(-1));
        // A copy waits where its order does; it may be settled without meeting the plugin.
        if self.transaction.is_some() && seen != Seen::Finished {
            let tag = self.tag(slot, message);
            if self.is_known(slot, message, tag) {
                return None;
            }
        }
        // An earlier owner of the partition has finished it.
        (seen != Seen::Finished).then_some(slot)
    }

    fn take_straight(&mut self, client: &Consumer, batch: Arc<Batch>) {
        let mut entries: Vec<Entry> = Vec::with_capacity(batch.len());
        let mut items: Vec<Item> = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        let mut run: Option<Run> = None;
        for (index, message) in (0..).zip(batch.iter()) {
            let Some(slot) = self.begin(client, &message, &mut run) else {
                continue;
            };
            let tag = u64::from(slot.0);
            let attempt = self.attempt_of(slot, message.offset());
            let alone = !self.suspects.is_empty() && self.suspects.knows(slot, message.offset());
            if alone || (self.queues.any() && self.queues.find(tag, slot).is_some()) {
                let mut record = copy(&message, slot, tag, self.config.home.keeps_headers);
                record.attempt = attempt;
                // What went straight before it is in hand, or about to be: it stands behind that.
                let in_hand = self.in_hand_of(slot);
                let queued = Queued::of_record(record);
                self.queues.push_behind(tag, slot, in_hand, queued);
                self.note_queue(tag, slot);
                continue;
            }
            self.partitions.get_mut(slot).in_hand += 1;
            bytes += message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
            entries.push(Entry {
                index,
                slot,
                attempt,
                tag,
            });
            items.push(Item {
                attempt,
                ..Item::straight(message.offset(), slot)
            });
            if bytes >= self.config.batch.max_bytes || entries.len() >= self.config.batch.max_messages {
                bytes = 0;
                let source = Source::Fetched(Arc::clone(&batch));
                self.send_straight(source, std::mem::take(&mut entries), std::mem::take(&mut items));
            }
        }
        if !entries.is_empty() {
            self.send_straight(Source::Fetched(batch), entries, items);
        }
    }

    fn send_straight(&mut self, source: Source, entries: Vec<Entry>, items: Vec<Item>) {
        if let Some(rate) = &mut self.rate {
            rate.spend(items.len(), Instant::now());
        }
        let handout = Handout {
            source,
            entries,
            released: Vec::new(),
            held: Vec::new(),
        };
        self.outgoing.push_back(Outgoing { handout, items });
    }

    fn take_to_queues(&mut self, client: &Consumer, batch: Batch) {
        let mut run: Option<Run> = None;
        let mut messages = std::mem::take(&mut self.pending.messages);
        messages.clear();
        let mut bytes = 0;
        for (index, message) in (0..).zip(batch.iter()) {
            if let Some(soon) = batch.get(index as usize + AHEAD) {
                cache::fetch_bytes(soon.key().unwrap_or_default());
                cache::fetch_bytes(soon.payload().unwrap_or_default());
            }
            if let Some(slot) = self.begin(client, &message, &mut run) {
                let tag = self.tag(slot, &message);
                bytes += length(&message);
                messages.push(Read { index, slot, tag });
            }
        }
        if !messages.is_empty() {
            let mean = bytes / messages.len() + RECORD_HEAD;
            self.mean_bytes = if self.mean_bytes == 0 {
                mean
            } else {
                (3 * self.mean_bytes + mean) / 4
            };
        }
        self.pending = Pending {
            batch: Arc::new(batch),
            messages,
            next: 0,
        };
        self.store_pending();
    }

    /// What keeps its order with the message.
    #[inline]
    fn tag(&self, slot: Slot, message: &Message<'_>) -> u64 {
        /// Tells tags of keys from those of partitions, which are small numbers.
        const HASHED: u64 = 1 << 63;
        match (self.config.order, message.key()) {
            (Order::Partition, _) | (Order::Key, None) => u64::from(slot.0),
            (Order::Key, Some(key)) => {
                use std::hash::{BuildHasher, Hasher};
                let mut hasher = FixedState::default().build_hasher();
                hasher.write(key);
                // Of one key in two partitions, too, they differ: a lane holds tags whatever their partition.
                let mixed = hasher.finish() ^ u64::from(slot.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93) | HASHED
            }
            (Order::None, _) => {
                let offset = message.offset().cast_unsigned();
                HASHED | (u64::from(slot.0) << 40) ^ offset
            }
        }
    }

    /// Gives what was read its place, as far as there is room. Whether anything moved.
    pub(super) fn store_pending(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let start = self.pending.next;
        let batch = Arc::clone(&self.pending.batch);
        let waiting = self.queues.waiting_tags() > 0;
        let keeps_headers = self.config.home.keeps_headers;
        while let Some(read) = self.pending.messages.get(self.pending.next).copied() {
            if let Some(soon) = self.pending.messages.get(self.pending.next + AHEAD) {
                self.queues.fetch_for(soon.tag, soon.slot);
            }
            let Some(message) = batch.get(read.index as usize) else {
                break;
            };
            let partition = self.partitions.get(read.slot);
            // Given up since it was read: it is read again, by whoever has the partition.
            if !partition.assigned || partition.going {
                self.pending.next += 1;
                continue;
            }
            let bytes = length(&message);
            let (body, bytes) = if waiting && self.queues.waiting(read.tag, read.slot).is_some() {
                let mut record = copy(&message, read.slot, read.tag, keeps_headers);
                record.unshaped = self.is_shaped();
                (Body::Copy(Box::new(record)), bytes)
            } else {
                match self.keep(&message, read.slot, read.tag, bytes) {
                    Put::Kept { body, bytes } => (body, bytes),
                    Put::Full => break,
                }
            };
            self.pending.next += 1;
            let attempt = self.attempt_of(read.slot, message.offset());
            let queued = Queued::again(message.offset(), attempt, bytes as u32, body);
            self.queues.push(read.tag, read.slot, queued);
        }
        let moved = self.pending.next > start;
        if self.pending.is_empty() {
            // The fetch buffers go back now; the vector is used again.
            self.pending.batch = Arc::new(Batch::default());
        }
        moved
    }

    /// The partition's log begins again below what was read of it. It gets a new slot, so nothing of the old log is
    /// committed on top of the new one.
    fn rewind(&mut self, slot: Slot, offset: i64) -> Slot {
        let old = self.partitions.get(slot);
        let (topic, number, committed) = (Arc::clone(&old.topic), old.number, old.committed);
        tracing::warn!(route = %self.config.route, topic = &*topic, partition = number, offset,
            expected = old.tracker.position(), "offsets went back: the log was cut or its topic made again; reading on from there");
        self.drop_slot(slot);
        let slot = self.partitions.assign(&topic, number, committed, Some(offset));
        self.home.learn(slot, &topic, number);
        let _first = self.partitions.get_mut(slot).tracker.begin(offset);
        slot
    }
}

/// Bytes that lie beside a message's own, about.
const RECORD_HEAD: usize = 56;

fn length(message: &Message<'_>) -> usize {
    message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len)
}

/// A copy of a fetched message that has to wait.
pub(super) fn copy(message: &Message<'_>, slot: Slot, tag: u64, keeps_headers: bool) -> Record {
    let (timestamp_ms, timestamp_type) = match message.timestamp() {
        Timestamp::None => (-1, TimestampType::NOT_AVAILABLE),
        Timestamp::Created(at) => (at, TimestampType::CREATE_TIME),
        Timestamp::Appended(at) => (at, TimestampType::LOG_APPEND_TIME),
    };
    let headers = if keeps_headers {
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
        tag,
        attempt: 1,
        offset: message.offset(),
        leader_epoch: message.leader_epoch().unwrap_or(-1),
        timestamp_ms,
        timestamp_type: timestamp_type.0,
        key: message.key().map(Box::from),
        payload: message.payload().map(Box::from),
        unshaped: false,
        headers,
    }
}
