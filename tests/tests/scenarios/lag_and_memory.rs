//! 10 million messages of lag with 64 MiB for the route: everything is digested once, in order, and what the daemon and
//! the plugin's process took at most is within the formula of docs/running-as-a-service.md ("Memory"), with one lane that
//! is fed straight and with several.

use devour_tests::{
    daemon::SOON,
    judge::Order,
    kafka::Kafka,
    memory::{Formula, MIB, Memory},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("one_lane", |kafka| run(kafka, Order::Partition, 1)),
    Run::Shared("four_lanes", |kafka| run(kafka, Order::Key, 4)),
];

const PARTITIONS: i32 = 8;
const SIZE: u64 = 100;
const BUDGET: u64 = 64 * MIB;
/// What allocators keep and round up, in each process.
const SLACK: u64 = 24 * MIB;

fn run(kafka: &Kafka, order: Order, lanes: u32) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "lag", PARTITIONS)?;
    // What is read ahead at most is some 300,000 of these: more than that has to be there.
    let count = if scale::soak() { 10_000_000 } else { 600_000 };
    let route = stage
        .route(Isolation::Process)
        .lanes(order, lanes)
        .with("memory", json!(BUDGET));
    let settings = stage.settings(route);

    // What both take before there is anything to digest.
    let daemon = stage.home.start(&settings)?;
    daemon.await_state(ROUTE, "running")?;
    let before = (
        Memory::of(daemon.pid())?,
        Memory::of(daemon.plugin_pid(ROUTE)?)?,
    );
    daemon.stop()?;

    const PART: u64 = 100_000;
    let producer = kafka.producer()?;
    for from in (0..count).step_by(PART as usize) {
        let numbers = from..(from + PART).min(count);
        let sent = producer.numbered(&stage.topic, PARTITIONS, numbers, SIZE as usize)?;
        stage.expected.extend(sent);
    }

    let daemon = stage.home.start_again()?;
    daemon.await_state(ROUTE, "running")?;
    let plugin = daemon.plugin_pid(ROUTE)?;
    // Not by the ledger: so many lines are read once, at the end.
    wait::until_told("everything to be committed", scale::patience(SOON), || {
        stage.all_is_committed().map_err(|error| format!("{error:?}"))
    })?;
    let after = (Memory::of(daemon.pid())?, Memory::of(plugin)?);
    daemon.stop()?;

    let formula = Formula {
        budget: BUDGET,
        message: SIZE,
        queued: 20_000,
        compressed: 0,
    };
    let took = (
        after.0.peak.saturating_sub(before.0.now),
        after.1.peak.saturating_sub(before.1.now),
    );
    eprintln!(
        "{count} messages of lag, {lanes} lanes: the daemon had {} MiB at its peak, {} MiB more than before ({} by the \
         formula), the plugin's process {} MiB, {} MiB more",
        after.0.peak / MIB,
        took.0 / MIB,
        formula.bytes() / MIB,
        after.1.peak / MIB,
        took.1 / MIB,
    );
    assert!(
        took.0 <= formula.bytes() + SLACK,
        "{} of {} bytes",
        took.0,
        formula.bytes()
    );
    assert!(took.1 <= BUDGET + SLACK, "{} of {BUDGET} bytes", took.1);
    stage.verdict()?.once_in_order()?;
    Ok(())
}
