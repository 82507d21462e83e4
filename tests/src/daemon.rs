//! The daemon under test: a directory of its own, a settings file, the process, and its log.

mod log;
mod settings;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

pub use log::{Line, Log};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
pub use settings::{Route, Settings};

use crate::{
    process::{Exit, Process, ProcessError, children_of},
    scale,
    wait::TimedOut,
    workspace,
};

/// What stays when a daemon ends: its settings file, state directory, and what plugins wrote.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    log: Log,
}

/// What can go wrong with a daemon under test.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its files or pipes.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// Its process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A state that did not come; the text ends with its log.
    #[error("{0}\n--- the daemon's log ends:\n{1}")]
    TimedOut(TimedOut, String),
    /// It ended otherwise than it should.
    #[error("the daemon ended with {0:?}\n--- its log ends:\n{1}")]
    Ended(Exit, String),
    /// The route has no plugin process.
    #[error("route {0} has no plugin process: its digests run in the daemon")]
    NoPlugin(String),
    /// Nobody said which program to test.
    #[error(
        "no program to test: the test binary calls `scenario::main` with CARGO_BIN_EXE_devourd-under-test"
    )]
    NoProgram,
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// How long a state of the daemon may take that needs no message to be digested.
pub const SOON: Duration = Duration::from_secs(60);

/// Says which program to test: cargo tells its path to integration tests only.
pub(crate) fn set_program(path: &str) {
    let _ = PROGRAM.set(PathBuf::from(path));
}

/// The directory where cargo put the test plugins' libraries.
pub fn plugin_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.parent().map(Path::to_owned).unwrap_or_default()
}

// === impl Home ===

impl Home {
    /// An empty one, named after its scenario.
    pub fn new(name: &str) -> Result<Self, DaemonError> {
        let dir = workspace::scratch_dir(name).map_err(|source| DaemonError::File {
            path: workspace::target_dir(),
            source,
        })?;
        Ok(Self { dir })
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its settings file.
    pub fn settings_file(&self) -> PathBuf {
        self.file("settings.yaml")
    }

    /// Writes the settings file, whole or not at all.
    pub fn write(&self, settings: &Settings) -> Result<(), DaemonError> {
        let (half, path) = (self.file("settings.half"), self.settings_file());
        let written = fs::write(&half, settings.to_yaml(self)).and_then(|()| fs::rename(&half, &path));
        written.map_err(|source| DaemonError::File { path, source })
    }

    /// Writes the settings and starts a daemon with them.
    pub fn start(&self, settings: &Settings) -> Result<Daemon, DaemonError> {
        self.write(settings)?;
        self.start_again()
    }

    /// Starts a daemon with the settings that are there.
    pub fn start_again(&self) -> Result<Daemon, DaemonError> {
        let mut command = self.command()?;
        command.arg("--settings").arg(self.settings_file());
        Daemon::spawn(&mut command)
    }

    /// The program, in this directory, with nothing in its environment that would tell it of other settings.
    pub fn command(&self) -> Result<Command, DaemonError> {
        Ok(self.command_of(PROGRAM.get().ok_or(DaemonError::NoProgram)?))
    }

    /// As [`Home::command`], with a copy of the program.
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in [
            "KAFKA_SETTINGS_PATH",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "STATE_DIRECTORY",
            "RUNTIME_DIRECTORY",
            "DEVOUR_LOG",
        ] {
            command.env_remove(variable);
        }
        command
    }
}

// === impl Daemon ===

