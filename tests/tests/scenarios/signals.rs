//! A stop in any state ends the daemon soon, with status 0 or, where something in hand is left, 75, and loses nothing:
//! while plugins are proven or built, while a reload is proven, between restarts, with a blocked digest in either
//! isolation, with the broker away. A second signal ends it at once. Ctrl-C on a terminal reaches the whole foreground group
//! and drains all the same. A hang-up reloads the daemon and ends `consume`.

use std::{
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use devour_tests::{
    daemon::{Daemon, Home, Line, Route, SOON, Settings, Signal},
    judge::judge,
    kafka::{BrokerOptions, Kafka},
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Alone("while_proving", while_proving),
    Run::Alone("while_building", || {
        while_building(Isolation::Process)?;
        while_building(Isolation::Thread)
    }),
    Run::Alone("while_reloading", while_reloading),
    Run::Alone("between_restarts", between_restarts),
    Run::Alone("without_a_broker", without_a_broker),
    Run::OwnBroker("broker_gone", broker_gone),
    Run::Shared("blocked_process", |kafka| blocked(kafka, Isolation::Process)),
    Run::Shared("blocked_thread", |kafka| blocked(kafka, Isolation::Thread)),
    Run::Shared("twice", twice),
    Run::Shared("terminal", terminal),
    Run::Shared("hang_up", hang_up),
];

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";
/// A plugin that hangs is probed for 10 s and then given up: a stop that is sooner did not wait for that.
const SOONER: Duration = Duration::from_secs(9);

/// A consumer of the library of those that misbehave.
fn hostile(symbol: &str) -> Route {
    Route::from_library("libdevour_test_hostile.so", symbol, Isolation::Process, "t", "g")
}

/// SIGTERM, and the status that the daemon ends with, sooner than `within`.
fn stop(daemon: &mut Daemon, within: Duration) -> Result<Exit, Failed> {
    let begin = Instant::now();
    daemon.signal(Signal::TERM)?;
    let exit = daemon.wait(scale::patience(SOON))?;
    let took = begin.elapsed();
    if took < within {
        Ok(exit)
    } else {
        Err(format!("the stop took {took:?}:\n{}", daemon.log().tail()).into())
    }
}

fn has_probe(daemon: &Daemon) -> bool {
    let is_probe = |words: &[String]| words.iter().any(|word| word == "probe");
    daemon.children().iter().any(|(_, words)| is_probe(words))
}

fn await_probe(daemon: &Daemon) -> Outcome {
    Ok(wait::until("a probe", SOON, || has_probe(daemon).then_some(()))?)
}

fn while_proving() -> Outcome {
    let home = Home::new("signal-proving")?;
    let settings = Settings::of(NOWHERE).route("hangs", hostile("CheckHangs"));
    let mut daemon = home.start(&settings)?;
    await_probe(&daemon)?;
    assert_eq!(stop(&mut daemon, SOONER)?, Exit::Status(0));
    Ok(())
}

fn while_building(isolation: Isolation) -> Outcome {
    let home = Home::new("signal-building")?;
    let route = hostile("ConstructorHangs").with("isolation", json!(isolation.name()));
    let mut daemon = home.start(&Settings::of(NOWHERE).route("hangs", route))?;
    daemon.await_state("hangs", "starting")?;
    assert_eq!(stop(&mut daemon, Duration::from_secs(20))?, Exit::Status(0));
    let ready = daemon.log().all(|line| line.says("ready"));
    assert!(ready.is_empty(), "a constructor that hangs is no first outcome: {ready:?}");
    Ok(())
}

fn while_reloading() -> Outcome {
    let home = Home::new("signal-reloading")?;
    let first = Settings::of(NOWHERE).route("good", hostile("Good"));
    let mut daemon = home.start(&first)?;
    daemon.wait_for("ready", SOON, |line| line.says("ready"))?;
    home.write(&first.route("hangs", hostile("CheckHangs")))?;
    daemon.signal(Signal::HUP)?;
    await_probe(&daemon)?;
    assert_eq!(stop(&mut daemon, SOONER)?, Exit::Status(0));
    Ok(())
}

fn between_restarts() -> Outcome {
    let home = Home::new("signal-backoff")?;
    let route = hostile("ConstructorFails").with("restart", json!({"initial": "1h", "max": "1h"}));
    let mut daemon = home.start(&Settings::of(NOWHERE).route("fails", route))?;
    // The first restart is immediate.
    let waits = |line: &Line| line.says("plugin down") && line.number("restarts") == Some(2);
    daemon.wait_for("the second failure", SOON, waits)?;
    assert_eq!(stop(&mut daemon, SOONER)?, Exit::Status(0));
    Ok(())
}

fn without_a_broker() -> Outcome {
    let home = Home::new("signal-no-broker")?;
    let route = Route::ledger(Isolation::Process, "t", "g", &home.file("ledger"));
    let mut daemon = home.start(&Settings::of(NOWHERE).route(ROUTE, route))?;
    daemon.wait_for("ready", SOON, |line| line.says("ready"))?;
    assert_eq!(stop(&mut daemon, Duration::from_secs(20))?, Exit::Status(0));
    Ok(())
}

/// What is digested cannot be committed any more: it is digested again, in its order.
fn broker_gone() -> Outcome {
    let mut kafka = Kafka::start(BrokerOptions::default())?;
    let (topic, group, home, mut ledger, expected) = {
        let mut stage = Stage::new(&kafka, "signal-broker-gone", 2)?;
        stage.produce(0..2000)?;
        (stage.topic, stage.group, stage.home, stage.ledger, stage.expected)
    };
    let route = Route::ledger(Isolation::Process, &topic, &group, ledger.path()).work_us(1000);
    let settings = Settings::of(kafka.bootstrap())
        .route(ROUTE, route)
        .with("shutdown_timeout", json!("5s"));
    let mut daemon = home.start(&settings)?;
    ledger.await_digested(200, scale::patience(SOON))?;
    kafka.broker_mut().ok_or("the broker is our own")?.kill()?;
    let exit = stop(&mut daemon, Duration::from_secs(25))?;
    let tail = daemon.log().tail();
    assert_eq!(exit, Exit::Status(0), "what was in hand was finished:\n{tail}");
    kafka.broker_mut().ok_or("the broker is our own")?.start_again()?;
    let daemon = home.start_again()?;
    ledger.await_digested(expected.count(), scale::patience(SOON))?;
    daemon.stop()?;
    judge(&expected, &ledger.close()?).in_order()?;
    Ok(())
}

/// A stage whose fourth message blocks for ever the first time, in the plugin's hand.
fn blocks_once<'k>(kafka: &'k Kafka, name: &str, isolation: Isolation, timeout: &str) -> Result<(Stage<'k>, Daemon), Failed> {
    let mut stage = Stage::new(kafka, name, 1)?;
    stage.produce(0..50)?;
    let route = stage
        .route(isolation)
        .faults(json!([{"kind": "block", "numbers": [3]}]))
        .with("digest_timeout", json!("none"));
    let settings = stage.settings(route).with("shutdown_timeout", json!(timeout));
    let daemon = stage.home.start(&settings)?;
    wait::until("the message that blocks to be in hand", SOON, || {
        stage.ledger.path().with_extension("struck-3").exists().then_some(())
    })?;
    Ok((stage, daemon))
}

