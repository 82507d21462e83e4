//! A message that kills its plugin, by a signal, an abort or an exit that nobody ordered, among the others: exactly that
//! one takes the route's `then`, after it was alone in hand at three deaths, however many were in hand with it at the
//! first (a `digest_batch` of 500, 1,000 of an async consumer, what a buffering one holds, a message in each lane). The
//! others are digested, in order. The number of the attempt reaches the digest after deaths, too.

use devour_tests::{
    command::{self, Finished},
    daemon::{Route, SOON},
    judge::{Order, Place},
    kafka::{Kafka, numbered_key, unique},
    ledger::Outcome as Digest,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("one_lane_stop", |kafka| stop(kafka, &one_lane())),
    Run::Shared("one_lane_skip", |kafka| skip(kafka, &one_lane())),
    Run::Shared("one_lane_dead_letter", |kafka| dead_letter(kafka, &one_lane())),
    Run::Shared("lanes_skip", |kafka| skip(kafka, &lanes())),
    Run::Shared("lanes_dead_letter", |kafka| dead_letter(kafka, &lanes())),
    Run::Shared("batch_stop", |kafka| stop(kafka, &batch())),
    Run::Shared("batch_skip", |kafka| skip(kafka, &batch())),
    Run::Shared("batch_dead_letter", |kafka| dead_letter(kafka, &batch())),
    Run::Shared("async_stop", |kafka| stop(kafka, &asynchronous())),
    Run::Shared("async_skip", |kafka| skip(kafka, &asynchronous())),
    Run::Shared("async_dead_letter", |kafka| dead_letter(kafka, &asynchronous())),
    Run::Shared("buffering_skip", |kafka| skip(kafka, &buffering())),
    Run::Shared("buffering_dead_letter", |kafka| dead_letter(kafka, &buffering())),
    Run::Shared("batch_panics_process", |kafka| {
        batch_panics(kafka, Isolation::Process)
    }),
    Run::Shared("batch_panics_thread", |kafka| {
        batch_panics(kafka, Isolation::Thread)
    }),
    Run::Shared("batch_blocks", batch_blocks),
    Run::Shared("attempt_survives_one_lane", |kafka| {
        attempt_survives(kafka, &one_lane())
    }),
    Run::Shared("attempt_survives_lanes", |kafka| {
        attempt_survives(kafka, &lanes())
    }),
];

const PARTITIONS: i32 = 4;
const MESSAGES: u64 = 3000;
/// The 201st message of its partition.
const KILLER: u64 = 200 * PARTITIONS as u64 + PARTITION as u64;
const PARTITION: i32 = 1;
const OFFSET: i64 = 200;
/// It, and what stands behind it in its partition.
const HELD_BACK: u64 = MESSAGES / PARTITIONS as u64 - OFFSET as u64;
/// `poison_after`, as it is by default.
const ALONE: usize = 3;

/// A way to have messages in hand.
struct Kind {
    symbol: &'static str,
    order: Order,
    lanes: u32,
    /// How the message kills.
    fault: &'static str,
    /// It holds one message at a time: the first death says which.
    one_in_hand: bool,
    more: fn(Route) -> Route,
}

fn one_lane() -> Kind {
    Kind {
        symbol: "Ledger",
        order: Order::Partition,
        lanes: 1,
        fault: "segfault",
        one_in_hand: true,
        more: |route| route.with("batch", json!({"max_messages": 100})),
    }
}

fn lanes() -> Kind {
    Kind {
        lanes: 4,
        fault: "abort",
        one_in_hand: false,
        more: |route| route.work_us(300),
        ..one_lane()
    }
}

fn batch() -> Kind {
    Kind {
        symbol: "BatchLedger",
        fault: "segfault",
        one_in_hand: false,
        more: |route| route.with("batch", json!({"max_messages": 500})),
        ..one_lane()
    }
}

fn asynchronous() -> Kind {
    Kind {
        symbol: "AsyncLedger",
        order: Order::None,
        fault: "exit",
        one_in_hand: false,
        more: |route| {
            route
                .with("concurrency", json!({"in_flight": 1000}))
                .with("settings", json!({"wait_us": 1000}))
        },
        ..one_lane()
    }
}

