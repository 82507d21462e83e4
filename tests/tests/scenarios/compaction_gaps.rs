//! A topic with gaps where compaction took messages: what is left is digested once, in order, and it is committed to its
//! end.

use std::time::Duration;

use devour_tests::{
    both,
    judge::Place,
    kafka::{Kafka, Record, numbered_payload, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
    wait,
};

use serde_json::json;

pub const RUNS: &[Run] = both!(Shared, run);

const KEYS: u64 = 10;
const MESSAGES: u64 = 2_000;
/// The broker's cleaner has to come by; 15 s apart where it is not our own.
const COMPACTING: Duration = Duration::from_secs(90);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let topic = unique("compacted");
    let mut stage = Stage::without_topic(kafka, "compacted", topic, 1)?;
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "0"),
    ];
    stage.admin.create_topic_with(&stage.topic, 1, &settings)?;
    let producer = kafka.producer()?;
    let record = |n: u64, key: String| Record {
        n,
        key: Some(key.into_bytes()),
        payload: Some(numbered_payload(n, 100)),
        ..Record::default()
    };
    let many: Vec<Record> = (0..MESSAGES)
        .map(|n| record(n, format!("key-{}", n % KEYS)))
        .collect();
    stage.expected.extend(producer.send(&stage.topic, 0, &many)?);
    // Only what lies behind a newer segment is compacted: each of these, whose keys are its own, may begin one.
    let mut next = MESSAGES;
    let left = wait::until_told("compaction", COMPACTING, || {
        let one = record(next, format!("end-{next}"));
        let sent = producer.send(&stage.topic, 0, &[one]);
        stage.expected.extend(sent.map_err(|error| error.to_string())?);
        next += 1;
        let offsets = stage
            .admin
            .offsets(&stage.topic, 0)
            .map_err(|error| error.to_string())?;
        let of_keys = offsets.iter().filter(|offset| **offset < MESSAGES as i64).count();
        if of_keys as u64 == KEYS {
            Ok(offsets)
        } else {
            Err(format!("{of_keys} of {MESSAGES} are left"))
        }
    })?;
    for offset in (0..MESSAGES as i64).filter(|offset| !left.contains(offset)) {
        stage.expected.remove(&Place {
            topic: stage.topic.clone(),
            partition: 0,
            offset,
        });
    }
    assert_eq!(stage.expected.count(), left.len() as u64);
    // Said or not: gaps are always fine.
    let route = stage
        .route(isolation)
        .commit_every_ms(100)
        .with("config", json!({"compacted_topic": isolation == Isolation::Process}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    let end = stage.admin.watermarks(&stage.topic, 0)?.1;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, 1, end, DIGESTING)?;
    daemon.stop()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
