//! `devourd status` names every state of a route and what is behind it: where it is, since when, its plugin's process,
//! its partitions and how far behind they are, what is parked and why; for a person and for a program. It answers also
//! while a plugin is blocked, a broker is away or the daemon drains.

use std::time::{Duration, Instant};

use devour_tests::{
    control::{await_status, control, status, status_of},
    daemon::{Home, Route, SOON, Settings, Signal},
    kafka::Kafka,
    process::Exit,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Alone("without_kafka", without_kafka),
    Run::Shared("running_process", |kafka| running(kafka, Isolation::Process)),
    Run::Shared("running_thread", |kafka| running(kafka, Isolation::Thread)),
    Run::Shared("parked", parked),
    Run::Shared("blocked_and_draining", blocked_and_draining),
];

const COUNT: u64 = 2000;
const PARTITIONS: i32 = 3;

fn without_kafka() -> Outcome {
    let home = Home::new("status-alone")?;
    let route = |isolation| Route::ledger(isolation, "t", "g", &home.file("ledger"));
    let hostile = |symbol: &str| {
        route(Isolation::Process)
            .with("path", json!("libdevour_test_hostile.so"))
            .with("symbol", json!(symbol))
            .with("restart", json!({"initial": "60s", "max": "60s"}))
    };
    // Nobody listens at port 1.
    let settings = Settings::of("127.0.0.1:1")
        .route("waits", route(Isolation::Process))
        .route("waits_in_thread", route(Isolation::Thread))
        .route("unbuilt", hostile("ConstructorFails"))
        .route("unknown", hostile("NoSuchConsumer"));
    let daemon = home.start(&settings)?;
    daemon.wait_for("the daemon to be ready", SOON, |line| line.says("ready"))?;
    let waits = await_status(&home, "waits", "the plugin", SOON, |route| route["pid"].is_u64())?;
    assert_eq!(waits["state"], "starting", "{waits}");
    assert_eq!(waits["assignment"], json!(null), "its group has not answered: {waits}");
    assert_eq!(waits["lag"], json!(null), "{waits}");
    assert_eq!(waits["isolation"], "process", "{waits}");
    assert_eq!(waits["thread"], "answered", "{waits}");
    assert_eq!(waits["generation"], 1, "{waits}");
    assert_eq!((&waits["package"], &waits["symbol"]), (&json!("devour-test-ledger"), &json!("Ledger")));
    assert!(waits["version"].is_string() && waits["since"].is_string(), "{waits}");
    let in_thread = status_of(&home, "waits_in_thread")?;
    assert_eq!((&in_thread["pid"], &in_thread["isolation"]), (&json!(null), &json!("thread")));
    let unbuilt = await_status(&home, "unbuilt", "its back-off", SOON, |route| route["state"] == "backoff")?;
    assert!(unbuilt["last_error"].as_str().is_some_and(|error| error.contains("no database at localhost")), "{unbuilt}");
    assert!(unbuilt["restarts"]["plugin"].as_u64() >= Some(1), "{unbuilt}");
    assert_eq!(unbuilt["pid"], json!(null), "{unbuilt}");
    assert_eq!((&unbuilt["ails"], &unbuilt["released"]), (&json!("plugin"), &json!(false)), "{unbuilt}");
    let unknown = status_of(&home, "unknown")?;
    assert_eq!((&unknown["state"], &unknown["thread"]), (&json!("failed"), &json!("none")));
    assert!(unknown["last_error"].as_str().is_some_and(|error| error.contains("NoSuchConsumer")), "{unknown}");

    let all = status(&home)?;
    assert_eq!(all["pid"], daemon.pid(), "{all}");
    assert_eq!(all["last_reload"], json!(null), "{all}");
    let names: Vec<&str> = all["routes"].as_array().into_iter().flatten().filter_map(|route| route["name"].as_str()).collect();
    assert_eq!(names, ["unbuilt", "unknown", "waits", "waits_in_thread"]);

    let table = control(&home, &["status"])?;
    table.expect("the table", 0).says(
        "the table",
        ["4 routes: ", "ROUTE", "RATE/S", "unbuilt", "backoff", "its plugin failed: ", "last error: ", " 0.1.0"],
    );
    for line in table.stdout.lines() {
        assert!(line.chars().count() <= 100, "wider than 100 columns: {line}");
    }
    control(&home, &["status", "waits"])?
        .expect("one route", 0)
        .says("one route", ["waits: starting for", "consumer", "devour-test-ledger", "isolation    process, pid"]);
    control(&home, &["status", "unbild"])?
        .expect("no such route", 1)
        .says("no such route", ["no route `unbild`", "Did you mean `unbuilt`?"]);
    let failed = control(&home, &["status", "unbild", "--json"])?;
    failed.expect("no such route, as JSON", 1);
    let failed: serde_json::Value = serde_json::from_str(&failed.stdout)?;
    assert!(failed["failed"]["error"].is_string(), "{failed}");
    daemon.stop()?;
    control(&home, &["status"])?.expect("no daemon", 1).says("no daemon", ["no devourd answers at"]);
    Ok(())
}

