//! An async consumer with 200 digests of 10 ms in flight: every message is digested once, in the order that the route
//! keeps; also where every fifth fails, and where the daemon is stopped in the middle. A SIGKILL of its process loses
//! nothing, and twice is no more than was in flight. A stop past its deadline leaves what is in flight uncommitted.

use devour_tests::{
    daemon::{Daemon, Route, Signal},
    judge::Order,
    kafka::Kafka,
    ledger::Outcome as Digest,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process_key", |kafka| run(kafka, Isolation::Process, Order::Key)),
    Run::Shared("process_partition", |kafka| {
        run(kafka, Isolation::Process, Order::Partition)
    }),
    Run::Shared("process_none", |kafka| run(kafka, Isolation::Process, Order::None)),
    Run::Shared("thread_key", |kafka| run(kafka, Isolation::Thread, Order::Key)),
    Run::Shared("thread_partition", |kafka| {
        run(kafka, Isolation::Thread, Order::Partition)
    }),
    Run::Shared("thread_none", |kafka| run(kafka, Isolation::Thread, Order::None)),
    Run::Shared("failing_process", |kafka| failing(kafka, Isolation::Process)),
    Run::Shared("failing_thread", |kafka| failing(kafka, Isolation::Thread)),
    Run::Shared("killed", killed),
    Run::Shared("stopped_process", |kafka| stopped(kafka, Isolation::Process)),
    Run::Shared("stopped_thread", |kafka| stopped(kafka, Isolation::Thread)),
    Run::Shared("left_at_the_stop", left),
];

const IN_FLIGHT: u64 = 200;
const PARTITIONS: i32 = 8;

fn run(kafka: &Kafka, isolation: Isolation, order: Order) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "async", PARTITIONS)?;
    // Of a partition one is in flight at a time, so that takes its time.
    let count = if order == Order::Partition { 20_000 } else { 100_000 };
    stage.produce(0..scale::messages(count))?;
    let daemon = stage
        .home
        .start(&stage.settings(route(&stage, isolation, order)))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn failing(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "async-fails", PARTITIONS)?;
    let count = scale::messages(50_000);
    stage.produce(0..count)?;
    let route = route(&stage, isolation, Order::Key).faults(json!([{"kind": "retry", "every": 5}]));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let failed = stage.ledger.lines()?.records.iter();
    let failed = failed.filter(|record| record.outcome == Digest::Retry).count() as u64;
    assert!(failed >= count / 4 - 10, "every fifth of all digests: {failed}");
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn killed(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "async-killed", PARTITIONS)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    let route = route(&stage, Isolation::Process, Order::Key);
    let daemon = stage.home.start(&stage.settings(route))?;
    const DEATHS: u64 = 3;
    for death in 1..=DEATHS {
        stage.await_digested(death * count / (DEATHS + 1))?;
        daemon.kill_plugin(ROUTE)?;
    }
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    eprintln!("{DEATHS} deaths, {} digested twice", verdict.duplicated.len());
    verdict.in_order()?;
    assert!(
        verdict.duplicated.len() as u64 <= DEATHS * IN_FLIGHT,
        "no more than was in flight: {verdict}"
    );
    Ok(())
}

fn stopped(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "async-stopped", PARTITIONS)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    let mut daemon = stage
        .home
        .start(&stage.settings(route(&stage, isolation, Order::Key)))?;
    for part in [count / 3, count * 2 / 3] {
        stage.await_digested(part)?;
        assert_eq!(terminate(daemon)?, Exit::Status(0), "all in flight was finished");
        let digested = stage.ledger.lines()?.records.len() as u64;
        assert!(
            (part..count).contains(&digested),
            "stopped midway: {digested} of {count}"
        );
        daemon = stage.home.start_again()?;
    }
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// Some futures never end: the stop's deadline passes, the daemon says how many are left, and only they come again.
fn left(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::None, kafka, "async-left", PARTITIONS)?;
    let count = scale::messages(10_000);
    let stuck: Vec<u64> = (100..120).collect();
    stage.produce(0..count)?;
    let route = route(&stage, Isolation::Process, Order::None)
        .faults(json!([{"kind": "block", "numbers": stuck}]));
    let settings = stage.settings(route).with("shutdown_timeout", json!("1s"));
    let daemon = stage.home.start(&settings)?;
    stage.await_digested(count - stuck.len() as u64)?;
    let log = daemon.log().clone();
    assert_eq!(terminate(daemon)?, Exit::Status(75), "some were left");
    let told = log.all(|line| line.says("the deadline of the stop passed"));
    let left: Vec<_> = told.iter().filter_map(|line| line.number("left")).collect();
    assert_eq!(left, [stuck.len() as i64], "{told:?}");

    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    // What never ended is not digested before: nothing is digested twice.
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn route(stage: &Stage<'_>, isolation: Isolation, order: Order) -> Route {
    Route::of(
        "AsyncLedger",
        isolation,
        &stage.topic,
        &stage.group,
        stage.ledger.path(),
    )
    .lanes(order, 1)
    .with("concurrency", json!({"in_flight": IN_FLIGHT}))
    .with("settings", json!({"wait_us": 10_000}))
    .quick_again()
}

fn terminate(mut daemon: Daemon) -> Result<Exit, libtest_mimic::Failed> {
    daemon.signal(Signal::TERM)?;
    Ok(daemon.wait(scale::patience(DIGESTING))?)
}
