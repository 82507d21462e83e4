//! A message that its digest rejects, on one partition of twelve: under each `then` the other eleven go on. `stop` parks
//! its partition until it is resumed or skipped, `skip` passes it by, `dead_letter` sends it away. Nothing else is lost
//! and the order stays.

use devour_tests::{
    command::{self, Finished},
    daemon::{Daemon, SOON},
    judge::Place,
    kafka::{Kafka, numbered_key, unique},
    ledger::Outcome as Digest,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("stop_and_resume_process", |kafka| {
        stop_and_resume(kafka, Isolation::Process)
    }),
    Run::Shared("stop_and_resume_thread", |kafka| {
        stop_and_resume(kafka, Isolation::Thread)
    }),
    Run::Shared("stop_and_skip", stop_and_skip),
    Run::Shared("skip", skip),
    Run::Shared("dead_letter", dead_letter),
];

const PARTITIONS: i32 = 12;
const MESSAGES: u64 = 2400;
const POISONED: i32 = 5;
/// The 51st message of its partition.
const POISON: u64 = 50 * PARTITIONS as u64 + POISONED as u64;
const OFFSET: i64 = 50;
/// What stands behind it, and it.
const HELD_BACK: u64 = 150;

/// A stage with all messages, and a route whose plugin rejects the poison so often.
fn stage<'k>(kafka: &'k Kafka, name: &str) -> Result<Stage<'k>, Failed> {
    let mut stage = Stage::new(kafka, name, PARTITIONS)?;
    stage.produce(0..MESSAGES)?;
    Ok(stage)
}

fn start(stage: &Stage<'_>, isolation: Isolation, times: u64, on_error: Value) -> Result<Daemon, Failed> {
    let route = stage
        .route(isolation)
        .commit_every_ms(100)
        .faults(json!([{"kind": "reject", "numbers": [POISON], "times": times}]))
        .with("batch", json!({"max_messages": 25}))
        .with("on_error", on_error);
    Ok(stage.home.start(&stage.settings(route))?)
}

fn poison(stage: &Stage<'_>) -> Place {
    Place {
        topic: stage.topic.clone(),
        partition: POISONED,
        offset: OFFSET,
    }
}

/// Waits until only the poisoned partition stands, and looks at how it is said and what is committed.
fn await_parked(stage: &mut Stage<'_>, daemon: &Daemon) -> Outcome {
    let said = daemon.wait_for("the partition to stop", SOON, |line| {
        line.says("digest failed; this partition stops here")
    })?;
    let place = (said.text("topic"), said.number("partition"), said.number("offset"));
    assert_eq!(
        place,
        (Some(&*stage.topic), Some(POISONED.into()), Some(OFFSET)),
        "{}",
        said.raw
    );
    stage.await_digested(MESSAGES - HELD_BACK)?;
    let all_but_held_back = (MESSAGES - HELD_BACK) as i64;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, all_but_held_back, DIGESTING)?;
    let committed = stage.admin.committed(&stage.group, &stage.topic, PARTITIONS)?;
    assert_eq!(committed.get(&POISONED), Some(&OFFSET), "{committed:?}");
    Ok(())
}

/// A command of the daemon's program, over its control socket.
fn control(stage: &Stage<'_>, arguments: &[&str]) -> Result<Finished, Failed> {
    let mut command = stage.home.command()?;
    command
        .args(arguments)
        .env("DEVOUR_SOCKET", stage.home.file("control.sock"));
    Ok(command::run(&mut command, SOON)?)
}

