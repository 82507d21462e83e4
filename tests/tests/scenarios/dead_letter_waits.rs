//! A dead letter that cannot be written holds back its partition and nothing else, and nothing is committed beyond it:
//! the topic is missing, or the daemon may not write it. It is said once what to do; when that is done the letter is
//! written and the partition goes on. A stop or a rebalance meanwhile does not wait for it and loses nothing.

use std::time::Duration;

use devour_tests::{
    daemon::{Daemon, Line, SOON, Settings},
    judge::{Place, judge},
    kafka::{BrokerOptions, Guest, Kafka, numbered_key, unique},
    ledger::Lines,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("missing_topic", |kafka| missing_topic(kafka, Meanwhile::GoOn)),
    Run::Shared("missing_topic_and_restart", |kafka| {
        missing_topic(kafka, Meanwhile::Restart)
    }),
    Run::Shared("missing_topic_and_rebalance", rebalance),
    Run::OwnBroker("forbidden_to_write", || forbidden(&["Describe"])),
    Run::OwnBroker("forbidden_to_see", || forbidden(&[])),
];

#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    GoOn,
    Restart,
}

const PARTITIONS: i32 = 3;
const POISONED: i32 = 1;
/// The 21st of its partition.
const POISON: u64 = 20 * PARTITIONS as u64 + POISONED as u64;
const OFFSET: i64 = 20;

fn route(stage: &Stage<'_>, dead: &str) -> devour_tests::daemon::Route {
    stage
        .route(Isolation::Process)
        .commit_every_ms(100)
        .faults(json!([{"kind": "reject", "numbers": [POISON], "times": 1_000_000}]))
        .with("on_error", json!({"then": "dead_letter", "dead_letter": {"topic": dead}}))
}

fn cannot(line: &Line) -> bool {
    line.says("a dead letter cannot be written")
}

/// Waits until the letter is said to wait, and the other partitions have digested and committed all of 0..300.
fn await_waiting(stage: &mut Stage<'_>, daemon: &Daemon, dead: &str) -> Result<Line, Failed> {
    let said = daemon.wait_for("word of the letter", SOON, cannot)?;
    for (field, value) in [("topic", &*stage.topic), ("dead_letter_topic", dead), ("route", ROUTE)] {
        assert_eq!(said.text(field), Some(value), "{}", said.raw);
    }
    let place = (said.number("partition"), said.number("offset"));
    assert_eq!(place, (Some(POISONED.into()), Some(OFFSET)), "{}", said.raw);
    stage.await_digested(220)?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, 220, DIGESTING)?;
    Ok(said)
}

/// Once the letter can be written: it is, once, and all else is digested.
fn goes_on(stage: &mut Stage<'_>, dead: &str) -> Outcome {
    stage.expected.remove(&Place {
        topic: stage.topic.clone(),
        partition: POISONED,
        offset: OFFSET,
    });
    stage.await_all()?;
    let letter = wait::until_told("the letter", SOON, || {
        let letters = stage
            .kafka
            .read(dead, PARTITIONS)
            .map_err(|error| error.to_string())?;
        match &letters[..] {
            [letter] => Ok(letter.clone()),
            other => Err(format!("{} letters", other.len())),
        }
    })?;
    assert_eq!(letter.partition, POISONED);
    assert_eq!(letter.key.as_deref(), Some(&*numbered_key(POISON, PARTITIONS)));
    Ok(())
}

