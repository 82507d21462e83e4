//! A daemon that is told to stop leaves its group also while it joins, while it waits for others to join again, and where
//! it has no partitions: it commits what it finished, and those that stay or come have everything long before a session
//! would end.

use std::time::Duration;

use devour_tests::{
    daemon::{Line, Settings, Signal},
    kafka::Kafka,
    members::Members,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("as_it_asks_to_join", |kafka| {
        as_it_asks_to_join(kafka, "classic", "Sent JoinGroupRequest", |line| {
            line.raw.contains("Received JoinGroupResponse")
        })
    }),
    Run::Shared("as_it_asks_to_join_kip_848", |kafka| {
        as_it_asks_to_join(kafka, "consumer", "Sent ConsumerGroupHeartbeatRequest", |line| {
            line.raw.contains("Received ConsumerGroupHeartbeatResponse")
        })
    }),
    Run::Shared("while_it_joins", while_it_joins),
    Run::Shared("while_others_are_awaited", while_others_are_awaited),
    Run::Shared("without_partitions", |kafka| without_partitions(kafka, "classic")),
    Run::Shared("without_partitions_kip_848", |kafka| {
        without_partitions(kafka, "consumer")
    }),
];

/// Well below the session timeout of 45 s, and above the heartbeat of 3 s by which a member learns of a rebalance.
const SOON: Duration = Duration::from_secs(20);

/// How often a daemon may come and go until one of them ends as it asks, and is not there before or after.
const TRIES: usize = 20;

/// A daemon that ends before it knows as whom the group counts on it.
fn as_it_asks_to_join(kafka: &Kafka, protocol: &str, asks: &str, is_answer: fn(&Line) -> bool) -> Outcome {
    let mut stage = Stage::new(kafka, "asking", 6)?;
    let settings = telling(&stage, json!({"debug": "cgrp,protocol", "group.protocol": protocol}));
    let mut members = Members::new("asking", 3, &settings)?;
    members.join(0)?;
    members.await_shared_out(6, SOON)?;
    let mut hit = false;
    for _ in 0..TRIES {
        members.join(1)?;
        let daemon = members.member(1).daemon().ok_or("it was started")?;
        daemon.wait_for("it to ask", SOON, |line| line.raw.contains(asks))?;
        members.leave(1)?;
        members.await_away(1)?;
        let lines = members.member(1).log().lines();
        let stops = lines.iter().position(|line| line.says("stopping"));
        let answer = lines.iter().position(is_answer);
        hit = stops.zip(answer).is_some_and(|(stops, answer)| stops < answer);
        if hit {
            break;
        }
    }
    assert!(hit, "in {TRIES} tries none ended as it asked");
    // One that is still counted on would be waited for, or have its share.
    members.join(2)?;
    members.await_shared_out(6, SOON)?;
    stage.produce(0..600)?;
    stage.await_all()?;
    members.leave_all()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// librdkafka says in words where it stands in a rebalance.
fn says_it_joins(line: &Line) -> bool {
    line.says("[thrd:main]") && line.raw.contains("-> wait-join")
}

fn while_it_joins(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "joining", 6)?;
    let mut members = members(&stage, 2, "classic")?;
    members.join(0)?;
    members.await_shared_out(6, SOON)?;

    members.join(1)?;
    // It waits for the first, which hears of it by its next heartbeat only.
    wait::until_told("a second member", SOON, || match stage.admin.group(&stage.group) {
        Ok(Some(view)) if view.members.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    members.leave(1)?;
    members.await_away(1)?;
    stage.admin.await_members(&stage.group, 1, SOON)?;
    members.await_shared_out(6, SOON)?;
    stage.produce(0..600)?;
    stage.await_all()?;
    members.leave_all()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn while_others_are_awaited(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "awaited", 6)?;
    let mut members = Members::new("awaited", 3, &telling(&stage, json!({"debug": "cgrp"})))?;
    members.join(0)?;
    members.join(1)?;
    members.await_shared_out(6, SOON)?;
    stage.produce(0..600)?;
    stage.await_all()?;

    // The rebalance waits for one that does not come; the other has joined again, and is told to stop.
    signal(&members, 0, Signal::STOP)?;
    let from = members.member(1).log().len();
    members.join(2)?;
    let other = members.member(1).daemon().ok_or("it was started")?;
    other.wait_for_from(from, "it to wait for the others", SOON, says_it_joins)?;
    let from = members.member(1).log().len();
    members.leave(1)?;
    let other = members.member(1).daemon().ok_or("it was started")?;
    other.wait_for_from(from, "it to begin to stop", SOON, |line| line.says("stopping"))?;
    signal(&members, 0, Signal::CONT)?;
    members.await_away(1)?;
    members.await_shared_out(6, SOON)?;
    stage.produce(600..1200)?;
    stage.await_all()?;
    members.leave_all()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// Committed at the stop alone: what is digested is not committed when a rebalance begins.
fn telling(stage: &Stage<'_>, librdkafka: Value) -> Settings {
    let route = stage
        .route(Isolation::Process)
        .commit_every_ms(3_600_000)
        .with("membership", json!("dynamic"));
    stage
        .settings(route)
        .with("librdkafka", librdkafka)
        .with("log", json!({"format": "json", "level": "debug"}))
}

fn signal(members: &Members, index: usize, signal: Signal) -> Outcome {
    let daemon = members.member(index).daemon().ok_or("it was started")?;
    daemon.signal(signal)?;
    Ok(())
}

fn without_partitions(kafka: &Kafka, protocol: &str) -> Outcome {
    let mut stage = Stage::new(kafka, "idle-member", 1)?;
    let mut members = members(&stage, 3, protocol)?;
    members.join(0)?;
    members.await_shared_out(1, SOON)?;
    stage.produce(0..100)?;
    stage.await_all()?;

    members.join(1)?;
    let idle = members.member(1).daemon().ok_or("it was started")?;
    idle.await_state("ledger", "running")?;
    members.leave(1)?;
    members.await_away(1)?;
    // If the group still counted on it, the partition would go to it now.
    members.leave(0)?;
    members.await_away(0)?;
    members.join(2)?;
    members.await_shared_out(1, SOON)?;
    stage.produce(100..200)?;
    stage.await_all()?;
    members.leave_all()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn members(stage: &Stage<'_>, count: usize, protocol: &str) -> Result<Members, libtest_mimic::Failed> {
    let route = stage
        .route(Isolation::Process)
        .with("membership", json!("dynamic"));
    let settings = stage
        .settings(route)
        .with("librdkafka", json!({"group.protocol": protocol}));
    Members::new("leave", count, &settings)
}
