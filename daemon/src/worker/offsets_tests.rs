//! The tracker against a model that remembers every offset: nothing is passed that is not finished, and what is
//! finished stays so across assignments.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::worker::completed::{Unreadable, decode, encode};

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
    tracker.advance_to(30);
    assert_eq!(tracker.position(), Some(10), "something is in hand");
    tracker.finish(9);
    assert_eq!(tracker.frontier(), Some(10));
    tracker.advance_to(12);
    tracker.advance_to(11);
    assert_eq!(tracker.frontier(), Some(12), "it moves on, and never back");
    let mut unknown = Tracker::new(None);
    assert_eq!(unknown.frontier(), None);
    unknown.advance_to(0);
    assert_eq!(unknown.frontier(), Some(0));
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
    assert_eq!(tracker.begin(8), Seen::First);
}

#[test]
fn what_was_finished_before_is_passed_over() {
    let mut tracker = Tracker::resume(100, &[101..103, 110..120].into_iter().collect());
    assert_eq!(tracker.frontier(), Some(100));
    let seen: Vec<Seen> = (100..105).map(|offset| tracker.begin(offset)).collect();
    use Seen::{Finished, First};
    assert_eq!(seen, [First, Finished, Finished, First, First]);
    assert_eq!(
        tracker.completed().runs(),
        [101..103, 110..120],
        "what is not read yet is carried on"
    );
    tracker.finish(100);
    assert_eq!(tracker.frontier(), Some(103));
    tracker.finish(103);
    tracker.finish(104);
    assert_eq!(
        tracker.begin(115),
        Seen::Finished,
        "the log has a gap in front of it"
    );
    assert_eq!(
        tracker.frontier(),
        Some(120),
        "the rest need not be read to be passed"
    );
    assert_eq!(tracker.completed(), Completed::default());
    assert_eq!((tracker.begin(119), tracker.begin(120)), (Finished, First));
    let mut empty = Tracker::resume(100, &[101..103, 110..120].into_iter().collect());
    empty.advance_to(115);
    assert_eq!(empty.frontier(), Some(120), "no message was left in front of it");
}

#[test]
fn in_order_there_is_nothing_to_carry() {
    let mut tracker = Tracker::new(Some(0));
    for offset in (0..1000).step_by(3) {
        assert_eq!(tracker.begin(offset), Seen::First);
    }
    for offset in (0..300).step_by(3) {
        tracker.finish(offset);
    }
    assert!(tracker.completed().is_empty(), "gaps alone are not worth a word");
}

#[test]
fn one_message_that_stays_unfinished_keeps_no_place_for_what_follows() {
    let mut tracker = Tracker::new(Some(0));
    for offset in 0..1_000_000 {
        assert_eq!(tracker.begin(offset), Seen::First);
        if offset % 250_000 != 0 {
            tracker.finish(offset);
        }
        assert!(!tracker.crowded());
    }
    assert!(
        tracker.window.capacity() < 1000,
        "{} places",
        tracker.window.capacity()
    );
    let runs: Vec<Range<i64>> = (0..4).map(|at| at * 250_000 + 1..(at + 1) * 250_000).collect();
    assert_eq!(tracker.completed().runs(), runs);
    for offset in [500_000, 750_000, 0, 250_000] {
        tracker.finish(offset);
    }
    assert_eq!(tracker.frontier(), Some(1_000_000));
}

#[test]
fn a_ragged_set_is_crowded_until_it_is_even_again() {
    let mut tracker = Tracker::new(Some(0));
    let mut offset = 0;
    while !tracker.crowded() {
        assert_eq!(tracker.begin(offset), Seen::First);
        if offset % 2 == 1 {
            tracker.finish(offset);
        }
        offset += 1;
    }
    assert!(
        (completed::NEVER_CROWDED..completed::NEVER_CROWDED + 1300).contains(&offset),
        "crowded at {offset}"
    );
    let (text, fits) = encode(0, &tracker.completed());
    assert!(fits, "there is room for what is in hand: {}", text.len());
    // One of sixteen stays: the frontier is where it was, and there is room again.
    for offset in (0..offset).filter(|offset| offset % 16 != 0) {
        tracker.finish(offset);
    }
    assert!(!tracker.crowded());
    assert_eq!(tracker.frontier(), Some(0));
}

/// What a route may meet. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    Finish(usize),
    /// An outcome of a message that is not in hand.
    Late(i64),
    /// Control records, or what compaction took, were passed up to the next message.
    Passed,
    Commit,
    Reassign(Beside),
}

/// What the next owner finds beside the committed offset.
#[derive(Clone, Copy, Debug)]
enum Beside {
    What,
    Nothing,
    Foreign,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Read),
        10 => any::<usize>().prop_map(Step::Finish),
        1 => (-5_i64..900).prop_map(Step::Late),
        2 => Just(Step::Passed),
        2 => Just(Step::Commit),
        1 => prop_oneof![3 => Just(Beside::What), 1 => Just(Beside::Nothing), 1 => Just(Beside::Foreign)]
            .prop_map(Step::Reassign),
    ];
    proptest::collection::vec(step, 1..250)
}

