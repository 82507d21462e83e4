//! What a person orders of a route under load: `pause` fetches and digests nothing more, keeps partitions, member and plugin
//! beyond `max.poll.interval.ms`, and `resume` goes on where it stood; `stop` leaves the group and ends the plugin, `start`
//! comes back. Both survive a restart of the daemon and a reload. Nothing is lost, digested twice or out of order.

use std::time::{Duration, Instant};

use devour_tests::{
    control::{await_status, control, status, status_of},
    daemon::{Daemon, Home, Route, SOON, Settings, Signal},
    judge::Order,
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("pause_process", |kafka| pause(kafka, Isolation::Process, "Ledger")),
    Run::Shared("pause_thread", |kafka| pause(kafka, Isolation::Thread, "Ledger")),
    Run::Shared("pause_async", |kafka| pause(kafka, Isolation::Process, "AsyncLedger")),
    Run::Shared("pause_buffering", |kafka| {
        pause(kafka, Isolation::Process, "BufferLedger")
    }),
    Run::Shared("pause_beyond_the_poll_interval", long_pause),
    Run::Shared("stop_and_start", stop_and_start),
    Run::Shared("survives", survives),
    Run::Alone("refusals", refusals),
];

const PARTITIONS: i32 = 4;
const PER_SECOND: u64 = 2000;

fn route(stage: &Stage<'_>, isolation: Isolation, symbol: &str) -> Route {
    let route = Route::of(symbol, isolation, &stage.topic, &stage.group, stage.ledger.path());
    let route = route.commit_every_ms(100);
    match symbol {
        "BufferLedger" => route.with("flush", json!({"max_wait": "200ms"})),
        "AsyncLedger" => route.with("settings", json!({"wait_us": 500})),
        _ => route.work_us(100),
    }
}

/// Pauses the route, and returns its status once nothing is in hand.
fn pause_now(stage: &Stage<'_>) -> Result<Value, Failed> {
    control(&stage.home, &["pause", ROUTE])?
        .expect("pause", 0)
        .says("pause", ["ledger: paused"]);
    await_status(&stage.home, ROUTE, "it to be paused", SOON, |route| {
        route["state"] == "paused" && route["in_hand"] == 0
    })
}

/// What the group has is what was digested: commits go on in a pause.
fn await_committed(stage: &Stage<'_>) -> Result<Value, Failed> {
    await_status(&stage.home, ROUTE, "what is finished to be committed", SOON, |route| {
        let mut partitions = route["assignment"].as_array().into_iter().flatten();
        partitions.all(|partition| partition["committed"] == partition["offset"])
    })
}

fn pause(kafka: &Kafka, isolation: Isolation, symbol: &str) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Partition, kafka, "by-hand-pause", PARTITIONS)?;
    let daemon = stage.home.start(&stage.settings(route(&stage, isolation, symbol)))?;
    let load = stage.load(PER_SECOND)?;
    stage.await_digested(500)?;
    // How far a partition is behind is not known before something of it was read, and nothing is committed of it before
    // something was digested.
    await_status(&stage.home, ROUTE, "something of all partitions to be digested", SOON, |route| {
        let mut partitions = route["assignment"].as_array().into_iter().flatten();
        partitions.all(|partition| partition["offset"].as_i64().is_some_and(|offset| offset > 0))
    })?;
    let generations = stage.admin.generations(&stage.group)?;
    let mut pid = None;
    for round in 0..3 {
        let paused = pause_now(&stage)?;
        let paused = if round == 0 { await_committed(&stage)? } else { paused };
        assert_eq!(*pid.get_or_insert(paused["pid"].clone()), paused["pid"], "the same plugin: {paused}");
        assert_eq!(paused["by_hand"]["state"], "paused", "{paused}");
        let digested = paused["counts"]["digested"].clone();
        // The load goes on meanwhile, and none of it is digested.
        let (begin, sent) = (Instant::now(), load.next());
        wait::until("more to be sent", SOON, || (load.next() > sent + PER_SECOND).then_some(()))?;
        let still = status_of(&stage.home, ROUTE)?;
        assert_eq!(still["state"], "paused", "{still}");
        assert_eq!(still["counts"]["digested"], digested, "after {:?}: {still}", begin.elapsed());
        assert!(still["lag"].as_i64() > Some(PER_SECOND as i64 / 2), "how far it is behind is seen: {still}");
        control(&stage.home, &["resume", ROUTE])?
            .expect("resume", 0)
            .says("resume", ["ledger: resumed"]);
        await_status(&stage.home, ROUTE, "it to digest again", SOON, |route| {
            route["state"] == "running"
                && route["by_hand"].is_null()
                && route["counts"]["digested"].as_u64() > digested.as_u64()
        })?;
    }
    stage.take_load(load)?;
    stage.await_all()?;
    assert_eq!(stage.admin.generations(&stage.group)?, generations, "no rebalance");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn long_pause(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "by-hand-long", PARTITIONS)?;
    let interval = Duration::from_secs(6);
    let interval_ms = interval.as_millis().to_string();
    let route = route(&stage, Isolation::Process, "Ledger")
        .with(
            "librdkafka",
            json!({"max.poll.interval.ms": interval_ms, "session.timeout.ms": "6000"}),
        )
        .with("drain_timeout", json!("3s"));
    let daemon = stage.home.start(&stage.settings(route))?;
    let load = stage.load(PER_SECOND / 4)?;
    stage.await_digested(200)?;
    let generations = stage.admin.generations(&stage.group)?;
    let paused = pause_now(&stage)?;
    let begin = Instant::now();
    wait::pace(begin + interval + Duration::from_secs(4));
    let still = status_of(&stage.home, ROUTE)?;
    assert_eq!(still["state"], "paused", "{still}");
    assert_eq!(still["pid"], paused["pid"], "{still}");
    assert_eq!(still["since"], paused["since"], "it never left the state: {still}");
    control(&stage.home, &["resume"])?.expect("resume of all", 0);
    stage.take_load(load)?;
    stage.await_all()?;
    assert_eq!(stage.admin.generations(&stage.group)?, generations, "no rebalance");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn members(stage: &Stage<'_>) -> Result<usize, Failed> {
    Ok(stage.admin.group(&stage.group)?.map_or(0, |view| view.members.len()))
}

