//! SIGKILL midway and a restart: nothing is lost, order is kept, and twice is only what was not yet committed.

use devour_tests::{
    both,
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
    wait,
};

pub const RUNS: &[Run] = both!(Shared, run);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "kill", 12)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    let settings = stage.settings(stage.route(isolation).work_us(100).commit_every_ms(200));
    let daemon = stage.home.start(&settings)?;
    stage.await_digested(count / 3)?;
    wait::until("a first commit", DIGESTING, || {
        let committed = stage
            .admin
            .committed(&stage.group, &stage.topic, stage.partitions)
            .ok()?;
        (committed.values().sum::<i64>() > 0).then_some(())
    })?;
    daemon.kill()?;
    let committed = stage
        .admin
        .committed(&stage.group, &stage.topic, stage.partitions)?;
    let digested = stage.ledger.lines()?.records.len() as u64;
    assert!(digested < count, "killed midway: {digested} of {count}");

    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    verdict.twice_only_uncommitted(&committed)?;
    Ok(())
}
