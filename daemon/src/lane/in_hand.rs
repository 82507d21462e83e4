//! What was handed to a lane and not given back, in order, and the rules that what the lane says of it must keep. Pure.

use std::collections::VecDeque;

use devour_abi::Progress;

/// Calls and lifecycle steps, oldest first: a lane does one after the other.
#[derive(Debug, Default)]
pub(super) struct InHand {
    work: VecDeque<Work>,
    /// What is known to be done at least.
    known: Progress,
}

#[derive(Debug)]
enum Work {
    Call {
        number: u64,
        count: u32,
        excepted: Excepted,
    },
    Step,
}

/// Messages that were reported failed or not begun, a bit each.
#[derive(Debug, Default)]
struct Excepted(Vec<u64>);

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
        self.work.push_back(Work::Call {
            number,
            count,
            excepted: Excepted::default(),
        });
    }

    pub(super) fn push_step(&mut self) {
        self.work.push_back(Work::Step);
    }

    pub(super) fn calls(&self) -> usize {
        self.work
            .iter()
            .filter(|work| matches!(work, Work::Call { .. }))
            .count()
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
        self.except(call, index, 1, "a failure")
    }

    /// Messages were passed over.
    pub(super) fn not_begun(&mut self, call: u64, first: u32, count: u32) -> Result<(), String> {
        self.except(call, first, count, "messages not begun")
    }

    /// A call is over.
    pub(super) fn returned(&mut self, call: u64, finished: u32) -> Result<(), String> {
        match self.work.front() {
            Some(Work::Call { number, count, .. }) if *number == call => {
                if finished > *count {
                    return Err(format!(
                        "it finished {finished} messages of call {call}, which has {count}"
                    ));
                }
                self.known = Progress {
                    call,
                    index: finished,
                };
                self.work.pop_front();
                Ok(())
            }
            _ => Err(format!("the end of call {call}, which it is not at")),
        }
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

    fn except(&mut self, call: u64, first: u32, many: u32, what: &str) -> Result<(), String> {
        match self.work.front_mut() {
            Some(Work::Call {
                number,
                count,
                excepted,
            }) if *number == call => {
                if first.checked_add(many).is_none_or(|end| end > *count) {
                    return Err(format!(
                        "{what} at {first} + {many} of call {call}, which has {count} messages"
                    ));
                }
                for index in first..first + many {
                    if !excepted.insert(index) {
                        return Err(format!(
                            "{what}: message {index} of call {call} was reported before"
                        ));
                    }
                }
                Ok(())
            }
            _ => Err(format!("{what} of call {call}, which it is not at")),
        }
    }

    /// What is done, where the cell says `cell`: believed only where it moves forward inside the call at work.
    pub(super) fn progress(&self, cell: Progress) -> Progress {
        let Some(Work::Call { number, count, .. }) = self.work.front() else {
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
        let moves = cell.call == *number && cell.index <= *count && cell.index > known.index;
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
    }
}

// === impl Excepted ===

impl Excepted {
    fn insert(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1u64 << (index % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
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
}
