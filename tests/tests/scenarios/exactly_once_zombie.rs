//! A daemon that sleeps (SIGSTOP) in the midst of a transaction loses its partitions to another. When it wakes it is fenced:
//! nothing of its transaction is ever seen, and each result is there once.

use std::time::Duration;

use devour_tests::{
    daemon::{Home, SOON, Signal},
    judge::Order,
    kafka::Kafka,
    outputs::Outputs,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const MESSAGES: u64 = 2000;

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Partition, kafka, "zombie", 2)?;
    let outputs = Outputs::of(&stage, "zombie-to")?;
    stage.produce(0..MESSAGES)?;
    let settings = || {
        let route = outputs
            .route(&stage, "Relay", Isolation::Thread)
            .with("delivery", json!("exactly_once"))
            .with("membership", json!("dynamic"))
            .with("drain_timeout", json!("5s"))
            .with("librdkafka", json!({"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}))
            .work_us(2000);
        stage.settings(route)
    };
    let settings = settings();
    let sleeper = stage.home.start(&settings)?;
    let digested = stage.ledger.await_digested(MESSAGES / 10, DIGESTING);
    digested?;
    sleeper.signal(Signal::STOP)?;
    let heir_home = Home::new("zombie-heir")?;
    let heir = heir_home.start(&settings)?;
    let committed = || stage.all_is_committed().map_err(|error| format!("{error:?}"));
    if let Err(error) = wait::until_told("the heir to commit all", DIGESTING, committed) {
        return Err(format!("{error}\n{}", heir.log().tail()).into());
    }
    let from = sleeper.log().len();
    sleeper.signal(Signal::CONT)?;
    sleeper.wait_for_from(from, "its transaction to be aborted", SOON + Duration::from_secs(30), |line| {
        line.says("the transaction is aborted")
    })?;
    sleeper.stop()?;
    heir.stop()?;
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}
