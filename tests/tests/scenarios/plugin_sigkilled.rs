//! A plugin's process, with several lanes and under load, is killed by SIGKILL again and again at moments of chance: such
//! a death blames no message. Nothing is lost, given up or skipped, order is kept, twice is only what its lanes had in
//! hand, and the group sees nothing (same member, same generation).

use std::time::{Duration, Instant};

use devour_tests::{
    chance::{Chance, seed},
    daemon::SOON,
    judge::Order,
    kafka::{Kafka, unique},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("key", |kafka| run(kafka, Order::Key)),
    Run::Shared("partition", |kafka| run(kafka, Order::Partition)),
];

const LANES: u32 = 4;
const PARTITIONS: i32 = 8;
const PER_SECOND: u64 = 2000;

fn run(kafka: &Kafka, order: Order) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "sigkilled", PARTITIONS)?;
    let dead = unique("sigkilled-dead");
    stage.admin.create_topic(&dead, 1)?;
    let route = stage
        .route(Isolation::Process)
        .lanes(order, LANES)
        .work_us(500)
        .quick_again()
        // One death that counted would be enough.
        .with("poison_after", json!(1))
        .with(
            "on_error",
            json!({"attempts": 1, "then": "dead_letter", "dead_letter": {"topic": dead}}),
        );
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.await_state(ROUTE, "running")?;
    let before = stage.admin.generations(&stage.group)?;

    let load = stage.load(PER_SECOND)?;
    let seed = seed("plugin_sigkilled");
    let mut chance = Chance::new(seed);
    let kills = scale::messages(200);
    for _ in 0..kills {
        wait::pace(Instant::now() + Duration::from_millis(chance.below(100) as u64));
        daemon.kill_plugin(ROUTE)?;
    }
    stage.take_load(load)?;
    stage.await_all()?;
    assert_eq!(stage.admin.generations(&stage.group)?, before, "the group saw it");
    stage.admin.await_members(&stage.group, 1, SOON)?;
    let downs = daemon.log().all(|line| line.says("plugin down"));
    assert_eq!(downs.len() as u64, kills);
    daemon.stop()?;
    stage.all_is_committed()?;
    let letters = kafka.read(&dead, 1)?;
    assert!(letters.is_empty(), "{letters:?}");
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    let twice = verdict.duplicated.len() as u64;
    eprintln!("seed {seed}: {kills} kills among {} messages, {twice} digested twice", verdict.expected);
    assert!(twice <= kills * u64::from(LANES), "{verdict}");
    Ok(())
}