fn buffering() -> Kind {
    Kind {
        symbol: "BufferLedger",
        fault: "abort",
        one_in_hand: false,
        more: |route| route.with("flush", json!({"max_messages": 200, "max_wait": "50ms"})),
        ..one_lane()
    }
}

impl Kind {
    fn stage<'k>(&self, kafka: &'k Kafka, name: &str) -> Result<Stage<'k>, Failed> {
        let mut stage = Stage::in_order_of(self.order, kafka, name, PARTITIONS)?;
        stage.produce(0..MESSAGES)?;
        Ok(stage)
    }

    fn route(&self, stage: &Stage<'_>, isolation: Isolation) -> Route {
        let route = Route::of(
            self.symbol,
            isolation,
            &stage.topic,
            &stage.group,
            stage.ledger.path(),
        );
        (self.more)(route.lanes(self.order, self.lanes))
            .quick_again()
            .commit_every_ms(100)
    }

    /// The route in which the message kills for ever.
    fn killed(&self, stage: &Stage<'_>) -> Route {
        self.route(stage, Isolation::Process)
            .faults(json!([{"kind": self.fault, "numbers": [KILLER], "times": 1_000_000}]))
    }

    /// The deaths that it costs to find and to judge the message.
    fn deaths(&self, stage: &mut Stage<'_>, rounds: usize) -> Outcome {
        let lines = stage.ledger.lines()?;
        let of = |n: u64| move |record: &&devour_tests::ledger::Record| record.n == Some(n);
        let died = lines.records.iter().filter(|record| record.outcome.is_death());
        let killer = died.clone().filter(of(KILLER)).count();
        // Once with others, unless it is always alone.
        let most = rounds * ALONE + usize::from(!self.one_in_hand);
        assert!((rounds * ALONE..=most).contains(&killer), "{killer} deaths, not {most}");
        assert_eq!(died.count(), killer, "only that message kills");
        Ok(())
    }
}

fn killer(stage: &Stage<'_>) -> Place {
    Place {
        topic: stage.topic.clone(),
        partition: PARTITION,
        offset: OFFSET,
    }
}

/// All but the message is digested, in order; twice only what was in flight when its process died.
fn judge(stage: Stage<'_>, kind: &Kind) -> Outcome {
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    if kind.symbol == "AsyncLedger" {
        // It writes down what it digested, and the host may not have heard of it.
        assert!(verdict.duplicated.len() <= 1000, "{verdict}");
    } else {
        verdict.once_in_order()?;
    }
    Ok(())
}

