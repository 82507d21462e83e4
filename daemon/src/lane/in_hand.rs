//! What was handed to a lane and not given back, in order, and the rules that what the lane says of it must keep. Pure.

use std::collections::{HashMap, VecDeque};

use devour_abi::Progress;

/// Calls and lifecycle steps, oldest first: a lane does one after the other.
#[derive(Debug, Default)]
pub(super) struct InHand {
    work: VecDeque<Work>,
    /// How many of them are calls.
    calls: usize,
    /// Calls that came back with messages that were taken beyond them.
    open: HashMap<u64, Reports>,
    /// What is known to be done at least.
    known: Progress,
}

#[derive(Debug)]
enum Work {
    Call { number: u64, reports: Reports },
    Step,
}

/// What was said of the messages of a call.
#[derive(Debug, Default)]
struct Reports {
    count: u32,
    /// Reported failed, not begun or completed.
    settled: Marks,
    /// Taken beyond the call.
    taken: Marks,
    /// Taken and not settled, once the call has returned.
    open: u32,
}

/// A bit for each message.
#[derive(Debug, Default)]
struct Marks(Vec<u64>);

/// The work that a lane is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtWork {
    /// Nothing.
    Idle,
    /// This call.
    Call(u64),
    /// A step of the lifecycle.
    Step,
}

// === impl InHand ===

impl InHand {
    pub(super) fn push_call(&mut self, number: u64, count: u32) {
        let reports = Reports {
            count,
            ..Reports::default()
        };
        self.work.push_back(Work::Call { number, reports });
        self.calls += 1;
    }

    pub(super) fn push_step(&mut self) {
        self.work.push_back(Work::Step);
    }

    /// Calls that have not returned.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether messages were taken beyond their call and not settled.
    pub(super) fn is_open(&self, call: u64, index: u32) -> bool {
        let reports = match (self.open.get(&call), self.work.front()) {
            (Some(reports), _) => reports,
            (None, Some(Work::Call { number, reports })) if *number == call => reports,
            _ => return false,
        };
        reports.taken.has(index) && !reports.settled.has(index)
    }

    pub(super) fn at_work(&self) -> AtWork {
        match self.work.front() {
            None => AtWork::Idle,
            Some(Work::Call { number, .. }) => AtWork::Call(*number),
            Some(Work::Step) => AtWork::Step,
        }
    }

    /// A message failed.
    pub(super) fn failed(&mut self, call: u64, index: u32) -> Result<(), String> {
        self.settle_one(call, index, "a failure")
    }

    /// A message that was taken is done.
    pub(super) fn completed(&mut self, call: u64, index: u32) -> Result<(), String> {
        self.settle_one(call, index, "a completed message")
    }

    /// Messages were passed over.
    pub(super) fn not_begun(&mut self, call: u64, first: u32, many: u32) -> Result<(), String> {
        let reports = self.at_work_on(call, "messages not begun")?;
        reports.mark(call, first, many, "messages not begun", |reports| {
            &mut reports.settled
        })
    }

    /// Messages were taken beyond the call.
    pub(super) fn taken(&mut self, call: u64, first: u32, many: u32) -> Result<(), String> {
        let reports = self.at_work_on(call, "messages taken")?;
        reports.mark(call, first, many, "messages taken", |reports| &mut reports.taken)
    }

    /// A call is over.
    pub(super) fn returned(&mut self, call: u64, finished: u32) -> Result<(), String> {
        match self.work.front_mut() {
            Some(Work::Call { number, reports }) if *number == call => {
                if finished > reports.count {
                    let count = reports.count;
                    return Err(format!(
                        "it finished {finished} messages of call {call}, which has {count}"
                    ));
                }
                let mut reports = std::mem::take(reports);
                reports.open = reports.taken.without(&reports.settled);
                if reports.open > 0 {
                    self.open.insert(call, reports);
                }
                self.known = Progress {
                    call,
                    index: finished,
                };
                self.work.pop_front();
                self.calls -= 1;
                Ok(())
            }
            _ => Err(format!("the end of call {call}, which it is not at")),
        }
    }

    /// Messages that were taken beyond their call and are not settled; all that is not settled of a call that never came
    /// back, of which nobody said what was taken.
    pub(super) fn held_beyond(&self) -> Vec<(u64, u32)> {
        let mut held = Vec::new();
        for (call, reports) in &self.open {
            let open = |index: &u32| reports.taken.has(*index) && !reports.settled.has(*index);
            held.extend((0..reports.count).filter(open).map(|index| (*call, index)));
        }
        if let Some(Work::Call { number, reports }) = self.work.front() {
            let open = |index: &u32| !reports.settled.has(*index);
            held.extend((0..reports.count).filter(open).map(|index| (*number, index)));
        }
        held
    }

    /// A step is over.
    pub(super) fn answered(&mut self) -> Result<(), String> {
        match self.work.front() {
            Some(Work::Step) => {
                self.work.pop_front();
                Ok(())
            }
            _ => Err("an answer that nobody asked for".into()),
        }
    }

    fn at_work_on(&mut self, call: u64, what: &str) -> Result<&mut Reports, String> {
        match self.work.front_mut() {
            Some(Work::Call { number, reports }) if *number == call => Ok(reports),
            _ => Err(format!("{what} of call {call}, which it is not at")),
        }
    }

