//! Plugins that crash, each in a way of its own: panic, abort, segfault, stack overflow, `exit(0)`, a panicking constructor,
//! lifecycle call and drop. The other route's digests go on, nothing is lost or digested twice, and the log says what
//! each did.

use devour_tests::{
    kafka::Kafka,
    misdeeds::{Case, Scene},
    scenario::{Isolation, Outcome, Run},
};

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process, in_a_process())),
    // What a thread can hold.
    Run::Shared("thread", |kafka| run(kafka, Isolation::Thread, panics())),
];

fn panics() -> Vec<Case> {
    vec![
        Case::new("panics", "panic", "a misdeed"),
        Case::new("constructor-panics", "panic", "its constructor panicked: a misdeed").at("construct"),
        Case::new("assigned-panics", "panic", "a misdeed").at("assigned"),
    ]
}

fn in_a_process() -> Vec<Case> {
    let mut cases = panics();
    cases.extend([
        Case::new("aborts", "abort", "killed by SIGABRT"),
        Case::new("segfaults", "segfault", "killed by SIGSEGV"),
        // Rust names it, and aborts.
        Case::new("overflows", "overflow", "killed by SIGABRT"),
        Case::new("exits", "exit", "exited with status 0, which nobody ordered"),
        Case::new("constructor-exits", "exit", "exited with status 0, which nobody ordered").at("construct"),
    ]);
    cases
}

fn run(kafka: &Kafka, isolation: Isolation, cases: Vec<Case>) -> Outcome {
    // At the end of its instance: there is nothing to wait for before.
    let drops = Case::new("drop-panics", "panic", "").at("drop");
    let mut scene = Scene::start(kafka, isolation, cases.into_iter().chain([drops]).collect())?;
    scene.see_through()?;
    let log = scene.end()?;
    let told = log.all(|line| line.text("route") == Some("drop-panics") && line.raw.contains("a misdeed"));
    assert!(!told.is_empty(), "nobody says that a drop panicked:\n{}", log.tail());
    Ok(())
}
