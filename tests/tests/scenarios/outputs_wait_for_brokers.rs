//! The brokers refuse what digests produce for a while: a topic with fewer replicas in sync than it asks for, a topic that is
//! not there, the only broker down. Offsets wait, no digest is ended for it, and when the brokers take it everything is
//! there, in order. A stop meanwhile says what it leaves, and that is digested again.

use std::time::Duration;

use devour_tests::{
    control::await_status,
    daemon::{Route, SOON, Settings},
    kafka::{BrokerOptions, Kafka, Nodes},
    outputs::Outputs,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Cluster("replicas_process", |kafka, nodes| replicas(kafka, nodes, Isolation::Process)),
    Run::Cluster("replicas_thread", |kafka, nodes| replicas(kafka, nodes, Isolation::Thread)),
    Run::Shared("no_topic", no_topic),
    Run::OwnBroker("broker_down", broker_down),
    Run::Shared("stopped_meanwhile", stopped_meanwhile),
];

const PARTITIONS: i32 = 3;
/// How long the brokers refuse.
fn refused_for() -> Duration {
    if scale::soak() { Duration::from_secs(10) } else { Duration::from_secs(4) }
}

fn committed(stage: &Stage<'_>) -> Result<i64, Failed> {
    let committed = stage.admin.committed(&stage.group, &stage.topic, stage.partitions)?;
    Ok(committed.values().sum())
}

fn waiting(route: &Value) -> bool {
    route["outputs"]["waiting_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
}

/// All three replicas are to be in sync, and one broker is dead: NOT_ENOUGH_REPLICAS. What is read has two at least.
fn replicas(kafka: &Kafka, nodes: &mut Nodes, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "outputs-refused", PARTITIONS)?;
    let outputs = Outputs::not_there(&stage, "outputs-refused-to");
    stage.admin.create_topic_with(&outputs.topic, PARTITIONS, &[("min.insync.replicas", "3")])?;
    let route = outputs
        .route(&stage, "Relay", isolation)
        .commit_every_ms(50)
        // The refusal takes longer than a digest may, and the room is soon taken.
        .with("digest_timeout", json!("1s"))
        .with("memory", json!("1MiB"))
        .with("on_error", json!({"attempts": 1, "then": "skip"}))
        .with("settings", json!({"copies": 10}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.produce(0..300)?;
    stage.admin.await_committed(&stage.group, &stage.topic, PARTITIONS, 300, SOON)?;
    nodes.broker(3)?.kill()?;
    stage.produce(300..3000)?;
    await_status(&stage.home, ROUTE, "outputs that wait", SOON, waiting)?;
    wait::pace(std::time::Instant::now() + refused_for());
    let before = committed(&stage)?;
    assert!(before < 3000, "{before} are committed though nothing is written");
    await_status(&stage.home, ROUTE, "outputs that still wait", SOON, waiting)?;
    nodes.broker(3)?.start_again()?;
    nodes.await_whole(kafka)?;
    stage.await_all()?;
    stage.admin.await_committed(&stage.group, &stage.topic, PARTITIONS, 3000, SOON)?;
    let log = daemon.stop()?;
    assert!(log.all(|line| line.says("digest failed")).is_empty(), "{}", log.tail());
    assert!(log.all(|line| line.says("plugin down")).len() <= 1, "{}", log.tail());
    let written = outputs.verdict(&stage)?;
    written.in_order()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// UNKNOWN_TOPIC_OR_PART after a while: the digest has failed, is tried again, and passes when somebody creates the topic.
fn no_topic(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "outputs-no-topic", PARTITIONS)?;
    let outputs = Outputs::not_there(&stage, "outputs-no-topic-to");
    let route = outputs
        .route(&stage, "Relay", Isolation::Process)
        .quick_again()
        .commit_every_ms(50);
    stage.produce(0..300)?;
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.wait_for("the failure", SOON, |line| line.says("what the digest produced was not written"))?;
    assert_eq!(committed(&stage)?, 0);
    stage.admin.create_topic(&outputs.topic, PARTITIONS)?;
    stage.admin.await_committed(&stage.group, &stage.topic, PARTITIONS, 300, SOON)?;
    daemon.stop()?;
    outputs.verdict(&stage)?.in_order()?;
    let digested = stage.verdict()?;
    assert!(digested.lost.is_empty() && digested.out_of_order.is_empty(), "{digested}");
    Ok(())
}

/// Nothing is read nor written, and nothing that was produced before is lost.
fn broker_down() -> Outcome {
    let mut kafka = Kafka::start(BrokerOptions::default())?;
    let (home, topic, group, to, mut ledger, expected) = {
        let mut stage = Stage::new(&kafka, "outputs-down", PARTITIONS)?;
        let outputs = Outputs::of(&stage, "outputs-down-to")?;
        stage.produce(0..2000)?;
        (stage.home, stage.topic, stage.group, outputs, stage.ledger, stage.expected)
    };
    let route = Route::of("Relay", Isolation::Process, &topic, &group, ledger.path())
        .with("settings", json!({"to": to.topic, "work_us": 1000}))
        .commit_every_ms(50);
    let daemon = home.start(&Settings::of(kafka.bootstrap()).route(ROUTE, route))?;
    ledger.await_digested(500, scale::patience(SOON))?;
    let broker = kafka.broker_mut().ok_or("the broker is our own")?;
    broker.stop()?;
    wait::pace(std::time::Instant::now() + refused_for());
    kafka.broker_mut().ok_or("the broker is our own")?.start_again()?;
    ledger.await_digested(2000, scale::patience(SOON))?;
    kafka.admin()?.await_committed(&group, &topic, PARTITIONS, 2000, SOON)?;
    daemon.stop()?;
    let written = to.judge(&kafka, &topic, &expected)?;
    written.in_order()?;
    devour_tests::judge::judge(&expected, &ledger.close()?).nothing_lost()?;
    Ok(())
}

/// The drain's deadline passes while the brokers refuse: exit 75, named; the next start digests it again.
fn stopped_meanwhile(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "outputs-stopped", PARTITIONS)?;
    let outputs = Outputs::not_there(&stage, "outputs-stopped-to");
    let route = outputs
        .route(&stage, "Relay", Isolation::Process)
        .quick_again()
        .commit_every_ms(50);
    stage.produce(0..300)?;
    let settings = stage.settings(route).with("shutdown_timeout", json!("1s"));
    let mut daemon = stage.home.start(&settings)?;
    await_status(&stage.home, ROUTE, "outputs that wait", SOON, waiting)?;
    daemon.signal(devour_tests::daemon::Signal::TERM)?;
    assert_eq!(daemon.wait(scale::patience(SOON))?, Exit::Status(75));
    let log = daemon.log().clone();
    let left = log.all(|line| line.says("the deadline of the stop passed before all that was produced"));
    assert_eq!(left.len(), 1, "{}", log.tail());
    drop(daemon);
    assert_eq!(committed(&stage)?, 0);
    stage.admin.create_topic(&outputs.topic, PARTITIONS)?;
    let daemon = stage.home.start_again()?;
    stage.admin.await_committed(&stage.group, &stage.topic, PARTITIONS, 300, SOON)?;
    daemon.stop()?;
    outputs.verdict(&stage)?.in_order()?;
    stage.verdict()?.in_order()?;
    Ok(())
}
