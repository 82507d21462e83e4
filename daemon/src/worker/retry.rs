//! What waits for a retry, or behind one: the copies of one partition's messages, in offset order, and when they may
//! be tried again. Pure: time comes as an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{lane::Record, settings::Backoff};

/// A partition that waits.
#[derive(Debug)]
pub struct Parked {
    records: BTreeMap<i64, Record>,
    bytes: usize,
    state: Waiting,
}

/// What a parked partition waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    /// For its back-off.
    Until(Instant),
    /// For nothing: it is to be handed out.
    Ready,
    /// For the outcome of what was handed out.
    InHand,
    /// For a person: the route's `then` is `stop`.
    Stopped {
        /// The message that stopped it.
        offset: i64,
        /// Why.
        error: String,
    },
}

// === impl Parked ===

impl Parked {
    /// Nothing yet, and waiting for `state`.
    #[must_use]
    pub fn new(state: Waiting) -> Self {
        Self {
            records: BTreeMap::new(),
            bytes: 0,
            state,
        }
    }

    /// Keeps a copy. One that is here already stays as it is (it knows its attempts).
    pub fn keep(&mut self, record: Record) {
        let bytes = record.bytes();
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.records.entry(record.offset) {
            vacant.insert(record);
            self.bytes += bytes;
        }
    }

    /// Takes out what is to be handed out now: after a failure the first message alone, so that what follows it is not
    /// copied once more for nothing; else up to `max` messages and `max_bytes` (at least one message).
    pub fn take(&mut self, max: usize, max_bytes: usize) -> Vec<Record> {
        let alone = self
            .records
            .first_key_value()
            .is_some_and(|(_, record)| record.attempt > 1);
        let max = if alone { 1 } else { max };
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < max {
            let Some(first) = self.records.first_entry() else {
                break;
            };
            let length = first.get().bytes();
            if !taken.is_empty() && bytes + length > max_bytes {
                break;
            }
            bytes += length;
            self.bytes -= length;
            taken.push(first.remove());
        }
        taken
    }

    /// Waits for `state` from now on.
    pub fn wait(&mut self, state: Waiting) {
        self.state = state;
    }

    /// What it waits for.
    #[must_use]
    pub fn waiting(&self) -> &Waiting {
        &self.state
    }

    /// Whether it may be handed out at `now`.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        match self.state {
            Waiting::Ready => true,
            Waiting::Until(at) => at <= now,
            Waiting::InHand | Waiting::Stopped { .. } => false,
        }
    }

    /// When it may be handed out, if time is all that it waits for.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        match self.state {
            Waiting::Until(at) => Some(at),
            _ => None,
        }
    }

    /// Whether nothing waits here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes held, counted against the route's budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The wait after failed attempt `attempt` (from 1): doubling from `initial` to `max`, then up to half of it taken off
/// by `chance` (0 to 1), so that partitions that failed together do not come back together.
#[must_use]
pub fn backoff(policy: &Backoff, attempt: u32, chance: f64) -> Duration {
    let doubled = policy
        .initial
        .saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled
        .min(policy.max)
        .mul_f64(1.0 - 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::Slot;

    fn record(offset: i64, attempt: u32) -> Record {
        Record {
            slot: Slot(0),
            tag: 0,
            attempt,
            offset,
            leader_epoch: -1,
            timestamp_ms: -1,
            timestamp_type: 0,
            key: None,
            payload: Some(vec![0; 100].into()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn what_waits_comes_out_in_offset_order_whatever_order_it_came_in() {
        let mut parked = Parked::new(Waiting::Ready);
        for offset in [12, 10, 11, 40] {
            parked.keep(record(offset, 1));
        }
        let offsets: Vec<i64> = parked
            .take(3, usize::MAX)
            .iter()
            .map(|record| record.offset)
            .collect();
        assert_eq!(offsets, [10, 11, 12]);
        assert!(!parked.is_empty());
    }

    #[test]
    fn a_failed_message_is_tried_alone_and_keeps_its_attempts() {
        let mut parked = Parked::new(Waiting::Ready);
        parked.keep(record(10, 3));
        parked.keep(record(10, 1));
        parked.keep(record(11, 1));
        let taken = parked.take(100, usize::MAX);
        assert_eq!(
            taken
                .iter()
                .map(|record| (record.offset, record.attempt))
                .collect::<Vec<_>>(),
            [(10, 3)]
        );
    }

    #[test]
    fn bytes_are_counted_in_and_out() {
        let mut parked = Parked::new(Waiting::Ready);
        parked.keep(record(1, 1));
        parked.keep(record(2, 1));
        assert_eq!(parked.bytes(), 2 * record(1, 1).bytes());
        assert_eq!(
            parked.take(10, 1).len(),
            1,
            "one message goes out whatever its size"
        );
        parked.take(10, 1);
        assert_eq!(parked.bytes(), 0);
    }

    #[test]
    fn the_back_off_doubles_to_its_maximum_and_never_overflows() {
        let policy = Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
        };
        assert_eq!(backoff(&policy, 1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(&policy, 4, 0.0), Duration::from_secs(8));
        assert_eq!(backoff(&policy, 4, 1.0), Duration::from_secs(4));
        assert_eq!(backoff(&policy, u32::MAX, 0.0), Duration::from_secs(30));
    }
}
