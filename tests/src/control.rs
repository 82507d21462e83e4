//! The commands that talk to a running daemon over its control socket, and what `devourd status` says.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    command::{self, Finished},
    daemon::{Home, SOON},
    wait,
};

/// Runs `devourd WORDS...` against the daemon of this home.
pub fn control(home: &Home, words: &[&str]) -> Result<Finished, Failed> {
    let mut command = home.command()?;
    command
        .args(words)
        .env("DEVOUR_SOCKET", home.file("control.sock"));
    Ok(command::run(&mut command, SOON)?)
}

/// What `devourd status --json` says: `pid`, `version`, `routes`, `last_reload`.
pub fn status(home: &Home) -> Result<Value, Failed> {
    let done = control(home, &["status", "--json"])?;
    done.expect("status", 0);
    Ok(serde_json::from_str(&done.stdout)?)
}

/// What it says of one route.
pub fn status_of(home: &Home, route: &str) -> Result<Value, Failed> {
    let done = control(home, &["status", route, "--json"])?;
    let status: Value = serde_json::from_str(&done.stdout)
        .map_err(|error| format!("{error}: status printed {}", done.printed()))?;
    match status.pointer("/routes/0") {
        Some(route) => Ok(route.clone()),
        None => Err(format!("status printed {}", done.printed()).into()),
    }
}

/// Asks again and again until what it says of a route is what is wanted; also while the daemon does not listen yet.
pub fn await_status(
    home: &Home,
    route: &str,
    what: &str,
    within: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value, Failed> {
    let status = wait::until_told(what, within, || match status_of(home, route) {
        Ok(status) if wanted(&status) => Ok(status),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(format!("{error:?}")),
    });
    Ok(status?)
}
