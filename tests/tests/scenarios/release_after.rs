//! A route whose plugin has died and cannot run for `release_after` leaves its group, though it is a static member: a healthy daemon in
//! the same group takes its partitions and digests what waits there. When the plugin runs again, the route joins again.

use std::fs;

use devour_tests::{
    daemon::{Daemon, Home, SOON, Signal},
    judge::judge,
    kafka::Kafka,
    ledger::{Ledger, Lines},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("two_daemons", run)];

const PARTITIONS: i32 = 4;
const MESSAGES: u64 = 2000;

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "release", PARTITIONS)?;
    let healthy = stage.home.start(&stage.settings(stage.route(Isolation::Process)))?;
    healthy.await_state(ROUTE, "running")?;

    // Its plugin cannot open its ledger while the directory is away.
    let home = Home::new("release-ailing")?;
    let (place, away) = (home.file("place"), home.file("away"));
    fs::create_dir(&place)?;
    let mut late = Ledger::at(place.join("ledger"));
    let route = stage
        .route(Isolation::Process)
        .with("settings", json!({"file": late.path()}))
        .with("restart", json!({"initial": "50ms", "max": "200ms"}))
        .with("release_after", json!("5s"));
    let ailing = home.start(&stage.settings(route))?;
    ailing.await_state(ROUTE, "running")?;
    await_partitions(&ailing, 0)?;
    fs::rename(&place, &away)?;
    ailing.signal_plugin(ROUTE, Signal::KILL)?;
    stage.produce(0..MESSAGES)?;

    let left = ailing.wait_for("the route to leave its group", SOON, |line| {
        line.says("nothing could be digested for too long")
    })?;
    assert_eq!(left.number("release_after_ms"), Some(5000), "{}", left.raw);
    stage.admin.await_members(&stage.group, 1, SOON)?;
    // The healthy one has all of them now.
    stage.await_all()?;

    let from = ailing.log().len();
    fs::rename(&away, &place)?;
    ailing.wait_for_from(from, "the route to join again", SOON, |line| {
        line.says("the plugin runs again: the route joins its group again")
    })?;
    await_partitions(&ailing, from)?;
    stage.admin.await_members(&stage.group, 2, SOON)?;
    stage.produce(MESSAGES..2 * MESSAGES)?;
    let count = stage.expected.count() as usize;
    wait::until("all to be digested by either", DIGESTING, || {
        let both = stage.ledger.lines().ok()?.records.len() + late.lines().ok()?.records.len();
        (both >= count).then_some(())
    })?;
    ailing.stop()?;
    healthy.stop()?;
    stage.all_is_committed()?;
    let by_ailing = late.close()?;
    assert!(!by_ailing.records.is_empty(), "it digests again");
    let lines = Lines::join([stage.ledger.close()?, by_ailing]);
    judge(&stage.expected, &lines).once_in_order()?;
    Ok(())
}

/// Waits until a daemon is given some partitions, from line number `from` of its log on.
fn await_partitions(daemon: &Daemon, from: usize) -> Result<(), Failed> {
    daemon.wait_for_from(from, "some partitions", SOON, |line| {
        line.says("partitions assigned") && line.text("partitions").is_some_and(|text| !text.is_empty())
    })?;
    Ok(())
}