fn running(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "status-running", PARTITIONS)?;
    stage.produce(0..COUNT)?;
    let daemon = stage.home.start(&stage.settings(stage.route(isolation).work_us(1000).commit_every_ms(100)))?;
    let begun = await_status(&stage.home, ROUTE, "it to digest", SOON, |route| {
        route["state"] == "running" && route["rate"].as_f64() > Some(0.0) && route["lag"].as_i64() > Some(0)
    })?;
    assert_eq!(begun["pid"].is_u64(), isolation == Isolation::Process, "{begun}");
    assert_eq!(begun["group"], json!(stage.group), "{begun}");
    assert_eq!(begun["topics"], json!([stage.topic]), "{begun}");
    let partitions = begun["assignment"].as_array().ok_or("it has an assignment")?;
    assert_eq!(partitions.len(), PARTITIONS as usize, "{begun}");
    let lags: i64 = partitions.iter().filter_map(|partition| partition["lag"].as_i64()).sum();
    assert_eq!(begun["lag"], json!(lags), "the sum of its partitions': {begun}");
    stage.await_all()?;
    let done = await_status(&stage.home, ROUTE, "no lag", DIGESTING, |route| {
        route["lag"] == 0 && route["counts"]["digested"] == COUNT && route["in_hand"] == 0
    })?;
    for partition in done["assignment"].as_array().into_iter().flatten() {
        let number = partition["partition"].as_i64().ok_or("it has a number")?;
        let (_, high) = stage.admin.watermarks(&stage.topic, number as i32)?;
        assert_eq!((&partition["offset"], &partition["end"]), (&json!(high), &json!(high)), "{partition}");
    }
    await_status(&stage.home, ROUTE, "its commits", SOON, |route| {
        let mut partitions = route["assignment"].as_array().into_iter().flatten();
        partitions.all(|partition| partition["committed"] == partition["end"])
    })?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn parked(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "status-parked", PARTITIONS)?;
    stage.produce(0..90)?;
    let route = stage
        .route(Isolation::Process)
        .faults(json!([{"kind": "reject", "numbers": [31], "times": 1}]))
        .with("on_error", json!({"then": "stop"}));
    let daemon = stage.home.start(&stage.settings(route))?;
    let name = format!("{}/1@10", stage.topic);
    let route = await_status(&stage.home, ROUTE, "a parked partition", SOON, |route| {
        route["parked"].as_array().is_some_and(|parked| !parked.is_empty()) && route["counts"]["digested"] == 70
    })?;
    let parked = &route["parked"][0];
    let place = (&parked["topic"], &parked["partition"], &parked["offset"]);
    assert_eq!(place, (&json!(stage.topic), &json!(1), &json!(10)), "{route}");
    assert!(parked["error"].as_str().is_some_and(|error| !error.is_empty()), "{route}");
    assert_eq!(route["parked_count"], 1, "{route}");
    assert_eq!(route["state"], "running", "the others go on: {route}");
    assert_eq!(route["lag"], 20, "what waits is behind: {route}");
    control(&stage.home, &["status"])?.expect("the table", 0).says("the table", ["parked: ", &name]);
    control(&stage.home, &["resume", ROUTE])?.expect("resume", 0);
    stage.await_all()?;
    await_status(&stage.home, ROUTE, "nothing parked", SOON, |route| route["parked_count"] == 0)?;
    daemon.stop()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn blocked_and_draining(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "status-blocked", 1)?;
    stage.produce(0..20)?;
    let route = stage
        .route(Isolation::Process)
        .commit_every_ms(50)
        .faults(json!([{"kind": "block", "numbers": [7], "times": 1}]))
        .with("digest_timeout", json!("10m"));
    let settings = stage.settings(route).with("shutdown_timeout", json!("4s"));
    let mut daemon = stage.home.start(&settings)?;
    let place = format!("{}/0 at offset 7", stage.topic);
    let blocked = await_status(&stage.home, ROUTE, "the blocked message to be named", SOON, |route| {
        route["at_work"].as_str().is_some_and(|at_work| at_work.contains(&place))
    })?;
    assert!(blocked["in_hand"].as_u64() >= Some(1), "{blocked}");
    let begin = Instant::now();
    status_of(&stage.home, ROUTE)?;
    assert!(begin.elapsed() < Duration::from_secs(5), "a blocked plugin holds up no answer");

    daemon.signal(Signal::TERM)?;
    let draining = await_status(&stage.home, ROUTE, "it to drain", SOON, |route| route["state"] == "draining")?;
    assert_eq!(draining["thread"], "ending", "{draining}");
    assert!(draining["as_of"].is_string(), "what was known is shown: {draining}");
    assert_eq!(daemon.wait(SOON)?, Exit::Status(75));
    // What was left is digested by the next daemon.
    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