fn stop_and_resume(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = stage(kafka, "poison-resume")?;
    // Twice, so that it stops again after the first order.
    let daemon = start(&stage, isolation, 2, json!({"then": "stop"}))?;
    await_parked(&mut stage, &daemon)?;
    let name = format!("{}/{POISONED}@{OFFSET}", stage.topic);
    let stopped = |from: usize| {
        daemon.wait_for_from(from, "the partition to stop again", SOON, |line| {
            line.says("digest failed; this partition stops here")
        })
    };
    let from = daemon.log().len();
    control(&stage, &["resume", ROUTE])?
        .expect("resume", 0)
        .says("resume", [&*name]);
    let again = stopped(from)?;
    assert_eq!(again.number("attempt"), Some(1), "it begins again: {}", again.raw);
    control(&stage, &["resume", ROUTE, "--json"])?
        .expect("resume", 0)
        .says("resume", [&*format!(r#""resumed":["{name}"]"#), r#""was_paused":false"#]);
    stage.await_all()?;
    control(&stage, &["resume", ROUTE])?
        .expect("resume", 0)
        .says("resume", ["nothing that is stopped"]);
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn stop_and_skip(kafka: &Kafka) -> Outcome {
    let mut stage = stage(kafka, "poison-skip-by-hand")?;
    let daemon = start(&stage, Isolation::Process, 1_000_000, json!({"then": "stop"}))?;
    await_parked(&mut stage, &daemon)?;
    let topic = stage.topic.clone();
    let of = |partition: i32, offset: i64| format!("{topic}/{partition}@{offset}");
    for (message, says) in [
        (of(POISONED, OFFSET + 1), format!("waits at offset {OFFSET}, not at {}", OFFSET + 1)),
        (of(0, 3), "does not wait".to_owned()),
        (of(PARTITIONS, 0), "is no partition that this route has".to_owned()),
        ("another/0@0".to_owned(), "is no partition that this route has".to_owned()),
    ] {
        control(&stage, &["skip", ROUTE, &message])?
            .expect(&message, 1)
            .says(&message, [&*says]);
    }
    control(&stage, &["skip", "ledgre", &of(POISONED, OFFSET)])?
        .expect("a wrong route", 1)
        .says("a wrong route", ["no route `ledgre`", "Did you mean `ledger`?"]);
    control(&stage, &["skip", ROUTE, "nonsense"])?
        .expect("no message", 2)
        .says("no message", ["TOPIC/PARTITION@OFFSET"]);
    control(&stage, &["skip", ROUTE, &of(POISONED, OFFSET)])?
        .expect("skip", 0)
        .says("skip", [&*of(POISONED, OFFSET)]);
    stage.expected.remove(&poison(&stage));
    stage.await_all()?;
    daemon.stop()?;
    control(&stage, &["resume", ROUTE])?
        .expect("no daemon", 1)
        .says("no daemon", ["no devourd answers at", "control.sock"]);
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn skip(kafka: &Kafka) -> Outcome {
    let mut stage = stage(kafka, "poison-skip")?;
    let daemon = start(&stage, Isolation::Process, 1_000_000, json!({"then": "skip"}))?;
    stage.expected.remove(&poison(&stage));
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    struck_once(&mut stage)?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn dead_letter(kafka: &Kafka) -> Outcome {
    let mut stage = stage(kafka, "poison-letter")?;
    let dead = unique("poison-dead");
    stage.admin.create_topic(&dead, PARTITIONS)?;
    let then = json!({"then": "dead_letter", "dead_letter": {"topic": dead}});
    let daemon = start(&stage, Isolation::Process, 1_000_000, then)?;
    stage.expected.remove(&poison(&stage));
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    struck_once(&mut stage)?;
    let letters = kafka.read(&dead, PARTITIONS)?;
    let [letter] = &letters[..] else {
        return Err(format!("one letter, not {letters:?}").into());
    };
    assert_eq!(letter.partition, POISONED);
    assert_eq!(letter.key.as_deref(), Some(&*numbered_key(POISON, PARTITIONS)));
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// What is rejected is not tried again.
fn struck_once(stage: &mut Stage<'_>) -> Outcome {
    let lines = stage.ledger.lines()?;
    let strikes = lines
        .records
        .iter()
        .filter(|record| record.n == Some(POISON) && record.outcome == Digest::Reject);
    assert_eq!(strikes.count(), 1);
    Ok(())
}
