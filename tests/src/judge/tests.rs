//! The judge judged: by hand-written cases, and against a history of which we know the truth.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ledger::Outcome;

fn expected(partitions: i32, each: i64) -> Expected {
    let mut expected = Expected::default();
    for partition in 0..partitions {
        (0..each).for_each(|offset| expected.add("t", partition, offset, number(partition, offset)));
    }
    expected
}

fn number(partition: i32, offset: i64) -> u64 {
    partition as u64 * 1_000_000 + offset as u64
}

/// Digests as (partition, offset, pid, outcome), one after the other.
fn lines(digests: &[(i32, i64, u32, Outcome)]) -> Lines {
    let record = |(at, &(partition, offset, pid, outcome)): (usize, &(i32, i64, u32, Outcome))| Record {
        topic: "t".to_owned(),
        partition,
        offset,
        n: Some(number(partition, offset)),
        attempt: 1,
        pid,
        at: at as u64,
        outcome,
    };
    Lines {
        records: digests.iter().enumerate().map(record).collect(),
        torn: 0,
    }
}

use Outcome::{Died, Ok as Done, OkThenDied, Retry};

#[test]
fn a_clean_run_is_clean() {
    let verdict = judge(
        &expected(2, 2),
        &lines(&[(1, 0, 7, Done), (0, 0, 7, Done), (0, 1, 7, Done), (1, 1, 7, Done)]),
    );
    verdict.once_in_order().expect("clean");
    assert_eq!((verdict.expected, verdict.digested), (4, 4));
    assert_eq!(verdict.partitions[&("t".to_owned(), 1)].digested, 2);
}

#[test]
fn what_was_never_digested_is_lost() {
    let verdict = judge(&expected(1, 3), &lines(&[(0, 0, 7, Done), (0, 2, 7, Done)]));
    assert_eq!(
        verdict.lost,
        [Place {
            topic: "t".to_owned(),
            partition: 0,
            offset: 1
        }]
    );
    assert!(verdict.nothing_lost().is_err());
}

#[test]
fn a_failed_attempt_is_no_digest() {
    let verdict = judge(
        &expected(1, 2),
        &lines(&[(0, 0, 7, Retry), (0, 0, 7, Done), (0, 1, 7, Done)]),
    );
    verdict.once_in_order().expect("retried, then digested once");
    let verdict = judge(&expected(1, 2), &lines(&[(0, 0, 7, Retry), (0, 1, 7, Done)]));
    assert_eq!(verdict.lost.len(), 1);
}

#[test]
fn a_retried_message_that_others_overtook_is_out_of_order() {
    let verdict = judge(
        &expected(1, 2),
        &lines(&[(0, 0, 7, Retry), (0, 1, 7, Done), (0, 0, 7, Done)]),
    );
    assert_eq!(verdict.out_of_order.len(), 1);
    assert_eq!(verdict.went_back.len(), 1);
    assert!(verdict.duplicated.is_empty());
}

#[test]
fn a_replay_after_a_crash_is_a_range_of_duplicates_in_order() {
    let history = [
        (0, 0, 7, Done),
        (0, 1, 7, Done),
        (0, 2, 7, Done),
        (0, 1, 8, Done),
        (0, 2, 8, Done),
        (0, 3, 8, Done),
    ];
    let verdict = judge(&expected(1, 4), &lines(&history));
    verdict.in_order().expect("a replay keeps order");
    let replay = Replay {
        topic: "t".to_owned(),
        partition: 0,
        pid: 8,
        from: 1,
        to: 2,
    };
    assert_eq!(verdict.replays, [replay]);
    verdict
        .twice_only_uncommitted(&BTreeMap::from([(0, 1)]))
        .expect("1 and 2 were not committed");
    assert!(verdict.twice_only_uncommitted(&BTreeMap::from([(0, 2)])).is_err());
}

#[test]
fn a_process_that_is_handed_messages_again_went_back() {
    let history = [(0, 0, 7, Done), (0, 1, 7, Done), (0, 0, 7, Done), (0, 1, 7, Done)];
    let verdict = judge(&expected(1, 2), &lines(&history));
    assert!(verdict.out_of_order.is_empty());
    assert_eq!(verdict.went_back.len(), 1);
    assert!(verdict.in_order().is_err());
}

#[test]
fn in_hand_is_what_the_dying_process_was_digesting() {
    let history = [
        (0, 0, 7, Done),
        (0, 1, 7, OkThenDied),
        (0, 1, 8, Done),
        (0, 2, 8, Died),
        (0, 2, 9, Done),
    ];
    let verdict = judge(&expected(1, 3), &lines(&history));
    verdict.in_order().expect("in order");
    verdict.twice_only_in_hand().expect("only 1, which was in hand");
    assert_eq!((verdict.deaths, verdict.duplicated.len()), (2, 1));

    let history = [
        (0, 0, 7, Done),
        (0, 1, 7, OkThenDied),
        (0, 0, 8, Done),
        (0, 1, 8, Done),
        (0, 2, 8, Done),
    ];
    let verdict = judge(&expected(1, 3), &lines(&history));
    assert!(
        verdict.twice_only_in_hand().is_err(),
        "0 was finished before the death"
    );
}

