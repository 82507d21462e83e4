//! `devourd dead-letter list` shows what a route gave up and where it came from; `replay` sends each letter back once,
//! to the partition that it came from and as it was. What is given up again does not grow, and what is digested now is
//! digested once.

use std::collections::BTreeSet;

use devour_tests::{
    command,
    control::control,
    daemon::SOON,
    judge::Place,
    kafka::{numbered_key, Kafka, Kept, Record, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("connect", |kafka| run(kafka, "connect")),
    Run::Shared("spring", |kafka| run(kafka, "spring")),
];

const PARTITIONS: i32 = 3;
/// Rejected once: when they come again they are digested.
const MENDED: [u64; 8] = [3, 10, 77, 100, 150, 151, 152, 299];
/// Messages without a number, which are rejected whenever they come.
const ODD: usize = 2;
const ODD_PARTITION: i32 = 2;

fn run(kafka: &Kafka, style: &str) -> Outcome {
    let mut stage = Stage::new(kafka, "replay", PARTITIONS)?;
    let dead = unique("replay-dead");
    stage.admin.create_topic(&dead, PARTITIONS)?;
    stage.produce(0..300)?;
    let odd = odd_records();
    kafka.producer()?.send(&stage.topic, ODD_PARTITION, &odd)?;
    let produced = kafka.read(&stage.topic, PARTITIONS)?;
    let route = stage
        .route(Isolation::Process)
        .commit_every_ms(100)
        .faults(json!([
            {"kind": "reject", "numbers": MENDED, "times": 1},
            {"kind": "reject", "unnumbered": true},
        ]))
        .with(
            "on_error",
            json!({"then": "dead_letter", "dead_letter": {"topic": dead, "headers": style}}),
        );
    let daemon = stage.home.start(&stage.settings(route))?;
    let first = await_letters(kafka, &dead, MENDED.len() + ODD)?;
    // What is no letter of this route's is none of its business.
    let foreign = Record {
        payload: Some(b"foreign".to_vec()),
        ..Record::default()
    };
    kafka.producer()?.send(&dead, 0, &[foreign])?;

    lists(&stage, &dead, &first)?;
    // Else what is replayed and given up again is a new letter, which the next replay has to send back.
    by_hand(&stage, "pause")?;
    let places = replayed_once(&stage, &dead, &first)?;
    by_hand(&stage, "resume")?;
    for (from, to) in &places {
        let number = stage.expected.places().find(|(place, _)| place == from);
        stage.expected.remove(from);
        if let Some((_, n)) = number {
            stage.expected.add(&to.topic, to.partition, to.offset, n);
        }
    }
    stage.await_all()?;
    let second = await_letters(kafka, &dead, first.len() + 1 + ODD)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    came_back_as_they_were(&stage, &produced, &places)?;
    did_not_grow(&second)?;

    // Only what came since.
    let again = replay(&stage, &[])?;
    assert_eq!(letters(&again, "replayed").len(), ODD, "{again}");
    let again = replay(&stage, &[])?;
    assert_eq!(letters(&again, "replayed").len(), 0, "{again}");
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn by_hand(stage: &Stage<'_>, what: &str) -> Outcome {
    control(&stage.home, &[what, ROUTE])?.expect(what, 0);
    Ok(())
}

fn odd_records() -> Vec<Record> {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let records = [
        Record {
            key: None,
            payload: None,
            headers: vec![
                header("a", Some(b"1")),
                header("a", None),
                header("__connect.errors.topic", Some(b"another's")),
            ],
            timestamp: Some(1_700_000_000_123),
            ..Record::default()
        },
        Record {
            key: Some(vec![0xff, 0xfe]),
            payload: Some(Vec::new()),
            // Made without a time.
            timestamp: Some(-1),
            ..Record::default()
        },
    ];
    assert_eq!(records.len(), ODD);
    records.into()
}

fn await_letters(kafka: &Kafka, dead: &str, count: usize) -> Result<Vec<Kept>, Failed> {
    Ok(wait::until_told("the letters", SOON, || {
        let letters = kafka.read(dead, PARTITIONS).map_err(|error| error.to_string())?;
        if letters.len() == count {
            Ok(letters)
        } else {
            Err(format!("{} of {count} letters", letters.len()))
        }
    })?)
}

/// `devourd dead-letter` with these words, which must succeed.
fn dead_letter(stage: &Stage<'_>, words: &[&str]) -> Result<String, Failed> {
    let mut command = stage.home.command()?;
    command
        .arg("--settings")
        .arg(stage.home.settings_file())
        .arg("dead-letter")
        .args(words);
    let done = command::run(&mut command, SOON)?;
    done.expect(words[0], 0);
    Ok(done.stdout)
}

fn replay(stage: &Stage<'_>, words: &[&str]) -> Result<Value, Failed> {
    let mut all = vec!["replay", ROUTE, "--json"];
    all.extend(words);
    Ok(serde_json::from_str(&dead_letter(stage, &all)?)?)
}

fn letters<'v>(answer: &'v Value, field: &str) -> &'v [Value] {
    answer[field].as_array().map_or(&[], Vec::as_slice)
}

