//! `auto_commit_enable: false` commits nothing, neither on a timer nor at the stop, and says so when the settings are
//! read: the next start digests everything again.

use devour_tests::{
    daemon::SOON,
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "uncommitted", 3)?;
    stage.produce(0..300)?;
    let route = stage
        .route(Isolation::Process)
        .commit_every_ms(50)
        .with("config", json!({"auto_commit_enable": false}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    let log = daemon.stop()?;
    let warned = log.all(|line| line.raw.contains("nothing is ever committed"));
    assert!(!warned.is_empty(), "{}", log.tail());
    let committed = stage.admin.committed(&stage.group, &stage.topic, 3)?;
    assert!(committed.is_empty(), "{committed:?}");

    let daemon = stage.home.start_again()?;
    stage
        .ledger
        .await_that("all of them again", SOON, |lines| lines.records.len() >= 600)?;
    daemon.stop()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    assert_eq!(verdict.duplicated.len(), 300, "{verdict}");
    Ok(())
}