#[test]
fn with_the_order_of_keys_another_key_may_overtake_and_the_same_may_not() {
    let keyed = |order| {
        let mut expected = Expected::in_order_of(order);
        for offset in 0..4 {
            let key = [b"ab"[offset as usize % 2]];
            expected.add_keyed("t", 0, offset, number(0, offset), Some(key.into()));
        }
        expected
    };
    let overtaken = lines(&[(0, 1, 7, Done), (0, 0, 7, Done), (0, 2, 7, Done), (0, 3, 7, Done)]);
    judge(&keyed(Order::Key), &overtaken)
        .once_in_order()
        .expect("another key");
    assert!(judge(&keyed(Order::Partition), &overtaken).in_order().is_err());
    let crossed = lines(&[(0, 2, 7, Done), (0, 0, 7, Done), (0, 1, 7, Done), (0, 3, 7, Done)]);
    let verdict = judge(&keyed(Order::Key), &crossed);
    assert_eq!((verdict.out_of_order.len(), verdict.went_back.len()), (1, 1));
    judge(&keyed(Order::None), &crossed)
        .once_in_order()
        .expect("no order is asked for");
}

#[test]
fn what_was_not_produced_so_is_foreign() {
    let mut strange = lines(&[(0, 0, 7, Done), (0, 5, 7, Done)]);
    strange.records[0].n = Some(99);
    let verdict = judge(&expected(1, 1), &strange);
    assert_eq!(verdict.foreign.len(), 2);
    assert_eq!(verdict.lost.len(), 1);
}

#[test]
fn the_moment_decides_and_not_the_place_in_the_file() {
    let mut mixed = lines(&[(0, 0, 7, Done), (0, 1, 8, Done)]);
    mixed.records.swap(0, 1);
    judge(&expected(1, 2), &mixed)
        .once_in_order()
        .expect("0 was first");
}

#[test]
fn a_torn_last_line_is_torn_and_no_digest() {
    let whole = lines(&[(0, 0, 7, Done), (0, 1, 7, OkThenDied)]);
    let text: String = whole
        .records
        .iter()
        .map(|record| format!("\n{record}\n"))
        .collect();
    assert_eq!(Lines::parse(text.as_bytes()), whole);
    let last = text.rfind("\nt").expect("two lines") + 1;
    for cut in last + 1..text.len() - 1 {
        let lines = Lines::parse(&text.as_bytes()[..cut]);
        assert_eq!((lines.records.len(), lines.torn), (1, 1), "cut at {cut}");
        // And the next writer's line stands on its own.
        let next = format!("{}\n{}\n", &text[..cut], whole.records[0]);
        assert_eq!(Lines::parse(next.as_bytes()).records.len(), 2, "cut at {cut}");
    }
}

#[derive(Clone, Debug)]
struct Run {
    /// How many messages this process digests, and how many of its last ones the next process digests again.
    digests: i64,
    replayed: i64,
    died: bool,
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let run = (1..20_i64, 0..5_i64, any::<bool>());
    prop::collection::vec(
        run.prop_map(|(digests, replayed, died)| Run {
            digests,
            replayed,
            died,
        }),
        1..8,
    )
}

proptest! {
    /// Processes that each digest in order and fall back a little after a crash: the judge counts exactly what they
    /// repeated, finds all in order, and nothing lost; and loses exactly what we take away.
    #[test]
    fn a_history_of_crashes_is_counted_exactly(runs in runs(), taken in any::<prop::sample::Index>()) {
        let mut digests = Vec::new();
        let mut next = 0_i64;
        let mut times: BTreeMap<i64, u64> = BTreeMap::new();
        for (pid, run) in runs.iter().enumerate() {
            for at in 0..run.digests {
                let outcome = if run.died && at + 1 == run.digests { OkThenDied } else { Done };
                *times.entry(next).or_default() += 1;
                digests.push((0, next, pid as u32 + 1, outcome));
                next += 1;
            }
            next -= run.replayed.min(run.digests).min(next);
        }
        let count = times.len() as i64;
        let truth = times.values().filter(|&&times| times > 1).count();
        let verdict = judge(&expected(1, count), &lines(&digests));
        prop_assert!(verdict.in_order().is_ok());
        prop_assert_eq!(verdict.duplicated.len(), truth);
        let replayed: i64 = verdict.replays.iter().map(|one| one.to - one.from + 1).sum();
        prop_assert_eq!(replayed, digests.len() as i64 - count);

        let gone = taken.index(count as usize) as i64;
        digests.retain(|&(_, offset, _, _)| offset != gone);
        let verdict = judge(&expected(1, count), &lines(&digests));
        prop_assert_eq!(verdict.lost.iter().map(|place| place.offset).collect::<Vec<_>>(), [gone]);
    }

    /// Any shuffle of distinct offsets: as many out of order as there are offsets below the highest before them.
    #[test]
    fn out_of_order_is_below_the_highest_before(order in Just((0..30_i64).collect::<Vec<_>>()).prop_shuffle()) {
        let digests: Vec<_> = order.iter().map(|&offset| (0, offset, 7, Done)).collect();
        let truth = (0..order.len()).filter(|&at| order[..at].iter().any(|&other| other > order[at])).count();
        let verdict = judge(&expected(1, 30), &lines(&digests));
        prop_assert_eq!(verdict.out_of_order.len(), truth);
        prop_assert!(verdict.duplicated.is_empty() && verdict.lost.is_empty());
    }
}
