//! A plugin that kills its process every 1,000 messages: nothing is lost, order is kept, twice is only what was in hand,
//! the group sees nothing (same member, same generation), and the broker is never asked for an older offset.

use std::collections::BTreeMap;

use devour_tests::{
    kafka::{BrokerOptions, Kafka},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::OwnBroker("before_digesting", || run(false)),
    Run::OwnBroker("after_digesting", || run(true)),
];

const CLIENT: &str = "killed-plugin";

fn run(after: bool) -> Outcome {
    let kafka = Kafka::start(BrokerOptions {
        request_log: true,
        ..BrokerOptions::default()
    })?;
    let mut stage = Stage::new(&kafka, "killer", 12)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    let route = stage
        .route(Isolation::Process)
        .faults(json!([{"kind": "kill", "every": 1000, "after": after}]))
        .with("restart", json!({"initial": "10ms", "max": "100ms"}));
    let settings = stage
        .settings(route)
        .with("librdkafka", json!({"client.id": CLIENT}));
    let daemon = stage.home.start(&settings)?;
    daemon.await_state(ROUTE, "running")?;
    let before = stage.admin.generations(&stage.group)?;
    assert_eq!(before.last().map(|one| one.members.len()), Some(1), "{before:?}");

    stage.await_all()?;
    let after_all = stage.admin.generations(&stage.group)?;
    assert_eq!(after_all, before, "the group saw the plugin die");
    let downs = daemon.log().all(|line| line.says("plugin down")).len() as u64;
    daemon.stop()?;
    stage.all_is_committed()?;
    never_back(&kafka)?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    verdict.twice_only_in_hand()?;
    assert!(verdict.deaths >= count / 1000 - 1, "{verdict}");
    assert_eq!(downs, verdict.deaths, "every death is told once");
    let replayed = if after { verdict.deaths } else { 0 };
    assert_eq!(verdict.duplicated.len() as u64, replayed, "{verdict}");
    Ok(())
}

/// Within a partition the fetched offsets only grow.
fn never_back(kafka: &Kafka) -> Outcome {
    let fetches = kafka.broker().ok_or("the broker is our own")?.fetches(CLIENT)?;
    if fetches.is_empty() {
        return Err("the request log shows no fetch".into());
    }
    let mut last: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for fetch in fetches {
        let before = last
            .insert((fetch.topic.clone(), fetch.partition), fetch.offset)
            .unwrap_or(0);
        if fetch.offset < before {
            return Err(format!("offset {before} was fetched before {fetch:?}").into());
        }
    }
    Ok(())
}
