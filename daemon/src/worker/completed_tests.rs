//! What is written beside a commit is what is read again, it fits, and nothing else is taken for it.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The offsets above `frontier` for which `finished` says so, told how many after it each is.
fn set(frontier: i64, span: i64, finished: impl Fn(i64) -> bool) -> Completed {
    (1..span)
        .filter(|after| finished(*after))
        .map(|after| frontier + after..frontier + after + 1)
        .collect()
}

/// The same at each run: `permille` of all offsets.
fn at_random(permille: u64) -> impl Fn(i64) -> bool {
    move |after| {
        let mixed = (after as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) % 1000 < permille
    }
}

#[test]
fn sets_of_everyday_are_small() {
    let of = |span, finished: &dyn Fn(i64) -> bool| size(7, &set(7, span, finished));
    let half = at_random(500);
    // Bytes, and the greatest that it may be: what the head of the module says, and a little for chance.
    let sizes = [
        (of(10_000, &at_random(500)), 1_270),
        (of(20_000, &|after| after % 2 == 1), 2_510),
        (of(50_001, &|_| true), 13),
        (of(100_000, &at_random(990)), 1_200),
        (of(1_000_000, &at_random(999)), 1_700),
        (of(60_000, &|after| after > 10_000 || half(after)), 1_450),
    ];
    for (at, (size, most)) in sizes.into_iter().enumerate() {
        assert!(size <= most, "set {at} takes {size} bytes, not {most}: {sizes:?}");
    }
    assert_eq!(set(7, 10_001, at_random(500)).count().abs_diff(5_000) / 100, 0);
}

#[test]
fn what_does_not_fit_is_cut_at_the_top() {
    let all = set(1_000, 60_000, at_random(500));
    assert!(size(1_000, &all) > ROOM);
    let (text, fits) = encode(1_000, &all);
    assert!(!fits);
    assert!(text.len() <= 4096, "{}", text.len());
    let carried = decode(1_000, text.as_bytes()).unwrap();
    assert_eq!(
        carried.runs(),
        &all.runs()[..carried.runs().len()],
        "the lowest are carried"
    );
    assert!(
        carried.runs().last().unwrap().end > 1_000 + 8 * 3_000,
        "the room is used: {:?}",
        carried.runs().last()
    );
    // A far run among them must not cost the near ones their place.
    let mut mixed = set(1_000, 30_000, at_random(500));
    mixed.push(1 << 40..1 << 41);
    let (text, fits) = encode(1_000, &mixed);
    assert!(!fits && text.len() > 4_000, "{}", text.len());
}

#[test]
fn nothing_finished_is_an_empty_text() {
    assert_eq!(encode(5, &Completed::default()), (String::new(), true));
    assert_eq!(decode(5, b""), Ok(Completed::default()));
    let frontier_and_below: Completed = std::iter::once(0..6).collect();
    assert_eq!(encode(5, &frontier_and_below), (String::new(), true));
}

#[test]
fn a_text_that_is_not_ours_is_told_from_one_that_is_damaged() {
    for foreign in ["x", "{\"devo\":1}", "AAAA", "dev", &"A".repeat(4096), "\u{fffd}"] {
        assert_eq!(
            decode(3, foreign.as_bytes()),
            Err(Unreadable::Foreign),
            "{foreign}"
        );
    }
    for damaged in ["devo", "devoAQ", "devo!!!!", "devoAAAAAAAAAAAAAAAA"] {
        assert_eq!(
            decode(3, damaged.as_bytes()),
            Err(Unreadable::Damaged),
            "{damaged}"
        );
    }
    let (text, _) = encode(3, &set(3, 100, |after| after % 3 == 0));
    assert!(text.starts_with("devo"), "{text}");
    assert!(decode(3, text.as_bytes()).is_ok());
    assert_eq!(
        decode(4, text.as_bytes()),
        Err(Unreadable::Damaged),
        "another offset"
    );
    for at in 4..text.len() {
        let mut torn = text.clone().into_bytes();
        torn[at] = if torn[at] == b'B' { b'C' } else { b'B' };
        assert!(decode(3, &torn).is_err(), "character {at}");
        assert!(decode(3, &text.as_bytes()[..at]).is_err(), "cut at {at}");
    }
    assert!(decode(3, format!("{text}AAAA").as_bytes()).is_err());
}

#[test]
fn a_newer_format_is_named() {
    let (text, _) = encode(3, &set(3, 100, |after| after % 3 == 0));
    let mut content = STANDARD_NO_PAD.decode(text).unwrap();
    content[MARK.len()] = 9;
    let newer = STANDARD_NO_PAD.encode(content);
    assert_eq!(decode(3, newer.as_bytes()), Err(Unreadable::Version(9)));
}

/// Numbers that no code of ours writes, with a checksum that is right.
#[test]
fn content_that_no_encoder_writes_is_damaged() {
    let forged = |rest: &[u8]| {
        let mut content = [&MARK[..], &[VERSION], &checksum(3, rest), rest].concat();
        content.truncate(ROOM);
        decode(3, STANDARD_NO_PAD.encode(content).as_bytes())
    };
    assert!(forged(&[0, 0, 0b1100_0000]).is_ok());
    for rest in [
        &[16, 0, 0b1100_0000][..],
        &[0, 0x90, 0b1100_0000],
        &[0, 0, 0b1000_0000],
        &[0, 0, 0],
        &[0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0xff],
        &[
            0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
    ] {
        assert_eq!(forged(rest), Err(Unreadable::Damaged), "{rest:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        frontier in prop_oneof![0_i64..1000, Just(0), Just(i64::MAX / 2)],
        pairs in proptest::collection::vec((1_i64..40, 1_i64..3000), 0..300),
    ) {
        let mut at = frontier;
        let completed: Completed = pairs
            .into_iter()
            .map(|(unfinished, finished)| {
                let start = at + unfinished;
                at = start + finished;
                start..at
            })
            .collect();
        let (text, fits) = encode(frontier, &completed);
        prop_assert!(fits);
        prop_assert!(text.len() <= 4096);
        let bytes = text.len() * 3 / 4;
        prop_assert!(completed.is_empty() || bytes == size(frontier, &completed));
        prop_assert_eq!(decode(frontier, text.as_bytes()), Ok(completed));
    }

    #[test]
    fn a_set_that_does_not_reach_far_is_never_crowded(
        permille in 0_u64..=1000,
        span in 1..=NEVER_CROWDED,
        every in 1_i64..4,
    ) {
        let chance = at_random(permille);
        let completed = set(50, span, |after| after % every == 0 || chance(after));
        prop_assert!(size(50, &completed) <= CROWDED);
    }

    #[test]
    fn random_text_is_not_ours(text in "(devo)?[A-Za-z0-9+/]{0,80}", frontier in 0_i64..1000) {
        prop_assume!(!text.is_empty());
        prop_assert!(decode(frontier, text.as_bytes()).is_err());
    }
}
