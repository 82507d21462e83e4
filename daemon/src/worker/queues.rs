//! Ready queues: one for every order tag that has messages waiting or in hand. A lane takes the next ready queue, the
//! one whose first message came first; a tag is with one lane at a time, and what failed holds back its tag alone. A tag
//! whose messages in hand are only buffered is ready for the lane that has them. Pure: time comes as an argument.
//!
//! With one lane in the order of partitions, messages go straight to the lane; then only partitions that wait have a
//! queue.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    time::Instant,
};

use hashbrown::HashTable;

use crate::{
    lane::{Kept, Record, Slot},
    os::cache,
};

mod partitions;
mod queue;
mod waits;

use queue::Queue;
pub use queue::{Body, Queued, Waiting};

/// The queues of a route.
#[derive(Debug, Default)]
pub struct Queues {
    /// Two partitions never share a queue, whatever their tags.
    by_tag: HashTable<u32>,
    queues: Vec<Queue>,
    unused: Vec<u32>,
    /// Ready since a message came: their first messages ascend.
    fresh: VecDeque<Listed>,
    /// Ready again, after they were in hand or waited.
    again: BinaryHeap<Reverse<Listed>>,
    /// Ready for one lane only, which has buffered earlier messages of them.
    bound: Vec<Bound>,
    /// Waits with an end.
    timed: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    /// Partitions of which nothing new may begin beyond this offset, the frontier.
    held_back: HashMap<Slot, i64>,
    /// Partitions that are given up: nothing of them is taken.
    leaving: HashSet<Slot>,
    /// Queues of such partitions that would be ready.
    set_aside: Vec<Listed>,
    arrivals: u64,
    messages: usize,
    /// In queues that are ready for any lane.
    ready: Ready,
    copied_bytes: usize,
    waiting: usize,
}

/// There may be ten thousand queues, all over the memory: who goes through many messages fetches the queue of each so many
/// turns before its own.
pub const AHEAD: usize = 8;

/// A queue, as others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueId(u32);

/// Bounds of what is taken for one call.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// Messages.
    pub messages: usize,
    /// Bytes; a larger message is taken alone.
    pub bytes: usize,
    /// Messages of one tag.
    pub of_a_tag: usize,
    /// What is larger than this has no place beside others and is taken alone.
    pub large: usize,
}

/// A message that was taken, for whoever hands it out.
#[derive(Debug)]
pub struct Taken {
    /// Its queue.
    pub queue: QueueId,
    /// Its partition.
    pub slot: Slot,
    /// Its tag.
    pub tag: u64,
    /// Itself.
    pub message: Queued,
    /// The lane that holds the tag since an earlier failure, and has to let it go.
    pub held_by: Option<usize>,
}

/// What ready queues hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Queues that are ready for one lane.
#[derive(Debug, Default)]
struct Bound {
    listed: BinaryHeap<Reverse<Listed>>,
    ready: Ready,
}

/// A ready queue: when its first message came, which, and in which life.
type Listed = (u64, u32, u32);

impl QueueId {
    /// No queue: the message went straight to its lane.
    pub const NONE: Self = Self(u32::MAX);
}

// === impl Taken ===

impl Taken {
    /// It is a copy of which nothing was made for the plugin yet.
    #[inline]
    #[must_use]
    pub fn is_unshaped(&self) -> bool {
        matches!(&self.message.body, Body::Copy(record) if record.unshaped)
    }
}

// === impl Ready ===

impl Ready {
    fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes;
    }

    fn remove(&mut self, messages: usize, bytes: usize) {
        self.messages -= messages;
        self.bytes -= bytes;
    }
}

impl std::ops::Add for Ready {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
        }
    }
}

// === impl Queues ===

impl Queues {
    /// Where the messages of a queue that is listed are counted.
    fn ready_mut(&mut self, bound_to: Option<usize>) -> &mut Ready {
        match bound_to {
            None => &mut self.ready,
            Some(lane) => &mut self.bound_mut(lane).ready,
        }
    }

    fn bound_mut(&mut self, lane: usize) -> &mut Bound {
        if self.bound.len() <= lane {
            self.bound.resize_with(lane + 1, Bound::default);
        }
        &mut self.bound[lane]
    }

    fn queue(&self, id: QueueId) -> &Queue {
        &self.queues[id.0 as usize]
    }

    fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        &mut self.queues[id.0 as usize]
    }

    /// The queue of a tag, if it has one.
    #[must_use]
    pub fn find(&self, tag: u64, slot: Slot) -> Option<QueueId> {
        self.find_hashed(hash(tag, slot), tag, slot)
    }

    fn find_hashed(&self, hash: u64, tag: u64, slot: Slot) -> Option<QueueId> {
        let is_it = |at: &u32| {
            let queue = &self.queues[*at as usize];
            queue.tag == tag && queue.slot == slot
        };
        self.by_tag.find(hash, is_it).map(|at| QueueId(*at))
    }

    /// Fetches the queue that a message will get in [`AHEAD`] turns: that of its tag, or one that is not used.
    #[inline]
    pub fn fetch_for(&self, tag: u64, slot: Slot) {
        let mut any = false;
        let _none = self.by_tag.find(hash(tag, slot), |at| {
            cache::fetch(&self.queues[*at as usize]);
            any = true;
            false
        });
        if !any && let Some(at) = self.unused.len().checked_sub(AHEAD) {
            cache::fetch(&self.queues[self.unused[at] as usize]);
        }
    }

    /// Fetches the queue of a message whose turn comes.
    #[inline]
    pub fn fetch(&self, id: QueueId) {
        if let Some(queue) = self.queues.get(id.0 as usize) {
            cache::fetch(queue);
        }
    }

    fn find_or_make(&mut self, tag: u64, slot: Slot) -> QueueId {
        let hashed = hash(tag, slot);
        if let Some(known) = self.find_hashed(hashed, tag, slot) {
            return known;
        }
        let at = self.unused.pop().unwrap_or_else(|| {
            self.queues.push(Queue::default());
            (self.queues.len() - 1) as u32
        });
        let queue = &mut self.queues[at as usize];
        (queue.tag, queue.slot) = (tag, slot);
        let queues = &self.queues;
        self.by_tag.insert_unique(hashed, at, |at| {
            let queue = &queues[*at as usize];
            hash(queue.tag, queue.slot)
        });
        QueueId(at)
    }

    /// Where it is made by this, so many of its messages are out that were not taken from it.
    fn find_or_make_with(&mut self, tag: u64, slot: Slot, in_hand: u32) -> QueueId {
        if let Some(known) = self.find(tag, slot) {
            return known;
        }
        let id = self.find_or_make(tag, slot);
        self.queue_mut(id).in_hand = in_hand;
        id
    }

    /// The tag of a queue.
    #[must_use]
    pub fn tag(&self, id: QueueId) -> u64 {
        self.queue(id).tag
    }

    /// A message comes, after all others of its tag.
    #[inline]
    pub fn push(&mut self, tag: u64, slot: Slot, mut message: Queued) {
        self.arrivals += 1;
        message.arrival = self.arrivals;
        let id = self.find_or_make(tag, slot);
        self.count_in(&message);
        let bytes = message.bytes as usize;
        let queue = &mut self.queues[id.0 as usize];
        queue.bytes += bytes;
        queue.messages.push_back(message);
        let bound_to = queue.bound_to();
        if queue.listed {
            self.ready_mut(bound_to).add(1, bytes);
        } else if bound_to.is_some() {
            self.list_again(id);
        } else if queue.is_free() {
            queue.listed = true;
            let first = queue.messages.front().map_or(0, |first| first.arrival);
            let count = queue.messages.len();
            let (bytes, life) = (queue.bytes, queue.life);
            self.ready.add(count, bytes);
            self.fresh.push_back((first, id.0, life));
        }
    }

    /// As [`Queues::push`]; `in_hand` as in [`Queues::wait`].
    pub fn push_behind(&mut self, tag: u64, slot: Slot, in_hand: u32, message: Queued) {
        self.find_or_make_with(tag, slot, in_hand);
        self.push(tag, slot, message);
    }

    /// A message that was taken comes back undigested: it stands where its offset belongs. One that stands there
    /// already stays as it is: it knows its attempts.
    /// `in_hand` as in [`Queues::wait`].
    pub fn put_back(&mut self, tag: u64, slot: Slot, in_hand: u32, mut message: Queued) -> Option<Queued> {
        let id = self.find_or_make_with(tag, slot, in_hand);
        let queue = self.queue(id);
        let at = match queue.messages.find(message.offset) {
            Ok(_) => return Some(message),
            Err(at) => at,
        };
        // It had its turn already.
        message.arrival = 0;
        self.count_in(&message);
        let queue = self.queue(id);
        let (listed, bound_to) = (queue.listed, queue.bound_to());
        if listed {
            self.ready_mut(bound_to).add(1, message.bytes as usize);
        }
        let queue = self.queue_mut(id);
        queue.bytes += message.bytes as usize;
        queue.messages.insert(at, message);
        self.list_again(id);
        None
    }

    fn count_in(&mut self, message: &Queued) {
        self.messages += 1;
        self.copied_bytes += message.copied();
    }

    fn count_out(&mut self, message: &Queued) {
        self.messages -= 1;
        self.copied_bytes -= message.copied();
    }

    /// Lists a queue that is ready and not listed.
    fn list_again(&mut self, id: QueueId) {
        let queue = self.queue_mut(id);
        if queue.listed || !queue.is_free() {
            return;
        }
        let Some(first) = queue.messages.front() else {
            return;
        };
        queue.listed = true;
        let entry = (first.arrival, id.0, queue.life);
        let (count, bytes, bound_to) = (queue.messages.len(), queue.bytes, queue.bound_to());
        self.ready_mut(bound_to).add(count, bytes);
        match bound_to {
            None => self.again.push(Reverse(entry)),
            Some(lane) => self.bound_mut(lane).listed.push(Reverse(entry)),
        }
    }

    fn unlist(&mut self, id: QueueId) {
        let queue = self.queue_mut(id);
        if std::mem::take(&mut queue.listed) {
            // Entries of an earlier listing are of another life.
            queue.life = queue.life.wrapping_add(1);
            let (count, bytes, bound_to) = (queue.messages.len(), queue.bytes, queue.bound_to());
            self.ready_mut(bound_to).remove(count, bytes);
        }
    }

    /// The entry of the queue whose first message came first, of those that `lane` may take.
    fn pop_listed(&mut self, lane: usize) -> Option<Listed> {
        let any_bound = self.bound.get(lane).is_some_and(|bound| !bound.listed.is_empty());
        if self.again.is_empty() && !any_bound {
            return self.fresh.pop_front();
        }
        let fresh = self.fresh.front().map(|entry| entry.0);
        let again = self.again.peek().map(|Reverse(entry)| entry.0);
        let bound = self.bound.get(lane).and_then(|bound| bound.listed.peek());
        let bound = bound.map(|Reverse(entry)| entry.0);
        let first = [fresh, again, bound].into_iter().flatten().min()?;
        if bound == Some(first) {
            return self.bound[lane].listed.pop().map(|Reverse(entry)| entry);
        }
        if again == Some(first) {
            return self.again.pop().map(|Reverse(entry)| entry);
        }
        self.fresh.pop_front()
    }

    fn next_listed(&mut self, lane: usize) -> Option<QueueId> {
        loop {
            let entry = self.pop_listed(lane)?;
            let id = QueueId(entry.1);
            let queue = self.queue(id);
            if !queue.listed || queue.life != entry.2 {
                continue;
            }
            if !self.leaving.is_empty() && self.leaving.contains(&queue.slot) {
                continue;
            }
            let first = queue.messages.front().filter(|_| !self.held_back.is_empty());
            if first.is_some_and(|first| self.is_held_back(queue.slot, first)) {
                self.set_aside.push(entry);
                continue;
            }
            return Some(id);
        }
    }

    /// Takes messages of queues that are ready for `lane` for one call, oldest first, whole tags as far as the bounds allow.
    /// What failed before is taken alone of its tag.
    pub fn take(&mut self, lane: usize, bounds: Take, taken: &mut Vec<Taken>) {
        let mut bytes = 0;
        let start = taken.len();
        while taken.len() - start < bounds.messages {
            let Some(id) = self.next_listed(lane) else { return };
            if let Some(next) = self.fresh.get(AHEAD) {
                self.fetch(QueueId(next.1));
            }
            let room = bounds.messages - (taken.len() - start);
            let mut quantum = bounds.of_a_tag.min(room);
            self.unlist(id);
            let queue = &mut self.queues[id.0 as usize];
            let mut full = false;
            while quantum > 0 {
                let Some(first) = queue.messages.front() else {
                    break;
                };
                let alone = taken.len() == start;
                if !alone && bytes + first.bytes as usize > bounds.bytes {
                    full = true;
                    break;
                }
                if first.attempt > 1 {
                    quantum = 1;
                }
                let large = first.bytes as usize > bounds.large;
                if large && !alone {
                    full = true;
                    break;
                }
                quantum -= 1;
                bytes += first.bytes as usize;
                queue.bytes -= first.bytes as usize;
                queue.in_hand += 1;
                let held_by = queue.take_held_by();
                let (slot, tag) = (queue.slot, queue.tag);
                let Some(message) = queue.messages.pop_front() else {
                    break;
                };
                self.messages -= 1;
                self.copied_bytes -= message.copied();
                taken.push(Taken {
                    queue: id,
                    slot,
                    tag,
                    message,
                    held_by,
                });
                if large {
                    return;
                }
            }
            if full {
                // Nothing of it may have been taken: then it is as ready as before.
                self.list_again(id);
                return;
            }
        }
    }

    /// Takes up to `max` messages of one waiting queue whose wait is over, for a lane that is fed straight. `None` if
    /// there is no such queue.
    pub fn take_one_queue(&mut self, bounds: Take) -> Vec<Taken> {
        let mut taken = Vec::new();
        let Some(id) = self.next_listed(0) else {
            return taken;
        };
        self.unlist(id);
        let queue = &mut self.queues[id.0 as usize];
        let retried = queue.messages.front().is_some_and(|first| first.attempt > 1);
        let max = if retried { 1 } else { bounds.messages };
        let mut bytes = 0;
        while taken.len() < max {
            let Some(first) = queue.messages.front() else {
                break;
            };
            if !taken.is_empty() && bytes + first.bytes as usize > bounds.bytes {
                break;
            }
            bytes += first.bytes as usize;
            queue.bytes -= first.bytes as usize;
            queue.in_hand += 1;
            let held_by = queue.take_held_by();
            let (slot, tag) = (queue.slot, queue.tag);
            let Some(message) = queue.messages.pop_front() else {
                break;
            };
            self.messages -= 1;
            self.copied_bytes -= message.copied();
            taken.push(Taken {
                queue: id,
                slot,
                tag,
                message,
                held_by,
            });
        }
        taken
    }

    /// Whether the message at `offset` is first of a tag that is ready, and may begin.
    #[must_use]
    pub fn is_next(&self, tag: u64, slot: Slot, offset: i64) -> bool {
        let Some(id) = self.find(tag, slot) else {
            return false;
        };
        let queue = self.queue(id);
        let Some(first) = queue.messages.front().filter(|_| queue.listed) else {
            return false;
        };
        first.offset == offset && !self.leaving.contains(&slot) && !self.is_held_back(slot, first)
    }

    /// Of a partition that is held back retries go on, and what is first of all: the frontier waits for it.
    fn is_held_back(&self, slot: Slot, first: &Queued) -> bool {
        let frontier = self.held_back.get(&slot);
        frontier.is_some_and(|frontier| first.attempt == 1 && first.offset > *frontier)
    }

    /// Takes the first message of a tag that is ready.
    pub fn take_first(&mut self, tag: u64, slot: Slot) -> Option<Taken> {
        let id = self.find(tag, slot).filter(|id| self.queue(*id).listed)?;
        self.unlist(id);
        let queue = self.queue_mut(id);
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.bytes as usize;
        queue.in_hand += 1;
        let held_by = queue.take_held_by();
        self.count_out(&message);
        Some(Taken {
            queue: id,
            slot,
            tag,
            message,
            held_by,
        })
    }

    /// A message that was taken is not in hand any more, however it ended. The queue's lane to let the tag go, and its
    /// slot and tag, if that was the last of the queue.
    #[inline]
    pub fn let_go(&mut self, id: QueueId) -> Option<Emptied> {
        let queue = &mut self.queues[id.0 as usize];
        queue.in_hand -= 1;
        if queue.in_hand > queue.buffered {
            return None;
        }
        self.settle(id)
    }

    /// A message that was taken is digested by `lane`, and done when that has flushed: until then what follows it goes to
    /// that lane.
    pub fn buffer(&mut self, id: QueueId, lane: usize) {
        let queue = &mut self.queues[id.0 as usize];
        debug_assert!(queue.buffered < queue.in_hand && queue.bound_to().is_none_or(|bound| bound == lane));
        queue.buffered += 1;
        queue.lane = lane as u32;
        let _not_empty = self.settle(id);
    }

    /// As [`Queues::let_go`], of a message that was buffered.
    pub fn let_go_buffered(&mut self, id: QueueId) -> Option<Emptied> {
        if self.queue(id).buffered == 1 {
            // From now on it is any lane's.
            self.unlist(id);
        }
        let queue = &mut self.queues[id.0 as usize];
        queue.buffered -= 1;
        queue.in_hand -= 1;
        if queue.in_hand > queue.buffered {
            return None;
        }
        self.settle(id)
    }

    /// Lists a queue of which nothing is digested now, or forgets it, if nothing of it is in hand either.
    fn settle(&mut self, id: QueueId) -> Option<Emptied> {
        let queue = self.queue(id);
        if !queue.is_free() {
            return None;
        }
        if !queue.messages.is_empty() {
            self.list_again(id);
            return None;
        }
        (queue.in_hand == 0).then(|| self.forget(id))
    }

    fn forget(&mut self, id: QueueId) -> Emptied {
        let queue = &mut self.queues[id.0 as usize];
        let (tag, slot) = (queue.tag, queue.slot);
        let emptied = Emptied {
            slot,
            tag,
            held_by: queue.end_life(),
        };
        if let Ok(entry) = self.by_tag.find_entry(hash(tag, slot), |at| *at == id.0) {
            entry.remove();
        }
        self.unused.push(id.0);
        emptied
    }

    /// Offset of a tag's first message.
    #[must_use]
    pub fn first(&self, tag: u64, slot: Slot) -> Option<i64> {
        let queue = self.queue(self.find(tag, slot)?);
        queue.messages.front().map(|first| first.offset)
    }

    /// All tags that have a queue, with their partition.
    #[must_use]
    pub fn all_tags(&self) -> Vec<(u64, Slot)> {
        self.by_tag
            .iter()
            .map(|at| &self.queues[*at as usize])
            .map(|queue| (queue.tag, queue.slot))
            .collect()
    }

    /// The messages of a tag that lie in the stock, to be copied out of it: `copy` gives the record of each.
    pub fn move_out(&mut self, tag: u64, slot: Slot, mut copy: impl FnMut(Kept, u32) -> Record) {
        let Some(id) = self.find(tag, slot) else { return };
        let mut copied = 0;
        for message in self.queues[id.0 as usize].messages.iter_mut() {
            if let Body::Kept(kept) = message.body {
                let record = copy(kept, message.attempt);
                copied += record.bytes();
                message.body = Body::Copy(Box::new(record));
            }
        }
        self.copied_bytes += copied;
    }

    /// Takes the message at `offset` out of a waiting tag.
    pub fn remove(&mut self, tag: u64, slot: Slot, offset: i64) -> Option<Queued> {
        let id = self.find(tag, slot)?;
        let queue = self.queue(id);
        let at = queue.messages.find(offset).ok()?;
        self.unlist(id);
        let queue = self.queue_mut(id);
        let message = queue.messages.remove(at)?;
        queue.bytes -= message.bytes as usize;
        self.count_out(&message);
        Some(message)
    }

    /// Messages that wait for whatever reason.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// What is in queues that are ready for some lane.
    #[must_use]
    pub fn ready(&self) -> Ready {
        self.bound.iter().fold(self.ready, |sum, bound| sum + bound.ready)
    }

    /// What is in queues that are ready for any lane, and in those that are for `lane` alone.
    #[must_use]
    pub fn ready_for(&self, lane: usize) -> (Ready, Ready) {
        let bound = self
            .bound
            .get(lane)
            .map_or_else(Ready::default, |bound| bound.ready);
        (self.ready, bound)
    }

    /// Whether there is any queue at all.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.by_tag.is_empty()
    }

    /// Whether copies wait, or tags without any message.
    #[must_use]
    pub fn any_copies(&self) -> bool {
        self.copied_bytes > 0 || self.waiting > 0
    }

    /// Bytes of copies that wait.
    #[must_use]
    pub fn copied_bytes(&self) -> usize {
        self.copied_bytes
    }
}

/// Tags are hashes already, or numbers of partitions: those and the slots are small, and the high bits, which the table looks
/// at first, must differ too.
fn hash(tag: u64, slot: Slot) -> u64 {
    (tag ^ (u64::from(slot.0) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A queue that has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emptied {
    /// Its partition.
    pub slot: Slot,
    /// Its tag.
    pub tag: u64,
    /// The lane that has to let the tag go.
    pub held_by: Option<usize>,
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