/// A log with gaps, its group, and every message's fate.
struct Model {
    /// The offsets that hold a message.
    log: Vec<i64>,
    /// Index in `log` of what is read next.
    next: usize,
    position: i64,
    in_hand: BTreeSet<i64>,
    /// Finished, by anybody.
    done: BTreeSet<i64>,
    /// Finished, as far as this owner knows.
    known: BTreeSet<i64>,
    /// What this owner was told is finished.
    told: Completed,
    committed: (i64, String),
    tracker: Tracker,
}

impl Model {
    fn new(gaps: &[i64]) -> Self {
        let mut at = -1;
        let log = gaps.iter().map(|gap| {
            at += gap;
            at
        });
        Self {
            log: log.collect(),
            next: 0,
            position: 0,
            in_hand: BTreeSet::new(),
            done: BTreeSet::new(),
            known: BTreeSet::new(),
            told: Completed::default(),
            committed: (0, String::new()),
            tracker: Tracker::new(Some(0)),
        }
    }

    fn was_told(&self, offset: i64) -> bool {
        self.told.runs().iter().any(|run| run.contains(&offset))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Read => {
                let Some(offset) = self.log.get(self.next).copied() else {
                    return;
                };
                self.next += 1;
                self.position = offset + 1;
                let expected = if self.was_told(offset) {
                    assert!(self.done.contains(&offset), "{offset} is passed and not finished");
                    self.known.insert(offset);
                    Seen::Finished
                } else {
                    self.in_hand.insert(offset);
                    Seen::First
                };
                assert_eq!(self.tracker.begin(offset), expected, "{offset}");
            }
            Step::Finish(pick) => {
                let count = self.in_hand.len().max(1);
                let Some(offset) = self.in_hand.iter().nth(pick % count).copied() else {
                    return;
                };
                self.in_hand.remove(&offset);
                self.done.insert(offset);
                self.known.insert(offset);
                self.tracker.finish(offset);
            }
            Step::Late(offset) if self.in_hand.contains(&offset) => {}
            Step::Late(offset) => {
                let before = (self.tracker.frontier(), self.tracker.completed());
                self.tracker.finish(offset);
                assert_eq!((self.tracker.frontier(), self.tracker.completed()), before);
            }
            Step::Passed => {
                let next = self
                    .log
                    .get(self.next)
                    .map_or(self.position + 3, |offset| *offset);
                if self.in_hand.is_empty() {
                    self.position = self.position.max(next);
                }
                self.tracker.advance_to(next);
            }
            Step::Commit => {
                let frontier = self.tracker.frontier().unwrap();
                let (text, fits) = encode(frontier, &self.tracker.completed());
                assert!(fits);
                self.committed = (frontier, text);
            }
            Step::Reassign(beside) => self.reassign(beside),
        }
    }

    fn reassign(&mut self, beside: Beside) {
        let (frontier, text) = &self.committed;
        let told = match beside {
            Beside::What => decode(*frontier, text.as_bytes()),
            Beside::Nothing => decode(*frontier, b""),
            Beside::Foreign => decode(*frontier, b"{\"app\":\"another\"}"),
        };
        assert_eq!(told.is_err(), matches!(beside, Beside::Foreign));
        assert!(!matches!(told, Err(Unreadable::Damaged)));
        self.told = told.unwrap_or_default();
        self.tracker = Tracker::resume(*frontier, &self.told);
        self.position = *frontier;
        self.next = self.log.partition_point(|offset| offset < frontier);
        self.in_hand.clear();
        self.known.clear();
        let known = self.done.iter().filter(|offset| self.was_told(**offset));
        self.known = known.copied().collect();
        if matches!(beside, Beside::What) {
            // Read again is what is not finished, and what was finished after the commit.
            let (completed, told) = (self.tracker.completed(), &self.told);
            assert_eq!(&completed, told);
            assert_eq!(
                encode(*frontier, &completed).0,
                *text,
                "it is carried on as it is"
            );
        }
    }

    fn check(&mut self) {
        let mut expected = self.position;
        while self.in_hand.is_empty() && self.was_told(expected) {
            expected += 1;
        }
        let expected = self.in_hand.first().copied().unwrap_or(expected);
        assert_eq!(self.tracker.frontier(), Some(expected));
        assert_eq!(self.tracker.unfinished(), self.in_hand.len());
        let below = self.log.iter().take_while(|offset| **offset < expected);
        for offset in below {
            assert!(
                self.done.contains(offset),
                "{offset} is below {expected} and not finished"
            );
        }
        let completed = self.tracker.completed();
        let holds = |offset: i64| completed.runs().iter().any(|run| run.contains(&offset));
        for offset in self.log.iter().filter(|offset| **offset >= expected) {
            assert_eq!(holds(*offset), self.known.contains(offset), "{offset}");
        }
        assert!(!self.tracker.crowded());
    }
}

proptest! {
    #[test]
    fn nothing_is_passed_that_is_not_finished(
        gaps in proptest::collection::vec(prop_oneof![6 => Just(1_i64), 1 => 2_i64..6], 1..150),
        steps in steps(),
    ) {
        let mut model = Model::new(&gaps);
        for step in steps {
            model.take(step);
            model.check();
        }
        // Whatever happened, the rest is digested, and the end is reached.
        while model.next < model.log.len() {
            model.take(Step::Read);
        }
        while !model.in_hand.is_empty() {
            model.take(Step::Finish(0));
        }
        model.check();
        prop_assert_eq!(model.done.len(), model.log.len());
    }
}
