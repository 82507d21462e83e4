//! `devourd probe`: the throw-away process that opens a library for the first time. It is ready for everything that
//! foreign initialisers can do to a process, and ends by killing itself, so that no foreign exit handler runs.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use devour_abi::{
    ConsumerModuleRef, DescribeRequest, Failure, FailureKind, Host, HostServices, LogLevel, ProduceRecord,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, set_child_subreaper, waitid};

use super::{
    Death, PluginError, PluginFault, Stage, open,
    probe_talk::{Answer, HELLO, Request, say},
};
use crate::os::{
    SeqPacket,
    process::{
        die_with_parent, exit_now, no_core, not_dumpable, set_name, take_me_first, take_socket_from_stdin,
    },
    socket::{Received, Sent, Wait},
};

/// The status of a child whose talk socket was closed behind its back.
pub(super) const STATUS_CLOSED: i32 = 87;

/// What `devourd probe` runs; returns only when it was not started by a probe.
#[must_use]
pub fn probe_child_main() -> i32 {
    match take_socket_from_stdin() {
        Ok(Some(socket)) => match Talk::start(socket) {
            Ok((talk, library, request)) => work(talk, &library, &request),
            Err(error) => {
                eprintln!("devourd probe: {error}");
                70
            }
        },
        Ok(None) => {
            eprintln!(
                "devourd probe opens a plugin for `devourd check`, `devourd plugins inspect` and the daemon; it is \
                 started by them and by nobody else."
            );
            2
        }
        Err(error) => {
            eprintln!("devourd probe: {error}");
            70
        }
    }
}

/// The child's end of the conversation.
struct Talk {
    socket: SeqPacket,
    /// Device and inode of the socket: foreign code may have closed it and opened something else under its number.
    identity: (u64, u64),
    /// The process that was asked: foreign code may have forked.
    process: u32,
}

/// Does what was asked; never returns.
fn work(talk: Talk, library: &OwnedFd, request: &Request) -> ! {
    // Leaked: what foreign code may have closed must not be closed again.
    let talk: &'static Talk = Box::leak(Box::new(talk));
    let examined = examine(talk, library, request);
    // Before the last word: after it the probe ends this process.
    end_descendants();
    match examined {
        Ok(()) => talk.say(&Answer::Done),
        Err(error) => talk.say(&Answer::Error { error }),
    }
    let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    exit_now(0)
}

fn examine(talk: &'static Talk, library: &OwnedFd, request: &Request) -> Result<(), PluginError> {
    let fault = |fault| PluginError::new("", fault).of_symbol(&request.symbol);
    talk.begin(Stage::Open);
    let loaded = open::load_descriptor(library.as_fd());
    if has_children() {
        let how = Death::Forked;
        return Err(fault(PluginFault::ProbeDied {
            stage: Stage::Open,
            how,
            printed: String::new(),
        }));
    }
    let loaded = loaded?;
    talk.begin(Stage::Compare);
    let module = open::compare(loaded, &request.symbol)?;
    talk.begin(Stage::Describe);
    let failed = |stage| move |failure: Failure| fault(fault_of(stage, &failure));
    let asked = DescribeRequest {
        settings: request.settings.clone(),
    };
    let descriptor = module
        .describe_consumer(&asked)
        .map_err(failed(Stage::Describe))?;
    talk.say(&Answer::Descriptor {
        descriptor: Box::new(descriptor),
    });
    talk.begin(Stage::Check);
    let findings = module
        .check_settings(&request.settings)
        .map_err(failed(Stage::Check))?;
    talk.say(&Answer::Findings { findings });
    if let Some(construct) = &request.construct {
        talk.begin(Stage::Construct);
        construct_once(talk, &module, construct).map_err(failed(Stage::Construct))?;
    }
    Ok(())
}

fn construct_once(
    talk: &'static Talk,
    module: &ConsumerModuleRef,
    request: &devour_abi::ConstructRequest,
) -> Result<(), Failure> {
    let services = OnlyLogs {
        talk,
        settings: request.settings.to_string(),
    };
    let instance = module.construct_instance(request, Host::new(Arc::new(services)))?;
    // Not dropped: that it can be constructed was the question.
    std::mem::forget(instance);
    Ok(())
}

