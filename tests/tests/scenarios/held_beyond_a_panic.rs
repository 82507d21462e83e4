//! Thread isolation: an async consumer's own thread still holds a message when another message panics, and its instance is
//! gone. However many messages are digested afterwards, in memory for some hundreds of them: what that thread looks at stays
//! as it was. It is digested by the next instance, once, and its room is used again when the thread has let go.

use std::fs;

use devour_tests::{
    daemon::{Route, SOON},
    judge::Order,
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const PARTITIONS: i32 = 2;
const HELD: u64 = 20;
const PANICS: u64 = 150;

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::None, kafka, "held", PARTITIONS)?;
    let beside = |extension: &str| stage.ledger.path().with_extension(extension);
    let (holding, release, held) = (beside("holding"), beside("release"), beside("held"));
    produce(&mut stage, 0..100)?;
    let route = Route::of(
        "AsyncLedger",
        Isolation::Thread,
        &stage.topic,
        &stage.group,
        stage.ledger.path(),
    )
    .lanes(Order::None, 1)
    // One of them is held: the others go on.
    .with("settings", json!({"workers": 4}))
    .with("memory", json!("1MiB"))
    .faults(json!([{"kind": "hold", "numbers": [HELD]}, {"kind": "panic", "numbers": [PANICS]}]))
    .quick_again();
    let daemon = stage.home.start(&stage.settings(route))?;
    wait::until("a thread to hold its message", SOON, || holding.exists().then_some(()))?;
    produce(&mut stage, 100..scale::messages(50_000))?;
    let said = daemon.wait_for("the message that is held to be told", SOON, |line| {
        line.says("threads of the plugin still hold messages")
    })?;
    assert!(said.number("messages") >= Some(1), "{}", said.raw);
    stage.await_all()?;
    fs::write(&release, "")?;
    let seen = wait::until("the thread's word", SOON, || {
        fs::read_to_string(&held).ok().filter(|text| !text.is_empty())
    })?;
    assert_eq!(seen, "same", "the message that was held");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// Some five times the route's memory, in all.
fn produce(stage: &mut Stage<'_>, numbers: std::ops::Range<u64>) -> Outcome {
    let producer = stage.kafka.producer()?;
    let sent = producer.numbered(&stage.topic, PARTITIONS, numbers, 1_000)?;
    stage.expected.extend(sent);
    Ok(())
}