fn skip(kafka: &Kafka, kind: &Kind) -> Outcome {
    let mut stage = kind.stage(kafka, "kills-skip")?;
    let route = kind.killed(&stage).with("on_error", json!({"then": "skip"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    let place = killer(&stage);
    stage.expected.remove(&place);
    stage.await_all()?;
    let skipped = daemon.log().all(|line| line.says("the message kills its plugin"));
    let [said] = &skipped[..] else {
        return Err(format!("one message takes the `then`, not {skipped:?}").into());
    };
    let at = (said.number("partition"), said.number("offset"), said.text("kind"));
    assert_eq!(at, (Some(PARTITION.into()), Some(OFFSET), Some("poison")), "{}", said.raw);
    daemon.stop()?;
    kind.deaths(&mut stage, 1)?;
    judge(stage, kind)
}

fn dead_letter(kafka: &Kafka, kind: &Kind) -> Outcome {
    let mut stage = kind.stage(kafka, "kills-letter")?;
    let dead = unique("kills-dead");
    stage.admin.create_topic(&dead, PARTITIONS)?;
    let then = json!({"then": "dead_letter", "dead_letter": {"topic": dead}});
    let daemon = stage
        .home
        .start(&stage.settings(kind.killed(&stage).with("on_error", then)))?;
    let place = killer(&stage);
    stage.expected.remove(&place);
    stage.await_all()?;
    daemon.stop()?;
    kind.deaths(&mut stage, 1)?;
    let letters = kafka.read(&dead, PARTITIONS)?;
    let [letter] = &letters[..] else {
        return Err(format!("one letter, not {letters:?}").into());
    };
    assert_eq!(letter.partition, PARTITION);
    assert_eq!(letter.key.as_deref(), Some(&*numbered_key(KILLER, PARTITIONS)));
    let header = |name: &str| {
        let found = letter.headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| Some(String::from_utf8_lossy(value.as_ref()?).into_owned()))
    };
    assert_eq!(header("devour.failure.kind").as_deref(), Some("poison"));
    assert_eq!(header("devour.attempts").as_deref(), Some("3"));
    let error = header("__connect.errors.exception.message").unwrap_or_default();
    assert!(error.contains("died 3 times with this message alone in hand"), "{error}");
    judge(stage, kind)
}

fn stop(kafka: &Kafka, kind: &Kind) -> Outcome {
    let mut stage = kind.stage(kafka, "kills-stop")?;
    let route = kind.killed(&stage).with("on_error", json!({"then": "stop"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    let stopped = |from: usize| {
        daemon.wait_for_from(from, "the message to be stopped", SOON, |line| {
            line.says("the message kills its plugin; this") && line.raw.contains("stops here")
        })
    };
    stopped(0)?;
    // Where order is by message, nothing stands behind it.
    let behind = if kind.order == Order::None { 1 } else { HELD_BACK };
    stage.await_digested(MESSAGES - behind)?;
    let (from, name) = (daemon.log().len(), format!("{}/{PARTITION}@{OFFSET}", stage.topic));
    control(&stage, &["resume", ROUTE])?
        .expect("resume", 0)
        .says("resume", [&*name]);
    stopped(from)?;
    control(&stage, &["skip", ROUTE, &name])?.expect("skip", 0);
    let place = killer(&stage);
    stage.expected.remove(&place);
    stage.await_all()?;
    daemon.stop()?;
    kind.deaths(&mut stage, 2)?;
    judge(stage, kind)
}

/// A batch that breaks with its instance says not which message did it: the others are no worse for it.
fn batch_panics(kafka: &Kafka, isolation: Isolation) -> Outcome {
    batch_breaks(kafka, isolation, "panic", 2)
}

/// Nor does one that does not return.
fn batch_blocks(kafka: &Kafka) -> Outcome {
    batch_breaks(kafka, Isolation::Process, "block", 1)
}

fn batch_breaks(kafka: &Kafka, isolation: Isolation, fault: &str, attempts: u32) -> Outcome {
    let kind = batch();
    let mut stage = kind.stage(kafka, "batch-breaks")?;
    let route = kind
        .route(&stage, isolation)
        .faults(json!([{"kind": fault, "numbers": [KILLER], "times": 1_000_000}]))
        .with("on_error", json!({"attempts": attempts, "then": "skip"}))
        .with("digest_timeout", json!("1s"));
    let daemon = stage.home.start(&stage.settings(route))?;
    let place = killer(&stage);
    stage.expected.remove(&place);
    stage.await_all()?;
    let skipped = daemon.log().all(|line| line.raw.contains("the message is skipped"));
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0].number("offset"), Some(OFFSET), "{}", skipped[0].raw);
    daemon.stop()?;
    judge(stage, &kind)
}

/// Two attempts that fail, two deaths at the third, and it is digested as the third.
fn attempt_survives(kafka: &Kafka, kind: &Kind) -> Outcome {
    let mut stage = kind.stage(kafka, "attempts")?;
    // Both rules count in one file: the second one's turn comes at each second look.
    let route = kind.route(&stage, Isolation::Process).faults(json!([
        {"kind": "retry", "numbers": [KILLER], "times": 2},
        {"kind": kind.fault, "numbers": [KILLER], "times": 6},
    ]));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    let lines = stage.ledger.lines()?;
    let of_killer = lines.records.iter().filter(|record| record.n == Some(KILLER));
    let attempts: Vec<(u32, Digest)> = of_killer.map(|record| (record.attempt, record.outcome)).collect();
    let expected = [
        (1, Digest::Retry),
        (2, Digest::Retry),
        (3, Digest::Died),
        (3, Digest::Died),
        (3, Digest::Ok),
    ];
    assert_eq!(attempts, expected);
    judge(stage, kind)
}

/// A command of the daemon's program, over its control socket.
fn control(stage: &Stage<'_>, arguments: &[&str]) -> Result<Finished, Failed> {
    let mut command = stage.home.command()?;
    command
        .args(arguments)
        .env("DEVOUR_SOCKET", stage.home.file("control.sock"));
    Ok(command::run(&mut command, SOON)?)
}