fn stop_and_start(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "by-hand-stop", PARTITIONS)?;
    let daemon = stage.home.start(&stage.settings(route(&stage, Isolation::Process, "Ledger")))?;
    let load = stage.load(PER_SECOND)?;
    for round in 1..=3 {
        stage.await_digested(round * 500)?;
        let words: &[&str] = if round == 1 { &["stop", "--all"] } else { &["stop", ROUTE] };
        control(&stage.home, words)?.expect("stop", 0).says("stop", ["ledger: stopped"]);
        let stopped = status_of(&stage.home, ROUTE)?;
        assert_eq!(stopped["state"], "stopped", "the command waits for it: {stopped}");
        assert_eq!((&stopped["pid"], &stopped["assignment"]), (&json!(null), &json!(null)));
        assert_eq!(members(&stage)?, 0, "it left its group");
        assert_eq!(daemon.children(), [], "its plugin has ended");
        for refused in ["pause", "resume", "restart"] {
            control(&stage.home, &[refused, ROUTE])?
                .expect(refused, 1)
                .says(refused, ["stopped by hand", "devourd start"]);
        }
        // All the others: there are none.
        control(&stage.home, &["restart"])?.expect("restart of all", 0);
        assert_eq!(status_of(&stage.home, ROUTE)?["state"], "stopped");
        control(&stage.home, &["start", ROUTE])?.expect("start", 0).says("start", ["ledger: started"]);
        await_status(&stage.home, ROUTE, "it to run", SOON, |route| route["state"] == "running")?;
    }
    stage.take_load(load)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn survives(kafka: &Kafka) -> Outcome {
    let mut paused = Stage::new(kafka, "by-hand-paused", PARTITIONS)?;
    let mut stopped = Stage::new(kafka, "by-hand-stopped", PARTITIONS)?;
    paused.produce(0..1000)?;
    stopped.produce(0..1000)?;
    let home = Home::new("by-hand-survives")?;
    let routes = [
        ("paused", route(&paused, Isolation::Process, "Ledger")),
        ("stopped", route(&stopped, Isolation::Process, "Ledger")),
    ];
    let settings = move |work_us: u64| {
        let routes = routes.clone().into_iter();
        routes.fold(Settings::of(kafka.bootstrap()), |settings, (name, route)| {
            settings.route(name, route.work_us(work_us))
        })
    };
    let first = home.start(&settings(100))?;
    paused.await_all()?;
    stopped.await_all()?;
    control(&home, &["pause", "paused"])?.expect("pause", 0);
    control(&home, &["stop", "stopped"])?.expect("stop", 0);
    let since = |route: &str| -> Result<Value, Failed> { Ok(status_of(&home, route)?["by_hand"]["since"].clone()) };
    let (paused_since, stopped_since) = (since("paused")?, since("stopped")?);
    assert!(paused_since.is_string() && stopped_since.is_string());
    paused.produce(1000..2000)?;
    stopped.produce(1000..2000)?;
    let holds = |when: &str| -> Outcome {
        let state = |route: &Value| route["state"] == "paused" && route["assignment"].as_array().is_some_and(|partitions| partitions.len() == PARTITIONS as usize);
        let route = await_status(&home, "paused", when, SOON, state)?;
        assert_eq!(route["by_hand"], json!({"state": "paused", "since": paused_since}), "{when}");
        let route = await_status(&home, "stopped", when, SOON, |route| route["state"] == "stopped")?;
        assert_eq!(route["by_hand"], json!({"state": "stopped", "since": stopped_since}), "{when}");
        assert_eq!(route["pid"], json!(null), "{when}");
        Ok(())
    };
    let reload = |daemon: &Daemon, work_us: u64| -> Outcome {
        let from = daemon.log().len();
        home.write(&settings(work_us))?;
        daemon.signal(Signal::HUP)?;
        daemon.wait_for_from(from, "the reload", SOON, |line| line.says("reloaded"))?;
        Ok(())
    };
    holds("at first")?;
    reload(&first, 100)?;
    holds("after a reload of nothing")?;
    reload(&first, 200)?;
    holds("after a reload of both")?;
    let last = status(&home)?["last_reload"].clone();
    assert_eq!((&last["outcome"], &last["reason"]), (&json!("done"), &json!("signal")), "{last}");
    first.stop()?;
    let second = home.start_again()?;
    holds("after a restart of the daemon")?;
    second.kill()?;
    let third = home.start_again()?;
    holds("after its death")?;
    for stage in [&mut paused, &mut stopped] {
        let digested = stage.ledger.lines()?.records.len();
        assert_eq!(digested, 1000, "nothing was digested meanwhile");
    }
    control(&home, &["status"])?.expect("the table", 0).says(
        "the table",
        ["paused by hand since", "stopped by hand since"],
    );
    control(&home, &["resume"])?.expect("resume of all", 0).says("resume of all", ["paused: resumed"]);
    control(&home, &["start"])?.expect("start of all", 0).says("start of all", ["stopped: started"]);
    paused.await_all()?;
    stopped.await_all()?;
    third.stop()?;
    let fourth = home.start_again()?;
    for route in ["paused", "stopped"] {
        let runs = await_status(&home, route, "it to run", DIGESTING, |route| route["state"] == "running")?;
        assert_eq!(runs["by_hand"], json!(null), "{runs}");
    }
    fourth.stop()?;
    for stage in [paused, stopped] {
        stage.all_is_committed()?;
        stage.verdict()?.once_in_order()?;
    }
    Ok(())
}

