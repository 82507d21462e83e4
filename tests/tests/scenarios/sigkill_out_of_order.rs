//! SIGKILL of the daemon with 5,000 messages in hand or finished out of order: one slow message stands at the front of
//! every partition, others wait behind it for their key, the rest was finished beside it. After the restart only what
//! was not committed, in the offsets or in the text beside them, is digested again.

use std::collections::BTreeMap;

use devour_tests::{
    both,
    judge::Order,
    kafka::{KEYS, Kafka},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
    wait,
};
use devourd::worker::completed::{Completed, decode};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = both!(Shared, run);

const PARTITIONS: u64 = 4;
const LANES: u32 = 8;
/// The first message of each partition is never done before the SIGKILL.
const SLOW: std::ops::Range<u64> = 0..PARTITIONS;
const OUT_OF_ORDER: u64 = 5000;

/// What the group has of each partition: the offset, and what is finished beyond it.
type Committed = BTreeMap<i32, (i64, Completed)>;

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "beside", PARTITIONS as i32)?;
    let count = 6 * OUT_OF_ORDER;
    stage.produce(0..count)?;
    let route = stage
        .route(isolation)
        .lanes(Order::Key, LANES)
        .work_us(1000)
        .commit_every_ms(100)
        .faults(json!([{"kind": "block", "numbers": SLOW.collect::<Vec<_>>()}]));
    let daemon = stage.home.start(&stage.settings(route))?;
    wait::until_told(
        "enough to be committed beside the slow ones",
        scale::patience(DIGESTING),
        || {
            let committed = committed(&stage).map_err(|error| format!("{error:?}"))?;
            // What was read first is digested first: one partition comes after the other.
            let counts = committed.values().map(|(_, finished)| finished.count());
            if counts.clone().sum::<u64>() >= OUT_OF_ORDER && counts.clone().all(|count| count >= 100) {
                Ok(())
            } else {
                Err(format!("{:?} are finished out of order", counts.collect::<Vec<_>>()))
            }
        },
    )?;
    daemon.kill()?;
    let committed = committed(&stage)?;
    assert!(
        committed.values().all(|(offset, _)| *offset == 0),
        "no partition got past its first message: {committed:?}"
    );
    let before = stage.ledger.lines()?.records.len() as u64;
    let possible = count - count / KEYS;
    assert!(before < possible, "killed midway: {before} of {possible}");

    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    eprintln!(
        "{isolation:?}: {} finished out of order and committed, {before} digested at the SIGKILL, {} again",
        finished_beyond(&committed),
        verdict.duplicated.len()
    );
    verdict.in_order()?;
    verdict.twice_only("what was not committed, in the offset or beside it", |one| {
        let (offset, finished) = &committed[&one.place.partition];
        let is_beside = finished.runs().iter().any(|run| run.contains(&one.place.offset));
        one.place.offset >= *offset && !is_beside
    })?;
    // What waits for its key behind a slow message is a hole in what is finished.
    for (_, finished) in committed.values() {
        let holes = finished.runs().len() as u64;
        assert!(holes >= finished.count() / KEYS, "{holes} holes: {finished:?}");
    }
    Ok(())
}

fn committed(stage: &Stage<'_>) -> Result<Committed, Failed> {
    let found = stage
        .admin
        .all_committed_with_metadata(&stage.group, &stage.topic, 0..stage.partitions)?;
    let mut all = Committed::new();
    for partition in 0..stage.partitions {
        let (offset, text) = found.get(&partition).cloned().unwrap_or_default();
        let finished = decode(offset, text.as_bytes()).map_err(|error| error.to_string())?;
        all.insert(partition, (offset, finished));
    }
    Ok(all)
}

fn finished_beyond(committed: &Committed) -> u64 {
    committed.values().map(|(_, finished)| finished.count()).sum()
}
