//! The plugin's process and the daemon are killed (SIGKILL) again and again while digests produce: no message is lost, nor
//! any record of one. What its process produced and had not sent when it died is produced again. Order is kept in both
//! topics.

use std::time::{Duration, Instant};

use devour_tests::{
    chance::{Chance, seed},
    daemon::Route,
    judge::Order,
    kafka::Kafka,
    outputs::Outputs,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, "Relay", Isolation::Process, |route| route)),
    Run::Shared("process_lanes", |kafka| run(kafka, "Relay", Isolation::Process, lanes)),
    Run::Shared("process_async", |kafka| run(kafka, "AsyncRelay", Isolation::Process, |route| route)),
    Run::Shared("process_buffering", |kafka| run(kafka, "BufferRelay", Isolation::Process, flushed)),
    Run::Shared("thread", |kafka| run(kafka, "Relay", Isolation::Thread, |route| route)),
    Run::Shared("thread_async", |kafka| run(kafka, "AsyncRelay", Isolation::Thread, |route| route)),
];

const PARTITIONS: i32 = 4;
const PER_SECOND: u64 = 3000;

fn lanes(route: Route) -> Route {
    route.lanes(Order::Partition, 3)
}

fn flushed(route: Route) -> Route {
    route.with("flush", json!({"max_wait": "20ms"}))
}

fn run(kafka: &Kafka, symbol: &str, isolation: Isolation, vary: fn(Route) -> Route) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Partition, kafka, "outputs-killed", PARTITIONS)?;
    let outputs = Outputs::of(&stage, "outputs-killed-to")?;
    let route = outputs.route(&stage, symbol, isolation);
    let route = vary(route.quick_again().commit_every_ms(50));
    let mut daemon = stage.home.start(&stage.settings(route))?;
    daemon.await_state(ROUTE, "running")?;
    let load = stage.load(PER_SECOND)?;
    let seed = seed("outputs_survive_kills");
    let mut chance = Chance::new(seed);
    for _ in 0..scale::messages(30) {
        wait::pace(Instant::now() + Duration::from_millis(50 + chance.below(300) as u64));
        if isolation == Isolation::Process && chance.below(4) > 0 {
            daemon.kill_plugin(ROUTE)?;
        } else {
            daemon.kill()?;
            daemon = stage.home.start_again()?;
            daemon.await_state(ROUTE, "running")?;
        }
    }
    stage.take_load(load)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let written = outputs.verdict(&stage)?;
    eprintln!("seed {seed}: {} messages, {} records twice", written.expected, written.duplicated.len());
    written.in_order()?;
    stage.verdict()?.in_order()?;
    Ok(())
}
