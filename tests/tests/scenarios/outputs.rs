//! What digests produce arrives once and in order where nothing fails, in both isolations, from one lane and from several,
//! from consumers that wait for it, await it, produce on threads of their own or at a flush; and when a message's offset is
//! committed, its record is there.

use devour_tests::{
    control::await_status,
    daemon::{Route, SOON},
    judge::Order,
    kafka::Kafka,
    outputs::Outputs,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, "Relay", Isolation::Process, &PLAIN)),
    Run::Shared("thread", |kafka| run(kafka, "Relay", Isolation::Thread, &PLAIN)),
    Run::Shared("process_lanes", |kafka| run(kafka, "Relay", Isolation::Process, &LANES)),
    Run::Shared("thread_lanes", |kafka| run(kafka, "Relay", Isolation::Thread, &LANES)),
    Run::Shared("process_sync", |kafka| run(kafka, "Relay", Isolation::Process, &SYNC)),
    Run::Shared("thread_sync", |kafka| run(kafka, "Relay", Isolation::Thread, &SYNC)),
    Run::Shared("process_elsewhere", |kafka| run(kafka, "Relay", Isolation::Process, &ELSEWHERE)),
    Run::Shared("thread_elsewhere", |kafka| run(kafka, "Relay", Isolation::Thread, &ELSEWHERE)),
    Run::Shared("process_async", |kafka| run(kafka, "AsyncRelay", Isolation::Process, &PLAIN)),
    Run::Shared("thread_async", |kafka| run(kafka, "AsyncRelay", Isolation::Thread, &PLAIN)),
    Run::Shared("process_async_sync", |kafka| run(kafka, "AsyncRelay", Isolation::Process, &SYNC)),
    Run::Shared("process_buffering", |kafka| run(kafka, "BufferRelay", Isolation::Process, &FLUSHED)),
    Run::Shared("thread_buffering", |kafka| run(kafka, "BufferRelay", Isolation::Thread, &FLUSHED)),
    Run::Shared("little_room", |kafka| run(kafka, "Relay", Isolation::Process, &LITTLE_ROOM)),
    Run::Shared("little_room_thread", |kafka| run(kafka, "Relay", Isolation::Thread, &LITTLE_ROOM)),
];

const PARTITIONS: i32 = 4;

/// A route that is another than the plain one, and the messages that it gets of 20,000.
struct Variant {
    part: u64,
    vary: fn(Route) -> Route,
}

const PLAIN: Variant = Variant {
    part: 1,
    vary: |route| route,
};
const LANES: Variant = Variant {
    part: 1,
    vary: |route| route.lanes(Order::Partition, 3),
};
/// Each message has a round trip of its own.
const SYNC: Variant = Variant {
    part: 5,
    vary: |route| route.with("settings", json!({"how": "awaited"})),
};
const ELSEWHERE: Variant = Variant {
    part: 2,
    vary: |route| route.with("settings", json!({"how": "elsewhere"})),
};
const FLUSHED: Variant = Variant {
    part: 1,
    vary: |route| route.with("flush", json!({"max_wait": "50ms"})),
};
/// A room of half a MiB for 40 MB.
const LITTLE_ROOM: Variant = Variant {
    part: 1,
    vary: |route| {
        let numbers: Vec<u64> = (0..400).collect();
        route
            .with("memory", json!("1MiB"))
            .with("settings", json!({"large": numbers, "large_bytes": 100_000}))
    },
};

fn run(kafka: &Kafka, symbol: &str, isolation: Isolation, variant: &Variant) -> Outcome {
    let mut stage = Stage::new(kafka, "outputs", PARTITIONS)?;
    let outputs = Outputs::of(&stage, "outputs-to")?;
    let messages = scale::messages(20_000 / variant.part);
    stage.produce(0..messages)?;
    let route = (variant.vary)(outputs.route(&stage, symbol, isolation).commit_every_ms(50));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    let committed = i64::try_from(messages)?;
    stage.admin.await_committed(&stage.group, &stage.topic, PARTITIONS, committed, SOON)?;
    // Nothing is committed that has no record.
    outputs.verdict(&stage)?.once_in_order()?;
    await_status(&stage.home, ROUTE, "the counts of outputs", SOON, |route| {
        route["outputs"] == json!({"produced": messages, "acknowledged": messages, "failed": 0, "waiting_bytes": 0})
    })?;
    daemon.stop()?;
    stage.all_is_committed()?;
    outputs.verdict(&stage)?.once_in_order()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
