//! `reset_offset_on_start` acts at the first assignment after the daemon starts, whatever is committed: to the beginning,
//! or to the end with `auto_offset_reset: latest`. It does not act after a plugin's death, nor after a reload.

use devour_tests::{
    daemon::{SOON, Signal},
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("to_the_beginning", to_the_beginning),
    Run::Shared("to_the_end", to_the_end),
];

fn to_the_beginning(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "reset", 3)?;
    stage.produce(0..300)?;
    let route = stage
        .route(Isolation::Process)
        .commit_every_ms(100)
        .with("config", json!({"reset_offset_on_start": true}));
    let daemon = stage.home.start(&stage.settings(route.clone()))?;
    stage.await_all()?;
    committed(&stage, 300)?;

    daemon.kill_plugin(ROUTE)?;
    stage.produce(300..330)?;
    stage.await_all()?;
    committed(&stage, 330)?;

    let from = daemon.log().len();
    stage.home.write(&stage.settings(route.work_us(1)))?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the receipt", SOON, |line| line.says("reloaded"))?;
    stage.produce(330..360)?;
    stage.await_all()?;
    committed(&stage, 360)?;
    assert_eq!(
        stage.ledger.lines()?.records.len(),
        360,
        "neither was a start of the daemon"
    );
    daemon.stop()?;

    let daemon = stage.home.start_again()?;
    stage
        .ledger
        .await_that("all of them again", SOON, |lines| lines.records.len() >= 720)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    let twice = verdict.duplicated.iter().all(|one| one.digests.len() == 2);
    assert!(twice && verdict.duplicated.len() == 360, "{verdict}");
    Ok(())
}

fn to_the_end(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "reset-end", 1)?;
    stage.produce(0..100)?;
    let route = stage.route(Isolation::Process).commit_every_ms(100);
    let daemon = stage.home.start(&stage.settings(route.clone()))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.produce(100..200)?;

    let reset = json!({"reset_offset_on_start": true, "auto_offset_reset": "latest"});
    let daemon = stage
        .home
        .start(&stage.settings(route.with("config", reset)))?;
    let first = stage.first_from_the_end(200)?;
    // What lay between the commit and the end is passed over, with what was sent before the end was found.
    stage.expected.retain(|place| !(100..first).contains(&place.offset));
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn committed(stage: &Stage<'_>, total: i64) -> Outcome {
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, stage.partitions, total, SOON)?;
    Ok(())
}
