//! A digest that fails in the middle of a batch while more batches of its partition are handed out: its partition waits
//! and stays in order, the others go on. The same with a SIGKILL right after the failure.

use std::collections::BTreeMap;

use devour_tests::{
    kafka::Kafka,
    ledger::{Lines, Outcome as Digest, Record},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process, After::Nothing)),
    Run::Shared("thread", |kafka| run(kafka, Isolation::Thread, After::Nothing)),
    Run::Shared("process_and_sigkill", |kafka| {
        run(kafka, Isolation::Process, After::Kill)
    }),
    Run::Shared("thread_and_sigkill", |kafka| {
        run(kafka, Isolation::Thread, After::Kill)
    }),
];

#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    Kill,
}

const PARTITIONS: i32 = 3;
/// In partition 0, in the middle of its second batch of 50.
const FAILS: u64 = 75 * PARTITIONS as u64;

fn run(kafka: &Kafka, isolation: Isolation, then: After) -> Outcome {
    let mut stage = Stage::new(kafka, "failing", PARTITIONS)?;
    // Ten batches a partition, all there before the start: what follows the failure is handed out already.
    stage.produce(0..1500)?;
    let route = stage
        .route(isolation)
        .work_us(200)
        .commit_every_ms(100)
        .faults(json!([{"kind": "retry", "numbers": [FAILS], "times": 2}]))
        .with("batch", json!({"max_messages": 50}))
        .with("on_error", json!({"backoff": {"initial": "4s", "max": "4s"}}));
    let settings = stage.settings(route);
    let mut daemon = stage.home.start(&settings)?;
    stage
        .ledger
        .await_that("the first failure", DIGESTING, |lines| failures(lines) == 1)?;
    let mut committed = BTreeMap::new();
    if then == After::Kill {
        daemon.kill()?;
        committed = stage.admin.committed(&stage.group, &stage.topic, PARTITIONS)?;
        daemon = stage.home.start_again()?;
    }
    stage
        .ledger
        .await_that("the second failure", DIGESTING, |lines| failures(lines) == 2)?;
    // More for every partition while that one waits, which is two seconds at least.
    stage.produce(1500..1800)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let lines = stage.ledger.lines()?.clone();
    assert_eq!(failures(&lines), 2, "it failed twice");
    others_went_on(&lines)?;
    let verdict = stage.verdict()?;
    match then {
        After::Nothing => verdict.once_in_order()?,
        After::Kill => {
            verdict.in_order()?;
            verdict.twice_only_uncommitted(&committed)?;
        }
    }
    Ok(())
}

fn failures(lines: &Lines) -> usize {
    lines
        .records
        .iter()
        .filter(|record| record.outcome == Digest::Retry)
        .count()
}

/// Between the last failure and the success of that message, other partitions digested all that came meanwhile, and its
/// own digested nothing.
fn others_went_on(lines: &Lines) -> Outcome {
    let of_message = |record: &&Record| record.n == Some(FAILS);
    let failed = lines
        .records
        .iter()
        .rfind(|record| of_message(record) && record.outcome == Digest::Retry);
    let done = lines
        .records
        .iter()
        .rfind(|record| of_message(record) && record.outcome.is_digested());
    let (Some(failed), Some(done)) = (failed, done) else {
        return Err("it never failed and succeeded".into());
    };
    let between = |partition: i32| {
        let meanwhile = lines
            .records
            .iter()
            .filter(|record| (failed.at + 1..done.at).contains(&record.at));
        meanwhile
            .filter(|record| record.partition == partition && record.outcome.is_digested())
            .count()
    };
    assert_eq!(between(0), 0, "the failed message's partition waits");
    for other in 1..PARTITIONS {
        assert!(
            between(other) >= 100,
            "partition {other} digested {} meanwhile",
            between(other)
        );
    }
    Ok(())
}
