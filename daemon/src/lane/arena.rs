//! Which bytes of a route's arena are taken. Pure: the bytes themselves are elsewhere.

use std::{collections::BTreeMap, ops::Range};

/// First fit from the bottom: what was touched before is used again before fresh pages are.
#[derive(Debug)]
pub(super) struct Places {
    size: usize,
    /// Free ranges, start to end; never adjacent.
    free: BTreeMap<usize, usize>,
    /// Everything above was never taken.
    touched: usize,
    taken: usize,
}

/// Places begin on a cache line, so that two of them share none.
const ALIGN: usize = 64;

// === impl Places ===

impl Places {
    pub(super) fn new(size: usize) -> Self {
        let size = size - size % ALIGN;
        Self {
            size,
            free: BTreeMap::from([(0, size)]),
            touched: 0,
            taken: 0,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The end of what was ever taken.
    pub(super) fn touched(&self) -> usize {
        self.touched
    }

    pub(super) fn is_all_free(&self) -> bool {
        self.free.get(&0) == Some(&self.size)
    }

    /// Bytes that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes `bytes`; `None` if no free range has so many.
    pub(super) fn take(&mut self, bytes: usize) -> Option<Range<usize>> {
        let bytes = bytes.max(1).checked_next_multiple_of(ALIGN)?;
        let (start, end) = self
            .free
            .iter()
            .map(|(start, end)| (*start, *end))
            .find(|(start, end)| end - start >= bytes)?;
        self.free.remove(&start);
        if start + bytes < end {
            self.free.insert(start + bytes, end);
        }
        self.touched = self.touched.max(start + bytes);
        self.taken += bytes;
        Some(start..start + bytes)
    }

    /// Gives back a range that `take` gave.
    pub(super) fn give_back(&mut self, place: Range<usize>) {
        let (mut start, mut end) = (place.start, place.end);
        self.taken -= place.len();
        if let Some((before, until)) = self.free.range(..start).next_back().map(|(a, b)| (*a, *b)) {
            debug_assert!(until <= start, "a place was given back twice");
            if until == start {
                self.free.remove(&before);
                start = before;
            }
        }
        if let Some(until) = self.free.remove(&end) {
            end = until;
        }
        self.free.insert(start, end);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Take(usize),
        GiveBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3000usize).prop_map(Step::Take),
            (0..64usize).prop_map(Step::GiveBack)
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn places_never_overlap_and_all_come_back_as_one(steps in steps()) {
            let mut places = Places::new(16 * 1024 + 17);
            let mut taken: Vec<Range<usize>> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(bytes) => match places.take(bytes) {
                        Some(place) => {
                            prop_assert!(place.len() >= bytes && place.end <= places.size() && place.start % ALIGN == 0);
                            prop_assert!(taken.iter().all(|other| other.end <= place.start || place.end <= other.start));
                            taken.push(place);
                        }
                        None => {
                            let used: usize = taken.iter().map(Range::len).sum();
                            // It may be in pieces, but an empty arena takes everything that it has room for.
                            prop_assert!(used > 0 || bytes > places.size());
                        }
                    },
                    Step::GiveBack(which) => {
                        if !taken.is_empty() {
                            let place = taken.swap_remove(which % taken.len());
                            places.give_back(place);
                        }
                    }
                }
                prop_assert_eq!(places.is_all_free(), taken.is_empty());
            }
            for place in taken {
                places.give_back(place);
            }
            prop_assert!(places.is_all_free());
            prop_assert_eq!(places.free.len(), 1);
        }
    }

    #[test]
    fn the_bottom_is_used_again_first() {
        let mut places = Places::new(1 << 20);
        let first = places.take(1000).unwrap();
        let second = places.take(1000).unwrap();
        places.give_back(first.clone());
        assert_eq!(places.take(900).unwrap().start, first.start);
        assert_eq!(places.touched(), second.end);
        assert!(places.take(2 << 20).is_none());
    }
}
