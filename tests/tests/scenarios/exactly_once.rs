//! `delivery: exactly_once`: while plugins and daemons are killed (SIGKILL), members come and go, and the settings are
//! reloaded, a reader of committed records sees the result of each message exactly once, and in order per key; also where
//! digests fail, where messages are given up, with lanes and async digests, and while a broker of three is away.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use devour_tests::{
    chance::{Chance, seed},
    command,
    control::status_of,
    daemon::{Daemon, Home, Route, SOON, Settings},
    judge::Order,
    kafka::{Kafka, Nodes, unique},
    outputs::Outputs,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("chaos", chaos),
    Run::Cluster("brokers", brokers),
    Run::Shared("failing_process", |kafka| failing(kafka, "Relay", Isolation::Process)),
    Run::Shared("failing_thread", |kafka| failing(kafka, "Relay", Isolation::Thread)),
    Run::Shared("failing_async", |kafka| failing(kafka, "AsyncRelay", Isolation::Process)),
    Run::Shared("failing_lanes", failing_lanes),
    Run::Shared("given_up", given_up),
];

const PARTITIONS: i32 = 4;
/// How long it may take, at any count, until all is committed once every broker is back.
const BACK_WITHIN: Duration = Duration::from_secs(180);

fn settings(stage: &Stage<'_>, outputs: &Outputs, reload: u64, membership: &str) -> Settings {
    let route = Route::from_library("libdevour_enrich.so", "Enrich", Isolation::Process, &stage.topic, &stage.group)
        .with("delivery", json!("exactly_once"))
        .with("membership", json!(membership))
        .with("rate_limit", json!(if scale::soak() { "3000/s" } else { "1000/s" }))
        .with(
            "settings",
            json!({"to": outputs.topic, "by": "n", "table": {"7": {"reload": reload}}}),
        );
    stage.settings(route.quick_again())
}

fn reload(home: &Home) -> Outcome {
    let mut command = home.command()?;
    command.args(["reload", "--wait", "--json", "--socket"]);
    command.arg(home.file("control.sock"));
    let finished = command::run(&mut command, scale::patience(SOON))?;
    let receipt: Value = serde_json::from_str(&finished.stdout)
        .map_err(|error| format!("{error}: {}\n{}", finished.stdout, finished.stderr))?;
    assert_eq!(receipt["routes"][0]["change"], "swapped", "{receipt}");
    Ok(())
}

fn chaos(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "exactly", PARTITIONS)?;
    let outputs = Outputs::of(&stage, "exactly-to")?;
    stage.produce(0..scale::messages(200_000) / 4)?;
    let mut daemon = stage.home.start(&settings(&stage, &outputs, 0, "static"))?;
    daemon.await_state(ROUTE, "running")?;
    let guest_home = Home::new("exactly-guest")?;
    let mut guest: Option<Daemon> = None;
    let seed = seed("exactly_once");
    let mut chance = Chance::new(seed);
    let (begin, mut counts) = (Instant::now(), [0; 4]);
    let mut produced = 1;
    while produced < 4 || stage.all_is_committed().is_err() {
        if begin.elapsed() > scale::patience(DIGESTING) {
            return Err(format!("seed {seed}: not all is committed: {:?}\n{}", stage.all_is_committed(), daemon.log().tail()).into());
        }
        wait::pace(Instant::now() + Duration::from_millis(300 + chance.below(700) as u64));
        if produced < 4 {
            let quarter = scale::messages(200_000) / 4;
            stage.produce(produced * quarter..(produced + 1) * quarter)?;
            produced += 1;
        }
        let what = chance.below(4);
        counts[what] += 1;
        match what {
            0 => {
                // It may be between two lives.
                let _ = daemon.kill_plugin(ROUTE);
            }
            1 => {
                daemon.kill()?;
                daemon = stage.home.start_again()?;
                daemon.await_state(ROUTE, "running")?;
            }
            2 => {
                stage.home.write(&settings(&stage, &outputs, counts[2], "static"))?;
                reload(&stage.home)?;
            }
            _ => {
                guest = match guest {
                    Some(guest) => {
                        guest.stop()?;
                        None
                    }
                    None => Some(guest_home.start(&settings(&stage, &outputs, 0, "dynamic"))?),
                };
            }
        }
    }
    if let Some(guest) = guest {
        guest.stop()?;
    }
    daemon.stop()?;
    eprintln!("seed {seed}: plugin killed {}, daemon killed {}, reloads {}, members {}", counts[0], counts[1], counts[2], counts[3]);
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}

fn brokers(kafka: &Kafka, nodes: &mut Nodes) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Key, kafka, "exactly-brokers", PARTITIONS)?;
    let outputs = Outputs::of(&stage, "exactly-brokers-to")?;
    stage.produce(0..scale::messages(60_000))?;
    let daemon = stage.home.start(&settings(&stage, &outputs, 0, "static"))?;
    daemon.await_state(ROUTE, "running")?;
    for id in 1..=3 {
        nodes.broker(id)?.stop()?;
        wait::pace(Instant::now() + Duration::from_millis(500));
        nodes.broker(id)?.start_again()?;
        nodes.await_whole(kafka)?;
    }
    let finished = || stage.all_is_committed().map_err(|error| format!("{error:?}"));
    // A client that waits for a coordinator which came back elsewhere would sit there for many minutes.
    wait::until_told("all to be committed", BACK_WITHIN, finished)?;
    daemon.stop()?;
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}

