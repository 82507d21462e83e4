//! New code arrives while another member joins the group and leaves it again: whatever step of a swap a rebalance falls
//! into, every message is digested once and in order, and every swap ends.

use devour_tests::{
    command,
    daemon::{Home, SOON, Settings},
    judge::Order,
    kafka::Kafka,
    ledger::Ledger,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    versions::Versions,
};
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process, 1)),
    Run::Shared("process_lanes", |kafka| run(kafka, Isolation::Process, 4)),
    Run::Shared("thread_lanes", |kafka| run(kafka, Isolation::Thread, 4)),
];

const PARTITIONS: i32 = 8;
const PER_SECOND: u64 = 2000;

fn run(kafka: &Kafka, isolation: Isolation, lanes: u32) -> Outcome {
    let order = if lanes > 1 { Order::Key } else { Order::Partition };
    let mut stage = Stage::in_order_of(order, kafka, "swaps-change", PARTITIONS)?;
    let versions = Versions::new(&stage.home, "libdevour_test_ledger.so")?;
    versions.put(0)?;
    let settings = |ledger: &Ledger| -> Settings {
        let route = devour_tests::daemon::Route::ledger(isolation, &stage.topic, &stage.group, ledger.path())
            .with("path", json!(versions.path()))
            .with("membership", json!("dynamic"))
            .commit_every_ms(200);
        let route = if lanes > 1 { route.lanes(order, lanes) } else { route };
        stage.settings(route)
    };
    // Both write into one ledger: the judge sees who digested what, and when.
    let daemon = stage.home.start(&settings(&stage.ledger))?;
    daemon.await_state(ROUTE, "running")?;
    let guest_home = Home::new("swaps-change-guest")?;
    let guest_settings = settings(&stage.ledger);
    let load = stage.load(PER_SECOND)?;
    stage.await_digested(PER_SECOND / 10)?;

    let mut version = 0;
    for _ in 0..scale::messages(10) {
        // The rebalance of the guest's coming, and that of its going, meet a swap each.
        let guest = guest_home.start(&guest_settings)?;
        for _ in 0..3 {
            version += 1;
            swap(&stage, &versions, version)?;
        }
        guest.await_state(ROUTE, "running")?;
        let leaving = std::thread::spawn(move || guest.stop());
        for _ in 0..3 {
            version += 1;
            swap(&stage, &versions, version)?;
        }
        leaving.join().map_err(|_| "the guest's thread panicked")??;
    }
    stage.take_load(load)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn swap(stage: &Stage<'_>, versions: &Versions, version: u64) -> Outcome {
    versions.put(version)?;
    let mut command = stage.home.command()?;
    command.args(["reload", "--wait", "--json", "--socket"]);
    command.arg(stage.home.file("control.sock"));
    let finished = command::run(&mut command, scale::patience(SOON))?;
    let receipt: Value = serde_json::from_str(&finished.stdout)
        .map_err(|error| format!("{error}: {}\n{}", finished.stdout, finished.stderr))?;
    assert_eq!(receipt["routes"][0]["change"], "swapped", "{receipt}");
    Ok(())
}
