//! A topic that is deleted and created again, while the daemon is stopped and while it runs: the new topic is digested
//! from its first message, whether it has fewer messages than the old one or more; nothing of it is skipped or digested
//! twice, and what is committed goes down with it.

use std::collections::HashSet;

use devour_tests::{
    daemon::{SOON, Signal},
    judge::{Expected, judge},
    kafka::Kafka,
    ledger::Lines,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    variant,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("while_stopped", |kafka| run(kafka, When::Stopped)),
    Run::Shared("while_running", |kafka| run(kafka, When::Running)),
    Run::Shared("unseen", |kafka| run(kafka, When::Unseen)),
];

#[derive(Clone, Copy, PartialEq)]
enum When {
    Stopped,
    /// The client sees that the topic is gone.
    Running,
    /// The client sees the new topic only, with all its messages.
    Unseen,
}

const PARTITIONS: i32 = 3;
const OLD: u64 = 300;
const NEW: [u64; 2] = [150, 600];

fn run(kafka: &Kafka, when: When) -> Outcome {
    for new in NEW {
        made_again(kafka, when, new).map_err(|why| format!("{new} messages after {OLD}: {why:?}"))?;
    }
    Ok(())
}

fn made_again(kafka: &Kafka, when: When, new: u64) -> Outcome {
    let mut stage = Stage::new(kafka, "again", PARTITIONS)?;
    stage.produce(0..OLD)?;
    let settings = stage
        .settings(stage.route(Isolation::Process).commit_every_ms(200))
        .with(
            "librdkafka",
            json!({"topic.metadata.refresh.interval.ms": "500"}),
        );
    let daemon = stage.home.start(&settings)?;
    stage.await_all()?;
    let old = std::mem::replace(&mut stage.expected, Expected::in_order_of(variant::order()));
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, OLD as i64, SOON)?;

    let daemon = match when {
        When::Stopped => {
            daemon.stop()?;
            make_again(&mut stage, new)?;
            stage.home.start_again()?
        }
        When::Running => {
            let from = daemon.log().len();
            stage.admin.delete_topic(&stage.topic)?;
            daemon.wait_for_from(from, "the end of the old partitions", SOON, |line| {
                line.says("partitions revoked")
            })?;
            stage.admin.create_topic(&stage.topic, PARTITIONS)?;
            stage.produce(OLD..OLD + new)?;
            daemon
        }
        When::Unseen => {
            daemon.signal(Signal::STOP)?;
            make_again(&mut stage, new)?;
            daemon.signal(Signal::CONT)?;
            daemon
        }
    };
    // By number: the places are the same.
    let all = |lines: &Lines| {
        let numbers: HashSet<_> = lines.records.iter().filter_map(|record| record.n).collect();
        numbers.len() as u64 == OLD + new
    };
    stage.ledger.await_that("the new topic's messages", SOON, all)?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, new as i64, SOON)?;
    daemon.stop()?;
    stage.all_is_committed()?;

    // The same places, other messages: each log is judged by its own numbers.
    let lines = stage.ledger.close()?;
    let (of_old, of_new): (Vec<_>, Vec<_>) = lines
        .records
        .into_iter()
        .partition(|record| record.n.is_some_and(|n| n < OLD));
    let judged = |expected: &Expected, records| judge(expected, &Lines { records, torn: 0 }).once_in_order();
    judged(&old, of_old)?;
    judged(&stage.expected, of_new)?;
    Ok(())
}

fn make_again(stage: &mut Stage<'_>, new: u64) -> Outcome {
    stage.admin.delete_topic(&stage.topic)?;
    stage.admin.create_topic(&stage.topic, PARTITIONS)?;
    stage.produce(OLD..OLD + new)
}
