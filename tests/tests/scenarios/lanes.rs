//! Several lanes: with and without keys every message is digested once, in the order that the route keeps, and all are
//! committed; also where every third digest fails. A plugin that kills its process loses nothing, and twice is only what
//! its lanes had in hand.

use std::collections::{BTreeMap, BTreeSet};

use devour_tests::{
    judge::{Order, Verdict},
    kafka::Kafka,
    ledger::Outcome as Digest,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process_key", |kafka| run(kafka, Isolation::Process, Order::Key)),
    Run::Shared("process_partition", |kafka| {
        run(kafka, Isolation::Process, Order::Partition)
    }),
    Run::Shared("process_none", |kafka| run(kafka, Isolation::Process, Order::None)),
    Run::Shared("thread_key", |kafka| run(kafka, Isolation::Thread, Order::Key)),
    Run::Shared("thread_partition", |kafka| {
        run(kafka, Isolation::Thread, Order::Partition)
    }),
    Run::Shared("thread_none", |kafka| run(kafka, Isolation::Thread, Order::None)),
    Run::Shared("failing_process_key", |kafka| {
        failing(kafka, Isolation::Process, Order::Key)
    }),
    Run::Shared("failing_process_partition", |kafka| {
        failing(kafka, Isolation::Process, Order::Partition)
    }),
    Run::Shared("failing_thread_key", |kafka| {
        failing(kafka, Isolation::Thread, Order::Key)
    }),
    Run::Shared("failing_thread_none", |kafka| {
        failing(kafka, Isolation::Thread, Order::None)
    }),
    Run::Shared("killed_key", |kafka| killed(kafka, Order::Key)),
    Run::Shared("killed_partition", |kafka| killed(kafka, Order::Partition)),
];

const LANES: u32 = 4;
const PARTITIONS: i32 = 8;
/// In each partition; as many messages again have no key.
const KEYS: u64 = 8;

fn run(kafka: &Kafka, isolation: Isolation, order: Order) -> Outcome {
    let mut stage = stage(kafka, order, scale::messages(200_000))?;
    let route = stage.route(isolation).lanes(order, LANES);
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn failing(kafka: &Kafka, isolation: Isolation, order: Order) -> Outcome {
    let count = scale::messages(40_000);
    let mut stage = stage(kafka, order, count)?;
    let route = stage
        .route(isolation)
        .lanes(order, LANES)
        .faults(json!([{"kind": "retry", "every": 3}]))
        .quick_again();
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let failed = stage.ledger.lines()?.records.iter();
    let failed = failed.filter(|record| record.outcome == Digest::Retry).count() as u64;
    assert!(failed >= count / 2 - 10, "every third of all digests: {failed}");
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn killed(kafka: &Kafka, order: Order) -> Outcome {
    let mut stage = stage(kafka, order, scale::messages(100_000))?;
    let route = stage
        .route(Isolation::Process)
        .lanes(order, LANES)
        // Each instance after so many digests of its own.
        .faults(json!([{"kind": "kill", "every": 700, "after": true}]))
        .quick_again();
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    assert!(verdict.deaths >= 3, "{verdict}");
    twice_only_in_hand(&verdict);
    Ok(())
}

/// Of what a process digested, its successors digest again one message of each lane at most.
fn twice_only_in_hand(verdict: &Verdict) {
    let mut again: BTreeMap<u32, usize> = BTreeMap::new();
    let mut dead: BTreeSet<u32> = BTreeSet::new();
    for record in verdict.duplicated.iter().flat_map(|one| &one.digests) {
        if record.outcome == Digest::OkThenDied {
            dead.insert(record.pid);
        }
    }
    for one in &verdict.duplicated {
        for before in &one.digests[..one.digests.len() - 1] {
            *again.entry(before.pid).or_default() += 1;
        }
    }
    for (pid, count) in again {
        assert!(dead.contains(&pid), "process {pid} did not die: {verdict}");
        assert!(
            count <= LANES as usize,
            "{count} messages of process {pid} came again: {verdict}"
        );
    }
}

/// Half of the messages have keys.
fn stage(kafka: &Kafka, order: Order, count: u64) -> Result<Stage<'_>, libtest_mimic::Failed> {
    let mut stage = Stage::in_order_of(order, kafka, "lanes", PARTITIONS)?;
    let partitions = PARTITIONS as u64;
    stage.produce_by(0..count, |n| {
        (n / partitions).is_multiple_of(2).then_some(n % (partitions * KEYS))
    })?;
    Ok(stage)
}