    /// A message of the call at work, or one that was taken beyond its call.
    fn settle_one(&mut self, call: u64, index: u32, what: &str) -> Result<(), String> {
        let Some(reports) = self.open.get_mut(&call) else {
            let reports = self.at_work_on(call, what)?;
            return reports.mark(call, index, 1, what, |reports| &mut reports.settled);
        };
        if !reports.taken.has(index) {
            return Err(format!(
                "{what} at {index} of call {call}, which it has given back"
            ));
        }
        reports.mark(call, index, 1, what, |reports| &mut reports.settled)?;
        reports.open -= 1;
        if reports.open == 0 {
            self.open.remove(&call);
        }
        Ok(())
    }

    /// What is done, where the cell says `cell`: believed only where it moves forward inside the call at work.
    pub(super) fn progress(&self, cell: Progress) -> Progress {
        let Some(Work::Call { number, reports }) = self.work.front() else {
            return self.known;
        };
        let known = if self.known.call == *number {
            self.known
        } else {
            Progress {
                call: *number,
                index: 0,
            }
        };
        let moves = cell.call == *number && cell.index <= reports.count && cell.index > known.index;
        if moves { cell } else { known }
    }

    /// Remembers what [`InHand::progress`] says of `cell`: from here on it does not go back.
    pub(super) fn note(&mut self, cell: Progress) -> Progress {
        self.known = self.progress(cell);
        self.known
    }

    /// Nobody has anything in hand any more. What was done stays known.
    pub(super) fn clear(&mut self) {
        self.work.clear();
        self.open.clear();
        self.calls = 0;
    }
}

// === impl Reports ===

impl Reports {
    fn mark(
        &mut self,
        call: u64,
        first: u32,
        many: u32,
        what: &str,
        marks: impl Fn(&mut Self) -> &mut Marks,
    ) -> Result<(), String> {
        let count = self.count;
        if first.checked_add(many).is_none_or(|end| end > count) {
            return Err(format!(
                "{what} at {first} + {many} of call {call}, which has {count} messages"
            ));
        }
        for index in first..first + many {
            if !marks(self).insert(index) {
                return Err(format!(
                    "{what}: message {index} of call {call} was reported before"
                ));
            }
        }
        Ok(())
    }
}

// === impl Marks ===

impl Marks {
    fn insert(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1u64 << (index % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn has(&self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1u64 << (index % 64));
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// How many are marked here and not in `other`.
    fn without(&self, other: &Self) -> u32 {
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        self.0
            .iter()
            .zip(others)
            .map(|(here, there)| (here & !there).count_ones())
            .sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(call: u64, index: u32) -> Progress {
        Progress { call, index }
    }

    fn two_calls() -> InHand {
        let mut hand = InHand::default();
        hand.push_call(1, 10);
        hand.push_step();
        hand.push_call(2, 5);
        hand
    }

    #[test]
    fn the_cell_is_believed_only_where_it_moves_forward_in_the_call_at_work() {
        let mut hand = two_calls();
        assert_eq!(hand.note(at(0, 0)), at(1, 0));
        assert_eq!(hand.note(at(1, 4)), at(1, 4));
        assert_eq!(hand.note(at(1, 3)), at(1, 4));
        assert_eq!(hand.note(at(1, 11)), at(1, 4));
        assert_eq!(hand.note(at(2, 3)), at(1, 4));
        assert_eq!(hand.note(at(9, 3)), at(1, 4));
        hand.returned(1, 7).unwrap();
        assert_eq!(hand.note(at(1, 10)), at(1, 7));
        assert_eq!(hand.at_work(), AtWork::Step);
        hand.answered().unwrap();
        assert_eq!(hand.note(at(1, 10)), at(2, 0));
        assert_eq!(hand.note(at(2, 5)), at(2, 5));
    }

    #[test]
    fn what_was_not_handed_out_cannot_be_given_back() {
        let mut hand = two_calls();
        assert!(hand.returned(2, 5).is_err());
        assert!(hand.answered().is_err());
        assert!(hand.returned(1, 11).is_err());
        assert!(hand.failed(2, 0).is_err());
        assert!(hand.failed(1, 10).is_err());
        assert!(hand.not_begun(1, 9, 2).is_err());
        assert!(hand.not_begun(1, u32::MAX, 2).is_err());
        hand.failed(1, 3).unwrap();
        assert!(hand.failed(1, 3).is_err());
        assert!(hand.not_begun(1, 2, 3).is_err());
        hand.not_begun(1, 4, 6).unwrap();
        hand.returned(1, 10).unwrap();
        assert!(hand.returned(1, 10).is_err());
        assert_eq!(hand.calls(), 1);
    }

    #[test]
    fn a_message_that_was_taken_is_settled_once_before_or_after_its_call_came_back() {
        let mut hand = two_calls();
        // Another thread may complete it before the lane has said that it was taken.
        hand.completed(1, 2).unwrap();
        hand.taken(1, 1, 3).unwrap();
        assert!(hand.taken(1, 3, 1).is_err());
        assert!(hand.completed(1, 2).is_err());
        hand.returned(1, 10).unwrap();
        assert!(hand.completed(1, 5).is_err(), "it was not taken");
        assert!(hand.is_open(1, 1) && !hand.is_open(1, 2) && !hand.is_open(1, 5));
        hand.answered().unwrap();
        hand.failed(2, 0).unwrap();
        let mut held = hand.held_beyond();
        held.sort_unstable();
        assert_eq!(held, [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (2, 4)]);
        hand.completed(1, 1).unwrap();
        hand.failed(1, 3).unwrap();
        assert!(hand.failed(1, 3).is_err());
        assert!(hand.open.is_empty());
    }
}
