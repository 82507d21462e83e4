//! One digest of several lanes never returns: after `digest_timeout` its process is ended, and only that message counts a
//! failed attempt. What the other lanes had is digested once and as their first attempt, in order.

use devour_tests::{
    judge::Order,
    kafka::{Kafka, numbered_key},
    ledger::Outcome as Digest,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("key", |kafka| run(kafka, Order::Key)),
    Run::Shared("partition", |kafka| run(kafka, Order::Partition)),
];

const PARTITIONS: i32 = 8;
const LANES: u32 = 4;

fn run(kafka: &Kafka, order: Order) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "deadline", PARTITIONS)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    // Of one key, so that the second is never in hand when the process is ended for the first: it would have missed no
    // deadline of its own.
    let key = |n: &u64| numbered_key(*n, PARTITIONS);
    let first = count / 4;
    let second = (count / 4 * 3..count).find(|n| key(n) == key(&first));
    let blocks = [first, second.ok_or("there is another of its key")?];
    let route = stage
        .route(Isolation::Process)
        .lanes(order, LANES)
        // Digests of some length, so that the other lanes are in the midst of one.
        .work_us(1_000)
        .with("digest_timeout", json!("1s"))
        .faults(json!([{"kind": "block", "numbers": blocks}]))
        .quick_again();
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;

    let records = &stage.ledger.lines()?.records;
    let blocked: Vec<_> = records.iter().filter(|one| one.outcome == Digest::Died).collect();
    assert_eq!(blocked.len(), blocks.len(), "{blocked:?}");
    for one in records.iter().filter(|one| one.outcome.is_digested()) {
        let missed = one.n.is_some_and(|n| blocks.contains(&n));
        assert_eq!(one.attempt, if missed { 2 } else { 1 }, "{one}");
    }
    stage.verdict()?.once_in_order()?;
    Ok(())
}
