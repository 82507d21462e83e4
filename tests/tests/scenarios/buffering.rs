//! A consumer that buffers: every message is flushed once, in order, by few tags as by many, in both isolations. Killed
//! between take and flush, or in a flush, it loses nothing; twice is only what a killed flush had written. One whose
//! count of messages does not fit its memory goes on.

use devour_tests::{
    daemon::Route,
    judge::Order,
    kafka::Kafka,
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
    Run::Shared("thread_key", |kafka| run(kafka, Isolation::Thread, Order::Key)),
    Run::Shared("one_tag_process", |kafka| one_tag(kafka, Isolation::Process)),
    Run::Shared("one_tag_thread", |kafka| one_tag(kafka, Isolation::Thread)),
    Run::Shared("failing", failing),
    Run::Shared("killed_between_take_and_flush", killed),
    Run::Shared("killed_in_its_flush", killed_in_its_flush),
    Run::Shared("more_than_its_memory_process", |kafka| {
        more_than_its_memory(kafka, Isolation::Process)
    }),
    Run::Shared("more_than_its_memory_thread", |kafka| {
        more_than_its_memory(kafka, Isolation::Thread)
    }),
];

const PARTITIONS: i32 = 4;
const LANES: u32 = 3;

fn run(kafka: &Kafka, isolation: Isolation, order: Order) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "buffering", PARTITIONS)?;
    stage.produce(0..scale::messages(200_000))?;
    let route = route(&stage, isolation)
        .lanes(order, LANES)
        .with("settings", json!({"max_messages": 500, "max_wait_ms": 100}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// All messages are of one tag, and a flush is due after many calls or after longer than anybody waits here: what follows
/// a message that is only buffered must not wait for its flush.
fn one_tag(kafka: &Kafka, isolation: Isolation) -> Outcome {
    const FLUSH: u64 = 10_000;
    let mut stage = Stage::in_order_of(Order::Partition, kafka, "buffering", 1)?;
    stage.produce(0..4 * FLUSH)?;
    let route = route(&stage, isolation)
        .lanes(Order::Partition, LANES)
        .with("batch", json!({"max_messages": 500}))
        .with("settings", json!({"max_messages": FLUSH, "max_wait_ms": 600_000}));
    let daemon = stage.home.start(&stage.settings(route))?;
    // Calls end where they end: what is left of the last flush comes at the stop.
    stage.await_digested(3 * FLUSH)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// A message that fails holds back what follows it of its key, and not what was buffered before.
fn failing(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "buffering-fails", PARTITIONS)?;
    stage.produce(0..scale::messages(40_000))?;
    let route = route(&stage, Isolation::Process)
        .lanes(Order::Key, LANES)
        .faults(json!([{"kind": "retry", "every": 5}]))
        .with("settings", json!({"max_messages": 300, "max_wait_ms": 50}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn killed(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "buffering-killed", PARTITIONS)?;
    stage.produce(0..scale::messages(100_000))?;
    let route = route(&stage, Isolation::Process)
        // One lane: with several, one may be in the midst of a flush when another ends them all.
        .lanes(Order::Key, 1)
        // Each instance after so many digests, of which it has not flushed the last.
        .faults(json!([{"kind": "kill", "every": 1_333}]))
        .with("settings", json!({"max_messages": 500, "max_wait_ms": 50}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    assert!(verdict.deaths >= 2, "{verdict}");
    // What was taken is not written down before its flush.
    verdict.once_in_order()?;
    Ok(())
}

fn killed_in_its_flush(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "flush-killed", PARTITIONS)?;
    stage.produce(0..scale::messages(50_000))?;
    // One lane here too: what another had flushed, and not said, would come twice. Small calls, since those that wait go
    // before a flush: so an instance has several.
    let route = route(&stage, Isolation::Process).lanes(Order::Key, 1);
    let route = route.with("batch", json!({"max_messages": 50})).with(
        "settings",
        json!({
            "max_messages": 400,
            "max_wait_ms": 50,
            "flush_faults": [
                {"kind": "kill", "numbers": [2], "times": 2, "at": "begin"},
                {"kind": "kill", "numbers": [3], "times": 2, "at": "middle"},
                {"kind": "retry", "numbers": [4], "times": 2},
                {"kind": "kill", "numbers": [5], "at": "end"},
            ],
        }),
    );
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    assert!(verdict.deaths >= 5, "{verdict}");
    verdict.in_order()?;
    verdict.twice_only_in_hand()?;
    Ok(())
}

/// It would flush at a million messages, which its memory has no room for.
fn more_than_its_memory(kafka: &Kafka, isolation: Isolation) -> Outcome {
    const MEMORY: u64 = 4 << 20;
    const SIZE: usize = 4_000;
    let mut stage = Stage::in_order_of(Order::Key, kafka, "buffering-much", PARTITIONS)?;
    let count = scale::messages(100_000);
    let producer = kafka.producer()?;
    stage
        .expected
        .extend(producer.numbered(&stage.topic, PARTITIONS, 0..count, SIZE)?);
    let route = route(&stage, isolation)
        .lanes(Order::Key, LANES)
        .with("memory", json!(MEMORY))
        .with("settings", json!({"max_messages": 1_000_000, "max_wait_ms": 600_000}));
    let daemon = stage.home.start(&stage.settings(route))?;
    // The last of them do not fill it: they are flushed at the stop.
    stage.await_digested(count - MEMORY / SIZE as u64)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn route(stage: &Stage<'_>, isolation: Isolation) -> Route {
    Route::of(
        "BufferLedger",
        isolation,
        &stage.topic,
        &stage.group,
        stage.ledger.path(),
    )
    .quick_again()
}
