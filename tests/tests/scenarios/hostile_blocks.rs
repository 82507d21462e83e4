//! Plugins that never come back: from their constructor, a digest (asleep, busy, or stopped as a process, so that nothing
//! reads their sockets), each lifecycle call and their drop. The other route's digests go on meanwhile, and nothing is
//! lost. In a process they are ended and replaced; in a thread they are named, and the daemon's restart helps.

use std::time::Duration;

use devour_tests::{
    daemon::Signal,
    kafka::Kafka,
    misdeeds::{Case, Scene},
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    workspace,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("process", in_a_process), Run::Shared("thread", in_a_thread)];

fn in_a_process(kafka: &Kafka) -> Outcome {
    let late = "did not return within";
    let dir = workspace::scratch_dir("asked")?;
    let asked = dir.path().join("asked").display().to_string();
    let cases = vec![
        Case::new("constructor", "block", "its constructor did not return within").at("construct"),
        Case::new("started", "block", late).at("started"),
        Case::new("assigned", "block", late).at("assigned"),
        Case::new("digest", "block", "at offset 150 did not return within"),
        Case::new("spins", "spin", "at offset 150 did not return within"),
        Case::new("freezes", "freeze", "at offset 150 did not return within"),
        // SIGTERM comes first. That it then ends is the deadline's doing, not an exit that nobody ordered.
        Case::new("asked", "block-until-asked", "at offset 150 did not return within").with(&[&asked]),
        // These come with the stop.
        Case::new("revoked", "block", "").at("revoked"),
        Case::new("stopped", "block", "").at("stopped"),
        Case::new("drop", "block", "").at("drop"),
    ];
    let mut scene = Scene::start(kafka, Isolation::Process, cases)?;
    scene.see_through()?;
    assert_eq!(std::fs::read_to_string(&asked)?, "asked to end");
    let log = scene.end()?;
    for route in ["revoked", "stopped", "drop"] {
        let told = log.all(|line| {
            matches!(line.level(), "WARN" | "ERROR") && line.text("route") == Some(route) && line.raw.contains("return")
        });
        assert!(!told.is_empty(), "nobody says that {route} blocked:\n{}", log.tail());
    }
    Ok(())
}

fn in_a_thread(kafka: &Kafka) -> Outcome {
    let cases = vec![
        Case::new("digest", "block", "plugin stuck").replaying(),
        Case::new("assigned", "block", "plugin stuck").at("assigned").replaying(),
    ];
    let mut scene = Scene::start_with(kafka, Isolation::Thread, cases, |settings| {
        settings.with("shutdown_timeout", json!("2s"))
    })?;
    for (case, _) in &scene.cases {
        let stuck = |line: &devour_tests::daemon::Line| {
            line.text("route") == Some(case.name) && line.says(case.named)
        };
        scene.daemon.wait_for(case.named, Duration::from_secs(30), stuck)?;
    }
    let digested = scene.other.ledger.lines()?.records.len() as u64;
    scene.other.await_digested(digested + 200)?;
    scene.end_by(|mut daemon| {
        daemon.signal(Signal::TERM)?;
        // Messages are left with a thread that nobody can end.
        let exit = daemon.wait(scale::patience(Duration::from_secs(60)))?;
        assert_eq!(exit, Exit::Status(75));
        Ok(())
    })
}
