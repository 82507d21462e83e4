//! A plugin of the daemon's own user looks for the password of the TLS key in its environment, its descriptors and what
//! /proc shows of its parent: it finds none, and can open none of its parent's files. Nor does the control socket do
//! what it says.

use std::{
    fs,
    os::unix::{fs::{PermissionsExt, chown}, process::CommandExt},
    path::Path,
    time::Duration,
};

use devour_tests::{
    daemon::{Daemon, Settings},
    kafka::{BrokerOptions, Kafka},
    misdeeds::Case,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

const PASSWORD: &str = "only-the-daemon-knows-4711";
/// The user `nobody`: root may look into every process, so root is no proof.
const NOBODY: u32 = 65_534;

fn run() -> Outcome {
    let kafka = Kafka::start(BrokerOptions::default())?;
    let broker = kafka.broker().ok_or("the broker is our own")?;
    let (mut spies, mut commands) = (Stage::new(&kafka, "spies", 1)?, Stage::new(&kafka, "commands", 1)?);
    spies.produce(0..300)?;
    commands.produce(0..300)?;
    let file = |name: &str| spies.home.file(name);
    let (found, answer) = (file("found"), file("answer"));
    let (cert, key) = (file("client.pem"), file("client.key"));
    let tls = broker.tls();
    let ca = file("ca.pem");
    for (from, to) in [(&tls.ca, &ca), (&tls.client_cert, &cert), (&tls.client_key, &key)] {
        fs::copy(from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    let text = |path: &Path| path.display().to_string();
    // It reads all that it can reach, which takes its time.
    let spy = Case::new("spies", "spy", "")
        .with(&[&text(&found), PASSWORD, "KEY_PASSWORD"])
        .key("digest_timeout", json!("1m"));
    let socket = file("control.sock");
    let order = r#"{"command":"resume","route":"spies"}"#;
    let command = Case::new("commands", "command", "").with(&[&text(&socket), order, &text(&answer)]);
    // Beside the other's, so that one user may write both.
    let book = file("commands.ledger");
    let settings = Settings::of(&broker.tls_bootstrap())
        .with("ssl_config", json!({"cafile": ca, "certfile": cert, "keyfile": key, "password": "${KEY_PASSWORD}"}))
        .route("spies", spy.route(Isolation::Process, &spies))
        .route("commands", command.route(Isolation::Process, &commands).with("settings", json!({"file": book})));
    commands.ledger = devour_tests::ledger::Ledger::at(book);
    spies.home.write(&settings)?;
    let mut program = spies.home.command()?;
    program.arg("--settings").arg(spies.home.settings_file()).env("KEY_PASSWORD", PASSWORD);
    if rustix::process::geteuid().is_root() {
        let home = file("");
        for path in fs::read_dir(&home)?.flatten().map(|entry| entry.path()).chain([home.clone()]) {
            chown(&path, Some(NOBODY), Some(NOBODY)).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600))?;
        program.uid(NOBODY).gid(NOBODY);
    }
    let daemon = Daemon::spawn(&mut program)?;
    spies.await_all()?;
    commands.await_all()?;
    let report = |file: &Path| {
        fs::read_to_string(file).map_err(|error| format!("{}: {error}\n{}", file.display(), daemon.log().tail()))
    };
    assert_eq!(report(&found)?, "", "what a plugin finds of its daemon");
    let answer = report(&answer)?;
    assert!(answer.contains("a plugin does not control its daemon"), "{answer}");
    // It still runs.
    spies.produce(300..400)?;
    spies.await_all()?;
    daemon.wait_for("the plugin", Duration::from_secs(1), |line| line.says("plugin up"))?;
    daemon.stop()?;
    spies.verdict()?.once_in_order()?;
    commands.verdict()?.once_in_order()?;
    Ok(())
}
