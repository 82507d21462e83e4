//! Which offsets of a partition are finished, and what may be committed. Pure: no Kafka, no clock.
//!
//! The rules:
//! - The *frontier* is the lowest unfinished offset. With nothing in hand it is the *position*: the offset after the
//!   last message that was read. Only the frontier is ever committed, so whatever is below it is finished.
//! - Offsets have gaps (compaction, transaction markers): nothing here counts, it only compares.
//! - What is finished above the frontier travels beside it ([`Tracker::completed`]), and whoever gets the partition next
//!   passes over it ([`Tracker::resume`]). A gap between offsets is as finished as is shortest to say.
//! - Offsets only grow. Where one comes that does not, the log is another one than before (cut, or its topic made
//!   again): [`Tracker::begin`] says so and the partition gets a new tracker.

use std::{collections::VecDeque, ops::Range};

use super::completed::{self, Completed};

/// The offsets of one partition, from its assignment to its revocation.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// The offset after the last one begun; `None` until the partition's first offset is known.
    position: Option<i64>,
    /// Begun and not yet passed by the frontier, ascending; of the finished ones only those since it last grew. The
    /// first is unfinished.
    window: VecDeque<Begun>,
    /// Unfinished offsets in `window`.
    unfinished: usize,
    /// A finished offset lies between the last of `window` and the position.
    ends_finished: bool,
    /// Finished in an earlier assignment and not below the position, ascending.
    ahead: VecDeque<Range<i64>>,
    /// What [`Tracker::crowded`] found last.
    measured: Option<Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    offset: i64,
    finished: bool,
    /// A finished offset lies between the one before it and this one.
    after_finished: bool,
}

/// A size of the completed set, and what it was the size of.
#[derive(Clone, Copy, Debug)]
struct Measured {
    frontier: i64,
    position: i64,
    unfinished: usize,
    crowded: bool,
}

/// What [`Tracker::begin`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Seen {
    /// New: digest it.
    First,
    /// It was finished in an earlier assignment: pass over it.
    Finished,
    /// It lies below the position: the log was cut or made again, or somebody sought back.
    Before,
}

/// The completed set is measured again when this much has changed, or a sixteenth of what the window holds if that is
/// more: measuring looks at all of it.
const MEASURE_EVERY: usize = 256;

// === impl Tracker ===

impl Tracker {
    /// A partition that is read from `position` on (`None`: wherever its first message stands).
    #[must_use]
    pub fn new(position: Option<i64>) -> Self {
        Self {
            position,
            window: VecDeque::new(),
            unfinished: 0,
            ends_finished: false,
            ahead: VecDeque::new(),
            measured: None,
        }
    }

    /// A partition that is read from `position` on, and of which somebody has finished `completed` already.
    #[must_use]
    pub fn resume(position: i64, completed: &Completed) -> Self {
        let mut tracker = Self::new(Some(position));
        tracker.ahead.extend(completed.runs().iter().cloned());
        tracker.forget_below(position);
        tracker
    }

