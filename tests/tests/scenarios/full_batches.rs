//! `batch.max_wait` fills a call: what is not a full batch waits that long for more, and a full one goes at once. A stop
//! or a rebalance does not wait for it, and loses nothing.

use std::time::{Duration, Instant};

use devour_tests::{
    daemon::{Route, SOON},
    kafka::Kafka,
    ledger::monotonic_ns,
    members::Members,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process)),
    Run::Shared("thread", |kafka| run(kafka, Isolation::Thread)),
    Run::Shared("rebalance", rebalance),
];

const BATCH: u64 = 100;
/// Longer than anybody waits here.
const LONG: &str = "10m";
const SHORT: Duration = Duration::from_secs(1);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "batches", 1)?;
    let settings = stage.settings(with_batches(stage.route(isolation), LONG));
    let daemon = stage.home.start(&settings)?;
    stage.produce(0..BATCH - 1)?;
    daemon.wait_for("the plugin", SOON, |line| line.says("plugin up"))?;
    let all_but_one = monotonic_ns();
    stage.produce(BATCH - 1..BATCH)?;
    stage.await_digested(BATCH)?;
    let first = stage.ledger.lines()?.records[0].at;
    assert!(first > all_but_one, "the call went out before it was full");

    // Half a batch more, and the stop: it is left, and no time is lost on it.
    stage.produce(BATCH..BATCH + BATCH / 2)?;
    let begin = Instant::now();
    daemon.stop()?;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "the stop took {took:?}");
    assert_eq!(stage.ledger.lines()?.records.len() as u64, BATCH);

    // With a short wait half a batch goes when it is over, and not before.
    let settings = stage.settings(with_batches(stage.route(isolation), "1s"));
    let daemon = stage.home.start(&settings)?;
    stage.await_all()?;
    let produced = monotonic_ns();
    stage.produce(BATCH + BATCH / 2..2 * BATCH)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let late = stage.ledger.lines()?.records.last().map_or(0, |last| last.at) - produced;
    assert!(
        Duration::from_nanos(late) >= SHORT * 9 / 10,
        "half a batch went after {late} ns"
    );
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// A second member comes while half a batch waits in the first: it gets its partitions long before the wait is over.
fn rebalance(kafka: &Kafka) -> Outcome {
    const PARTITIONS: usize = 4;
    let mut stage = Stage::new(kafka, "batches-shared", PARTITIONS as i32)?;
    let route = with_batches(stage.route(Isolation::Process), LONG).with("membership", json!("dynamic"));
    let settings = stage.settings(route);
    let mut members = Members::new("batches", 2, &settings)?;
    members.join(0)?;
    members.await_shared_out(PARTITIONS, SOON)?;
    stage.produce(0..BATCH / 2)?;
    members.join(1)?;
    members.await_shared_out(PARTITIONS, SOON)?;
    // Full batches in both, whatever each has of the first half.
    stage.produce(BATCH / 2..4 * BATCH)?;
    stage.await_digested(3 * BATCH)?;
    members.leave_all()?;
    let settings = stage.settings(with_batches(stage.route(Isolation::Process), "100ms"));
    let daemon = stage.home.start(&settings)?;
    // There may be nothing left to digest.
    daemon.await_state(ROUTE, "running")?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn with_batches(route: Route, max_wait: &str) -> Route {
    route.with("batch", json!({"max_messages": BATCH, "max_wait": max_wait}))
}
