//! SIGHUP every 300 ms for a minute, under load, with valid, invalid and unchanged files in turn: a route that no file
//! touches keeps its member and its generation, nothing of any route is lost or out of order, and the last file is the one
//! that holds.

use std::time::{Duration, Instant};

use devour_tests::{
    daemon::{Home, SOON, Settings, Signal},
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const EVERY: Duration = Duration::from_millis(300);
const PER_SECOND: u64 = 500;

fn run(kafka: &Kafka) -> Outcome {
    let stage = |name: &str| -> Result<Stage<'_>, Failed> { Stage::new(kafka, name, 4) };
    let (mut untouched, mut swapped, mut restarted) = (stage("untouched")?, stage("swapped")?, stage("restarted")?);
    let route = |stage: &Stage<'_>| stage.route(Isolation::Process).commit_every_ms(200);
    let settings = |round: u64| {
        Settings::of(kafka.bootstrap())
            .route("untouched", route(&untouched))
            .route("swapped", route(&swapped).work_us(round % 7))
            // Now and then another client: the route drains, leaves nothing behind, and comes back.
            .route("restarted", route(&restarted).commit_every_ms(200 + round / 10))
    };
    let home = Home::new("reloads")?;
    let mut daemon = home.start(&settings(0))?;
    for name in ["untouched", "swapped", "restarted"] {
        daemon.await_state(name, "running")?;
    }
    let loads = [untouched.load(PER_SECOND)?, swapped.load(PER_SECOND)?, restarted.load(PER_SECOND)?];
    let before = untouched.admin.generations(&untouched.group)?;

    let rounds = scale::messages(200);
    let mut next = Instant::now();
    for round in 0..rounds {
        let file = settings(round);
        match round % 3 {
            0 => home.write(&file)?,
            1 => home.write(&file.route("swapped", route(&swapped).with("symbol", json!("NoSuchConsumer"))))?,
            // What is applied is what stands there, so this is unchanged where the round before was refused.
            _ => home.write(&settings(round - 2))?,
        }
        daemon.signal(Signal::HUP)?;
        next += EVERY;
        wait::pace(next);
    }
    let from = daemon.log().len();
    home.write(&settings(3))?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the last reload", scale::patience(SOON), |line| {
        line.says("reloaded") && line.number("failed") == Some(0)
    })?;

    let [one, two, three] = loads;
    untouched.take_load(one)?;
    swapped.take_load(two)?;
    restarted.take_load(three)?;
    for stage in [&mut untouched, &mut swapped, &mut restarted] {
        stage.await_all()?;
    }
    let after = untouched.admin.generations(&untouched.group)?;
    assert_eq!(after, before, "a reload touched a route that it does not concern");
    let refused = daemon.log().all(|line| line.says("reload refused")).len();
    assert!(refused > 0, "no file was refused");
    daemon.signal(Signal::TERM)?;
    daemon.wait(SOON)?;
    for stage in [untouched, swapped, restarted] {
        stage.all_is_committed()?;
        stage.verdict()?.once_in_order()?;
    }
    Ok(())
}
