//! The only broker stops midway and starts again: the daemon goes on by itself, nothing is lost, order is kept, twice is
//! only what was not committed, and the log names the broker without being filled.

use devour_tests::{
    daemon::SOON,
    kafka::{BrokerOptions, Kafka},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};

pub const RUNS: &[Run] = &[
    Run::OwnBroker("process", || run(Isolation::Process)),
    Run::OwnBroker("thread", || run(Isolation::Thread)),
];

fn run(isolation: Isolation) -> Outcome {
    let mut kafka = Kafka::start(BrokerOptions::default())?;
    let count = scale::messages(100_000);
    let (topic, group, home, mut ledger, mut expected) = {
        let mut stage = Stage::new(&kafka, "outage", 6)?;
        stage.produce(0..count)?;
        (stage.topic, stage.group, stage.home, stage.ledger, stage.expected)
    };
    let route = devour_tests::daemon::Route::ledger(isolation, &topic, &group, ledger.path())
        .work_us(200)
        .commit_every_ms(200);
    let daemon = home.start(&devour_tests::daemon::Settings::of(kafka.bootstrap()).route("ledger", route))?;
    ledger.await_digested(count / 3, scale::patience(SOON))?;

    let committed = kafka.admin()?.committed(&group, &topic, 6)?;
    let from = daemon.log().len();
    let broker = kafka.broker_mut().ok_or("the broker is our own")?;
    broker.stop()?;
    let told = daemon.wait_for_from(from, "word of the lost broker", SOON, |line| {
        matches!(line.level(), "WARN" | "ERROR")
    })?;
    assert!(
        told.raw.contains(kafka.bootstrap()),
        "it names the broker: {}",
        told.raw
    );
    kafka.broker_mut().ok_or("the broker is our own")?.start_again()?;
    expected.extend(kafka.producer()?.numbered(&topic, 6, count..count + 600, 100)?);
    ledger.await_digested(expected.count(), scale::patience(SOON))?;
    let warnings = daemon.log().all(|line| matches!(line.level(), "WARN" | "ERROR"));
    assert!(
        warnings.len() <= 20,
        "{} warnings:\n{}",
        warnings.len(),
        daemon.log().tail()
    );
    let log = daemon.stop()?;

    let verdict = devour_tests::judge::judge(&expected, &ledger.close()?);
    verdict.nothing_lost()?;
    assert!(verdict.out_of_order.is_empty(), "{verdict}\n{}", log.tail());
    verdict.twice_only_uncommitted(&committed)?;
    Ok(())
}
