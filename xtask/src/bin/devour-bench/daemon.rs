//! The daemon under measure: the release binary with a settings file, JSON logs and a state directory of its own, as a
//! user would run it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use devour_tests::{
    kafka::unique,
    process::{Exit, Process},
    wait, workspace,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{Result, data::Data};

/// A directory with a settings file, and what comes to lie beside it.
pub(crate) struct Bed {
    dir: tempfile::TempDir,
}

/// A process that works with a [`Bed`]'s settings.
pub(crate) struct Running<'a> {
    bed: &'a Bed,
    pub process: Process,
}

/// What the one route of a settings file is.
pub(crate) struct RouteSpec<'a> {
    pub topic: &'a str,
    pub symbol: &'static str,
    pub isolation: &'static str,
    pub concurrency: Value,
    pub librdkafka: Value,
    /// The plugin's own settings; `report` is added.
    pub settings: Value,
}

/// The name of the one route.
pub(crate) const ROUTE: &str = "bench";

/// The environment of systemd, which a daemon under measure does not answer.
const NOTIFY: &str = "NOTIFY_SOCKET";

const STOPS_WITHIN: Duration = Duration::from_secs(40);

/// Where this program and all that was built with it lie.
pub(crate) fn built() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

// === impl Bed ===

impl Bed {
    /// A settings file for a new group that reads from the beginning.
    pub(crate) fn make(data: &Data, route: RouteSpec<'_>) -> Result<Self> {
        Self::of_routes(data, [(ROUTE.to_owned(), route)])
    }

    /// The same with several routes, each with a group of its own.
    pub(crate) fn of_routes<'a>(
        data: &Data,
        routes: impl IntoIterator<Item = (String, RouteSpec<'a>)>,
    ) -> Result<Self> {
        let dir = workspace::scratch_dir("bench")?;
        let bed = Self { dir };
        let mut consumer_routes = serde_json::Map::new();
        for (name, route) in routes {
            let mut plugin = route.settings;
            plugin["report"] = json!(bed.report_of(&name));
            let entry = json!({
                "path": "libdevour_test_sum.so",
                "symbol": route.symbol,
                "topic": route.topic,
                "consumer_type": "balanced_consumer",
                "config": { "consumer_group": unique("devour-bench") },
                "isolation": route.isolation,
                "concurrency": route.concurrency,
                "librdkafka": route.librdkafka,
                "settings": plugin,
            });
            consumer_routes.insert(name, entry);
        }
        bed.write(&json!({
            "hosts": data.bootstrap(),
            "plugin_dirs": [built()?],
            "state_dir": bed.dir.path().join("state"),
            "control_socket": bed.control_socket(),
            "consumer_routes": consumer_routes,
        }))?;
        Ok(bed)
    }

    /// Changes the settings file; what runs sees it at the next reload.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut settings = serde_json::from_slice(&fs::read(self.settings())?)?;
        change(&mut settings);
        self.write(&settings)
    }

    /// The same, of the one route.
    pub(crate) fn change_route(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        self.change(|settings| change(&mut settings["consumer_routes"][ROUTE]))
    }

    /// What the daemon answers to a command over its control socket, as JSON.
    pub(crate) fn ask(&self, command: &[&str]) -> Result<Value> {
        let asked = Command::new(built()?.join("devourd"))
            .args(command)
            .arg("--socket")
            .arg(self.control_socket())
            .output()?;
        serde_json::from_slice(&asked.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&asked.stderr);
            format!("devourd {}: {error}: {said}", command.join(" ")).into()
        })
    }

    fn write(&self, settings: &Value) -> Result<()> {
        // JSON is YAML.
        Ok(fs::write(self.settings(), serde_json::to_vec_pretty(settings)?)?)
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.dir.path().join("settings.yaml")
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.report_of(ROUTE)
    }

    pub(crate) fn report_of(&self, route: &str) -> PathBuf {
        self.dir.path().join(format!("{route}.report"))
    }

    fn control_socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the daemon.
    pub(crate) fn daemon(&self) -> Result<Running<'_>> {
        let mut daemon = Command::new(built()?.join("devourd"));
        daemon.env_remove(NOTIFY);
        self.start(daemon.arg("--settings").arg(self.settings()))
    }

    /// Starts the bare loop.
    pub(crate) fn bare(&self) -> Result<Running<'_>> {
        let mut bare = Command::new(std::env::current_exe()?);
        self.start(bare.arg("bare").arg(self.settings()))
    }

    fn start(&self, command: &mut Command) -> Result<Running<'_>> {
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Running {
            bed: self,
            process: Process::spawn(command)?,
        })
    }
}

// === impl Running ===

impl Running<'_> {
    /// Waits until `state` gives a value. Fails as soon as the process has ended, with the end of its log.
    pub(crate) fn await_state<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut state: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let process = &mut self.process;
        let got = wait::until(what, within, || match state() {
            Some(value) => Some(Some(value)),
            None if process.is_alive() => None,
            // It may have done its work and ended between the two questions.
            None => Some(state()),
        });
        match got {
            Ok(Some(value)) => Ok(value),
            Ok(None) => {
                Err(format!("it ended before {what} came; its log ends:\n{}", self.log_tail()).into())
            }
            Err(error) => Err(format!("{error}; its log ends:\n{}", self.log_tail()).into()),
        }
    }

    /// Stops it as an operator would. A daemon that does not end well is an error: its figures mean nothing.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        match self.process.wait(STOPS_WITHIN)? {
            Exit::Status(0) => Ok(()),
            other => Err(format!("it ended with {other:?}; its log ends:\n{}", self.log_tail()).into()),
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.bed.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
