//! A broker that falls silent while its connections stand: the partition that has messages and brings none is told as
//! stalled, sought, and then read by a new client; once the broker speaks again everything is digested, in order.

use devour_tests::{
    daemon::{Log, Signal},
    kafka::{BrokerOptions, Kafka},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
};
use rustix::process::{Pid, kill_process};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

const MESSAGES: u64 = 4_000;
const STALL_TIMEOUT_MS: i64 = 2_000;

fn run() -> Outcome {
    let kafka = Kafka::start(BrokerOptions::default())?;
    let pid = kafka.broker().and_then(|broker| broker.pid());
    let pid = pid
        .and_then(|pid| Pid::from_raw(pid as i32))
        .ok_or("the broker runs")?;
    let mut stage = Stage::new(&kafka, "stalled", 1)?;
    // Some eight batches, of which a client with these settings takes one or two ahead.
    let expected = kafka
        .producer()?
        .numbered(&stage.topic, 1, 0..MESSAGES, 2_000)?;
    stage.expected.extend(expected);
    let route = stage
        .route(Isolation::Process)
        .work_us(1_000)
        .commit_every_ms(100)
        .with("stall_timeout", json!(format!("{STALL_TIMEOUT_MS}ms")));
    let ahead = json!({"queued.min.messages": "1", "max.partition.fetch.bytes": "1000000"});
    let daemon = stage
        .home
        .start(&stage.settings(route).with("librdkafka", ahead))?;
    stage.await_digested(MESSAGES / 8)?;

    kill_process(pid, Signal::STOP)?;
    let stalled = |then: &str| {
        daemon.wait_for(then, DIGESTING, |line| {
            line.says("partition stalled") && line.raw.contains(then)
        })
    };
    let (sought, renewed) = (stalled("it is read again")?, stalled("a new client is made")?);
    kill_process(pid, Signal::CONT)?;

    for line in [&sought, &renewed] {
        assert_eq!(line.text("route"), Some(ROUTE), "{}", line.raw);
        assert_eq!(line.text("topic"), Some(&*stage.topic), "{}", line.raw);
        assert_eq!(line.number("partition"), Some(0), "{}", line.raw);
        assert_eq!(line.number("offset"), sought.number("offset"), "{}", line.raw);
    }
    let offset = sought.number("offset").unwrap_or_default();
    assert!((MESSAGES as i64 / 8..MESSAGES as i64).contains(&offset), "{offset}");
    let waited = |line: &devour_tests::daemon::Line| line.number("waited_ms").unwrap_or_default();
    assert!(waited(&sought) >= STALL_TIMEOUT_MS, "{}", sought.raw);
    assert!(waited(&renewed) >= 2 * STALL_TIMEOUT_MS, "{}", renewed.raw);
    let failed = daemon.wait_for("the client's end", DIGESTING, |line| line.says("client failed"))?;
    assert!(
        failed
            .text("error")
            .is_some_and(|error| error.starts_with("stalled: ")),
        "{}",
        failed.raw
    );

    stage.await_all()?;
    let from = daemon.log().len();
    daemon.signal(Signal::USR1)?;
    let dump = daemon.wait_for_from(from, "the dump", DIGESTING, |line| line.says("dump"))?;
    let counted = ["stall_seeks", "stall_restarts"].map(|counter| dump.number(counter));
    assert_eq!(
        counted,
        [told(daemon.log(), "it is read"), told(daemon.log(), "a new client")],
        "{}",
        dump.raw
    );
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    verdict.nothing_lost()?;
    Ok(())
}

/// How often the log says that a partition stalled, and that this was done.
fn told(log: &Log, then: &str) -> Option<i64> {
    let lines = log.all(|line| line.says("partition stalled") && line.raw.contains(then));
    Some(lines.len() as i64)
}
