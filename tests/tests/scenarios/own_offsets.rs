//! A plugin that keeps its offsets itself (`assigned` seeks): its process is killed again and again, its daemon too, and
//! its group is changed for one that has committed nothing. Its own offsets decide: nothing is lost, digested twice or
//! out of order.

use devour_tests::{
    daemon::Route,
    kafka::{Kafka, unique},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const PARTITIONS: i32 = 6;

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "keeper", PARTITIONS)?;
    let kills = scale::messages(40);
    let count = kills * 1000;
    stage.produce(0..count)?;
    let route = |group: &str| {
        Route::ledger(Isolation::Process, &stage.topic, group, stage.ledger.path())
            .with("path", json!("libdevour_test_keeper.so"))
            .with("symbol", json!("Keeper"))
            .with("settings", json!({"work_us": 300}))
            .with("restart", json!({"initial": "10ms", "max": "50ms"}))
            .commit_every_ms(100)
    };
    let settings = stage.settings(route(&stage.group));
    let others = stage.settings(route(&unique("keeper-other")));
    let mut daemon = stage.home.start(&settings)?;
    for kill in 0..kills {
        // At no moment in particular: between two digests, in one, while a line is written.
        stage.await_digested(kill * 700 + 100)?;
        daemon.kill_plugin(ROUTE)?;
    }
    daemon.kill()?;
    daemon = stage.home.start_again()?;
    stage.await_digested(kills * 800)?;
    daemon.stop()?;

    // This group stands nowhere; the plugin knows better.
    let digested = stage.ledger.lines()?.records.len() as u64;
    assert!(digested < count, "stopped midway: {digested} of {count}");
    let daemon = stage.home.start(&others)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
