//! The ready queues against a model: order within a tag, one lane for a tag, nobody starved, nothing lost.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;

fn record(tag: u64, offset: i64) -> Record {
    Record {
        slot: Slot(tag as u32 % 3),
        tag,
        attempt: 1,
        offset,
        leader_epoch: -1,
        timestamp_ms: -1,
        timestamp_type: 0,
        key: None,
        payload: Some(vec![0; 100].into()),
        unshaped: false,
        headers: Vec::new(),
    }
}

fn queued(tag: u64, offset: i64) -> Queued {
    Queued::of_record(record(tag, offset))
}

const ALL: Take = Take {
    messages: 1000,
    bytes: usize::MAX,
    of_a_tag: 1000,
    large: usize::MAX,
};

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Take {
        lane: usize,
        messages: usize,
        of_a_tag: usize,
    },
    /// A call of this lane comes back: what of it is done, and what fails (which) with a wait of so many milliseconds.
    Return {
        lane: usize,
        failed: Option<(usize, u64)>,
    },
    /// A call of this lane comes back: all of it is digested, and done when the lane has flushed.
    Buffer {
        lane: usize,
    },
    Flush {
        lane: usize,
    },
    /// All lanes are gone: what they had, buffered or not, waits again.
    Die,
    Pass(u64),
    HoldBack(u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..6).prop_map(Step::Push),
        3 => (0_usize..3, 1_usize..5, 1_usize..3).prop_map(|(lane, messages, of_a_tag)| Step::Take { lane, messages, of_a_tag }),
        3 => (0_usize..3, proptest::option::of((0_usize..4, 0_u64..50))).prop_map(|(lane, failed)| Step::Return { lane, failed }),
        3 => (0_usize..3).prop_map(|lane| Step::Buffer { lane }),
        1 => (0_usize..3).prop_map(|lane| Step::Flush { lane }),
        1 => Just(Step::Die),
        1 => (0_u64..40).prop_map(Step::Pass),
        1 => (0_u32..3, any::<bool>()).prop_map(|(slot, hold)| Step::HoldBack(slot, hold)),
    ]
}

