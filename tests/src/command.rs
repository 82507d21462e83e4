//! A command that ends by itself: its status and what it printed, within a deadline.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::process::{Exit, Process, ProcessError};

/// What is left of a command.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

/// A command that could not be run or did not end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What it prints could not be kept.
    #[error("a file for what a command prints: {0}")]
    Output(#[from] io::Error),
    /// Its process.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Runs `command` with nothing on standard input; kills it if it does not end `within`. It prints to files: a pipe
/// that something it started holds open would never end.
pub fn run(command: &mut Command, within: Duration) -> Result<Finished, CommandError> {
    run_with(command, Stdio::null(), within)
}

/// As [`run`], with `input` on standard input.
pub fn run_fed(command: &mut Command, input: &str, within: Duration) -> Result<Finished, CommandError> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    run_with(command, file.into(), within)
}

fn run_with(command: &mut Command, stdin: Stdio, within: Duration) -> Result<Finished, CommandError> {
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command
        .stdin(stdin)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let begin = Instant::now();
    let exit = Process::spawn(command)?.wait(within)?;
    let took = begin.elapsed();
    Ok(Finished {
        exit,
        stdout: text(stdout)?,
        stderr: text(stderr)?,
        took,
    })
}

fn text(mut file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// === impl Finished ===

impl Finished {
    /// Both outputs, for the text of a failure.
    pub fn printed(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Panics with what was printed unless it ended with `status`, and in either case if a panic or a backtrace of
    /// its own shows. `what` names the case.
    #[track_caller]
    pub fn expect(&self, what: &str, status: i32) -> &Self {
        let printed = self.printed();
        assert_eq!(self.exit, Exit::Status(status), "{what}: {printed}");
        for sign in ["thread 'main'", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!printed.contains(sign), "{what}: {printed}");
        }
        self
    }

    /// Panics with what was printed unless it holds all `parts`.
    #[track_caller]
    pub fn says<'a>(&self, what: &str, parts: impl IntoIterator<Item = &'a str>) -> &Self {
        let printed = self.printed();
        for part in parts {
            assert!(
                printed.contains(part),
                "{what}: `{part}` is missing in:\n{printed}"
            );
        }
        self
    }
}
