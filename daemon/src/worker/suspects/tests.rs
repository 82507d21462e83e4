use std::collections::{BTreeMap, BTreeSet};

use devour_abi::{Failure, FailureKind};
use proptest::prelude::*;

use super::*;

const AFTER: Option<u32> = Some(3);

fn held(slot: u32, offset: i64) -> Held {
    Held {
        slot: Slot(slot),
        offset,
        tag: u64::from(slot),
    }
}

#[test]
fn only_an_end_that_the_plugin_made_itself_counts() {
    for name in ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS"] {
        assert!(counts(&DownCause::Signal(name.to_owned())), "{name}");
    }
    assert!(counts(&DownCause::Exited(0)), "nobody had ordered it");
    assert!(counts(&DownCause::Memory(1 << 30)), "its memory limit");
    for name in ["SIGKILL", "SIGTERM", "SIGHUP"] {
        assert!(!counts(&DownCause::Signal(name.to_owned())), "{name}");
    }
    let panic = Failure::new(FailureKind::PANIC, "oh");
    for cause in [
        DownCause::Ordered,
        DownCause::Broken(panic),
        DownCause::Deadline("late".into()),
        DownCause::NotBuilt("no".into()),
        DownCause::Protocol("rubbish".into()),
    ] {
        assert!(!counts(&cause), "{cause:?}");
    }
}

#[test]
fn a_message_is_poison_when_it_was_alone_at_so_many_deaths() {
    let mut suspects = Suspects::default();
    let many = [held(0, 4), held(0, 5), held(1, 9)];
    assert_eq!(suspects.died(&many, AFTER), Judgement::Suspects);
    assert_eq!(
        suspects.died(&many, AFTER),
        Judgement::Suspects,
        "not alone: nobody is blamed"
    );
    assert_eq!(suspects.next(|_| true), Some(held(0, 4)));
    assert!(!suspects.finished(Slot(0), 4), "others are left");
    assert_eq!(suspects.died(&[held(0, 5)], AFTER), Judgement::Alone(1));
    // The other one first: it is only suspected.
    assert_eq!(suspects.next(|_| true), Some(held(1, 9)));
    assert!(!suspects.finished(Slot(1), 9));
    assert_eq!(suspects.died(&[], AFTER), Judgement::Nobody);
    assert_eq!(suspects.died(&[held(0, 5)], AFTER), Judgement::Alone(2));
    assert_eq!(suspects.died(&[held(0, 5)], AFTER), Judgement::Poison(3));
    suspects.forgive(Slot(0), 5);
    assert_eq!(
        suspects.died(&[held(0, 5)], AFTER),
        Judgement::Alone(1),
        "a person resumed it"
    );
    suspects.forgive_all();
    assert_eq!(
        suspects.died(&[held(0, 5)], AFTER),
        Judgement::Alone(1),
        "a new plugin has it"
    );
    assert!(suspects.finished(Slot(0), 5), "the last");
    assert!(suspects.is_empty());
}

#[test]
fn one_that_cannot_go_now_holds_nobody_up() {
    let mut suspects = Suspects::default();
    suspects.suspect(&[held(0, 1), held(1, 1)]);
    assert_eq!(suspects.next(|one| one.slot != Slot(0)), Some(held(1, 1)));
    assert_eq!(suspects.next(|_| false), None);
    suspects.forget(Slot(1));
    assert_eq!((suspects.len(), suspects.next(|_| true)), (1, Some(held(0, 1))));
    for deaths in 1..50 {
        assert_eq!(
            suspects.died(&[held(0, 1)], None),
            Judgement::Alone(deaths),
            "it is never given up"
        );
    }
}

/// A plugin that dies of some messages, driven as a route drives it: all together until it dies, then the suspects alone.
#[derive(Debug)]
struct Played {
    /// The messages of each partition that are not finished.
    left: BTreeMap<u32, BTreeSet<i64>>,
    digested: Vec<(u32, i64)>,
    given_up: Vec<(u32, i64)>,
    deaths: usize,
}

fn play(partitions: u32, each: i64, at_once: usize, kills: &BTreeSet<(u32, i64)>, after: u32) -> Played {
    let all = (0..partitions).map(|slot| (slot, (0..each).collect()));
    let mut suspects = Suspects::default();
    let mut played = Played {
        left: all.collect(),
        digested: Vec::new(),
        given_up: Vec::new(),
        deaths: 0,
    };
    loop {
        let first = |left: &BTreeMap<u32, BTreeSet<i64>>, one: Held| {
            left.get(&one.slot.0).and_then(BTreeSet::first) == Some(&one.offset)
        };
        let in_hand: Vec<Held> = match suspects.next(|one| first(&played.left, one)) {
            Some(one) => vec![one],
            None => {
                let of = |(slot, left): (&u32, &BTreeSet<i64>)| -> Vec<Held> {
                    left.iter().map(|offset| held(*slot, *offset)).collect()
                };
                played.left.iter().flat_map(of).take(at_once).collect()
            }
        };
        if in_hand.is_empty() {
            assert!(suspects.is_empty(), "a suspect is left: {suspects:?}");
            return played;
        }
        let is_killer = |one: &Held| kills.contains(&(one.slot.0, one.offset));
        let mut over: Vec<Held> = Vec::new();
        if in_hand.iter().any(is_killer) {
            played.deaths += 1;
            if let Judgement::Poison(deaths) = suspects.died(&in_hand, Some(after)) {
                assert_eq!(deaths, after);
                played.given_up.push((in_hand[0].slot.0, in_hand[0].offset));
                over = in_hand;
            }
        } else {
            played
                .digested
                .extend(in_hand.iter().map(|one| (one.slot.0, one.offset)));
            over = in_hand;
        }
        for one in over {
            suspects.finished(one.slot, one.offset);
            if let Some(left) = played.left.get_mut(&one.slot.0) {
                left.remove(&one.offset);
            }
        }
    }
}

proptest! {
    /// However many are in hand at once, and whichever kill: exactly those are given up, the others are digested once, in
    /// the order of their partition, and each that kills costs no more deaths than it is allowed and the ones it was found by.
    #[test]
    fn exactly_those_that_kill_are_given_up(
        partitions in 1_u32..5,
        each in 1_i64..30,
        at_once in 1_usize..80,
        kills in proptest::collection::btree_set((0_u32..5, 0_i64..30), 0..5),
        after in 1_u32..5,
    ) {
        let kills: BTreeSet<(u32, i64)> = kills
            .into_iter()
            .filter(|(slot, offset)| *slot < partitions && *offset < each)
            .collect();
        let played = play(partitions, each, at_once, &kills, after);
        prop_assert_eq!(&played.given_up.iter().copied().collect::<BTreeSet<_>>(), &kills);
        prop_assert_eq!(played.given_up.len(), kills.len(), "each once");
        let mut digested = played.digested.clone();
        digested.sort_unstable();
        digested.dedup();
        prop_assert_eq!(digested.len(), played.digested.len(), "none twice");
        prop_assert_eq!(digested.len(), partitions as usize * each as usize - kills.len(), "none lost");
        for slot in 0..partitions {
            let offsets = played.digested.iter().filter(|(of, _)| *of == slot).map(|(_, offset)| *offset);
            prop_assert!(offsets.is_sorted());
        }
        prop_assert!(played.deaths <= kills.len() * (after as usize + 1));
    }
}
