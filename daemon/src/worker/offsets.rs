//! Which offsets of a partition are finished, and what may be committed. Pure: no Kafka, no clock.
//!
//! The rules:
//! - The *frontier* is the lowest unfinished offset. With nothing in hand it is the *position*: the offset after the
//!   last message that was read. Only the frontier is ever committed, so whatever is below it is finished.
//! - Offsets have gaps (compaction, transaction markers): nothing here counts, it only compares.
//! - Offsets only grow. Where one comes that does not, the log is another one than before (cut, or its topic made
//!   again): [`Tracker::begin`] says so and the partition gets a new tracker.

use std::collections::VecDeque;

/// The offsets of one partition, from its assignment to its revocation.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// The offset after the last one begun; `None` until the partition's first offset is known.
    position: Option<i64>,
    /// Begun and not yet passed by the frontier, ascending.
    window: VecDeque<Begun>,
    /// Unfinished offsets in `window`.
    unfinished: usize,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    offset: i64,
    finished: bool,
}

/// What [`Tracker::begin`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Seen {
    /// New: digest it.
    First,
    /// It lies below the position: the log was cut or made again, or somebody sought back.
    Before,
}

// === impl Tracker ===

impl Tracker {
    /// A partition that is read from `position` on (`None`: wherever its first message stands).
    #[must_use]
    pub fn new(position: Option<i64>) -> Self {
        Self {
            position,
            window: VecDeque::new(),
            unfinished: 0,
        }
    }

    /// A message was read.
    #[inline]
    pub fn begin(&mut self, offset: i64) -> Seen {
        if self.position.is_some_and(|position| offset < position) {
            return Seen::Before;
        }
        self.position = Some(offset + 1);
        self.window.push_back(Begun {
            offset,
            finished: false,
        });
        self.unfinished += 1;
        Seen::First
    }

    /// A message is digested, skipped or dead-lettered. What is not in hand is passed over (a late outcome).
    #[inline]
    pub fn finish(&mut self, offset: i64) {
        match self.window.front() {
            Some(front) if front.offset == offset => {
                if !front.finished {
                    self.unfinished -= 1;
                }
                self.window.pop_front();
                while self.window.front().is_some_and(|begun| begun.finished) {
                    self.window.pop_front();
                }
            }
            _ => {
                if let Ok(index) = self.window.binary_search_by_key(&offset, |begun| begun.offset) {
                    let begun = &mut self.window[index];
                    if !begun.finished {
                        begun.finished = true;
                        self.unfinished -= 1;
                    }
                }
            }
        }
    }

    /// The lowest unfinished offset, or the position; `None` while nothing is known.
    #[must_use]
    pub fn frontier(&self) -> Option<i64> {
        self.window.front().map(|begun| begun.offset).or(self.position)
    }

    /// The offset after the last one begun.
    #[must_use]
    pub fn position(&self) -> Option<i64> {
        self.position
    }

    /// How many offsets are begun and not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn with_nothing_in_hand_the_frontier_is_the_position() {
        let mut tracker = Tracker::new(Some(7));
        assert_eq!(tracker.frontier(), Some(7));
        assert_eq!(tracker.begin(9), Seen::First);
        assert_eq!(
            tracker.frontier(),
            Some(9),
            "a gap below an unfinished offset is finished"
        );
        tracker.finish(9);
        assert_eq!(tracker.frontier(), Some(10));
        assert_eq!(Tracker::new(None).frontier(), None);
    }

    #[test]
    fn an_offset_that_does_not_grow_is_told() {
        let mut tracker = Tracker::new(Some(0));
        assert_eq!(tracker.begin(0), Seen::First);
        assert_eq!(tracker.begin(0), Seen::Before);
        tracker.finish(0);
        assert_eq!(tracker.begin(0), Seen::Before);
    }

    #[test]
    fn a_late_outcome_changes_nothing() {
        let mut tracker = Tracker::new(Some(5));
        tracker.finish(3);
        tracker.finish(8);
        assert_eq!((tracker.frontier(), tracker.unfinished()), (Some(5), 0));
    }

    proptest! {
        /// Against a map of every offset ever begun: the frontier never passes an unfinished offset, and reaches the
        /// position once all is finished.
        #[test]
        fn the_frontier_is_the_lowest_unfinished_offset(
            start in 0_i64..50,
            steps in proptest::collection::vec((any::<bool>(), 1_i64..5, 0_usize..64), 1..300),
        ) {
            let mut tracker = Tracker::new(Some(start));
            let mut model: BTreeMap<i64, bool> = BTreeMap::new();
            let mut next = start;
            let mut last_frontier = start;
            for (begin, gap, pick) in steps {
                if begin {
                    next += gap - 1;
                    prop_assert_eq!(tracker.begin(next), Seen::First);
                    model.insert(next, false);
                    next += 1;
                } else if !model.is_empty() {
                    let offset = *model.keys().nth(pick % model.len()).unwrap();
                    tracker.finish(offset);
                    model.insert(offset, true);
                }
                let expected = model.iter().find(|(_, done)| !**done).map_or(next, |(offset, _)| *offset);
                prop_assert_eq!(tracker.frontier(), Some(expected));
                prop_assert_eq!(tracker.unfinished(), model.values().filter(|done| !**done).count());
                prop_assert!(expected >= last_frontier, "the frontier never goes back");
                last_frontier = expected;
            }
        }
    }
}
