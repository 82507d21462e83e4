//! 100,000 messages on 12 partitions are digested once, in the order of their partition, and all are committed at the
//! stop.

use devour_tests::{
    both,
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};

pub const RUNS: &[Run] = both!(Shared, run);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "once", 12)?;
    stage.produce(0..scale::messages(100_000))?;
    let daemon = stage.home.start(&stage.settings(stage.route(isolation)))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
