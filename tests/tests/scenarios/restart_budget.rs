//! A plugin that dies again and again. With a budget of restarts its route is `failed` when that is spent, says why, and
//! leaves its group; the route beside it goes on, and a reload tries again. Without one it is tried for ever, also a
//! plugin in a thread of the daemon that panics in a loop, and digests what it is given in between.

use devour_tests::{
    daemon::{Route, SOON, Signal},
    kafka::{Kafka, unique},
    ledger::Ledger,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("spent", spent),
    Run::Shared("panics_in_a_loop_thread", |kafka| panics(kafka, Isolation::Thread)),
    Run::Shared("panics_in_a_loop_process", |kafka| {
        panics(kafka, Isolation::Process)
    }),
];

const RESTARTS: usize = 3;

fn spent(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "budget", 4)?;
    stage.produce(0..400)?;
    let dying = stage
        .route(Isolation::Process)
        .faults(json!([{"kind": "kill", "every": 50}]))
        .with(
            "restart",
            json!({"initial": "10ms", "max": "20ms", "budget": {"restarts": RESTARTS, "per": "10m"}}),
        );
    let mut beside = Ledger::at(stage.home.file("beside"));
    let other = Route::ledger(
        Isolation::Process,
        &stage.topic,
        &unique("budget-beside"),
        beside.path(),
    );
    let settings = stage.settings(dying).route("beside", other);
    let daemon = stage.home.start(&settings)?;
    let failed = daemon.await_state(ROUTE, "failed")?;
    let why = failed.text("why").unwrap_or_default();
    assert!(
        why.contains("killed by SIGKILL") && why.contains("its budget of 3 restarts in 600s is spent"),
        "{}",
        failed.raw
    );
    let down = |line: &devour_tests::daemon::Line| line.says("plugin down");
    assert_eq!(daemon.log().all(down).len(), RESTARTS + 1);
    let backoff = daemon.await_state(ROUTE, "backoff")?;
    let why = backoff.text("why").unwrap_or_default();
    assert!(why.starts_with("plugin, 1 restarts, killed by SIGKILL"), "{}", backoff.raw);
    wait::until("the group to be empty", SOON, || {
        let group = stage.admin.group(&stage.group).ok()??;
        group.members.is_empty().then_some(())
    })?;
    beside.await_digested(400, DIGESTING)?;

    // Nothing has changed, and a reload tries again all the same: with its budget it digests what is left.
    for _ in 0..5 {
        let from = daemon.log().len();
        daemon.signal(Signal::HUP)?;
        daemon.await_state_from(from, ROUTE, "running")?;
        let ends = |line: &devour_tests::daemon::Line| {
            line.says("route state") && line.text("route") == Some(ROUTE) && line.text("state") == Some("failed")
        };
        let done = stage.ledger.await_that("more digests, or the end of its budget", SOON, |lines| {
            let digested = lines.records.iter().filter(|record| record.outcome.is_digested());
            digested.count() >= 400 || daemon.log().lines()[from..].iter().any(ends)
        })?;
        if done.records.iter().filter(|record| record.outcome.is_digested()).count() >= 400 {
            break;
        }
    }
    stage.await_all()?;
    let others = daemon.log().all(|line| {
        line.says("plugin down") && line.text("route") == Some("beside")
    });
    assert!(others.is_empty(), "{others:?}");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn panics(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "panics", 4)?;
    let count = scale::messages(20_000);
    stage.produce(0..count)?;
    let route = stage
        .route(isolation)
        .faults(json!([{"kind": "panic", "every": 40}]))
        .with("on_error", json!({"backoff": {"initial": "2ms", "max": "8ms"}}))
        .with("restart", json!({"initial": "1ms", "max": "20ms"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.await_state(ROUTE, "running")?;
    let before = stage.admin.generations(&stage.group)?;
    stage.await_all()?;
    assert_eq!(stage.admin.generations(&stage.group)?, before, "the group saw it");
    let downs = daemon.log().all(|line| line.says("plugin down"));
    assert!(downs.len() as u64 >= count / 40, "{} deaths", downs.len());
    let named = downs.iter().all(|line| line.text("cause").is_some_and(|cause| cause.contains("panic")));
    assert!(named, "{downs:?}");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
