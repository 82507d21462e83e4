//! `delivery: exactly_once` is stopped while nothing can be committed: the only broker is away, or does not answer. The stop
//! ends at its deadline and says so; nothing of the transaction that was open is seen, and the next start digests its
//! messages: a reader of committed records sees each result once and in order.

use std::time::{Duration, Instant};

use devour_tests::{
    daemon::{Route, SOON, Settings, Signal},
    kafka::{BrokerOptions, Kafka},
    outputs::Outputs,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::OwnBroker("broker_away", || stopped(Outage::Away)),
    Run::OwnBroker("broker_silent", || stopped(Outage::Silent)),
];

const PARTITIONS: i32 = 3;
const MESSAGES: u64 = 3000;
/// Two seconds, two more for what is left to be said, and the ends of processes.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    Away,
    /// It has the connections and says nothing on them.
    Silent,
}

fn stopped(outage: Outage) -> Outcome {
    let mut kafka = Kafka::start(BrokerOptions::default())?;
    let (home, topic, group, outputs, ledger, expected) = {
        let mut stage = Stage::new(&kafka, "exactly-stopped", PARTITIONS)?;
        let outputs = Outputs::of(&stage, "exactly-stopped-to")?;
        stage.produce(0..MESSAGES)?;
        (stage.home, stage.topic, stage.group, outputs, stage.ledger, stage.expected)
    };
    let route = Route::of("Relay", Isolation::Process, &topic, &group, ledger.path())
        .with("settings", json!({"to": outputs.topic, "work_us": 1000}))
        .with("delivery", json!("exactly_once"))
        .quick_again();
    let settings = Settings::of(kafka.bootstrap())
        .route(ROUTE, route)
        .with("shutdown_timeout", json!("2s"));
    let mut daemon = home.start(&settings)?;
    let admin = kafka.admin()?;
    wait::until_told("a first commit", SOON, || {
        let committed = admin.committed(&group, &topic, PARTITIONS).map_err(|error| error.to_string())?;
        if committed.values().sum::<i64>() > 0 { Ok(()) } else { Err(format!("{committed:?}")) }
    })?;
    drop(admin);
    let broker = kafka.broker_mut().ok_or("the broker is our own")?;
    match outage {
        Outage::Away => broker.kill()?,
        Outage::Silent => broker.freeze()?,
    }
    let begin = Instant::now();
    daemon.signal(Signal::TERM)?;
    assert_eq!(daemon.wait(scale::patience(SOON))?, Exit::Status(75));
    let log = daemon.log().clone();
    assert!(begin.elapsed() < scale::patience(ENDS_WITHIN), "{:?}\n{}", begin.elapsed(), log.tail());
    let told = log.all(|line| line.says("the last transaction was not ended in time"));
    assert_eq!(told.len(), 1, "{}", log.tail());
    drop(daemon);
    let broker = kafka.broker_mut().ok_or("the broker is our own")?;
    match outage {
        Outage::Away => broker.start_again()?,
        Outage::Silent => broker.thaw()?,
    }
    let daemon = home.start_again()?;
    let admin = kafka.admin()?;
    if let Err(error) = admin.await_committed(&group, &topic, PARTITIONS, MESSAGES as i64, SOON) {
        return Err(format!("{error}\n{}\n{}", log.tail(), daemon.log().tail()).into());
    }
    daemon.stop()?;
    outputs.judge_committed(&kafka, &topic, &expected)?.once_in_order()?;
    Ok(())
}
