//! With `autoload: true` a library that is dropped into a plugin directory is routed without an entry, under its
//! consumer's name, and digests; consumers that declare no topic are not. New code is swapped in, a second library of the
//! same consumer is refused with both names and changes nothing, an entry of the settings takes the consumer's place, and
//! the library's removal stops its route. Nothing is lost, digested twice or out of order.

use std::fs;

use devour_tests::{
    command,
    daemon::{Line, SOON, Settings, Signal},
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    versions::Versions,
    wait,
};
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const LIBRARY: &str = "libdevour_test_ledger.so";
const AUTOLOADED: &str = "topic_ledger";
const PER_SECOND: u64 = 1000;

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "autoload", 4)?;
    let versions = Versions::new(&stage.home, LIBRARY)?;
    // What a scenario must not share with others is laid over what the plugin declares.
    let defaults = json!({
        "topic": stage.topic,
        "config": {"consumer_group": stage.group, "auto_commit_interval_ms": 200},
        "settings": {"file": stage.ledger.path()},
    });
    let settings = Settings::of(kafka.bootstrap())
        .with("autoload", json!(true))
        .with("defaults", defaults)
        .with("plugin_dirs", json!([versions.dir()]));
    let daemon = stage.home.start(&settings)?;
    let says = |words: &'static str| move |line: &Line| line.says(words);
    daemon.wait_for("the daemon", SOON, says("ready"))?;
    let load = stage.load(PER_SECOND)?;

    let from = daemon.log().len();
    versions.put(0)?;
    let added = |count| move |line: &Line| line.says("reloaded") && line.number("added") == Some(count);
    daemon.wait_for_from(from, "the route to be added", SOON, added(1))?;
    daemon.await_state(AUTOLOADED, "running")?;
    stage.await_digested(PER_SECOND / 10)?;
    let passed_over = daemon.log().all(says("not autoloaded: it declares no topic"));
    assert!(
        passed_over.iter().any(|line| line.text("symbol") == Some("AsyncLedger")),
        "{passed_over:?}"
    );

    let shown = command::run(
        stage.home.command()?.args(["check", "--json", "--settings"]).arg(stage.home.settings_file()),
        scale::patience(SOON),
    )?;
    shown.expect("check", 0);
    let report: Value = serde_json::from_str(&shown.stdout)?;
    let expected = json!([{"name": AUTOLOADED, "library": LIBRARY, "symbol": "TopicLedger"}]);
    assert_eq!(report["autoloaded"], expected, "{report}");
    let shown = command::run(
        stage.home.command()?.arg("--settings").arg(stage.home.settings_file()).args(["plugins", "list"]),
        scale::patience(SOON),
    )?;
    shown.expect("plugins list", 0);
    assert!(shown.stdout.contains("autoload: topic_ledger runs TopicLedger"), "{}", shown.stdout);

    let from = daemon.log().len();
    versions.put(1)?;
    daemon.wait_for_from(from, "the route to be swapped", SOON, |line| {
        line.says("reloaded") && line.number("swapped") == Some(1)
    })?;

    // The same consumer in another library.
    let (from, other) = (daemon.log().len(), versions.dir().join("libother.so"));
    fs::copy(versions.path(), &other)?;
    daemon.wait_for_from(from, "the refusal", SOON, says("reload refused"))?;
    let clash = daemon.log().all(|line| {
        line.raw.contains("autoload: `TopicLedger` of libdevour_test_ledger.so and `TopicLedger` of libother.so")
    });
    assert!(!clash.is_empty(), "both are named");
    fs::remove_file(&other)?;
    daemon.wait_for_from(from, "the way to be free", SOON, says("reloaded"))?;

    // An entry of the settings for the same consumer wins: the route of that name goes, the entry's comes.
    let from = daemon.log().len();
    let entry = stage
        .route(Isolation::Process)
        .with("symbol", json!("TopicLedger"))
        .commit_every_ms(200);
    stage.home.write(&settings.clone().route("by_hand", entry))?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the entry to win", SOON, |line| {
        line.says("reloaded") && line.number("added") == Some(1) && line.number("removed") == Some(1)
    })?;
    daemon.await_state_from(from, "by_hand", "running")?;

    // Without the entry it is autoloaded again; without the library it is gone.
    let from = daemon.log().len();
    stage.home.write(&settings)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the entry to go", SOON, added(1))?;
    daemon.await_state_from(from, AUTOLOADED, "running")?;
    stage.take_load(load)?;
    stage.await_all()?;
    let from = daemon.log().len();
    fs::remove_file(versions.path())?;
    daemon.wait_for_from(from, "the route to be removed", SOON, |line| {
        line.says("reloaded") && line.number("removed") == Some(1)
    })?;
    wait::until("its member to leave", SOON, || {
        let group = stage.admin.group(&stage.group).ok()?;
        group.is_none_or(|view| view.members.is_empty()).then_some(())
    })?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
