//! Two clusters in one file: a route with `hosts` of its own digests from there, the other from the file's, at once.

use devour_tests::{
    daemon::Settings,
    kafka::{BrokerOptions, Kafka, shared},
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

fn run() -> Outcome {
    let (one, other) = (shared()?, Kafka::start(BrokerOptions::default())?);
    let (mut here, mut there) = (Stage::new(one, "here", 3)?, Stage::new(&other, "there", 3)?);
    here.produce(0..3000)?;
    there.produce(0..2000)?;
    let settings = Settings::of(one.bootstrap())
        .route("here", here.route(Isolation::Process))
        .route(
            "there",
            there
                .route(Isolation::Process)
                .with("hosts", json!(other.bootstrap())),
        );
    let daemon = here.home.start(&settings)?;
    here.await_all()?;
    there.await_all()?;
    daemon.stop()?;
    for stage in [here, there] {
        stage.all_is_committed()?;
        stage.verdict()?.once_in_order()?;
    }
    Ok(())
}
