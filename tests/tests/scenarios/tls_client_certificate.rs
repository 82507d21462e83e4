//! TLS with a client certificate digests; without one, or with a stranger's, nothing is digested, the daemon says so and
//! does not fill its log.

use std::time::Duration;

use devour_tests::{
    daemon::Settings,
    kafka::{BrokerOptions, Kafka},
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

fn run() -> Outcome {
    let kafka = Kafka::start(BrokerOptions::default())?;
    let broker = kafka.broker().ok_or("the broker is our own")?;
    let (tls, hosts) = (broker.tls(), broker.tls_bootstrap());
    let mut stage = Stage::new(&kafka, "tls", 2)?;
    stage.produce(0..1000)?;
    let settings = |certificate| {
        Settings::of(&hosts)
            .with_tls(tls, certificate)
            .route(ROUTE, stage.route(Isolation::Process))
    };
    let good = settings(Some((&*tls.client_cert, &*tls.client_key)));
    let bad = [
        settings(None),
        settings(Some((&*tls.stranger_cert, &*tls.stranger_key))),
    ];

    for bad in &bad {
        let daemon = stage.home.start(bad)?;
        let refused = |line: &devour_tests::daemon::Line| {
            matches!(line.level(), "WARN" | "ERROR") && line.raw.to_lowercase().contains("ssl")
        };
        daemon.wait_for("word of the refused connection", Duration::from_secs(30), refused)?;
        let log = daemon.stop()?;
        let told = log.all(|line| matches!(line.level(), "WARN" | "ERROR")).len();
        assert!(
            told <= 10,
            "the log is filled with {told} warnings:\n{}",
            log.tail()
        );
    }
    assert!(
        stage.ledger.lines()?.records.is_empty(),
        "digested without a certificate"
    );

    let daemon = stage.home.start(&good)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
