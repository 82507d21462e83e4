//! A plugin that was built with `panic = "abort"` takes its own process with it when it panics, nothing else: the route
//! says so and tries again, and with a plugin that behaves it digests what is there.

use devour_tests::{
    daemon::{Route, SOON, Signal},
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    workspace,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

fn run(kafka: &Kafka) -> Outcome {
    let target = workspace::target_dir();
    let root = target.parent().ok_or("the target directory has no parent")?;
    let built = escargot::CargoBuild::new()
        .package("devour-test-hostile")
        .manifest_path(root.join("Cargo.toml"))
        .target_dir(target.join("panic-abort"))
        .env("CARGO_PROFILE_DEV_PANIC", "abort")
        .exec()?;
    // Read to its end, or cargo does not come to its own.
    for message in built {
        message?;
    }
    let library = target.join("panic-abort/debug/libdevour_test_hostile.so");
    let mut other = Stage::new(kafka, "beside", 1)?;
    let mut stage = Stage::new(kafka, "aborts", 1)?;
    other.produce(0..100)?;
    stage.produce(0..100)?;
    let aborts = Route::of("ConstructorPanics", Isolation::Process, &stage.topic, &stage.group, stage.ledger.path())
        .with("path", json!(library))
        .quick_again();
    let settings = other.settings(other.route(Isolation::Process));
    let daemon = other.home.start(&settings.clone().route("aborts", aborts))?;
    for _ in 0..2 {
        daemon.wait_for("word of the abort", SOON, |line| {
            line.text("route") == Some("aborts") && line.text("cause") == Some("killed by SIGABRT")
        })?;
    }
    other.produce(100..200)?;
    other.await_all()?;
    other.home.write(&settings.route("aborts", stage.route(Isolation::Process)))?;
    daemon.signal(Signal::HUP)?;
    stage.await_all()?;
    // It takes over while the other is between two restarts, or is its next restart.
    daemon.wait_for("a plugin for it", SOON, |line| {
        (line.says("plugin up") || line.says("plugin swapped")) && line.text("route") == Some("aborts")
    })?;
    daemon.stop()?;
    other.verdict()?.once_in_order()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
