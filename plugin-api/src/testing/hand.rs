//! What a consumer under test has in hand beyond a call, and what waits for it: as the daemon keeps it, by order tag.

use super::{Outcome, Report, TestMessage, Tester};
use crate::plugin::Exported;

/// How long a consumer has its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// For the call that brings them.
    Call,
    /// Until each is completed, at most one of an order tag.
    Flight,
    /// Until a flush.
    Buffer,
}

impl<C: Exported> Tester<C> {
    /// How many messages the consumer has: in flight, or taken and not flushed.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.host.in_hand() + self.buffered.len()
    }

    /// Waits until all that was taken beyond calls has ended, and hands out what waited behind it; returns
    /// [`completed`](Self::completed). What failed then waits for [`feed_again`](Self::feed_again).
    ///
    /// # Panics
    /// If nothing ends for 30 seconds.
    pub fn settle(&mut self) -> Vec<(i32, i64, Outcome)> {
        loop {
            let ended = self.host.take_ended();
            self.end_all(ended);
            let ready = self.take_ready();
            if !ready.is_empty() {
                let outcomes = self.call(&ready, &[]);
                let mut ended: Vec<_> = ready.into_iter().zip(outcomes).collect();
                ended.retain(|(_, outcome)| *outcome != Outcome::Taken);
                for (message, outcome) in &ended {
                    self.host.note(message, outcome.clone());
                }
                self.end_all(ended);
            } else if !self.host.await_end() {
                return self.completed();
            }
        }
    }

    /// Hands messages in, as far as nothing of their order tag is in the way.
    pub(super) fn hand_in(&mut self, mut messages: Vec<TestMessage>, released: &[u64]) -> Report {
        for message in &mut messages {
            let next = self.next_offsets.entry(message.place()).or_insert(0);
            let offset = *message.offset.get_or_insert(*next);
            *next = (*next).max(offset + 1);
        }
        let mut outcomes = vec![Outcome::NotBegun; messages.len()];
        let (mut places, mut ready) = (Vec::new(), Vec::new());
        for (place, message) in messages.into_iter().enumerate() {
            let tag = self.tag(&message);
            if self.hand != Hand::Flight {
                places.push(place);
                ready.push(message);
            } else if self.held.contains(&tag) {
                self.parked.push(message);
            } else if self.waits(&message) || !self.in_flight.insert(tag) {
                self.waiting.push(message);
            } else {
                places.push(place);
                ready.push(message);
            }
        }
        let told = self.call(&ready, released);
        let mut ended = Vec::new();
        for ((place, message), outcome) in places.into_iter().zip(ready).zip(told) {
            outcomes[place] = match outcome {
                Outcome::Done if self.hand == Hand::Buffer => {
                    self.buffered.push(message);
                    Outcome::Taken
                }
                Outcome::Taken => Outcome::Taken,
                outcome => {
                    ended.push((message, outcome.clone()));
                    outcome
                }
            };
        }
        self.end_all(ended);
        Report { outcomes }
    }

    /// A flush ended: what was taken is done, or the consumer is given up.
    pub(super) fn flushed(&mut self, is_ok: bool) {
        if !is_ok {
            return self.lose();
        }
        for message in std::mem::take(&mut self.buffered) {
            self.host.note(&message, Outcome::Done);
        }
    }

    /// Gives the consumer up. What it has comes back, and is handed in again before what came after it.
    pub(super) fn lose(&mut self) {
        let Some(instance) = self.instance.take() else {
            return;
        };
        drop(instance);
        for (message, outcome) in self.host.take_ended() {
            self.end(message, outcome);
        }
        let mut back = std::mem::take(&mut self.buffered);
        back.append(&mut self.parked);
        back.append(&mut self.waiting);
        let tags: Vec<u64> = back.iter().map(|message| self.tag(message)).collect();
        self.held.extend(tags);
        self.parked = back;
    }

    /// These messages are out of the consumer's hands; one that broke it ends it.
    fn end_all(&mut self, ended: Vec<(TestMessage, Outcome)>) {
        let is_broken = ended
            .iter()
            .any(|(_, outcome)| matches!(outcome, Outcome::Broken { .. }));
        for (message, outcome) in ended {
            self.end(message, outcome);
        }
        if is_broken {
            self.lose();
        }
    }

    /// A message is out of the consumer's hands.
    fn end(&mut self, message: TestMessage, outcome: Outcome) {
        let tag = self.tag(&message);
        self.in_flight.remove(&tag);
        let is_held = match outcome {
            Outcome::Retry { .. } | Outcome::Broken { .. } => {
                self.parked.push(message.again());
                true
            }
            Outcome::NotBegun | Outcome::NotReached => {
                self.parked.push(message);
                true
            }
            Outcome::Rejected { .. } | Outcome::Undecodable { .. } => self.hold_on_reject,
            Outcome::Done | Outcome::Passed | Outcome::Taken => false,
        };
        // Within a call the shim keeps the order; beyond it the host does.
        if is_held && self.hand == Hand::Flight {
            self.held.insert(tag);
            for waiting in std::mem::take(&mut self.waiting) {
                let same = self.tag(&waiting) == tag;
                let place = if same { &mut self.parked } else { &mut self.waiting };
                place.push(waiting);
            }
        }
    }

    /// Whether an earlier message of its partition is not handed out yet.
    fn waits(&self, message: &TestMessage) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.place() == message.place())
    }

    /// Of what waits, the first of each order tag that is not in flight.
    fn take_ready(&mut self) -> Vec<TestMessage> {
        let mut ready = Vec::new();
        for message in std::mem::take(&mut self.waiting) {
            let tag = self.tag(&message);
            if self.instance.is_some() && self.in_flight.insert(tag) {
                ready.push(message);
            } else {
                self.waiting.push(message);
            }
        }
        ready
    }
}