fn refusals() -> Outcome {
    let home = Home::new("by-hand-refusals")?;
    let ledger = home.file("ledger");
    let hostile = |symbol: &str| {
        Route::ledger(Isolation::Process, "t", "g", &ledger)
            .with("path", json!("libdevour_test_hostile.so"))
            .with("symbol", json!(symbol))
            .with("restart", json!({"initial": "60s", "max": "60s"}))
    };
    // Nobody listens at port 1.
    let settings = Settings::of("127.0.0.1:1")
        .route("unbuilt", hostile("ConstructorFails"))
        .route("unknown", hostile("NoSuchConsumer"));
    let daemon = home.start(&settings)?;
    await_status(&home, "unbuilt", "its back-off", SOON, |route| route["state"] == "backoff")?;
    control(&home, &["stop"])?.expect("stop of all without a word", 2).says("stop of all", ["--all"]);
    for command in ["pause", "resume", "stop", "start", "restart"] {
        control(&home, &[command, "unbild"])?
            .expect(command, 1)
            .says(command, ["no route `unbild`", "Did you mean `unbuilt`?"]);
    }
    let restarts = status_of(&home, "unbuilt")?["restarts"]["plugin"].as_u64();
    for command in ["start", "restart"] {
        control(&home, &[command, "unbuilt"])?
            .expect(command, 1)
            .says(command, ["route `unbuilt`", "no database at localhost"]);
    }
    assert!(status_of(&home, "unbuilt")?["restarts"]["plugin"].as_u64() >= restarts);
    for command in ["start", "restart"] {
        control(&home, &[command, "unknown"])?
            .expect(command, 1)
            .says(command, ["route `unknown`", "NoSuchConsumer"]);
    }
    for command in ["pause", "stop"] {
        control(&home, &[command, "unknown"])?
            .expect(command, 1)
            .says(command, ["route `unknown` cannot run"]);
    }
    // Paused while it waits for its back-off, stopped while it is paused.
    control(&home, &["pause", "unbuilt"])?.expect("pause", 0);
    let route = status_of(&home, "unbuilt")?;
    assert_eq!((&route["state"], &route["by_hand"]["state"]), (&json!("backoff"), &json!("paused")));
    control(&home, &["stop", "unbuilt"])?.expect("stop", 0);
    let route = status_of(&home, "unbuilt")?;
    assert_eq!((&route["state"], &route["by_hand"]["state"]), (&json!("stopped"), &json!("stopped")));
    daemon.stop()?;
    Ok(())
}
