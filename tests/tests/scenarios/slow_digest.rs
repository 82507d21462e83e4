//! One digest that takes a minute (6 s in CI) beside fast ones, several lanes, all of them busy: the others are digested at
//! the rate that they had before, by key and by partition, and once and in order all the same; also where what waits behind
//! the slow one would fill the route's memory.

use devour_tests::{
    judge::Order,
    kafka::Kafka,
    ledger::Record,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("key_process", |kafka| {
        run(kafka, Isolation::Process, Order::Key, Memory::Plenty)
    }),
    Run::Shared("key_thread", |kafka| {
        run(kafka, Isolation::Thread, Order::Key, Memory::Plenty)
    }),
    Run::Shared("partition_process", |kafka| {
        run(kafka, Isolation::Process, Order::Partition, Memory::Plenty)
    }),
    Run::Shared("partition_little_memory", |kafka| {
        run(kafka, Isolation::Process, Order::Partition, Memory::Little)
    }),
];

const PARTITIONS: u64 = 8;
/// By key there are so many that the one with the slow message is less than a tenth of what they can do.
const LANES_BY_KEY: u64 = 16;
const WORK_US: u64 = 4_000;
/// Bytes of a message: what comes in 6 s behind one of a partition is more than 1 MiB.
const SIZE: usize = 1_000;
const MS: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Plenty,
    /// What comes behind the slow message while it is digested does not fit.
    Little,
}

fn run(kafka: &Kafka, isolation: Isolation, order: Order, memory: Memory) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "slow", PARTITIONS as i32)?;
    let (slow_ms, least) = if scale::soak() { (60_000, 0.9) } else { (6_000, 0.7) };
    let lanes = match order {
        // Each has one.
        Order::Partition => PARTITIONS,
        _ => LANES_BY_KEY,
    };
    // As many as the lanes can do, so there is always something to do.
    let a_second = lanes * 1_000_000 / WORK_US;
    let before = a_second * slow_ms / 2_000;
    let count = before + a_second * slow_ms / 1_000 + a_second;
    produce(&mut stage, 0..before)?;
    let slow = before;
    let mut route = stage.route(isolation).lanes(order, lanes as u32).with(
        "settings",
        json!({"work_us": WORK_US, "slow": [slow], "slow_ms": slow_ms}),
    );
    if memory == Memory::Little {
        route = route.with("memory", json!("1MiB"));
    }
    let daemon = stage.home.start(&stage.settings(route))?;
    // It is read before what it is beside, and there is always something to do.
    stage.await_digested(before / 2)?;
    produce(&mut stage, slow..slow + 1)?;
    stage.await_digested(before * 7 / 8)?;
    produce(&mut stage, slow + 1..count)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;

    let rates = rates(&stage.ledger.lines()?.records, order, slow, slow_ms)?;
    eprintln!(
        "{isolation:?}, order {}: {:.0} others a second before, {:.0} beside a digest of {slow_ms} ms",
        order.name(),
        rates.before,
        rates.beside
    );
    assert!(
        rates.beside >= least * rates.before,
        "{:.0} a second beside it, {:.0} before",
        rates.beside,
        rates.before
    );
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn produce(stage: &mut Stage<'_>, numbers: std::ops::Range<u64>) -> Outcome {
    let producer = stage.kafka.producer()?;
    let sent = producer.numbered(&stage.topic, PARTITIONS as i32, numbers, SIZE)?;
    stage.expected.extend(sent);
    Ok(())
}

struct Rates {
    before: f64,
    beside: f64,
}

/// Digests a second of what does not wait for the slow message, before it and beside it.
fn rates(records: &[Record], order: Order, slow: u64, slow_ms: u64) -> Result<Rates, Failed> {
    let end = records.iter().find(|one| one.n == Some(slow));
    let end = end.ok_or("the slow message was digested")?.at;
    let begin = end - slow_ms * MS;
    let keys = PARTITIONS * devour_tests::kafka::KEYS;
    let same = |n: u64| match order {
        Order::Partition => n % PARTITIONS == slow % PARTITIONS,
        _ => n % keys == slow % keys,
    };
    let mut others: Vec<u64> = records
        .iter()
        .filter(|one| one.n.is_some_and(|n| !same(n)))
        .map(|one| one.at)
        .collect();
    others.sort_unstable();
    // The first second has the start in it.
    let first = others.first().copied().unwrap_or_default() + 1_000 * MS;
    let last = others.last().copied().unwrap_or_default();
    if first + 1_000 * MS > begin || last < end {
        return Err(format!("too few messages: digests from {first} to {last}, the slow one from {begin} to {end}").into());
    }
    let count = |from: u64, to: u64| others.iter().filter(|at| (from..to).contains(at)).count() as f64;
    let a_second = |from: u64, to: u64| count(from, to) / ((to - from) as f64 / 1e9);
    Ok(Rates {
        before: a_second(first, begin),
        beside: a_second(begin, end),
    })
}
