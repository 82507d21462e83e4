//! SIGTERM midway and a restart: nothing is lost and nothing is digested twice.

use devour_tests::{
    both,
    daemon::Signal,
    kafka::Kafka,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
};

pub const RUNS: &[Run] = both!(Shared, run);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "stop", 12)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    let settings = stage.settings(stage.route(isolation).work_us(50));
    let mut daemon = stage.home.start(&settings)?;
    for part in [count / 3, count * 2 / 3] {
        stage.await_digested(part)?;
        daemon.signal(Signal::TERM)?;
        assert_eq!(daemon.wait(scale::patience(DIGESTING))?, Exit::Status(0));
        let digested = stage.ledger.lines()?.records.len() as u64;
        assert!(
            (part..count).contains(&digested),
            "stopped midway: {digested} of {count}"
        );
        daemon = stage.home.start_again()?;
    }
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
