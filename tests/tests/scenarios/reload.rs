//! SIGHUP adds a route, removes one and changes one while others digest: exactly these change, the others go on without a
//! rebalance, and nothing is lost or digested twice. Settings that are wrong change nothing.

use devour_tests::{
    daemon::{SOON, Settings, Signal},
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const COUNT: u64 = 6000;

fn run(kafka: &Kafka) -> Outcome {
    let stage = |name: &str| -> Result<Stage<'_>, libtest_mimic::Failed> {
        let mut stage = Stage::new(kafka, name, 3)?;
        stage.produce(0..COUNT)?;
        Ok(stage)
    };
    let (mut kept, mut removed, mut changed, mut added) = (
        stage("kept")?,
        stage("removed")?,
        stage("changed")?,
        stage("added")?,
    );
    let route = |stage: &Stage<'_>| stage.route(Isolation::Process).work_us(500).commit_every_ms(200);
    let first = Settings::of(kafka.bootstrap())
        .route("kept", route(&kept))
        .route("removed", route(&removed))
        .route("changed", route(&changed));
    let home = devour_tests::daemon::Home::new("reload")?;
    let mut daemon = home.start(&first)?;
    for stage in [&mut kept, &mut removed, &mut changed] {
        stage.await_digested(COUNT / 10)?;
    }
    let generations = kept.admin.generations(&kept.group)?;
    let pid_of = |name: &str, daemon: &devour_tests::daemon::Daemon| {
        let up =
            |line: &devour_tests::daemon::Line| line.says("plugin up") && line.text("route") == Some(name);
        daemon.log().all(up).last().and_then(|line| line.number("pid"))
    };
    let kept_pid = pid_of("kept", &daemon);

    // What is wrong changes nothing.
    let from = daemon.log().len();
    home.write(
        &first
            .clone()
            .route("removed", route(&removed).with("symbol", json!("NoSuchConsumer"))),
    )?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the refusal", SOON, |line| line.says("reload refused"))?;

    let from = daemon.log().len();
    home.write(
        &first
            .clone()
            .without("removed")
            .route("added", route(&added))
            .route("changed", route(&changed).work_us(100)),
    )?;
    daemon.signal(Signal::HUP)?;
    let receipt = daemon.wait_for_from(from, "the receipt", SOON, |line| line.says("reloaded"))?;
    let counts = ["kept", "swapped", "restarted", "added", "removed", "failed"].map(|word| receipt.number(word));
    assert_eq!(
        counts,
        [Some(1), Some(1), Some(0), Some(1), Some(1), Some(0)],
        "{}",
        receipt.raw
    );
    daemon.await_state_from(from, "removed", "stopped")?;
    daemon.await_state_from(from, "added", "running")?;

    // Another client, for a key that a client is made of.
    let from = daemon.log().len();
    home.write(
        &first
            .without("removed")
            .route("added", route(&added))
            .route("changed", route(&changed).work_us(100).commit_every_ms(150)),
    )?;
    daemon.signal(Signal::HUP)?;
    let receipt = daemon.wait_for_from(from, "the receipt", SOON, |line| line.says("reloaded"))?;
    assert_eq!(
        ["kept", "restarted"].map(|word| receipt.number(word)),
        [Some(2), Some(1)],
        "{}",
        receipt.raw
    );
    daemon.await_state_from(from, "changed", "running")?;

    for stage in [&mut kept, &mut changed, &mut added] {
        stage.await_all()?;
    }
    assert_eq!(
        pid_of("kept", &daemon),
        kept_pid,
        "the kept route has the same plugin process"
    );
    assert_eq!(
        kept.admin.generations(&kept.group)?,
        generations,
        "and the same generation"
    );
    wait::until("the removed route's member to leave", SOON, || {
        removed
            .admin
            .group(&removed.group)
            .ok()?
            .is_none_or(|view| view.members.is_empty())
            .then_some(())
    })?;
    daemon.signal(Signal::TERM)?;
    daemon.wait(SOON)?;
    for stage in [kept, changed, added] {
        stage.all_is_committed()?;
        stage.verdict()?.once_in_order()?;
    }

    // What the removed route did not digest, its next member does: its stop was as clean as any.
    let last = Settings::of(kafka.bootstrap()).route("removed", removed.route(Isolation::Process));
    let daemon = home.start(&last)?;
    removed.await_all()?;
    daemon.stop()?;
    removed.verdict()?.once_in_order()?;
    Ok(())
}
