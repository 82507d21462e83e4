//! The letters of a route against a broker that takes them or does not, without Kafka and without waiting.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Takes what it is told to take, and remembers it.
#[derive(Default)]
struct Broker {
    /// Refuses what is handed over.
    full: bool,
    /// Answers to what is on its way: an error, or none.
    refuses: Option<ErrorCode>,
    /// Says nothing for now.
    silent: bool,
    on_their_way: Vec<LetterId>,
    written: Vec<(i32, i64)>,
    posted: usize,
    letters: BTreeMap<LetterId, (i32, i64)>,
}

impl Post for Broker {
    fn post(&mut self, id: LetterId, letter: &Letter) -> Result<(), PostError> {
        self.posted += 1;
        if self.full {
            return Err(error(ErrorCode::QUEUE_FULL));
        }
        self.on_their_way.push(id);
        self.letters.insert(id, (letter.partition, letter.record.offset));
        Ok(())
    }

    fn outcomes(&mut self) -> Vec<(LetterId, Result<(), PostError>)> {
        if self.silent {
            return Vec::new();
        }
        let ids = std::mem::take(&mut self.on_their_way);
        let outcome = |id: LetterId| match self.refuses {
            Some(code) => (id, Err(error(code))),
            None => {
                self.written.push(self.letters[&id]);
                (id, Ok(()))
            }
        };
        ids.into_iter().map(outcome).collect()
    }
}

fn error(code: ErrorCode) -> PostError {
    PostError {
        text: code.text(),
        code: Some(code),
    }
}

/// The letter of this offset of partition `slot`.
fn letter(slot: u32, offset: i64) -> Letter {
    Letter {
        topic: "orders".into(),
        partition: i32::try_from(slot).unwrap(),
        record: Record {
            slot: Slot(slot),
            tag: u64::from(slot),
            attempt: 3,
            offset,
            leader_epoch: -1,
            timestamp_ms: 5,
            timestamp_type: 0,
            key: None,
            payload: Some(vec![0; 100].into()),
            unshaped: false,
            headers: Vec::new(),
        },
        attempts: 3,
        first_failure_ms: 1,
        last_failure_ms: 2,
        kind: "reject",
        error: "no".to_owned(),
    }
}

fn letters() -> (DeadLetters<Broker>, Instant) {
    (DeadLetters::new(Broker::default()), Instant::now())
}

#[test]
fn a_message_is_finished_when_its_letter_is_acknowledged_and_not_before() {
    let (mut letters, now) = letters();
    letters.post.silent = true;
    letters.send(letter(1, 7));
    assert_eq!(letters.next_due(now), Some(now));
    assert_eq!(letters.serve(now).written, []);
    assert_eq!(letters.next_due(now), None, "its outcome wakes by itself");
    assert!(letters.are_on_their_way(&[Slot(1)]) && !letters.are_on_their_way(&[Slot(2)]));
    assert_eq!(letters.serve(now).written, []);
    letters.post.silent = false;
    let written = Written {
        slot: Slot(1),
        tag: 1,
        offset: 7,
    };
    assert_eq!(letters.serve(now).written, [written]);
    assert_eq!((letters.in_hand(), letters.bytes()), (0, 0));
    assert_eq!(letters.post.posted, 1);
}

#[test]
fn what_is_refused_is_tried_again_with_growing_waits_and_never_dropped() {
    let (mut letters, mut now) = letters();
    letters.post.refuses = Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    letters.send(letter(1, 7));
    letters.serve(now);
    let mut waits = Vec::new();
    for _ in 0..20 {
        assert!(letters.serve(now).written.is_empty());
        let due = letters.next_due(now).unwrap();
        waits.push(due - now);
        assert!(
            !letters.are_on_their_way(&[Slot(1)]),
            "nobody waits for it at a stop"
        );
        let before = letters.post.posted;
        letters.serve(due - Duration::from_millis(1));
        assert_eq!(letters.post.posted, before, "nothing spins");
        now = due;
        letters.serve(now);
    }
    for (n, wait) in waits.iter().enumerate() {
        let ceiling = POLICY.initial.saturating_mul(1 << n.min(16)).min(POLICY.max);
        assert!((ceiling / 2..=ceiling).contains(wait), "wait {n} is {wait:?}");
    }
    letters.post.refuses = None;
    assert_eq!(letters.serve(now).written.len(), 1);
}