proptest! {
    /// Three lanes take, give back, fail, buffer, flush, die: each tag is with one lane at a time, with one call of it, in
    /// its order; in the end all was digested exactly once (and what died before it was flushed, again).
    #[test]
    fn order_is_kept_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..200)) {
        let mut queues = Queues::default();
        let start = Instant::now();
        let mut now = start;
        let mut next = 0_i64;
        // What is done of each tag, and what each lane has.
        let mut done: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut pushed: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut lanes: Vec<Vec<Vec<Taken>>> = vec![Vec::new(), Vec::new(), Vec::new()];
        // What each lane has digested and not flushed.
        let mut buffered: Vec<Vec<Taken>> = vec![Vec::new(), Vec::new(), Vec::new()];
        let flush = |queues: &mut Queues, buffered: &mut Vec<Taken>, done: &mut BTreeMap<u64, Vec<i64>>| {
            for taken in buffered.drain(..) {
                done.entry(taken.tag).or_default().push(taken.message.offset);
                queues.let_go_buffered(taken.queue);
            }
        };
        let give_back = |queues: &mut Queues, call: Vec<Taken>, failed: Option<(usize, u64)>, now: Instant,
                             done: &mut BTreeMap<u64, Vec<i64>>, lane: usize, buffered: &mut Vec<Taken>| {
            let failed = failed.filter(|(at, _)| *at < call.len());
            let failed_tag = failed.map(|(at, _)| call[at].tag);
            for (at, taken) in call.into_iter().enumerate() {
                let waits = failed.is_some_and(|(first, _)| at >= first) && Some(taken.tag) == failed_tag;
                // What follows a buffered message is not done before it.
                if !waits && buffered.iter().any(|other| other.tag == taken.tag) {
                    queues.buffer(taken.queue, lane);
                    buffered.push(taken);
                    continue;
                }
                if !waits {
                    done.entry(taken.tag).or_default().push(taken.message.offset);
                } else {
                    if let Some((first, wait)) = failed.filter(|(first, _)| *first == at) {
                        let until = Waiting::Until(now + Duration::from_millis(wait));
                        queues.wait(taken.tag, taken.slot, until, Some(first % 3), 0);
                    }
                    let mut again = queued(taken.tag, taken.message.offset);
                    again.attempt = taken.message.attempt + 1;
                    assert!(queues.put_back(taken.tag, taken.slot, 0, again).is_none());
                }
                queues.let_go(taken.queue);
            }
        };
        for step in steps {
            match step {
                Step::Push(tag) => {
                    queues.push(tag, Slot(tag as u32 % 3), queued(tag, next));
                    pushed.entry(tag).or_default().push(next);
                    next += 1;
                }
                Step::Take { lane, messages, of_a_tag } => {
                    let mut call = Vec::new();
                    queues.end_waits(now);
                    let (any, own) = queues.ready_for(lane);
                    queues.take(lane, Take { messages, of_a_tag, ..ALL }, &mut call);
                    prop_assert!(call.len() <= messages);
                    prop_assert!(call.len() <= any.messages + own.messages);
                    for taken in &call {
                        let elsewhere = lanes.iter().flatten().flatten().any(|other| other.tag == taken.tag);
                        prop_assert!(!elsewhere, "a tag is with two calls");
                        let mut others = buffered.iter().enumerate().filter(|(other, _)| *other != lane);
                        let elsewhere = others.any(|(_, has)| has.iter().any(|other| other.tag == taken.tag));
                        prop_assert!(!elsewhere, "a tag is buffered by another lane");
                    }
                    if !call.is_empty() {
                        lanes[lane].push(call);
                    }
                }
                Step::Return { lane, failed } => {
                    if !lanes[lane].is_empty() {
                        let call = lanes[lane].remove(0);
                        give_back(&mut queues, call, failed, now, &mut done, lane, &mut buffered[lane]);
                    }
                }
                Step::Buffer { lane } => {
                    if !lanes[lane].is_empty() {
                        for taken in lanes[lane].remove(0) {
                            queues.buffer(taken.queue, lane);
                            buffered[lane].push(taken);
                        }
                    }
                }
                Step::Flush { lane } => flush(&mut queues, &mut buffered[lane], &mut done),
                Step::Die => {
                    let calls = lanes.iter_mut().flat_map(std::mem::take).flatten();
                    let out: Vec<(bool, Taken)> = calls.map(|taken| (false, taken)).collect();
                    let held = buffered.iter_mut().flat_map(std::mem::take);
                    let held: Vec<(bool, Taken)> = held.map(|taken| (true, taken)).collect();
                    for (was_buffered, taken) in out.into_iter().chain(held) {
                        let mut again = queued(taken.tag, taken.message.offset);
                        again.attempt = taken.message.attempt;
                        assert!(queues.put_back(taken.tag, taken.slot, 0, again).is_none());
                        if was_buffered {
                            queues.let_go_buffered(taken.queue);
                        } else {
                            queues.let_go(taken.queue);
                        }
                    }
                    queues.forget_holds();
                }
                Step::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Step::HoldBack(slot, hold) => queues.hold_back(Slot(slot), hold.then_some(i64::MIN)),
            }
            let waiting: usize = pushed.values().map(Vec::len).sum::<usize>()
                - done.values().map(Vec::len).sum::<usize>()
                - lanes.iter().flatten().map(Vec::len).sum::<usize>()
                - buffered.iter().map(Vec::len).sum::<usize>();
            prop_assert_eq!(queues.len(), waiting);
            for (tag, done) in &done {
                prop_assert_eq!(done, &pushed[tag][..done.len()], "a tag's messages are done in their order");
            }
        }
        for slot in 0..3 {
            queues.hold_back(Slot(slot), None);
        }
        for lane in &mut buffered {
            flush(&mut queues, lane, &mut done);
        }
        for call in lanes.into_iter().flatten() {
            give_back(&mut queues, call, None, now, &mut done, 0, &mut Vec::new());
        }
        queues.end_waits(now + Duration::from_secs(10));
        loop {
            let mut call = Vec::new();
            queues.take(0, ALL, &mut call);
            if call.is_empty() {
                break;
            }
            give_back(&mut queues, call, None, now, &mut done, 0, &mut Vec::new());
        }
        prop_assert_eq!(done, pushed, "none is starved, none lost");
        prop_assert!(queues.is_empty() && !queues.any() && queues.waiting_tags() == 0);
        prop_assert_eq!(queues.copied_bytes(), 0);
        prop_assert_eq!(queues.ready(), Ready::default());
    }
}

#[test]
fn the_oldest_message_goes_first_also_when_its_tag_was_in_hand() {
    let mut queues = Queues::default();
    for (tag, offset) in [(1, 0), (1, 1), (2, 2), (3, 3)] {
        queues.push(tag, Slot(0), queued(tag, offset));
    }
    let one = Take { messages: 1, ..ALL };
    let mut call = Vec::new();
    queues.take(0, one, &mut call);
    queues.let_go(call[0].queue);
    let mut second = Vec::new();
    queues.take(0, one, &mut second);
    assert_eq!(
        second[0].message.offset, 1,
        "it came before those of tags 2 and 3"
    );
}

#[test]
fn what_comes_behind_messages_that_went_straight_waits_for_them() {
    let mut queues = Queues::default();
    queues.push_behind(7, Slot(0), 2, queued(7, 2));
    queues.push_behind(7, Slot(0), 2, queued(7, 3));
    assert!(!queues.is_next(7, Slot(0), 2));
    let queue = queues.find(7, Slot(0)).expect("it has messages");
    assert_eq!(queues.let_go(queue), None);
    assert!(!queues.is_next(7, Slot(0), 2), "one is still in hand");
    assert_eq!(queues.let_go(queue), None);
    assert!(queues.is_next(7, Slot(0), 2));
}