    /// A message was read.
    #[inline]
    pub fn begin(&mut self, offset: i64) -> Seen {
        if self.position.is_some_and(|position| offset < position) {
            return Seen::Before;
        }
        self.position = Some(offset + 1);
        if !self.ahead.is_empty() && self.was_finished(offset) {
            return Seen::Finished;
        }
        if self.window.len() == self.window.capacity() {
            self.forget_finished();
        }
        self.window.push_back(Begun {
            offset,
            finished: false,
            after_finished: std::mem::take(&mut self.ends_finished),
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
            Some(front) => {
                let first = front.offset;
                if let Some(begun) = self.find(first, offset)
                    && !begun.finished
                {
                    begun.finished = true;
                    self.unfinished -= 1;
                }
            }
            None => {}
        }
    }

    /// The begun message at `offset`, where the window begins with `first`.
    #[inline]
    fn find(&mut self, first: i64, offset: i64) -> Option<&mut Begun> {
        // Where offsets have no gaps, as they mostly have none, its place is known: a search of a window of thousands
        // waits for memory at each of its steps.
        let place = usize::try_from(offset.checked_sub(first)?).ok()?;
        let found = self.window.get(place).is_some_and(|begun| begun.offset == offset);
        let place = if found {
            place
        } else {
            self.window
                .binary_search_by_key(&offset, |begun| begun.offset)
                .ok()?
        };
        self.window.get_mut(place)
    }

    /// Nothing below `position` is left to be read: control records, or what compaction took. Moves nothing while
    /// something is in hand, and never back.
    pub fn advance_to(&mut self, position: i64) {
        if self.unfinished == 0 && self.position.is_none_or(|at| at < position) {
            self.position = Some(position);
            self.forget_below(position);
        }
    }

    /// The lowest unfinished offset, or the position; `None` while nothing is known.
    #[must_use]
    pub fn frontier(&self) -> Option<i64> {
        match (self.window.front(), self.ahead.front()) {
            (Some(begun), _) => Some(begun.offset),
            (None, Some(run)) if run.contains(&self.position?) => Some(run.end),
            (None, _) => self.position,
        }
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

    /// What is finished above the frontier: what goes with it into a commit.
    #[must_use]
    pub fn completed(&self) -> Completed {
        let mut completed = Completed::default();
        let (Some(frontier), Some(position)) = (self.frontier(), self.position) else {
            return completed;
        };
        let mut last = None;
        let mut finished = false;
        for begun in &self.window {
            if begun.finished {
                finished = true;
                continue;
            }
            if let Some(last) = last
                && (finished || begun.after_finished)
            {
                completed.push(last + 1..begun.offset);
            }
            (last, finished) = (Some(begun.offset), false);
        }
        if let Some(last) = last
            && (finished || self.ends_finished)
        {
            completed.push(last + 1..position);
        }
        let from = frontier.max(position);
        for run in &self.ahead {
            completed.push(run.start.max(from)..run.end);
        }
        completed
    }

    /// Whether the completed set takes three quarters of the room that a commit has for it: new work is to wait, what
    /// is in hand goes on. Cheap while the set does not reach far, and else most of the time.
    pub fn crowded(&mut self) -> bool {
        let (Some(frontier), Some(position)) = (self.frontier(), self.position) else {
            return false;
        };
        let end = self.ahead.back().map_or(position, |run| run.end.max(position));
        if end - frontier < completed::NEVER_CROWDED {
            return false;
        }
        if let Some(measured) = self.measured.filter(|last| self.still_holds(last, frontier)) {
            return measured.crowded;
        }
        let crowded = completed::size(frontier, &self.completed()) > completed::CROWDED;
        self.measured = Some(Measured {
            frontier,
            position,
            unfinished: self.unfinished,
            crowded,
        });
        crowded
    }

    /// A set that is not crowded grows slowly; one that is is to be let go at once.
    fn still_holds(&self, last: &Measured, frontier: i64) -> bool {
        let read = self
            .position
            .map_or(0, |position| position.abs_diff(last.position));
        let changed = read as usize + self.unfinished.abs_diff(last.unfinished);
        if last.crowded {
            changed == 0 && frontier == last.frontier
        } else {
            changed < MEASURE_EVERY.max(self.window.len() / 16)
        }
    }

    /// Whether `offset`, the last one read, was finished before this assignment.
    fn was_finished(&mut self, offset: i64) -> bool {
        self.forget_below(offset);
        let finished = self.ahead.front().is_some_and(|run| run.start <= offset);
        self.ends_finished |= finished;
        finished
    }

    fn forget_below(&mut self, offset: i64) {
        while self.ahead.front().is_some_and(|run| run.end <= offset) {
            self.ahead.pop_front();
        }
    }

    /// The window is full. If half of it is finished it is made shorter, not greater: one message that stays
    /// unfinished would else keep a place for each that is finished behind it.
    #[cold]
    fn forget_finished(&mut self) {
        if self.unfinished * 2 > self.window.len() {
            return;
        }
        let mut passed = false;
        self.window.retain_mut(|begun| {
            if begun.finished {
                passed = true;
            } else {
                begun.after_finished |= std::mem::take(&mut passed);
            }
            !begun.finished
        });
        self.ends_finished |= passed;
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