/// The next daemon digests what is left, and what was finished is not digested again.
fn goes_on(mut stage: Stage<'_>) -> Outcome {
    let daemon = stage.home.start_again()?;
    daemon.wait_for("ready", SOON, |line| line.says("ready"))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn blocked(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let (stage, mut daemon) = blocks_once(kafka, "signal-blocked", isolation, "2s")?;
    let exit = stop(&mut daemon, Duration::from_secs(20))?;
    assert_eq!(exit, Exit::Status(75), "{}", daemon.log().tail());
    daemon.wait_for("what blocks to be named", SOON, |line| {
        line.says("stopped with messages in hand") && line.text("blocked_by").is_some_and(|by| by.contains(&stage.topic))
    })?;
    goes_on(stage)
}

fn twice(kafka: &Kafka) -> Outcome {
    let (stage, mut daemon) = blocks_once(kafka, "signal-twice", Isolation::Process, "10m")?;
    daemon.signal(Signal::TERM)?;
    daemon.wait_for("the stop", SOON, |line| line.says("stopping"))?;
    assert_eq!(stop(&mut daemon, Duration::from_secs(8))?, Exit::Status(75));
    // What was finished before the second signal may not have been committed.
    let mut stage = stage;
    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.in_order()?;
    Ok(())
}

/// `script` gives the program a terminal of its own; what is written to its input is typed there.
fn terminal(kafka: &Kafka) -> Outcome {
    for consume in [false, true] {
        let mut stage = Stage::new(kafka, "signal-terminal", 1)?;
        stage.produce(0..20)?;
        let settings = stage.settings(stage.route(Isolation::Process).work_us(400_000));
        stage.home.write(&settings)?;
        let program = stage.home.command()?;
        // `exec`: a shell that waited for it would die of the Control-C itself, and that would be the status.
        let words = format!(
            "exec {} --settings {} {}",
            program.get_program().display(),
            stage.home.settings_file().display(),
            if consume { format!("consume {ROUTE}") } else { String::new() }
        );
        let (typed, mut keyboard) = std::io::pipe()?;
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-f", "-c", &*words, "/dev/null"]).stdin(typed);
        let mut daemon = Daemon::spawn(&mut command)?;
        stage.await_digested(2)?;
        let begin = Instant::now();
        // Control-C.
        keyboard.write_all(b"\x03")?;
        let exit = daemon.wait(scale::patience(SOON))?;
        let (took, log) = (begin.elapsed(), daemon.log());
        assert_eq!(exit, Exit::Status(0), "{}", log.tail());
        assert!(took < Duration::from_secs(15), "{took:?}");
        let died = log.all(|line| line.says("plugin down"));
        assert!(died.is_empty(), "the plugin drained too: {died:?}");
        let digested = stage.ledger.lines()?.records.len();
        assert!(digested < 20, "it was stopped midway: {digested}");
        goes_on(stage)?;
    }
    Ok(())
}

fn hang_up(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "signal-hang-up", 1)?;
    stage.produce(0..100)?;
    stage.home.write(&stage.settings(stage.route(Isolation::Process)))?;
    let mut command = stage.home.command()?;
    command
        .arg("--settings")
        .arg(stage.home.settings_file())
        .args(["consume", ROUTE]);
    let mut consume = Daemon::spawn(&mut command)?;
    stage.await_all()?;
    consume.signal(Signal::HUP)?;
    assert_eq!(consume.wait(scale::patience(SOON))?, Exit::Status(0), "its terminal is gone");
    goes_on(stage)
}
