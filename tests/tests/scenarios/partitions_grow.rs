//! A topic gets more partitions under load: they are shared out, digested from their first message, and nothing is lost,
//! digested twice or out of order.

use std::time::Duration;

use devour_tests::{
    kafka::Kafka,
    members::Members,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("classic", |kafka| run(kafka, "classic")),
    Run::Shared("kip_848", |kafka| run(kafka, "consumer")),
];

const SOON: Duration = Duration::from_secs(20);

fn run(kafka: &Kafka, protocol: &str) -> Outcome {
    let mut stage = Stage::new(kafka, "grows", 4)?;
    let route = stage
        .route(Isolation::Process)
        .work_us(300)
        .with("membership", json!("dynamic"));
    // Looked for at each refresh: every ten seconds unless told otherwise.
    let librdkafka = json!({"group.protocol": protocol, "topic.metadata.refresh.interval.ms": "500"});
    let settings = stage.settings(route).with("librdkafka", librdkafka);
    let mut members = Members::new("grows", 2, &settings)?;
    members.join(0)?;
    members.join(1)?;
    members.await_shared_out(4, SOON)?;
    let load = stage.load(1000)?;
    stage.await_digested(500)?;

    for partitions in [6, 10] {
        stage.admin.grow_topic(&stage.topic, partitions)?;
        stage.partitions = partitions;
        load.spread_to(partitions);
        let sent = load.next();
        members.await_shared_out(partitions as usize, SOON)?;
        stage.await_digested(sent + 500)?;
    }
    stage.take_load(load)?;
    stage.await_all()?;
    members.leave_all()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.once_in_order()?;
    assert_eq!(verdict.partitions.len(), 10, "every partition had messages");
    Ok(())
}
