//! A dead letter keeps key, value, headers and timestamp byte for byte and goes to the same partition number where that
//! exists; its headers tell what happened, in Kafka Connect's names or in Spring's. Everything else is digested once.

use devour_tests::{
    daemon::SOON,
    judge::Place,
    kafka::{Kafka, Kept, Record, unique},
    ledger::Outcome as Digest,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("connect_process", |kafka| run(kafka, Isolation::Process, "connect", 3)),
    Run::Shared("connect_thread", |kafka| run(kafka, Isolation::Thread, "connect", 3)),
    Run::Shared("spring_fewer_partitions", |kafka| {
        run(kafka, Isolation::Process, "spring", 1)
    }),
];

const PARTITIONS: i32 = 3;
/// Where the messages without a number go.
const ODD: i32 = 2;
/// Fails at every attempt, of which it has three. In partition 1.
const FAILS: u64 = 100;

fn run(kafka: &Kafka, isolation: Isolation, style: &str, dead_partitions: i32) -> Outcome {
    let mut stage = Stage::new(kafka, "letters", PARTITIONS)?;
    let dead = unique("letters-dead");
    stage.admin.create_topic(&dead, dead_partitions)?;
    let odd = odd_records();
    stage.produce(0..150)?;
    kafka.producer()?.send(&stage.topic, ODD, &odd)?;
    stage.produce(150..300)?;
    let route = stage
        .route(isolation)
        .commit_every_ms(100)
        .faults(json!([
            {"kind": "reject", "unnumbered": true},
            {"kind": "retry", "numbers": [FAILS], "times": 1_000_000},
        ]))
        .with("batch", json!({"max_messages": 20}))
        .with(
            "on_error",
            json!({
                "attempts": 3,
                "backoff": {"initial": "50ms", "max": "50ms"},
                "then": "dead_letter",
                "dead_letter": {"topic": dead, "headers": style},
            }),
        );
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_digested(299)?;
    let kept = wait::until_told("all dead letters", SOON, || {
        let kept = kafka
            .read(&dead, dead_partitions)
            .map_err(|error| error.to_string())?;
        if kept.len() > odd.len() {
            Ok(kept)
        } else {
            Err(format!("{} letters", kept.len()))
        }
    })?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let lines = stage.ledger.lines()?.clone();

    let (failing, odd_ones): (Vec<&Kept>, Vec<&Kept>) =
        kept.iter().partition(|letter| origin(letter, style).partition != ODD);
    let [failing] = failing[..] else {
        return Err(format!("one message of the other partitions failed, not {failing:?}").into());
    };
    assert_eq!(odd_ones.len(), odd.len(), "one letter for each message: {odd_ones:?}");
    for (letter, record) in odd_ones.into_iter().zip(&odd) {
        assert_eq!((&letter.key, &letter.payload), (&record.key, &record.payload));
        assert_eq!(letter.headers[..record.headers.len()], record.headers);
        assert_eq!(letter.timestamp, record.timestamp.filter(|at| *at >= 0));
        assert_eq!(letter.text("devour.attempts"), Some("1"));
        assert_eq!(letter.text("devour.failure.kind"), Some("reject"));
        if dead_partitions == PARTITIONS {
            assert_eq!(letter.partition, ODD, "the same number where it exists");
        }
        says(&stage, letter, style, "reject on order");
    }
    assert_eq!(failing.text("devour.attempts"), Some("3"));
    let at = |name: &str| failing.text(name).and_then(|at| at.parse::<i64>().ok());
    let (first, last) = (
        at("devour.first.failure.timestamp"),
        at("devour.last.failure.timestamp"),
    );
    // Two waits of 50 ms, each up to half shorter.
    assert!(first.zip(last).is_some_and(|(first, last)| last - first >= 50), "{first:?} {last:?}");
    says(&stage, failing, style, "retry on order");
    let attempts: Vec<u32> = lines
        .records
        .iter()
        .filter(|record| record.n == Some(FAILS) && record.outcome == Digest::Retry)
        .map(|record| record.attempt)
        .collect();
    assert_eq!(attempts, [1, 2, 3]);

    let place = origin(failing, style);
    stage.expected.remove(&place);
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// Null, empty and binary keys and values; headers that repeat, are empty, null or binary; times of their own.
fn odd_records() -> Vec<Record> {
    let bytes: Option<Vec<u8>> = Some(vec![0xff, 0x00, 0xfe, b'\n']);
    let (null, empty) = (None::<Vec<u8>>, Some(Vec::new()));
    let header = |name: &str, value: &Option<Vec<u8>>| (name.to_owned(), value.clone());
    let mut records = Vec::new();
    for key in [&null, &empty, &bytes] {
        for payload in [&null, &empty, &bytes] {
            records.push(Record {
                key: key.clone(),
                payload: payload.clone(),
                timestamp: Some(1_700_000_000_000 + records.len() as i64),
                ..Record::default()
            });
        }
    }
    records[0].headers = vec![header("a", &bytes), header("a", &null), header("", &empty)];
    records[4].headers = vec![
        header("__connect.errors.topic", &bytes),
        header("ümlaut", &bytes),
        header("kafka_dlt-original-topic", &null),
    ];
    // Made without a time.
    records[7].timestamp = Some(-1);
    // A large one, which travels alone.
    records[8].payload = Some(vec![7; 3 << 20]);
    records
}

/// Where a letter says that it comes from.
fn origin(letter: &Kept, style: &str) -> Place {
    let spring = |name: &str| letter.header(&format!("kafka_dlt-original-{name}"));
    let connect = |name: &str| letter.text(&format!("__connect.errors.{name}"));
    let (topic, partition, offset) = if style == "spring" {
        (
            spring("topic").map(|topic| String::from_utf8_lossy(topic).into_owned()),
            spring("partition").and_then(|bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?))),
            spring("offset").and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?))),
        )
    } else {
        (
            connect("topic").map(str::to_owned),
            connect("partition").and_then(|text| text.parse().ok()),
            connect("offset").and_then(|text| text.parse().ok()),
        )
    };
    match (topic, partition, offset) {
        (Some(topic), Some(partition), Some(offset)) => Place {
            topic,
            partition,
            offset,
        },
        other => panic!("{other:?} in {letter:?}"),
    }
}

/// What stands in every letter.
fn says(stage: &Stage<'_>, letter: &Kept, style: &str, error: &str) {
    let message = match style {
        "spring" => "kafka_dlt-exception-message",
        _ => "__connect.errors.exception.message",
    };
    for (name, value) in [
        ("devour.route", ROUTE),
        ("devour.consumer.group", &stage.group),
        ("devour.plugin", "devour-test-ledger"),
        ("devour.plugin.version", env!("CARGO_PKG_VERSION")),
        (message, error),
    ] {
        assert_eq!(letter.text(name), Some(value), "{name} in {letter:?}");
    }
    assert_eq!(origin(letter, style).topic, stage.topic);
    if style == "spring" {
        let at = letter.header("kafka_dlt-original-timestamp");
        assert_eq!(at, Some(letter.timestamp.unwrap_or(-1).to_be_bytes().as_slice()));
        let kind = letter.timestamp.map_or("NoTimestampType", |_| "CreateTime");
        assert_eq!(letter.text("kafka_dlt-original-timestamp-type"), Some(kind));
        assert_eq!(letter.text("kafka_dlt-original-consumer-group"), Some(&*stage.group));
    }
}

