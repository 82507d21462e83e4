//! What concerns all queues of a partition: it is given up, held back, or stands.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{Body, Emptied, QueueId, Queued, Queues, Ready, queue::Queue};
use crate::lane::Slot;

impl Queues {
    /// Everything of a partition goes: what waits is given to `dropped`. What is in hand is let go later. The tags that a
    /// lane holds.
    pub fn drop_slot(&mut self, slot: Slot, mut dropped: impl FnMut(Queued)) -> Vec<Emptied> {
        let mut held = Vec::new();
        self.held_back.remove(&slot);
        self.leaving.remove(&slot);
        let ids: Vec<QueueId> = self
            .by_tag
            .iter()
            .map(|at| QueueId(*at))
            .filter(|id| self.queue(*id).slot == slot)
            .collect();
        for id in ids {
            self.unlist(id);
            let queue = self.queue_mut(id);
            queue.bytes = 0;
            let waited = queue.rare().is_some_and(|rare| rare.waiting.take().is_some());
            let messages = queue.messages.take_all();
            self.waiting -= usize::from(waited);
            for message in messages {
                self.count_out(&message);
                dropped(message);
            }
            let queue = self.queue_mut(id);
            if let Some(lane) = queue.take_held_by() {
                held.push(Emptied {
                    slot,
                    tag: queue.tag,
                    held_by: Some(lane),
                });
            }
            if self.queue(id).in_hand == 0 {
                self.forget(id);
            }
        }
        held
    }

    /// Nothing of a partition is taken any more: it is about to be dropped.
    pub fn leave(&mut self, slot: Slot) {
        self.leaving.insert(slot);
    }

    /// Nothing new of a partition begins beyond `frontier` (retries do), or all of it may again.
    pub fn hold_back(&mut self, slot: Slot, frontier: Option<i64>) {
        let known = match frontier {
            Some(frontier) => self.held_back.insert(slot, frontier),
            None => self.held_back.remove(&slot),
        };
        if known.is_some() {
            for entry in std::mem::take(&mut self.set_aside) {
                // One that is listed elsewhere by now is of another life.
                match self.queue(QueueId(entry.1)).bound_to() {
                    None => self.again.push(Reverse(entry)),
                    Some(lane) => self.bound_mut(lane).listed.push(Reverse(entry)),
                }
            }
        }
    }

    /// What waits behind messages in hand and has not moved for `patience`, by partition.
    pub fn standing(&mut self, now: Instant, patience: Duration) -> HashMap<Slot, Ready> {
        let mut standing: HashMap<Slot, Ready> = HashMap::new();
        for at in self.by_tag.iter() {
            let queue = &mut self.queues[*at as usize];
            let first = queue.messages.front().filter(|_| queue.in_hand > queue.buffered);
            let Some(first) = first.map(|first| first.offset) else {
                if let Some(rare) = queue.rare() {
                    rare.stands = None;
                }
                continue;
            };
            let (slot, messages, bytes) = (queue.slot, queue.messages.len(), queue.bytes);
            let stands = &mut queue.rare_mut().stands;
            match stands {
                Some((offset, since)) if *offset == first => {
                    if now.saturating_duration_since(*since) >= patience {
                        standing.entry(slot).or_default().add(messages, bytes);
                    }
                }
                _ => *stands = Some((first, now)),
            }
        }
        standing
    }

    /// Whether the first message of a tag lies in a copy.
    #[must_use]
    pub fn slots_with_copies(&self) -> HashSet<Slot> {
        let has = |queue: &&Queue| {
            queue
                .messages
                .iter()
                .any(|message| matches!(message.body, Body::Copy(_)))
        };
        self.by_tag
            .iter()
            .map(|at| &self.queues[*at as usize])
            .filter(has)
            .map(|queue| queue.slot)
            .collect()
    }
}