fn relay(stage: &Stage<'_>, outputs: &Outputs, symbol: &str, isolation: Isolation, faults: Value) -> Route {
    outputs
        .route(stage, symbol, isolation)
        .with("delivery", json!("exactly_once"))
        .quick_again()
        .faults(faults)
}

fn finish(mut stage: Stage<'_>, outputs: &Outputs, route: Route, messages: u64) -> Result<(), Failed> {
    stage.produce(0..messages)?;
    let daemon = stage.home.start(&stage.settings(route))?;
    daemon.await_state(ROUTE, "running")?;
    let finished = || stage.all_is_committed().map_err(|error| format!("{error:?}"));
    let waited = wait::until_told("all to be committed", DIGESTING, finished);
    if let Err(error) = waited {
        return Err(format!("{error}\n{}", daemon.log().tail()).into());
    }
    let status = status_of(&stage.home, ROUTE)?;
    let log = daemon.stop()?;
    let aborts = log.all(|line| line.says("the transaction is aborted")).len() as u64;
    assert!(aborts > 0, "something was to be aborted");
    let transactions = &status["transactions"];
    assert_eq!(transactions["aborted"].as_u64(), Some(aborts), "{status}");
    assert!(transactions["committed"].as_u64() > Some(0), "{status}");
    outputs.committed(&stage)?.once_in_order()?;
    Ok(())
}

/// What a digest produced that then failed, died or panicked is not seen.
fn faults() -> Value {
    json!([
        {"kind": "retry", "numbers": [50, 120, 121], "times": 2},
        {"kind": "panic", "numbers": [300]},
        {"kind": "fatal", "numbers": [411]},
    ])
}

fn failing(kafka: &Kafka, symbol: &str, isolation: Isolation) -> Outcome {
    let stage = Stage::in_order_of(Order::Partition, kafka, "exactly-failing", PARTITIONS)?;
    let outputs = Outputs::of(&stage, "exactly-failing-to")?;
    let route = relay(&stage, &outputs, symbol, isolation, faults());
    finish(stage, &outputs, route, 1000)
}

fn failing_lanes(kafka: &Kafka) -> Outcome {
    let stage = Stage::in_order_of(Order::Key, kafka, "exactly-lanes", PARTITIONS)?;
    let outputs = Outputs::of(&stage, "exactly-lanes-to")?;
    let route = relay(&stage, &outputs, "Relay", Isolation::Process, faults())
        .lanes(Order::Key, 3)
        .with("on_error", json!({"then": "skip"}));
    finish(stage, &outputs, route, 1000)
}

/// A message that is given up has a dead letter and no result: both in the transaction that commits its offset.
fn given_up(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Partition, kafka, "exactly-dead", 1)?;
    let outputs = Outputs::of(&stage, "exactly-dead-to")?;
    let dead = unique("exactly-dead-letters");
    stage.admin.create_topic(&dead, 1)?;
    let faults = json!([
        {"kind": "reject", "numbers": [10, 11], "times": 100},
        {"kind": "retry", "numbers": [40], "times": 100},
        {"kind": "segfault", "numbers": [60], "times": 100},
    ]);
    let route = relay(&stage, &outputs, "Relay", Isolation::Process, faults).with(
        "on_error",
        json!({"attempts": 3, "then": "dead_letter", "dead_letter": {"topic": dead}}),
    );
    stage.produce(0..100)?;
    let daemon = stage.home.start(&stage.settings(route))?;
    let finished = || stage.all_is_committed().map_err(|error| format!("{error:?}"));
    if let Err(error) = wait::until_told("all to be committed", DIGESTING, finished) {
        return Err(format!("{error}\n{}", daemon.log().tail()).into());
    }
    let log = daemon.stop()?;
    let broken = log.all(|line| line.raw.contains("panicked") || line.raw.contains("could not be finished in time"));
    assert!(broken.is_empty(), "{broken:?}");
    let gone = [10, 11, 40, 60];
    let letters = kafka.read_committed(&dead, 1)?;
    let number = |payload: &Option<Vec<u8>>| payload.as_deref().and_then(devour_test_ledger::record::number);
    let numbers: BTreeSet<u64> = letters.iter().filter_map(|kept| number(&kept.payload)).collect();
    assert_eq!((letters.len(), numbers), (gone.len(), BTreeSet::from(gone)), "each letter once");
    let results = kafka.read_committed(&outputs.topic, 1)?;
    let written: Vec<u64> = results.iter().filter_map(|kept| number(&kept.payload)).collect();
    let expected: Vec<u64> = (0..100).filter(|number| !gone.contains(number)).collect();
    assert_eq!(written, expected, "each result once, and none of what was given up");
    Ok(())
}
