//! A topic that ends in aborted transactions: all its messages are digested and it is committed to its end, though the
//! last offsets are no message; nobody takes it for stalled.

use std::time::Duration;

use devour_tests::{
    both,
    daemon::Signal,
    kafka::{Kafka, Record, TransactionEnd, numbered_payload, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = both!(Shared, run);

const STALL_TIMEOUT: Duration = Duration::from_secs(2);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "aborted", 2)?;
    let transactions = kafka.transactions(&unique("aborted"))?;
    let records = |numbers: std::ops::Range<u64>| -> Vec<Record> {
        let record = |n| Record {
            n,
            payload: Some(numbered_payload(n, 100)),
            ..Record::default()
        };
        numbers.map(record).collect()
    };
    let topic = stage.topic.clone();
    let mut transact = |partition, numbers, end| -> Outcome {
        let sent = transactions.transact(&topic, partition, &records(numbers), end)?;
        stage.expected.extend(sent);
        Ok(())
    };
    // Partition 0 ends in a marker behind messages, partition 1 has nothing but what was aborted.
    transact(0, 0..200, TransactionEnd::Commit)?;
    transact(0, 200..250, TransactionEnd::Abort)?;
    transact(1, 250..300, TransactionEnd::Abort)?;
    let route = stage
        .route(isolation)
        .commit_every_ms(100)
        .with("stall_timeout", json!(format!("{}s", STALL_TIMEOUT.as_secs())));
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.await_state(ROUTE, "running")?;
    let begin = std::time::Instant::now();
    stage.await_all()?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, 2, end(&stage)?, DIGESTING)?;
    // Now idle at its end, and again with nothing but an aborted transaction.
    transactions.transact(&stage.topic, 0, &records(300..310), TransactionEnd::Abort)?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, 2, end(&stage)?, DIGESTING)?;
    assert!(
        begin.elapsed() > 3 * STALL_TIMEOUT,
        "there was time enough to be called stalled: {:?}",
        begin.elapsed()
    );
    let sent = transactions.transact(&stage.topic, 1, &records(310..320), TransactionEnd::Commit)?;
    stage.expected.extend(sent);
    stage.await_all()?;
    let from = daemon.log().len();
    daemon.signal(Signal::USR1)?;
    let dump = daemon.wait_for_from(from, "the dump", DIGESTING, |line| line.says("dump"))?;
    for counter in ["stall_seeks", "stall_restarts", "client_restarts"] {
        assert_eq!(dump.number(counter), Some(0), "{counter}: {}", dump.raw);
    }
    let log = daemon.stop()?;
    let stalled = log.all(|line| line.says("partition stalled") || line.says("client failed"));
    assert!(stalled.is_empty(), "{stalled:?}");
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// What the committed offsets of a topic that is wholly consumed add up to.
fn end(stage: &Stage<'_>) -> Result<i64, libtest_mimic::Failed> {
    let mut sum = 0;
    for partition in 0..stage.partitions {
        sum += stage.admin.watermarks(&stage.topic, partition)?.1;
    }
    Ok(sum)
}
