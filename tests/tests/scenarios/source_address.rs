//! `source_address` binds the connections: the broker sees the member come from there.

use devour_tests::{
    daemon::SOON,
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

fn run(kafka: &Kafka) -> Outcome {
    if !kafka.bootstrap().starts_with("127.0.0.1") {
        // Only a broker on the loopback can see 127.0.0.2.
        return Ok(());
    }
    for address in ["127.0.0.1", "127.0.0.2"] {
        // A group each: the coordinator keeps the first address of a static member that comes back.
        let mut stage = Stage::new(kafka, "source", 2)?;
        stage.produce(0..100)?;
        let settings = stage
            .settings(stage.route(Isolation::Process))
            .with("source_address", json!(address));
        let daemon = stage.home.start(&settings)?;
        stage.await_all()?;
        let members = stage.admin.await_members(&stage.group, 1, SOON)?;
        assert_eq!(members[0].host, format!("/{address}"));
        daemon.stop()?;
        stage.verdict()?.once_in_order()?;
    }
    Ok(())
}