fn fault_of(stage: Stage, failure: &Failure) -> PluginFault {
    let message = failure.message.to_string();
    let panicked = failure.kind == FailureKind::PANIC;
    // A descriptor is a function of the settings: where it cannot be told, the settings are what is wrong.
    if stage == Stage::Describe && failure.kind == FailureKind::REJECT {
        PluginFault::SettingsRefused {
            findings: vec![message],
        }
    } else {
        PluginFault::Failed {
            stage,
            panicked,
            message,
        }
    }
}

// === impl Talk ===

impl Talk {
    /// Makes the process ready for foreign code and receives the library and the request.
    fn start(socket: SeqPacket) -> io::Result<(Self, OwnedFd, Request)> {
        set_name("devourd-probe");
        no_core()?;
        not_dumpable()?;
        let _ = take_me_first();
        if !die_with_parent(socket.maker()?)? {
            return Err(io::Error::other("the process that asked is gone"));
        }
        // What foreign code forks away comes to this process when its parent ends, and is found.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let (mut frame, mut fds) = ([0; 64], Vec::new());
        let received = socket.receive_with_fds(&mut frame, &mut fds, Wait::Yes)?;
        let mut fds = fds.into_iter();
        match (received, fds.next(), fds.next()) {
            (Received::Frame(bytes), Some(library), Some(request)) if &frame[..bytes] == HELLO => {
                let request: Request = serde_json::from_reader(io::BufReader::new(File::from(request)))?;
                request.bounds.change_user()?;
                // A change of the user takes it back.
                if !die_with_parent(socket.maker()?)? {
                    return Err(io::Error::other("the process that asked is gone"));
                }
                request.bounds.lock_in()?;
                let status = rustix::fs::fstat(&socket)?;
                let identity = (status.st_dev, status.st_ino);
                Ok((
                    Self {
                        socket,
                        identity,
                        process: std::process::id(),
                    },
                    library,
                    request,
                ))
            }
            _ => Err(io::Error::other("the process that asked did not say what")),
        }
    }

    fn begin(&self, stage: Stage) {
        self.say(&Answer::Begin { stage });
    }

    fn say(&self, answer: &Answer) {
        if std::process::id() != self.process {
            // Foreign code forked and both came back: only one may speak.
            exit_now(0);
        }
        let is_ours = rustix::fs::fstat(&self.socket)
            .is_ok_and(|status| (status.st_dev, status.st_ino) == self.identity);
        if !is_ours || !matches!(say(&self.socket, answer), Ok(Sent::Done)) {
            exit_now(STATUS_CLOSED);
        }
    }
}

/// Whether any process has this one for its parent, also one that has ended.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, options).is_ok()
}

/// Kills all that foreign code started, so far as it comes back to this process.
fn end_descendants() {
    // Each round kills a generation; the next one is then ours.
    for _ in 0..64 {
        let pids = children();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        }
    }
}

/// A child belongs to the thread that forked it, and an orphan to any.
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids = |list: String| -> Vec<Pid> {
        list.split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    };
    lists.flat_map(pids).collect()
}

/// The host of a consumer that is constructed only to see whether it can be.
struct OnlyLogs {
    talk: &'static Talk,
    settings: String,
}

impl HostServices for OnlyLogs {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &str) {
        let level = match level {
            LogLevel::ERROR => "ERROR",
            LogLevel::WARN => "WARN",
            LogLevel::INFO => "INFO",
            _ => "DEBUG",
        };
        let fields = if fields == "{}" {
            String::new()
        } else {
            format!(" {fields}")
        };
        self.talk.say(&Answer::Log {
            line: format!("{level} {target}: {message}{fields}"),
        });
    }
    fn log_enabled(&self, level: LogLevel) -> bool {
        level <= LogLevel::INFO
    }
    fn count(&self, _: &str, _: u64) {}
    fn time(&self, _: &str, _: u64) {}
    fn settings(&self) -> String {
        self.settings.clone()
    }
    fn stop_requested(&self) -> bool {
        false
    }
    fn produce(&self, _: &ProduceRecord<'_>) -> Result<(), String> {
        Err("nothing is produced while a plugin is only looked at".into())
    }
    fn pause(&self, _: &str, _: i32) -> Result<(), String> {
        Err("there are no partitions while a plugin is only looked at".into())
    }
    fn resume(&self, _: &str, _: i32) -> Result<(), String> {
        Err("there are no partitions while a plugin is only looked at".into())
    }
}
