//! A process that a fixture started: signalled and awaited through its pidfd, ended when dropped, and by the
//! undertaker if we end first.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{undertaker, wait::TimedOut};

/// A child of the test process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
    exit: Option<ExitStatus>,
}

/// How a process ended, in words a scenario can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called `exit` with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

/// What can go wrong with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, signalled or awaited.
    #[error("{what} {program}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The program.
        program: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// It did not end in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

// === impl Process ===

impl Process {
    /// Starts `command` and has it killed if this process ends first.
    pub fn spawn(command: &mut Command) -> Result<Self, ProcessError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let fail = |what, source: io::Error| ProcessError::System {
            what,
            program: program.clone(),
            source,
        };
        let mut child = command.spawn().map_err(|source| fail("cannot start", source))?;
        let pidfd = Pid::from_raw(child.id() as i32)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(io::Error::from)
            .and_then(|pidfd| undertaker::watch(child.id()).map(|()| pidfd));
        match pidfd {
            Ok(pidfd) => Ok(Self {
                child,
                pidfd,
                exit: None,
            }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(fail("cannot watch", source))
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipes and the like of the child.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// True until it has ended.
    pub fn is_alive(&mut self) -> bool {
        self.exit.is_none() && !self.ended(Some(Duration::ZERO)).unwrap_or(true)
    }

    /// Sends a signal; to a process that has already ended it does nothing.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        if self.exit.is_some() {
            return Ok(());
        }
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(self.system("cannot signal", errno.into())),
        }
    }

    /// Waits for its end and reaps it.
    pub fn wait(&mut self, within: Duration) -> Result<Exit, ProcessError> {
        if self.exit.is_none() {
            let begin = Instant::now();
            if !self
                .ended(Some(within))
                .map_err(|source| self.system("cannot await", source))?
            {
                let what = format!("the end of process {}", self.pid());
                return Err(TimedOut {
                    what,
                    waited: begin.elapsed(),
                    last: String::new(),
                }
                .into());
            }
            self.reap()?;
        }
        Ok(Exit::of(self.exit.unwrap_or_default()))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<Exit, ProcessError> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(30))
    }

    fn ended(&self, within: Option<Duration>) -> io::Result<bool> {
        let deadline = within.map(|within| Instant::now() + within);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], timeout.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn reap(&mut self) -> Result<(), ProcessError> {
        // Forgotten first: once reaped, the number may be another's.
        undertaker::forget(self.pid()).map_err(|source| self.system("cannot forget", source))?;
        let status = self
            .child
            .wait()
            .map_err(|source| self.system("cannot reap", source))?;
        self.exit = Some(status);
        Ok(())
    }

    fn system(&self, what: &'static str, source: io::Error) -> ProcessError {
        ProcessError::System {
            what,
            program: format!("process {}", self.pid()),
            source,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

// === impl Exit ===

impl Exit {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Status(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

/// The children of process `pid`, with the words of their command lines.
pub fn children_of(pid: u32) -> Vec<(u32, Vec<String>)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut children: Vec<_> = numbers
        .filter(|&child| parent_of(child) == Some(pid))
        .map(|child| (child, words_of(child)))
        .collect();
    children.sort_unstable();
    children
}

/// The parent of a process that has not ended; `None` for a zombie.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold some.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        None
    } else {
        fields.next()?.parse().ok()
    }
}

fn words_of(pid: u32) -> Vec<String> {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    raw.split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
