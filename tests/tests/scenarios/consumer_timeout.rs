//! `consumer_timeout_ms` ends a route for which no message comes so long: `devourd consume` then exits with status 0, all
//! is committed and its member is gone. A digest that takes longer than that is not idle.

use std::time::Duration;

use devour_tests::{
    command,
    daemon::SOON,
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process)),
    Run::Shared("thread", |kafka| run(kafka, Isolation::Thread)),
];

const TIMEOUT_MS: u64 = 700;

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "idle", 3)?;
    stage.produce(0..6)?;
    let route = stage
        .route(isolation)
        .work_us(TIMEOUT_MS * 1500)
        .with("config", json!({"consumer_timeout_ms": TIMEOUT_MS}));
    stage.home.write(&stage.settings(route))?;
    let mut command = stage.home.command()?;
    command
        .arg("--settings")
        .arg(stage.home.settings_file())
        .args(["consume", ROUTE]);
    let finished = command::run(&mut command, SOON)?;
    finished.expect("an idle route", 0);
    assert!(
        finished.took >= Duration::from_millis(TIMEOUT_MS * 10),
        "{:?}: {}",
        finished.took,
        finished.printed()
    );
    assert!(!finished.printed().contains("ERROR"), "{}", finished.printed());
    // It does not come back: a static member, too, leaves.
    wait::until("its member to leave", Duration::from_secs(10), || {
        let view = stage.admin.group(&stage.group).ok()?;
        view.is_none_or(|view| view.members.is_empty()).then_some(())
    })?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
