//! What a group has beside its committed offsets: of finished offsets beyond them exactly the unfinished ones are
//! digested, also when they are carried on over a stop; what another program wrote there, or what is damaged, is ignored
//! with a warning and everything from the committed offset on is digested.

use devour_tests::{
    both,
    judge::Place,
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
};
use devourd::worker::completed::{Completed, decode, encode};
use serde_json::json;

pub const RUNS: &[Run] = both!(Shared, run);

const PARTITIONS: i32 = 3;
const EACH: i64 = 300;
const COMMITTED: i64 = 20;

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "beyond", PARTITIONS)?;
    stage.produce(0..EACH as u64 * PARTITIONS as u64)?;
    let finished: Completed = (COMMITTED + 1..EACH - 5)
        .filter(|offset| offset % 3 == 0 || (100..200).contains(offset))
        .map(|offset| offset..offset + 1)
        .collect();
    let (ours, fits) = encode(COMMITTED, &finished);
    assert!(fits && !ours.is_empty());
    let foreign = r#"{"app":"another","at":20}"#;
    let mut damaged = ours.clone();
    damaged.replace_range(12..13, if &ours[12..13] == "A" { "B" } else { "A" });
    for (partition, metadata) in [(0, ours.as_str()), (1, foreign), (2, damaged.as_str())] {
        stage
            .admin
            .commit(&stage.group, (&stage.topic, partition), COMMITTED, metadata)?;
        for offset in 0..COMMITTED {
            remove(&mut stage, partition, offset);
        }
    }
    for offset in finished.runs().iter().cloned().flatten() {
        remove(&mut stage, 0, offset);
    }

    // The first message at hand is refused for good: its partition stands there, and what is finished beyond it stays so.
    let refused = COMMITTED as u64 * PARTITIONS as u64;
    let stopping = stage
        .route(isolation)
        .commit_every_ms(100)
        .faults(json!([{"kind": "reject", "numbers": [refused], "times": 1}]));
    let daemon = stage.home.start(&stage.settings(stopping))?;
    daemon.wait_for("partition 0 to stop", DIGESTING, |line| {
        line.says("digest failed") && line.number("partition") == Some(0)
    })?;
    stage.await_digested(2 * (EACH - COMMITTED) as u64)?;
    let log = daemon.stop()?;
    for (partition, metadata) in [(1, foreign), (2, damaged.as_str())] {
        let warned = log.all(|line| {
            line.says("the metadata of the committed offset cannot be used")
                && line.text("route") == Some(ROUTE)
                && line.text("topic") == Some(&stage.topic)
                && line.number("partition") == Some(partition)
                && line.number("offset") == Some(COMMITTED)
        });
        assert_eq!(warned.len(), 1, "partition {partition}: {warned:?}");
        let shown = warned[0].text("metadata").unwrap_or_default();
        assert!(!shown.is_empty() && metadata.starts_with(shown), "{shown}");
    }
    let there = stage
        .admin
        .committed_with_metadata(&stage.group, &stage.topic, 0)?;
    let (offset, text) = there.ok_or("nothing is committed")?;
    assert_eq!(offset, COMMITTED);
    assert_eq!(decode(offset, text.as_bytes()), Ok(finished));

    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    for partition in 0..PARTITIONS {
        let there = stage
            .admin
            .committed_with_metadata(&stage.group, &stage.topic, partition)?;
        assert_eq!(
            there,
            Some((EACH, String::new())),
            "nothing is left to say of partition {partition}"
        );
    }
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn remove(stage: &mut Stage<'_>, partition: i32, offset: i64) {
    let topic = stage.topic.clone();
    stage.expected.remove(&Place {
        topic,
        partition,
        offset,
    });
}
