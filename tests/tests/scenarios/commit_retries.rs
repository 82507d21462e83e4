//! A broker that falls silent: a commit without an answer within `offsets_channel_socket_timeout_ms` counts as a try, and
//! after `offsets_commit_max_retries` of them the log says once that commits fail; digesting goes on meanwhile. When the
//! broker speaks again everything is committed, and nothing is digested twice.

use std::time::{Duration, Instant};

use devour_tests::{
    daemon::{Log, Signal},
    kafka::{BrokerOptions, Kafka},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};
use rustix::process::{Pid, kill_process};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

const MESSAGES: u64 = 3_000;
const RETRIES: i64 = 2;
const TIMEOUT_MS: u64 = 500;

fn run() -> Outcome {
    let kafka = Kafka::start(BrokerOptions::default())?;
    let pid = kafka.broker().and_then(|broker| broker.pid());
    let pid = pid
        .and_then(|pid| Pid::from_raw(pid as i32))
        .ok_or("the broker runs")?;
    let mut stage = Stage::new(&kafka, "commits", 2)?;
    stage.produce(0..MESSAGES)?;
    // All of it is read at once, and digested for some seconds.
    let route = stage.route(Isolation::Process).work_us(2_000).with(
        "config",
        json!({
            "auto_commit_interval_ms": 100,
            "offsets_commit_max_retries": RETRIES,
            "offsets_channel_backoff_ms": 50,
        }),
    );
    let settings = stage
        .settings(route)
        .with("offsets_channel_socket_timeout_ms", json!(TIMEOUT_MS));
    let daemon = stage.home.start(&settings)?;
    stage.await_digested(MESSAGES / 10)?;
    wait::until("a first commit", DIGESTING, || {
        let committed = stage.admin.committed(&stage.group, &stage.topic, 2).ok()?;
        (committed.values().sum::<i64>() > 0).then_some(())
    })?;

    kill_process(pid, Signal::STOP)?;
    let begin = Instant::now();
    let failed = daemon.wait_for("commits to fail", DIGESTING, says_failed)?;
    let took = begin.elapsed();
    let digested = stage.ledger.lines()?.records.len();
    stage.await_digested(MESSAGES)?;
    kill_process(pid, Signal::CONT)?;

    assert_eq!(failed.number("tries"), Some(RETRIES + 1), "{}", failed.raw);
    assert_eq!(failed.text("route"), Some(ROUTE), "{}", failed.raw);
    let least = Duration::from_millis(TIMEOUT_MS) * (RETRIES as u32);
    assert!(took >= least, "told after {took:?}: {}", failed.raw);
    assert!(
        digested < MESSAGES as usize,
        "digesting went on while nothing could be committed"
    );
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, 2, MESSAGES as i64, DIGESTING)?;
    told_once(daemon.log());
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn says_failed(line: &devour_tests::daemon::Line) -> bool {
    line.says("commits fail")
}

fn told_once(log: &Log) {
    let told = log.all(says_failed);
    assert_eq!(told.len(), 1, "{told:?}");
}
