//! Tags that wait: for a time, for a person, for an answer; and those that the instance of a lane holds since a failure.

use std::{cmp::Reverse, time::Instant};

use super::{Body, Emptied, QueueId, Queues, Waiting};
use crate::lane::Slot;

impl Queues {
    /// The tag waits from now on. `in_hand`: how many of its messages are out, where the queue is made by this (they
    /// were not taken from it).
    pub fn wait(
        &mut self,
        tag: u64,
        slot: Slot,
        waiting: Waiting,
        held_by: Option<usize>,
        in_hand: u32,
    ) -> QueueId {
        let id = self.find_or_make_with(tag, slot, in_hand);
        self.unlist(id);
        if let Waiting::Until(at) = waiting {
            let life = self.queue(id).life;
            self.timed.push(Reverse((at, id.0, life)));
        }
        let queue = self.queue_mut(id);
        let rare = queue.rare_mut();
        if held_by.is_some() {
            rare.held_by = held_by;
        }
        let before = rare.waiting.replace(waiting);
        self.waiting += usize::from(before.is_none());
        id
    }

    /// The instance of that lane passes over the tag until it is let go, though it does not wait for anything.
    pub fn hold(&mut self, tag: u64, slot: Slot, held_by: usize, in_hand: u32) -> QueueId {
        let id = self.find_or_make_with(tag, slot, in_hand);
        self.queue_mut(id).rare_mut().held_by = Some(held_by);
        id
    }

    /// The tag waits no more.
    pub fn go_on(&mut self, tag: u64, slot: Slot) -> Option<Emptied> {
        let id = self.find(tag, slot)?;
        let queue = self.queue_mut(id);
        if queue.rare().is_some_and(|rare| rare.waiting.take().is_some()) {
            // Entries of its wait are of another life.
            queue.life = queue.life.wrapping_add(1);
            self.waiting -= 1;
        }
        self.settle(id)
    }

    /// The message at `offset` of a tag that waits failed at `now_ms` (since the epoch): when it failed first.
    pub fn first_failure(&mut self, tag: u64, slot: Slot, offset: i64, now_ms: i64) -> i64 {
        let Some(id) = self.find(tag, slot) else {
            return now_ms;
        };
        let rare = self.queue_mut(id).rare_mut();
        match rare.failing {
            Some((known, first)) if known == offset => first,
            _ => {
                rare.failing = Some((offset, now_ms));
                now_ms
            }
        }
    }

    /// The first message of a waiting tag is as if it had never been tried.
    pub fn forget_attempts(&mut self, tag: u64, slot: Slot) {
        let Some(id) = self.find(tag, slot) else { return };
        let queue = self.queue_mut(id);
        if let Some(rare) = queue.rare() {
            rare.failing = None;
        }
        if let Some(first) = queue.messages.front_mut() {
            first.attempt = 1;
            if let Body::Copy(record) = &mut first.body {
                record.attempt = 1;
            }
        }
    }

    /// Ends the waits whose time has come.
    pub fn end_waits(&mut self, now: Instant) -> Vec<Emptied> {
        let mut emptied = Vec::new();
        while self.timed.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, at, life))) = self.timed.pop() else {
                break;
            };
            let queue = &self.queues[at as usize];
            if queue.life == life && matches!(queue.waiting(), Some(Waiting::Until(_))) {
                let (tag, slot) = (queue.tag, queue.slot);
                emptied.extend(self.go_on(tag, slot));
            }
        }
        emptied
    }

    /// When the next wait ends.
    #[must_use]
    pub fn next_end(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, queue, life))) = self.timed.peek() {
            let found = &self.queues[*queue as usize];
            if found.life == *life && matches!(found.waiting(), Some(Waiting::Until(_))) {
                return Some(*at);
            }
            self.timed.pop();
        }
        None
    }

    /// What a tag waits for.
    #[must_use]
    pub fn waiting(&self, tag: u64, slot: Slot) -> Option<&Waiting> {
        self.find(tag, slot).and_then(|id| self.queue(id).waiting())
    }

    /// Tags that wait, with their partition and what for.
    pub fn all_waiting(&self) -> impl Iterator<Item = (u64, Slot, &Waiting)> {
        let any = if self.waiting == 0 { 0 } else { self.queues.len() };
        self.queues[..any]
            .iter()
            .filter_map(|queue| Some((queue.tag, queue.slot, queue.waiting()?)))
    }

    /// How many tags wait.
    #[must_use]
    pub fn waiting_tags(&self) -> usize {
        self.waiting
    }

    /// Tags that the instance of a lane passes over until it is told to let them go.
    pub fn held_tags(&self) -> impl Iterator<Item = (usize, u64)> {
        self.queues
            .iter()
            .filter_map(|queue| Some((queue.held_by()?, queue.tag)))
    }

    /// A new instance holds no tag.
    pub fn forget_holds(&mut self) {
        for queue in &mut self.queues {
            queue.take_held_by();
        }
    }
}
