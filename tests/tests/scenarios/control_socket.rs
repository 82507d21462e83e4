//! The control socket: a dead daemon's file is replaced, a living one's is an error that names its process; the file is
//! its user's and group's alone and goes with the daemon. The daemon's settings tell a command where it is. A plugin
//! cannot use it. Where nobody named it and it cannot be made, the daemon works without.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use devour_tests::{
    command::{self, Finished},
    daemon::{Daemon, Home, Route, SOON, Settings},
    scenario::{Isolation, Outcome, Run},
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Alone("file", file),
    Run::Alone("from_a_plugin", from_a_plugin),
    Run::Alone("default_place", default_place),
];

/// Nobody listens there: a daemon runs without a broker.
fn settings(home: &Home) -> Settings {
    let route = Route::ledger(Isolation::Process, "t", "g", &home.file("ledger"));
    Settings::of("127.0.0.1:1").route("ledger", route)
}

fn resume(home: &Home, socket: &Path, change: impl FnOnce(&mut Command)) -> Result<Finished, Failed> {
    let mut command = home.command()?;
    command.args(["resume", "ledger", "--socket"]).arg(socket);
    change(&mut command);
    Ok(command::run(&mut command, SOON)?)
}

fn ready(daemon: &Daemon) -> Outcome {
    daemon.wait_for("the daemon to be ready", SOON, |line| line.says("ready"))?;
    Ok(())
}

fn file() -> Outcome {
    let home = Home::new("control-file")?;
    let socket = home.file("control.sock");
    let daemon = home.start(&settings(&home))?;
    ready(&daemon)?;
    assert_eq!(fs::symlink_metadata(&socket)?.permissions().mode() & 0o777, 0o660);
    let nothing_stopped = |what: &str| -> Outcome {
        resume(&home, &socket, |_| {})?
            .expect(what, 0)
            .says(what, ["nothing that is stopped"]);
        Ok(())
    };
    nothing_stopped("a first daemon")?;
    // Of the settings alone.
    let named = || -> Result<Finished, Failed> {
        let mut command = home.command()?;
        command.env_remove("DEVOUR_SOCKET").arg("--settings").arg(home.settings_file()).arg("status");
        Ok(command::run(&mut command, SOON)?)
    };
    named()?.expect("its settings", 0).says("its settings", ["ledger"]);
    let whole = fs::read(home.settings_file())?;
    // What else is wrong with them does not matter.
    let broken = json!({"hosts": 1, "control_socket": socket});
    fs::write(home.settings_file(), broken.to_string())?;
    named()?.expect("settings with an error", 0);
    fs::write(home.settings_file(), r#"{"control_socket": ["x"]}"#)?;
    named()?
        .expect("a socket that is none", 1)
        .says("a socket that is none", ["does not tell the control socket", "control_socket: ", "--socket"]);
    fs::write(home.settings_file(), whole)?;

    let mut second = home.command()?;
    second.arg("--settings").arg(home.settings_file());
    let pid = format!("(pid {})", daemon.pid());
    command::run(&mut second, SOON)?
        .expect("a second daemon", 78)
        .says("a second daemon", ["control.sock", &*pid, "control_socket"]);
    nothing_stopped("the first daemon after that")?;

    daemon.kill()?;
    assert!(socket.exists(), "SIGKILL leaves the file");
    resume(&home, &socket, |_| {})?
        .expect("a dead daemon", 1)
        .says("a dead daemon", ["no devourd answers at", "--socket"]);
    let daemon = home.start_again()?;
    ready(&daemon)?;
    nothing_stopped("a daemon after a SIGKILL")?;
    daemon.stop()?;
    assert!(!socket.exists(), "a stop takes it away");
    Ok(())
}

fn from_a_plugin() -> Outcome {
    let home = Home::new("control-plugin")?;
    let socket = home.file("control.sock");
    let daemon = home.start(&settings(&home))?;
    ready(&daemon)?;
    let up = daemon.wait_for("the plugin", SOON, |line| line.says("plugin up"))?;
    let plugin = up
        .number("pid")
        .and_then(|pid| i32::try_from(pid).ok())
        .ok_or("it has a process")?;
    resume(&home, &socket, |command| {
        // As what a plugin starts: in its process group.
        command.process_group(plugin);
    })?
    .expect("a plugin's order", 1)
    .says("a plugin's order", ["a plugin does not control its daemon"]);
    daemon.stop()?;
    Ok(())
}

fn default_place() -> Outcome {
    let home = Home::new("control-default")?;
    // The fixture names a socket; here nobody does.
    home.write(&settings(&home))?;
    let text = fs::read_to_string(home.settings_file())?;
    let mut unnamed: serde_json::Value = serde_json::from_str(&text)?;
    if let Some(keys) = unnamed.as_object_mut() {
        keys.remove("control_socket");
    }
    fs::write(home.settings_file(), unnamed.to_string())?;
    let start = |runtime_directory: &Path| {
        let mut command = home.command()?;
        command
            .arg("--settings")
            .arg(home.settings_file())
            .env("RUNTIME_DIRECTORY", runtime_directory);
        Daemon::spawn(&mut command)
    };
    let runtime = home.file("run");
    fs::create_dir(&runtime)?;
    let daemon = start(&runtime)?;
    ready(&daemon)?;
    resume(&home, &runtime.join("control.sock"), |_| {})?.expect("systemd's directory", 0);
    daemon.stop()?;

    // A directory that is not there, and one that cannot be a directory.
    fs::write(home.file("no-directory"), "")?;
    for dir in ["missing", "no-directory"] {
        let daemon = start(&home.file(dir))?;
        ready(&daemon)?;
        daemon.wait_for("the warning", SOON, |line| {
            line.level() == "WARN" && line.says("no control socket")
        })?;
        daemon.stop()?;
        // The same place, when the settings name it, is an error.
        unnamed["control_socket"] = json!(home.file(dir).join("control.sock"));
        fs::write(home.settings_file(), unnamed.to_string())?;
        let mut named = home.command()?;
        named.arg("--settings").arg(home.settings_file());
        command::run(&mut named, SOON)?
            .expect(dir, 78)
            .says(dir, ["cannot make the control socket", dir]);
        if let Some(keys) = unnamed.as_object_mut() {
            keys.remove("control_socket");
        }
        fs::write(home.settings_file(), unnamed.to_string())?;
    }
    Ok(())
}