impl Daemon {
    /// Starts `command` and reads its log.
    pub fn spawn(command: &mut Command) -> Result<Self, DaemonError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(command)?;
        let child = process.child();
        let log = Log::of(child.stdout.take(), child.stderr.take());
        Ok(Self { process, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it said so far, and what it says from now on.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for a line of the log, from its beginning; ends early, with an error, if the daemon ends first.
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        wanted: impl FnMut(&Line) -> bool,
    ) -> Result<Line, DaemonError> {
        self.wait_for_from(0, what, within, wanted)
    }

    /// As [`Daemon::wait_for`], from line number `from` (see [`Log::len`]) on.
    pub fn wait_for_from(
        &self,
        from: usize,
        what: &str,
        within: Duration,
        wanted: impl FnMut(&Line) -> bool,
    ) -> Result<Line, DaemonError> {
        self.log
            .wait_for(from, what, within, wanted)
            .map_err(|error| DaemonError::TimedOut(error, self.log.tail()))
    }

    /// Waits until `route` enters `state`, from the log's beginning.
    pub fn await_state(&self, route: &str, state: &str) -> Result<Line, DaemonError> {
        self.await_state_from(0, route, state)
    }

    /// As [`Daemon::await_state`], from line number `from` on.
    pub fn await_state_from(&self, from: usize, route: &str, state: &str) -> Result<Line, DaemonError> {
        self.wait_for_from(from, &format!("route {route} to be {state}"), SOON, |line| {
            line.says("route state") && line.text("route") == Some(route) && line.text("state") == Some(state)
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), DaemonError> {
        Ok(self.process.signal(signal)?)
    }

    /// True until it has ended.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Result<Exit, DaemonError> {
        match self.process.wait(within) {
            Ok(exit) => Ok(exit),
            Err(ProcessError::TimedOut(error)) => Err(DaemonError::TimedOut(error, self.log.tail())),
            Err(error) => Err(error.into()),
        }
    }

    /// SIGTERM, and waits until it has ended with status 0.
    pub fn stop(mut self) -> Result<Log, DaemonError> {
        self.signal(Signal::TERM)?;
        match self.wait(scale::patience(SOON))? {
            Exit::Status(0) => Ok(self.log.clone()),
            other => Err(DaemonError::Ended(other, self.log.tail())),
        }
    }

    /// SIGKILL, and waits until it is reaped.
    pub fn kill(mut self) -> Result<Log, DaemonError> {
        self.process.kill()?;
        Ok(self.log.clone())
    }

    /// The plugin's process of `route`, once it is up: the last that was.
    pub fn plugin_pid(&self, route: &str) -> Result<u32, DaemonError> {
        let is_up = |line: &Line| {
            (line.says("plugin up") || line.says("plugin swapped")) && line.text("route") == Some(route)
        };
        self.wait_for("the plugin", SOON, is_up)?;
        let last = self.log.all(is_up).last().and_then(|line| line.number("pid"));
        last.and_then(|pid| u32::try_from(pid).ok())
            .ok_or(DaemonError::NoPlugin(route.to_owned()))
    }

    /// SIGKILL to the plugin's process of `route`; returns once another is up.
    pub fn kill_plugin(&self, route: &str) -> Result<(), DaemonError> {
        let from = self.log.len();
        let killed = self.signal_plugin(route, Signal::KILL)?;
        self.wait_for_from(from, "the plugin's successor", SOON, |line| {
            line.says("plugin up") && line.text("route") == Some(route) && line.number("pid") != Some(killed)
        })?;
        Ok(())
    }

    /// A signal to the plugin's process of `route`, once it has one: its id.
    pub fn signal_plugin(&self, route: &str, signal: Signal) -> Result<i64, DaemonError> {
        let pid = i64::from(self.plugin_pid(route)?);
        match Pid::from_raw(pid as i32).map_or(Ok(()), |pid| kill_process(pid, signal)) {
            // It may have ended by itself meanwhile; another comes all the same.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(pid),
            Err(errno) => Err(DaemonError::File {
                path: format!("/proc/{pid}").into(),
                source: errno.into(),
            }),
        }
    }

    /// Its children: plugin processes and their like.
    pub fn children(&self) -> Vec<(u32, Vec<String>)> {
        children_of(self.pid())
    }
}

impl From<TimedOut> for DaemonError {
    fn from(error: TimedOut) -> Self {
        Self::TimedOut(error, String::new())
    }
}