#[test]
fn what_cannot_be_handed_over_waits_likewise() {
    let (mut letters, now) = letters();
    letters.post.full = true;
    letters.send(letter(1, 7));
    assert!(matches!(letters.serve(now).notice, Some(Notice::Failing { .. })));
    let due = letters.next_due(now).unwrap();
    assert!(due > now);
    letters.post.full = false;
    letters.serve(due);
    assert_eq!(letters.serve(due).written.len(), 1);
}

#[test]
fn the_first_failure_is_said_and_then_one_a_minute() {
    let (mut letters, start) = letters();
    letters.post.refuses = Some(ErrorCode::UNKNOWN_TOPIC);
    letters.send(letter(1, 7));
    letters.send(letter(2, 9));
    let mut said = Vec::new();
    let mut now = start;
    while now < start + Duration::from_secs(150) {
        said.extend(letters.serve(now).notice.map(|notice| (now, notice)));
        now = letters.next_due(now).map_or(now, |due| due.max(now)) + Duration::from_millis(1);
    }
    assert_eq!(said.len(), 3, "{said:?}");
    let Notice::Failing { error, waiting, .. } = &said[0].1 else {
        panic!("{said:?}")
    };
    assert!(error.advice().starts_with("create the topic") && *waiting == 2);
    assert!(said.windows(2).all(|two| two[1].0 - two[0].0 >= QUIET));
    letters.post.refuses = None;
    let mut last = None;
    while letters.in_hand() > 0 {
        last = letters.serve(now).notice;
        now += Duration::from_secs(1);
    }
    assert_eq!(last, Some(Notice::Working));
}

#[test]
fn a_forgotten_letter_is_nobodys_whatever_becomes_of_it() {
    let (mut letters, now) = letters();
    letters.send(letter(1, 7));
    letters.send(letter(2, 8));
    letters.serve(now);
    letters.forget(Slot(1));
    assert_eq!(letters.in_hand(), 1);
    let served = letters.serve(now);
    assert_eq!(
        served.written,
        [Written {
            slot: Slot(2),
            tag: 2,
            offset: 8
        }]
    );
    letters.post.refuses = Some(ErrorCode::UNKNOWN_TOPIC);
    letters.send(letter(3, 1));
    letters.serve(now);
    letters.serve(now);
    assert!(letters.next_due(now).is_some());
    assert!(!letters.forget_one(Slot(3), 2) && letters.forget_one(Slot(3), 1));
    assert_eq!((letters.next_due(now), letters.bytes()), (None, 0));
}

proptest! {
    /// Whatever a broker does meanwhile, each letter that is not forgotten is written in the end, and is told of as
    /// written once, after it was.
    #[test]
    fn every_letter_is_written_in_the_end(
        steps in proptest::collection::vec((0_u8..8, 0_u32..4), 1..200),
    ) {
        let (mut letters, mut now) = letters();
        let (mut offset, mut told) = (0, Vec::new());
        let mut wanted: Vec<(i32, i64)> = Vec::new();
        for (what, slot) in steps {
            match what {
                0..=2 => {
                    offset += 1;
                    letters.send(letter(slot, offset));
                    wanted.push((i32::try_from(slot).unwrap(), offset));
                }
                3 => {
                    letters.forget(Slot(slot));
                    let slot = i32::try_from(slot).unwrap();
                    wanted.retain(|place| place.0 != slot || told.contains(place));
                }
                4 => letters.post.refuses = Some(ErrorCode::UNKNOWN_TOPIC),
                5 => letters.post.silent = !letters.post.silent,
                6 => letters.post.full = !letters.post.full,
                _ => letters.post.refuses = None,
            }
            now += Duration::from_millis(700);
            told.extend(letters.serve(now).written.iter().map(place));
            prop_assert!(told.iter().all(|place| letters.post.written.contains(place)));
            prop_assert_eq!(letters.in_hand(), wanted.len() - told.len());
        }
        (letters.post.refuses, letters.post.silent, letters.post.full) = (None, false, false);
        for _ in 0..10 {
            now += POLICY.max;
            told.extend(letters.serve(now).written.iter().map(place));
        }
        told.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(told, wanted);
        prop_assert_eq!((letters.bytes(), letters.next_due(now)), (0, None));
    }
}

fn place(written: &Written) -> (i32, i64) {
    (i32::try_from(written.slot.0).unwrap(), written.offset)
}
