//! Plugins that say too much: they log, and print, as many lines as they can for three seconds. What the log takes is
//! bounded, what it does not take is counted and said; the other route's digests go on, nothing is lost. A thread that a
//! plugin leaves behind, and a plugin that overwrites its own file while it is in use, change nothing either.

use std::fs;

use devour_tests::{
    daemon::{Line, plugin_dir},
    kafka::Kafka,
    misdeeds::{Case, MESSAGES, Scene},
    scenario::{Isolation, Outcome, Run},
    workspace,
};
use serde_json::json;

pub const RUNS: &[Run] = devour_tests::both!(Shared, run);

/// Lines that one route may bring into the log in a second.
const A_SECOND: usize = 1000;

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let dir = workspace::scratch_dir("own-file")?;
    let own = dir.path().join("libown.so");
    fs::copy(plugin_dir().join("libdevour_test_misdeeds.so"), &own)?;
    let name = own.display().to_string();
    let mut cases = vec![
        Case::new("logs", "log", "were dropped"),
        Case::new("leaves-a-thread", "thread", "").at("drop"),
        Case::new("overwrites", "overwrite", "").with(&[&name]).key("path", json!(own)),
    ];
    if isolation == Isolation::Process {
        cases.push(Case::new("prints", "print", "were dropped"));
    }
    let mut scene = Scene::start(kafka, isolation, cases)?;
    scene.see_through()?;
    if isolation == Isolation::Process {
        // Its successor is opened from the daemon's private copy.
        assert!(fs::read(&own)?.starts_with(&[0xAA; 64]), "the file is as it was");
        scene.daemon.kill_plugin("overwrites")?;
        let (_, stage) = scene.cases.iter_mut().find(|(case, _)| case.name == "overwrites").ok_or("it is there")?;
        stage.produce(MESSAGES..MESSAGES + 100)?;
        stage.await_all()?;
    }
    let log = scene.end()?;
    for route in ["logs", "prints"] {
        let said = log.all(|line: &Line| line.text("route") == Some(route) && line.raw.contains("one of a million"));
        assert!(said.len() <= 10 * A_SECOND, "{route} brought {} lines into the log", said.len());
    }
    Ok(())
}