/// The list names every letter, where it came from and why.
fn lists(stage: &Stage<'_>, dead: &str, first: &[Kept]) -> Outcome {
    let list: Value = serde_json::from_str(&dead_letter(stage, &["list", ROUTE, "--json"])?)?;
    assert_eq!((&list["topic"], &list["others"]), (&json!(dead), &json!(1)), "{list}");
    let listed = letters(&list, "letters");
    assert_eq!(listed.len(), first.len(), "{list}");
    for letter in listed {
        assert_eq!(letter["from"]["topic"], json!(stage.topic));
        assert_eq!(letter["from"]["partition"], letter["partition"], "the same number");
        assert_eq!((&letter["kind"], &letter["attempts"]), (&json!("reject"), &json!(1)));
        assert_eq!(letter["error"], json!("reject on order"));
    }
    let keys: BTreeSet<Option<&str>> = listed.iter().map(|letter| letter["key"].as_str()).collect();
    let mut expected: BTreeSet<Option<String>> = MENDED
        .iter()
        .map(|n| Some(String::from_utf8_lossy(&numbered_key(*n, PARTITIONS)).into_owned()))
        .collect();
    expected.extend([None, Some(r"\xff\xfe".to_owned())]);
    assert_eq!(keys, expected.iter().map(Option::as_deref).collect());
    let text = dead_letter(stage, &["list", ROUTE, "--limit", "2"])?;
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains(&format!("from {}/", stage.topic)) && text.contains("reject on order"));
    Ok(())
}

/// A dry run sends nothing; two runs with a limit between them send each letter once. Where each went.
fn replayed_once(stage: &Stage<'_>, dead: &str, first: &[Kept]) -> Result<Vec<(Place, Place)>, Failed> {
    let before = stage.kafka.read(&stage.topic, PARTITIONS)?.len();
    let dry = replay(stage, &["--dry-run"])?;
    assert_eq!(letters(&dry, "replayed").len(), first.len(), "{dry}");
    assert_eq!(stage.kafka.read(&stage.topic, PARTITIONS)?.len(), before);

    let some = replay(stage, &["--limit", "4"])?;
    let rest = replay(stage, &[])?;
    assert_eq!(letters(&some, "replayed").len(), 4, "{some}");
    let all: Vec<&Value> = letters(&some, "replayed")
        .iter()
        .chain(letters(&rest, "replayed"))
        .collect();
    let sent: BTreeSet<(i64, i64)> = all
        .iter()
        .filter_map(|one| Some((one["partition"].as_i64()?, one["offset"].as_i64()?)))
        .collect();
    let there: BTreeSet<(i64, i64)> = first
        .iter()
        .map(|letter| (letter.partition.into(), letter.offset))
        .collect();
    assert_eq!((all.len(), &sent), (first.len(), &there), "each letter of {dead} once");
    all.into_iter()
        .map(|one| {
            let from = one["from"].as_str().and_then(place);
            let to = &one["to"];
            let to = to["partition"].as_i64().zip(to["offset"].as_i64());
            match (from, to) {
                (Some(from), Some((partition, offset))) if i64::from(from.partition) == partition => {
                    let to = Place {
                        offset,
                        ..from.clone()
                    };
                    Ok((from, to))
                }
                _ => Err(format!("it did not go back to its partition: {one}").into()),
            }
        })
        .collect()
}

fn place(text: &str) -> Option<Place> {
    let (rest, offset) = text.rsplit_once('@')?;
    let (topic, partition) = rest.rsplit_once('/')?;
    Some(Place {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

/// Each message that was sent back is what it was, but for its offset.
fn came_back_as_they_were(stage: &Stage<'_>, produced: &[Kept], places: &[(Place, Place)]) -> Outcome {
    let now = stage.kafka.read(&stage.topic, PARTITIONS)?;
    let at = |all: &[Kept], place: &Place| {
        let found = all
            .iter()
            .find(|one| one.partition == place.partition && one.offset == place.offset);
        found.cloned().ok_or_else(|| format!("nothing at {place:?}"))
    };
    for (from, to) in places {
        let was = at(produced, from)?;
        let is = at(&now, to)?;
        assert_eq!(
            Kept {
                offset: was.offset,
                ..is
            },
            was
        );
    }
    Ok(())
}

/// Both letters of a message that was given up twice have as many headers.
fn did_not_grow(letters: &[Kept]) -> Outcome {
    for key in [None, Some(vec![0xff, 0xfe])] {
        let sizes: Vec<usize> = letters
            .iter()
            .filter(|letter| letter.key == key && letter.text("devour.route") == Some(ROUTE))
            .map(|letter| letter.headers.len())
            .collect();
        assert!(matches!(sizes[..], [one, other] if one == other), "{key:?}: {sizes:?}");
    }
    Ok(())
}
