//! `queued_max_messages` is exact: of each partition so many messages are begun and not finished, and not one more, though
//! there are more to read and the plugin would take them. What is finished makes room for as many.

use devour_tests::{
    daemon::{Daemon, Route, SOON, Signal},
    judge::Order,
    kafka::Kafka,
    ledger::Ledger,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process)),
    Run::Shared("thread", |kafka| run(kafka, Isolation::Thread)),
];

const PARTITIONS: i32 = 3;
const MOST: usize = 40;

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::in_order_of(Order::None, kafka, "bounded", PARTITIONS)?;
    let count = scale::messages(30_000);
    stage.produce(0..count)?;
    let route = Route::of(
        "AsyncLedger",
        isolation,
        &stage.topic,
        &stage.group,
        stage.ledger.path(),
    )
    .lanes(Order::None, 1)
    .with("concurrency", json!({"in_flight": 10_000}))
    .with("config", json!({"queued_max_messages": MOST}));
    // Futures that never end, each of which is written down.
    let blocked = route.clone().faults(json!([{"kind": "block", "every": 1}]));
    let settings = stage.settings(blocked).with("shutdown_timeout", json!("500ms"));
    let daemon = stage.home.start(&settings)?;
    let all = MOST * PARTITIONS as usize;
    stage
        .ledger
        .await_that("as many as may be begun", DIGESTING, |lines| lines.records.len() >= all)?;
    // It goes on turning, and begins no more.
    for _ in 0..5 {
        turn(&daemon)?;
    }
    let exit = terminate(daemon)?;
    assert_eq!(exit, Exit::Status(75), "what never ends is left");
    begun_of_each(&mut stage.ledger)?;

    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn begun_of_each(ledger: &mut Ledger) -> Outcome {
    let records = &ledger.lines()?.records;
    for partition in 0..PARTITIONS {
        let begun = records.iter().filter(|record| record.partition == partition).count();
        assert_eq!(begun, MOST, "begun of partition {partition}");
    }
    Ok(())
}

/// Makes the route's thread turn once more.
fn turn(daemon: &Daemon) -> Outcome {
    let from = daemon.log().len();
    daemon.signal(Signal::USR1)?;
    daemon.wait_for_from(from, "the route's word", SOON, |line| line.says("route dump"))?;
    Ok(())
}

fn terminate(mut daemon: Daemon) -> Result<Exit, Failed> {
    daemon.signal(Signal::TERM)?;
    Ok(daemon.wait(scale::patience(DIGESTING))?)
}
