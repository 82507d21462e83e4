//! A topic that is created after the daemon has started is digested from its first message: named, matched by a pattern,
//! and by a simple consumer, which also finds partitions that are added later.

use devour_tests::{
    daemon::SOON,
    kafka::{Kafka, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("named", |kafka| run(kafka, Kind::Named)),
    Run::Shared("pattern", |kafka| run(kafka, Kind::Pattern)),
    Run::Shared("simple_consumer", |kafka| run(kafka, Kind::Simple)),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Named,
    Pattern,
    Simple,
}

fn run(kafka: &Kafka, kind: Kind) -> Outcome {
    let topic = unique("later");
    let mut stage = Stage::without_topic(kafka, "later", topic.clone(), 3)?;
    let mut route = stage.route(Isolation::Process);
    match kind {
        Kind::Named => {}
        Kind::Pattern => route = route.with("topic", json!(format!("^{topic}.*"))),
        Kind::Simple => route = route.with("consumer_type", json!("simple_consumer")),
    }
    // librdkafka looks for new topics at each refresh: every 5 minutes unless told otherwise.
    let refresh = json!({"topic.metadata.refresh.interval.ms": "1000"});
    let daemon = stage
        .home
        .start(&stage.settings(route).with("librdkafka", refresh))?;
    daemon.wait_for("the plugin", SOON, |line| {
        line.says("plugin up") && line.text("route") == Some(ROUTE)
    })?;

    stage.admin.create_topic(&topic, 3)?;
    stage.produce(0..300)?;
    stage.await_all()?;
    if kind == Kind::Simple {
        stage.admin.grow_topic(&topic, 5)?;
        stage.partitions = 5;
        stage.produce(300..800)?;
        stage.await_all()?;
    }
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