fn missing_topic(kafka: &Kafka, meanwhile: Meanwhile) -> Outcome {
    let mut stage = Stage::new(kafka, "waits", PARTITIONS)?;
    let dead = unique("waits-dead");
    stage.produce(0..300)?;
    let settings = stage.settings(route(&stage, &dead));
    let mut daemon = stage.home.start(&settings)?;
    let said = await_waiting(&mut stage, &daemon, &dead)?;
    assert!(
        said.text("todo").is_some_and(|todo| todo.contains("create the topic")),
        "{}",
        said.raw
    );
    if meanwhile == Meanwhile::Restart {
        let begin = std::time::Instant::now();
        daemon.stop()?;
        // Its drain_timeout and shutdown_timeout are 20 s and 30 s.
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
        daemon = stage.home.start_again()?;
        daemon.wait_for("word of the letter again", SOON, cannot)?;
    }
    // More for the others while that one waits.
    let from = daemon.log().len();
    stage.produce(300..600)?;
    stage.await_digested(220 + 200)?;
    let committed = stage.admin.committed(&stage.group, &stage.topic, PARTITIONS)?;
    assert_eq!(committed.get(&POISONED), Some(&OFFSET), "{committed:?}");
    stage.admin.create_topic(&dead, PARTITIONS)?;
    goes_on(&mut stage, &dead)?;
    daemon.wait_for_from(from, "word that letters are written", SOON, |line| {
        line.says("dead letters are written again")
    })?;
    let log = daemon.stop()?;
    assert!(log.all(cannot).len() <= 2, "the log is filled:\n{}", log.tail());
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// Every partition waits for a letter; another member of the group comes, takes some of them and leaves again.
fn rebalance(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "waits-guest", PARTITIONS)?;
    let dead = unique("waits-guest-dead");
    stage.produce(0..300)?;
    let poisons: Vec<u64> = (0..PARTITIONS as u64)
        .map(|partition| 20 * PARTITIONS as u64 + partition)
        .collect();
    let route = route(&stage, &dead).faults(json!([{"kind": "reject", "numbers": poisons, "times": 1_000_000}]));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_digested(60)?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, 60, DIGESTING)?;
    daemon.wait_for("word of a letter", SOON, cannot)?;

    let begin = std::time::Instant::now();
    let guest = Guest::join(
        kafka.bootstrap(),
        (&stage.group, "guest", &stage.topic),
        "cooperative-sticky",
        &[],
    )?;
    wait::until("the guest's first messages", SOON, || {
        (!guest.lines().records.is_empty()).then_some(())
    })?;
    // A drain_timeout is 20 s.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    let guests = guest.leave();
    stage.admin.create_topic(&dead, PARTITIONS)?;

    // Each poison was either the guest's or became a letter.
    let by_guest = |n: &u64| guests.records.iter().any(|record| record.n == Some(*n));
    let given_up: Vec<u64> = poisons.iter().filter(|n| !by_guest(n)).copied().collect();
    assert!(given_up.len() < poisons.len(), "the guest got a partition");
    let letters = wait::until_told("the letters", DIGESTING, || {
        let letters = kafka.read(&dead, PARTITIONS).map_err(|error| error.to_string())?;
        if letters.len() >= given_up.len() {
            Ok(letters)
        } else {
            Err(format!("{} letters", letters.len()))
        }
    })?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, 300, DIGESTING)?;
    daemon.stop()?;
    let mut written: Vec<Option<Vec<u8>>> = letters.into_iter().map(|letter| letter.key).collect();
    written.sort();
    let mut keys: Vec<Option<Vec<u8>>> = given_up.iter().map(|n| Some(numbered_key(*n, PARTITIONS))).collect();
    keys.sort();
    assert_eq!(written, keys);
    for n in given_up {
        let place = stage.expected.places().find(|(_, number)| *number == n);
        let (place, _) = place.ok_or("it was produced")?;
        stage.expected.remove(&place);
    }
    let lines = Lines::join([stage.ledger.close()?, guests]);
    judge(&stage.expected, &lines).once_in_order()?;
    Ok(())
}

/// The daemon's user may read its topic, and do `operations` with the dead-letter topic.
fn forbidden(operations: &[&str]) -> Outcome {
    let kafka = Kafka::start(BrokerOptions {
        acls: true,
        ..BrokerOptions::default()
    })?;
    let broker = kafka.broker().ok_or("the broker is our own")?;
    let mut stage = Stage::new(&kafka, "forbidden", PARTITIONS)?;
    let dead = unique("forbidden-dead");
    stage.admin.create_topic(&dead, PARTITIONS)?;
    broker.allow(&["Read"], ("topic", &stage.topic))?;
    broker.allow(&["Read"], ("group", &stage.group))?;
    if !operations.is_empty() {
        broker.allow(operations, ("topic", &dead))?;
    }
    stage.produce(0..300)?;
    let tls = broker.tls();
    let settings = Settings::of(&broker.tls_bootstrap())
        .with_tls(tls, Some((&tls.client_cert, &tls.client_key)))
        .route(ROUTE, route(&stage, &dead));
    let daemon = stage.home.start(&settings)?;
    let said = await_waiting(&mut stage, &daemon, &dead)?;
    assert!(
        said.text("todo").is_some_and(|todo| todo.contains("the right to write")),
        "{}",
        said.raw
    );
    stage.produce(300..600)?;
    stage.await_digested(220 + 200)?;
    broker.allow(&["Write"], ("topic", &dead))?;
    goes_on(&mut stage, &dead)?;
    let log = daemon.stop()?;
    assert!(log.all(cannot).len() <= 2, "the log is filled:\n{}", log.tail());
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
