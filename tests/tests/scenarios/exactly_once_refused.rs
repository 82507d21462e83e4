//! `delivery: exactly_once` where something is refused: a record that the broker does not take (whether its digest deals with
//! that or not), a message that stops its partition in the midst of a batch, a dead letter whose topic is not there yet. A
//! reader of committed records sees the result of every other message once and in order, and nothing stands still.

use std::time::{Duration, Instant};

use devour_tests::{
    control::{await_status, control},
    daemon::{Daemon, Route, SOON},
    judge::Place,
    kafka::{Kafka, unique},
    outputs::Outputs,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("record_handed", |kafka| record(kafka, "Relay", "handed")),
    Run::Shared("record_awaited", |kafka| record(kafka, "AsyncRelay", "awaited")),
    Run::Shared("record_tried", |kafka| record(kafka, "Relay", "tried")),
    Run::Shared("stop", |kafka| stop(kafka, "Relay")),
    Run::Shared("stop_async", |kafka| stop(kafka, "AsyncRelay")),
    Run::Shared("letter_without_topic", letter_without_topic),
];

const MESSAGES: u64 = 300;
const N: u64 = 120;
/// What takes longer than this waited for a transaction to run out of time.
const QUICK: Duration = Duration::from_secs(35);

fn route(outputs: &Outputs, stage: &Stage<'_>, symbol: &str) -> Route {
    outputs
        .route(stage, symbol, Isolation::Process)
        .with("delivery", json!("exactly_once"))
        .quick_again()
}

/// The message that is the matter.
fn place(stage: &Stage<'_>) -> Result<Place, Failed> {
    let place = stage.expected.places().find(|(_, n)| *n == N);
    Ok(place.ok_or("it was produced")?.0)
}

fn await_all_committed(stage: &Stage<'_>, daemon: &Daemon) -> Outcome {
    let finished = || stage.all_is_committed().map_err(|error| format!("{error:?}"));
    wait::until_told("all to be committed", QUICK, finished)
        .map_err(|error| format!("{error}\n{}", daemon.log().tail()))?;
    Ok(())
}

/// Whatever the digest makes of it: no transaction can be committed without the record, so it is the message's failure.
fn record(kafka: &Kafka, symbol: &str, how: &str) -> Outcome {
    let mut stage = Stage::new(kafka, "exactly-refused", 2)?;
    let outputs = Outputs::not_there(&stage, "exactly-refused-to");
    stage
        .admin
        .create_topic_with(&outputs.topic, 2, &[("max.message.bytes", "500000")])?;
    stage.produce(0..MESSAGES)?;
    let route = route(&outputs, &stage, symbol)
        .with(
            "settings",
            json!({"large": [N], "large_bytes": 600_000, "how": how}),
        )
        .with("on_error", json!({"then": "skip"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.await_state(ROUTE, "running")?;
    await_all_committed(&stage, &daemon)?;
    let log = daemon.stop()?;
    let skipped = log.all(|line| line.says("the message is skipped"));
    assert!(!skipped.is_empty(), "{}", log.tail());
    let place = place(&stage)?;
    stage.expected.remove(&place);
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}

/// Its transaction is aborted, since it had produced. When it is read again, what stands before it goes first.
fn stop(kafka: &Kafka, symbol: &str) -> Outcome {
    let mut stage = Stage::new(kafka, "exactly-stop", 2)?;
    let outputs = Outputs::of(&stage, "exactly-stop-to")?;
    stage.produce(0..MESSAGES)?;
    let route = route(&outputs, &stage, symbol)
        .faults(json!([{"kind": "reject", "numbers": [N], "times": 1_000_000}]))
        .with("on_error", json!({"then": "stop"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    let place = place(&stage)?;
    let parked = |route: &Value| route["parked"][0]["offset"] == json!(place.offset);
    await_status(&stage.home, ROUTE, "the parked message", SOON, parked)?;
    let other = 1 - place.partition;
    wait::until("the commits", QUICK, || {
        let committed = stage.admin.committed(&stage.group, &stage.topic, 2).ok()?;
        let is = |partition: i32, offset: i64| committed.get(&partition) == Some(&offset);
        (is(place.partition, place.offset) && is(other, MESSAGES as i64 / 2)).then_some(())
    })?;
    let (partition, offset) = (place.partition.to_string(), place.offset.to_string());
    let at = format!("{}/{partition}@{offset}", stage.topic);
    control(&stage.home, &["skip", ROUTE, &at])?.expect("skip", 0);
    await_all_committed(&stage, &daemon)?;
    daemon.stop()?;
    stage.expected.remove(&place);
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}

fn letter_without_topic(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "exactly-letter", 2)?;
    let outputs = Outputs::of(&stage, "exactly-letter-to")?;
    let dead = unique("exactly-letter-dead");
    stage.produce(0..MESSAGES)?;
    let route = route(&outputs, &stage, "Relay")
        .faults(json!([{"kind": "reject", "numbers": [N], "times": 1_000_000}]))
        .with(
            "on_error",
            json!({"then": "dead_letter", "dead_letter": {"topic": dead}}),
        );
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.wait_for("word of the letter", QUICK, |line| {
        line.says("a dead letter cannot be written")
    })?;
    stage.admin.create_topic(&dead, 1)?;
    let begin = Instant::now();
    await_all_committed(&stage, &daemon)?;
    eprintln!("committed {:?} after the topic was there", begin.elapsed());
    daemon.stop()?;
    assert_eq!(kafka.read_committed(&dead, 1)?.len(), 1);
    let place = place(&stage)?;
    stage.expected.remove(&place);
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}