#[test]
fn what_failed_is_tried_alone_of_its_tag_and_its_lane_is_told_to_let_go() {
    let mut queues = Queues::default();
    let now = Instant::now();
    for offset in 0..3 {
        queues.push(7, Slot(0), queued(7, offset));
    }
    let mut call = Vec::new();
    queues.take(0, Take { messages: 1, ..ALL }, &mut call);
    let failed = call.remove(0);
    queues.wait(7, Slot(0), Waiting::Until(now), Some(4), 0);
    let mut again = queued(7, 0);
    again.attempt = 2;
    queues.put_back(7, Slot(0), 0, again);
    queues.let_go(failed.queue);
    queues.take(0, ALL, &mut call);
    assert!(call.is_empty(), "it waits");
    queues.end_waits(now);
    queues.take(0, ALL, &mut call);
    let offsets: Vec<(i64, Option<usize>)> = call
        .iter()
        .map(|taken| (taken.message.offset, taken.held_by))
        .collect();
    assert_eq!(offsets, [(0, Some(4))]);
}

#[test]
fn a_partition_that_goes_takes_its_queues_along_and_nothing_of_it_comes_back() {
    let mut queues = Queues::default();
    queues.push(1, Slot(1), queued(1, 0));
    queues.push(2, Slot(2), queued(2, 1));
    queues.push(3, Slot(1), queued(3, 2));
    queues.wait(
        3,
        Slot(1),
        Waiting::Stopped {
            offset: 2,
            error: String::new(),
        },
        Some(0),
        0,
    );
    let mut dropped = Vec::new();
    let held = queues.drop_slot(Slot(1), |message| dropped.push(message.offset));
    dropped.sort_unstable();
    assert_eq!((dropped, held.len(), queues.len()), (vec![0, 2], 1, 1));
    let mut call = Vec::new();
    queues.take(0, ALL, &mut call);
    assert_eq!(call.iter().map(|taken| taken.tag).collect::<Vec<_>>(), [2]);
}

#[test]
fn two_partitions_never_share_a_queue() {
    let mut queues = Queues::default();
    queues.push(9, Slot(0), queued(9, 0));
    queues.push(9, Slot(1), queued(9, 0));
    let mut call = Vec::new();
    queues.take(0, ALL, &mut call);
    assert_eq!(
        call.iter().map(|taken| taken.slot).collect::<Vec<_>>(),
        [Slot(0), Slot(1)]
    );
}

#[test]
fn what_follows_a_buffered_message_goes_to_the_lane_that_has_it_and_to_any_once_that_has_flushed() {
    let mut queues = Queues::default();
    for offset in 0..3 {
        queues.push(7, Slot(0), queued(7, offset));
    }
    let one = Take { messages: 1, ..ALL };
    let (mut call, mut none) = (Vec::new(), Vec::new());
    queues.take(1, one, &mut call);
    queues.take(1, one, &mut none);
    assert!(none.is_empty(), "one call has the tag");
    queues.buffer(call[0].queue, 1);
    queues.take(0, one, &mut none);
    assert!(none.is_empty(), "it is the other lane's");
    assert_eq!(queues.ready_for(0), (Ready::default(), Ready::default()));
    queues.take(1, one, &mut call);
    assert_eq!(call.last().unwrap().message.offset, 1);
    queues.buffer(call[1].queue, 1);
    for taken in call {
        queues.let_go_buffered(taken.queue);
    }
    queues.take(0, one, &mut none);
    assert_eq!(none.last().unwrap().message.offset, 2);
}

#[test]
fn what_waits_long_behind_a_message_in_hand_stands_and_what_moves_or_is_ready_does_not() {
    let mut queues = Queues::default();
    for offset in 0..6 {
        queues.push(
            offset as u64 % 2,
            Slot(offset as u32 % 2),
            queued(offset as u64 % 2, offset),
        );
    }
    let mut call = Vec::new();
    queues.take(0, Take { messages: 1, ..ALL }, &mut call);
    let (start, patience) = (Instant::now(), Duration::from_millis(200));
    assert!(queues.standing(start, patience).is_empty(), "it is seen first");
    let later = start + patience;
    let standing = queues.standing(later, patience);
    assert_eq!(
        standing.keys().copied().collect::<Vec<_>>(),
        [Slot(0)],
        "the other is ready"
    );
    assert_eq!(standing[&Slot(0)].messages, 2);
    queues.let_go(call[0].queue);
    queues.take(
        0,
        Take {
            messages: 2,
            of_a_tag: 1,
            ..ALL
        },
        &mut call,
    );
    assert!(
        queues.standing(later + patience / 2, patience).is_empty(),
        "it has moved"
    );
}
