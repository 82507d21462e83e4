//! Teams keep their routes in files of `routes_dir`: a new file adds a route at the next reload and the others stay, one
//! that is wrong changes nothing and is named with its own line, and so is a route in two files. A route that is pinned by
//! `sha256` keeps the plugin that it has when another is dropped, and says both hashes, until the pin follows.

use std::fs;

use devour_tests::{
    command,
    daemon::{Line, SOON, Signal},
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    versions::Versions,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const LIBRARY: &str = "libdevour_test_ledger.so";

fn run(kafka: &Kafka) -> Outcome {
    let (mut main, mut team) = (Stage::new(kafka, "main", 3)?, Stage::new(kafka, "team", 3)?);
    let versions = Versions::new(&main.home, LIBRARY)?;
    versions.put(0)?;
    let dir = main.home.file("routes.d");
    fs::create_dir(&dir)?;
    main.produce(0..2000)?;
    team.produce(0..2000)?;
    let pins = [0, 1].map(|version| sha256(&versions, version));
    let route = |pin: &str| main.route(Isolation::Process).with("sha256", json!(pin)).commit_every_ms(200);
    let settings = main
        .settings(route(&pins[0]))
        .with("routes_dir", json!(dir))
        .with("plugin_dirs", json!([versions.dir()]));
    let pinned_anew = settings.clone().route(ROUTE, route(&pins[1]));
    let daemon = main.home.start(&settings)?;
    daemon.await_state(ROUTE, "running")?;
    let says = |words: &'static str| move |line: &Line| line.says(words);

    let fragment = |name: &str| {
        format!(
            "consumer_routes:\n  {name}:\n    path: {LIBRARY}\n    symbol: Ledger\n    topic: {}\n    config: \
             {{consumer_group: {}, auto_commit_interval_ms: 200}}\n    settings: {{file: {}}}\n",
            team.topic,
            team.group,
            team.ledger.path().display()
        )
    };
    let file = dir.join("team.yaml");
    // A route that the settings file has too, and a key that is the daemon's.
    for (text, place, words) in [
        (fragment(ROUTE), ":2:3", "this route is named twice: first in "),
        (format!("hosts: x\n{}", fragment("team")), ":1:1", "is for the whole daemon"),
    ] {
        let from = daemon.log().len();
        fs::write(&file, text)?;
        daemon.signal(Signal::HUP)?;
        let refused = daemon.wait_for_from(from, "the refusal", SOON, says("reload refused"))?;
        let place = format!("{}{place}", file.display());
        assert!(refused.raw.contains(&place) && refused.raw.contains(words), "{}", refused.raw);
    }
    let from = daemon.log().len();
    fs::write(&file, fragment("team"))?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the team's route", SOON, |line| {
        line.says("reloaded") && line.number("added") == Some(1) && line.number("kept") == Some(1)
    })?;
    daemon.await_state_from(from, "team", "running")?;
    main.await_all()?;
    team.await_all()?;

    // Another version: the team's route takes it, the pinned one does not.
    let from = daemon.log().len();
    versions.put(1)?;
    let stays = daemon.wait_for_from(from, "the pinned route to stay", SOON, |line| {
        line.says("the route goes on with the plugin that it has") && line.text("route") == Some(ROUTE)
    })?;
    assert!(pins.iter().all(|pin| stays.raw.contains(pin)), "both hashes: {}", stays.raw);
    daemon.wait_for_from(from, "the receipt", SOON, |line| {
        line.says("reloaded") && line.number("swapped") == Some(1) && line.number("kept") == Some(1)
    })?;
    let checked = command::run(
        main.home.command()?.args(["check", "--settings"]).arg(main.home.settings_file()),
        scale::patience(SOON),
    )?;
    checked.expect("check", 78).says("check", ["ledger.sha256", &pins[0], &pins[1]]);
    main.produce(2000..2500)?;
    main.await_all()?;
    let from = daemon.log().len();
    main.home.write(&pinned_anew)?;
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, "the pin to follow", SOON, |line| {
        line.says("reloaded") && line.number("swapped") == Some(1)
    })?;
    main.produce(2500..3000)?;
    main.await_all()?;
    daemon.stop()?;
    for stage in [main, team] {
        stage.all_is_committed()?;
        stage.verdict()?.once_in_order()?;
    }
    Ok(())
}

fn sha256(versions: &Versions, version: u64) -> String {
    let file = versions.dir().join("hashed");
    let hashed = versions.bytes(version).and_then(|bytes| fs::write(&file, bytes));
    let hash = hashed
        .map_err(|error| error.to_string())
        .and_then(|()| devourd::plugin::content_hash(&file, devourd::settings::FileChecks::Off).map_err(|error| error.to_string()));
    let _ = fs::remove_file(&file);
    hash.map(|hash| hash.to_string()).unwrap_or_default()
}
