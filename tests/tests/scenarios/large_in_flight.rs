//! 1,000 messages of 1 MB for an async consumer that may have 1,000 in flight, with 64 MiB for them: as many go on at once
//! as fit, nothing is lost, and what the daemon and the plugin's process took at most is within what the documentation
//! says. In both isolations.

use devour_tests::{
    both,
    daemon::{Daemon, Route},
    judge::Order,
    kafka::Kafka,
    memory::{Formula, MIB, Memory},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = both!(Shared, run);

const PARTITIONS: i32 = 4;
const SIZE: usize = 1_000_000;
const IN_FLIGHT: u64 = 1_000;
const BUDGET: u64 = 64 * MIB;
/// What allocators keep and round up, in each process.
const SLACK: u64 = 24 * MIB;

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::in_order_of(Order::None, kafka, "large-in-flight", PARTITIONS)?;
    let count = scale::messages(2 * IN_FLIGHT);
    let route = Route::of(
        "AsyncLedger",
        isolation,
        &stage.topic,
        &stage.group,
        stage.ledger.path(),
    )
    .lanes(Order::None, 1)
    .with("concurrency", json!({"in_flight": IN_FLIGHT}))
    .with("memory", json!(BUDGET))
    .with("settings", json!({"wait_us": 500_000}));
    // What both take before there is anything to digest.
    let daemon = stage.home.start(&stage.settings(route))?;
    let before = memory(&daemon, isolation)?;
    daemon.stop()?;

    let producer = kafka.producer()?;
    stage
        .expected
        .extend(producer.numbered(&stage.topic, PARTITIONS, 0..count, SIZE)?);
    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    let after = memory(&daemon, isolation)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;

    let formula = Formula {
        budget: BUDGET,
        message: SIZE as u64,
        queued: 20_000,
        compressed: 0,
    };
    let daemon = after.0.peak.saturating_sub(before.0.now);
    eprintln!(
        "{count} messages of {SIZE} bytes, {isolation:?}: the daemon took {} MiB more at its peak, of {} MiB",
        daemon / MIB,
        formula.bytes() / MIB
    );
    assert!(
        daemon <= formula.bytes() + SLACK,
        "{daemon} of {} bytes",
        formula.bytes()
    );
    assert!(daemon >= BUDGET / 2, "as many as fit are in flight: {daemon} bytes");
    if let (Some(before), Some(after)) = (before.1, after.1) {
        let plugin = after.peak.saturating_sub(before.now);
        eprintln!("its plugin's process {} MiB more", plugin / MIB);
        assert!(plugin <= BUDGET + SLACK, "{plugin} of {BUDGET} bytes");
    }
    Ok(())
}

/// Of the daemon of a route that runs, and of its plugin's process if it has one.
fn memory(daemon: &Daemon, isolation: Isolation) -> Result<(Memory, Option<Memory>), Failed> {
    daemon.await_state(ROUTE, "running")?;
    let plugin = match isolation {
        Isolation::Process => Some(daemon.plugin_pid(ROUTE)?),
        Isolation::Thread => None,
    };
    Ok((Memory::of(daemon.pid())?, plugin.map(Memory::of).transpose()?))
}
