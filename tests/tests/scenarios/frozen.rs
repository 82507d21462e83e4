//! Who is stopped by SIGSTOP. A daemon that slept for three deadlines blames nobody: no plugin is restarted. A plugin's
//! process that sleeps is ended at its deadline, and its route goes on.

use std::time::{Duration, Instant};

use devour_tests::{
    daemon::{Daemon, SOON, Signal},
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("daemon_process", |kafka| daemon(kafka, Isolation::Process)),
    Run::Shared("daemon_thread", |kafka| daemon(kafka, Isolation::Thread)),
    Run::Shared("plugin", plugin),
];

const DEADLINE: Duration = Duration::from_secs(1);
const MESSAGES: u64 = 4000;

fn start(stage: &mut Stage<'_>, isolation: Isolation) -> Result<Daemon, Failed> {
    stage.produce(0..MESSAGES)?;
    let route = stage
        .route(isolation)
        .work_us(1500)
        .quick_again()
        .with("digest_timeout", json!("1s"));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_digested(MESSAGES / 20)?;
    Ok(daemon)
}

fn daemon(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "frozen-daemon", 4)?;
    let daemon = start(&mut stage, isolation)?;
    daemon.signal(Signal::STOP)?;
    wait::pace(Instant::now() + 3 * DEADLINE + DEADLINE / 2);
    daemon.signal(Signal::CONT)?;
    stage.await_all()?;
    let log = daemon.stop()?;
    let blamed = log.all(|line| line.says("plugin down") || line.says("plugin stuck"));
    assert!(blamed.is_empty(), "{blamed:?}");
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn plugin(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "frozen-plugin", 4)?;
    let daemon = start(&mut stage, Isolation::Process)?;
    let from = daemon.log().len();
    let frozen = Instant::now();
    daemon.signal_plugin(ROUTE, Signal::STOP)?;
    let down = daemon.wait_for_from(from, "its end", SOON, |line| line.says("plugin down"))?;
    let waited = frozen.elapsed();
    assert!(waited >= DEADLINE / 2 && waited < 5 * DEADLINE, "after {waited:?}");
    let cause = down.text("cause").unwrap_or_default();
    assert!(cause.contains("did not return within 1s"), "{cause}");
    daemon.await_state_from(from, ROUTE, "running")?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    assert!(verdict.duplicated.len() <= 1, "what was in hand: {verdict}");
    Ok(())
}
