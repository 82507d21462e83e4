//! A record of several MB passes in both isolations where the broker takes it, also where the route has less memory than
//! that; one that is larger than the broker allows is refused with a word that says what it is about, its message takes the
//! route's `then`, and what stands around it goes on.

use devour_tests::{
    control::await_status,
    daemon::{Route, SOON},
    judge::Place,
    kafka::{Kafka, unique},
    outputs::Outputs,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| passes(kafka, "Relay", Isolation::Process, "64MiB")),
    Run::Shared("process_little_memory", |kafka| passes(kafka, "Relay", Isolation::Process, "2MiB")),
    Run::Shared("process_async", |kafka| passes(kafka, "AsyncRelay", Isolation::Process, "64MiB")),
    Run::Shared("thread", |kafka| passes(kafka, "Relay", Isolation::Thread, "64MiB")),
    Run::Shared("thread_little_memory", |kafka| passes(kafka, "Relay", Isolation::Thread, "2MiB")),
    Run::Shared("refused_skip_process", |kafka| skipped(kafka, "Relay", Isolation::Process, "handed")),
    Run::Shared("refused_skip_thread", |kafka| skipped(kafka, "Relay", Isolation::Thread, "handed")),
    Run::Shared("refused_skip_sync", |kafka| skipped(kafka, "Relay", Isolation::Process, "awaited")),
    Run::Shared("refused_skip_async", |kafka| skipped(kafka, "AsyncRelay", Isolation::Process, "awaited")),
    Run::Shared("refused_dead_letter", dead_letter),
    Run::Shared("refused_stop", stop),
];

const LARGE: usize = 5_000_000;
const MESSAGES: u64 = 300;
const N: u64 = 120;

fn route(outputs: &Outputs, stage: &Stage<'_>, symbol: &str, isolation: Isolation) -> Route {
    outputs
        .route(stage, symbol, isolation)
        .commit_every_ms(50)
        .with("settings", json!({"large": [N], "large_bytes": LARGE}))
}

fn passes(kafka: &Kafka, symbol: &str, isolation: Isolation, memory: &str) -> Outcome {
    let mut stage = Stage::new(kafka, "outputs-large", 1)?;
    let outputs = Outputs::not_there(&stage, "outputs-large-to");
    stage.admin.create_topic_with(&outputs.topic, 1, &[("max.message.bytes", "10485760")])?;
    stage.produce(0..MESSAGES)?;
    let route = route(&outputs, &stage, symbol, isolation).with("memory", json!(memory));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.admin.await_committed(&stage.group, &stage.topic, 1, MESSAGES as i64, SOON)?;
    daemon.stop()?;
    let sizes: Vec<usize> = outputs
        .read(kafka)?
        .iter()
        .map(|kept| kept.payload.as_ref().map_or(0, Vec::len))
        .filter(|size| *size > 1000)
        .collect();
    assert_eq!(sizes, [LARGE + 100]);
    outputs.verdict(&stage)?.once_in_order()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// The topic takes a tenth of it.
fn refuses<'k>(kafka: &'k Kafka, partitions: i32) -> Result<(Stage<'k>, Outputs), Failed> {
    let mut stage = Stage::new(kafka, "outputs-refused", partitions)?;
    let outputs = Outputs::not_there(&stage, "outputs-refused-to");
    stage.admin.create_topic_with(&outputs.topic, partitions, &[("max.message.bytes", "500000")])?;
    stage.produce(0..MESSAGES)?;
    Ok((stage, outputs))
}

/// The message whose record is too large.
fn place(stage: &Stage<'_>) -> Result<Place, Failed> {
    let place = stage.expected.places().find(|(_, n)| *n == N);
    Ok(place.ok_or("it was produced")?.0)
}

fn skipped(kafka: &Kafka, symbol: &str, isolation: Isolation, how: &str) -> Outcome {
    let (mut stage, outputs) = refuses(kafka, 2)?;
    let route = route(&outputs, &stage, symbol, isolation)
        .with("settings", json!({"how": how}))
        .with("on_error", json!({"then": "skip"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.admin.await_committed(&stage.group, &stage.topic, 2, MESSAGES as i64, SOON)?;
    let log = daemon.stop()?;
    let told = log.all(|line| line.text("error").is_some_and(|error| error.contains(&outputs.topic)));
    let [told] = &told[..] else {
        return Err(format!("it is said once:\n{}", log.tail()).into());
    };
    let error = told.text("error").unwrap_or_default();
    for part in ["was not written", "MSG_SIZE_TOO_LARGE", "`max.message.bytes`"] {
        assert!(error.contains(part), "{error}");
    }
    let place = place(&stage)?;
    assert_eq!((told.number("offset"), told.number("partition")), (Some(place.offset), Some(i64::from(place.partition))));
    stage.expected.remove(&place);
    outputs.verdict(&stage)?.once_in_order()?;
    Ok(())
}

fn dead_letter(kafka: &Kafka) -> Outcome {
    let (mut stage, outputs) = refuses(kafka, 2)?;
    let dead = unique("outputs-refused-dead");
    stage.admin.create_topic(&dead, 1)?;
    let route = route(&outputs, &stage, "Relay", Isolation::Process)
        .with("on_error", json!({"then": "dead_letter", "dead_letter": {"topic": dead}}));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.admin.await_committed(&stage.group, &stage.topic, 2, MESSAGES as i64, SOON)?;
    daemon.stop()?;
    let letters = kafka.read(&dead, 1)?;
    assert_eq!(letters.len(), 1);
    let place = place(&stage)?;
    stage.expected.remove(&place);
    outputs.verdict(&stage)?.in_order()?;
    Ok(())
}

/// It stops its partition, where what stood behind it waits; the other goes on.
fn stop(kafka: &Kafka) -> Outcome {
    let (mut stage, outputs) = refuses(kafka, 2)?;
    let route = route(&outputs, &stage, "Relay", Isolation::Process);
    let daemon = stage.home.start(&stage.settings(route))?;
    let place = place(&stage)?;
    await_status(&stage.home, ROUTE, "the parked message", SOON, |route| {
        route["parked"][0]["offset"] == json!(place.offset) && route["in_hand"] == json!(0)
    })?;
    let other = 1 - place.partition;
    let committed = || stage.admin.committed(&stage.group, &stage.topic, 2);
    devour_tests::wait::until("the commits", SOON, || {
        let committed = committed().ok()?;
        let is = |partition: i32, offset: i64| committed.get(&partition) == Some(&offset);
        (is(place.partition, place.offset) && is(other, MESSAGES as i64 / 2)).then_some(())
    })?;
    daemon.stop()?;
    let partition = place.partition;
    stage.expected.retain(|of| of.partition != partition || of.offset < place.offset);
    let verdict = outputs.verdict(&stage)?;
    // Of what stood behind it some was digested already, and will be again.
    assert!(verdict.lost.is_empty() && verdict.out_of_order.is_empty(), "{verdict}");
    Ok(())
}
