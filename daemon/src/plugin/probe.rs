//! Asks a library what it is, in a throw-away child (`devourd probe`) that may die of it. Once per content, symbol and
//! settings: what was answered is remembered.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use devour_abi::{ConstructRequest, Descriptor};
use rustix::fs::MemfdFlags;
use serde_json::Value;

use super::{
    ContentHash, Death, Library, PluginError, PluginFault, Stage,
    error_text::harmless,
    probe_child::STATUS_CLOSED,
    probe_talk::{Answer, HELLO, Heard, Listener, Request},
};
use crate::os::{
    Bounds, Child, Exit, Interest, Launch, Poller, SeqPacket, Spawner,
    pipe::{PipeReader, Read, pipe},
    socket::{Sent, Wait},
};

/// Probes libraries and remembers what they answered.
pub struct Prober {
    spawner: Spawner,
    environment: Vec<(OsString, OsString)>,
    args: Vec<OsString>,
    bounds: Bounds,
    known: Arc<Mutex<HashMap<Key, Probe>>>,
}

/// What a consumer answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What it says of itself, under the settings it was given.
    pub descriptor: Descriptor,
    /// What it finds wrong with these settings.
    pub findings: Vec<String>,
    /// What it logged while it was constructed, if it was.
    pub logs: Vec<String>,
}

/// Content, symbol, and settings as text (serde_json keeps the keys of an object sorted).
type Key = (ContentHash, String, String);

/// How long a probe is given, unless somebody knows better.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A child that closed its descriptors is given this long to end and so to say how.
const GRACE: Duration = Duration::from_secs(2);

/// As much of what a child prints is kept.
const PRINTED: usize = 4 * 1024;

/// Whether a process has transparent huge pages: read by the allocator.
const HUGE_PAGES: &str = "MIMALLOC_ALLOW_THP";

/// The environment of a probing child, and of every process that runs a plugin: this process's own, without what
/// belongs to the daemon alone and without the `secret` variables (those that settings outside a route's own
/// `settings:` substitute). Unless it says otherwise, without huge pages: the allocator would ask for some, which the C
/// library's own does not, and they would be most of what a small plugin holds.
#[must_use]
pub fn child_environment(secret: &BTreeSet<String>) -> Vec<(OsString, OsString)> {
    let ours = |name: &str| {
        name.starts_with("NOTIFY_")
            || name.starts_with("WATCHDOG_")
            || matches!(name, "CREDENTIALS_DIRECTORY" | "KAFKA_SETTINGS_PATH")
            || secret.contains(name)
    };
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| !name.to_str().is_some_and(ours))
        .collect();
    if !environment.iter().any(|(name, _)| name == HUGE_PAGES) {
        environment.push((HUGE_PAGES.into(), "0".into()));
    }
    environment
}

// === impl Prober ===

impl Prober {
    /// A prober whose children have this environment ([`child_environment`]).
    #[must_use]
    pub fn new(spawner: Spawner, environment: Vec<(OsString, OsString)>) -> Self {
        Self {
            spawner,
            environment,
            args: vec!["probe".into()],
            bounds: Bounds::default(),
            known: Arc::default(),
        }
    }

    /// The same prober, whose children are bound by the user and the sandbox of these bounds. (What a process may take
    /// does not matter to one that is gone in a moment.)
    #[must_use]
    pub fn within(&self, bounds: &Bounds) -> Self {
        let Bounds { user, sandbox, .. } = bounds.clone();
        Self {
            spawner: self.spawner.clone(),
            environment: self.environment.clone(),
            args: self.args.clone(),
            bounds: Bounds {
                user,
                sandbox,
                ..Bounds::default()
            },
            known: Arc::clone(&self.known),
        }
    }

    /// The same prober, whose children have another environment.
    #[must_use]
    pub fn seeing(mut self, environment: Vec<(OsString, OsString)>) -> Self {
        self.environment = environment;
        self
    }

    /// A prober whose children are this program with other arguments, which must lead to `probe_child_main`.
    #[cfg(test)]
    pub(super) fn with_args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(Into::into).collect();
        self
    }

    /// What `symbol` says of itself and of `settings`.
    ///
    /// # Errors
    /// The library does not export it, cannot be loaded, is of another version or layout, fails, dies or does not
    /// answer within `timeout`.
    pub fn probe(
        &self,
        library: &Library,
        symbol: &str,
        settings: &Value,
        timeout: Duration,
    ) -> Result<Probe, PluginError> {
        let key = (library.hash.clone(), symbol.to_owned(), settings.to_string());
        if let Some(known) = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(known.clone());
        }
        let request = Request {
            symbol: symbol.to_owned(),
            settings: settings.clone(),
            construct: None,
            bounds: self.bounds.clone(),
        };
        let probe = self.ask(library, &request, timeout)?;
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, probe.clone());
        Ok(probe)
    }

    /// As [`Prober::probe`], and constructs a consumer, with a host that only logs; never remembered.
    ///
    /// # Errors
    /// As [`Prober::probe`].
    pub fn construct(
        &self,
        library: &Library,
        symbol: &str,
        request: ConstructRequest,
        timeout: Duration,
    ) -> Result<Probe, PluginError> {
        let settings = request.settings.clone();
        self.ask(
            library,
            &Request {
                symbol: symbol.to_owned(),
                settings,
                construct: Some(request),
                bounds: self.bounds.clone(),
            },
            timeout,
        )
    }

    /// Forgets what other contents than these answered.
    pub fn keep_only(&self, hashes: &[&ContentHash]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(hash, _, _), _| hashes.contains(&hash));
    }

    fn ask(&self, library: &Library, request: &Request, timeout: Duration) -> Result<Probe, PluginError> {
        let deadline = Instant::now() + timeout;
        library.expect(&request.symbol)?;
        let mut conversation = self
            .begin(library, request)
            .map_err(|error| PluginError::io(&library.file, "probe it", error).of_symbol(&request.symbol))?;
        let verdict = conversation.hold(deadline);
        conversation.end();
        let named = |fault| PluginError::new(&library.file, fault).of_symbol(&request.symbol);
        let Conversation {
            stage,
            descriptor,
            findings,
            logs,
            ..
        } = conversation;
        let printed = conversation.printed.text();
        match verdict {
            Verdict::Done => match descriptor {
                Some(descriptor) => Ok(Probe {
                    descriptor,
                    findings,
                    logs,
                }),
                None => {
                    let how = Death::Rubbish("no descriptor".into());
                    Err(named(PluginFault::ProbeDied { stage, how, printed }))
                }
            },
            Verdict::Error(error) => Err(named(match *error.fault {
                PluginFault::ProbeDied { stage, how, .. } => PluginFault::ProbeDied { stage, how, printed },
                fault => fault,
            })),
            Verdict::Died(how) => Err(named(PluginFault::ProbeDied { stage, how, printed })),
            Verdict::TimedOut => Err(named(PluginFault::ProbeTimedOut {
                stage,
                after: timeout,
                printed,
            })),
        }
    }

    fn begin(&self, library: &Library, request: &Request) -> io::Result<Conversation> {
        let copy = library.open_copy()?;
        let text = rustix::fs::memfd_create("devour-probe-request", MemfdFlags::CLOEXEC)?;
        let mut text = std::fs::File::from(text);
        serde_json::to_writer(&mut text, request)?;
        io::Seek::rewind(&mut text)?;
        let (ours, theirs) = SeqPacket::pair()?;
        // It waits in the socket until the child reads it.
        if ours.send(HELLO, &[copy.as_fd(), text.as_fd()], Wait::No)? != Sent::Done {
            return Err(io::Error::other("the socket to a child took nothing"));
        }
        let ((stdout, their_stdout), (stderr, their_stderr)) = (pipe()?, pipe()?);
        let poller = Poller::new()?;
        let child = self.spawner.spawn(Launch {
            args: self.args.clone(),
            environment: self.environment.clone(),
            stdin: theirs.into(),
            stdout: their_stdout,
            stderr: their_stderr,
            user: self.bounds.user.as_ref().map(|user| user.id),
        })?;
        let conversation = Conversation {
            child,
            socket: ours,
            pipes: [stdout, stderr],
            poller,
            listener: Listener::new(),
            printed: Printed::default(),
            stage: Stage::Start,
            descriptor: None,
            findings: Vec::new(),
            logs: Vec::new(),
            closed: false,
        };
        conversation.watch()?;
        Ok(conversation)
    }
}

/// One child and what it said so far.
struct Conversation {
    child: Child,
    socket: SeqPacket,
    pipes: [PipeReader; 2],
    poller: Poller,
    listener: Listener,
    printed: Printed,
    stage: Stage,
    descriptor: Option<Descriptor>,
    findings: Vec<String>,
    logs: Vec<String>,
    closed: bool,
}

enum Verdict {
    Done,
    Error(PluginError),
    Died(Death),
    TimedOut,
}

const SOCKET: u64 = 2;
const EXIT: u64 = 3;

// === impl Conversation ===

impl Conversation {
    fn watch(&self) -> io::Result<()> {
        let [stdout, stderr] = &self.pipes;
        let all: [(BorrowedFd<'_>, u64); 4] = [
            (stdout.as_fd(), 0),
            (stderr.as_fd(), 1),
            (self.socket.as_fd(), SOCKET),
            (self.child.exit_fd(), EXIT),
        ];
        let watched = all
            .into_iter()
            .try_for_each(|(fd, token)| self.poller.add(fd, token, Interest::Read));
        if watched.is_err() {
            self.child.kill_group();
        }
        watched
    }

    /// Listens until the child has said all, is gone, or `deadline` has passed.
    fn hold(&mut self, mut deadline: Instant) -> Verdict {
        let mut ready = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return if self.closed {
                    Verdict::Died(Death::ClosedDescriptors)
                } else {
                    Verdict::TimedOut
                };
            }
            if let Err(error) = self.poller.wait(&mut ready, Some(left)) {
                return Verdict::Error(PluginError::io("", "wait for its probe", error));
            }
            for (token, pipe) in self.pipes.iter().enumerate() {
                if ready.contains(&(token as u64)) && self.printed.take_from(pipe) == Read::End {
                    let _ = self.poller.remove(pipe);
                }
            }
            // Asked before it is listened to: else it may say its last word and end in between.
            let exit = self.child.try_exit();
            if !self.closed && (ready.contains(&SOCKET) || exit.is_some()) {
                match self.listen() {
                    Some(verdict) => return verdict,
                    None if self.closed => {
                        let _ = self.poller.remove(&self.socket);
                        deadline = deadline.min(Instant::now() + GRACE);
                    }
                    None => {}
                }
            }
            if let Some(exit) = exit {
                return Verdict::Died(match exit {
                    Exit::Code(STATUS_CLOSED) => Death::ClosedDescriptors,
                    Exit::Code(status) => Death::Exited(status),
                    Exit::Signal(signal) => Death::Signal(signal),
                });
            }
        }
    }

    /// Hears what is there; a verdict if that settles it.
    fn listen(&mut self) -> Option<Verdict> {
        loop {
            match self.listener.listen(&self.socket) {
                Heard::Nothing => return None,
                Heard::Closed => {
                    self.closed = true;
                    return None;
                }
                Heard::Rubbish(what) => return Some(Verdict::Died(Death::Rubbish(what))),
                Heard::Answer(Answer::Done) => return Some(Verdict::Done),
                Heard::Answer(Answer::Error { error }) => return Some(Verdict::Error(error)),
                Heard::Answer(Answer::Begin { stage }) => self.stage = stage,
                Heard::Answer(Answer::Descriptor { descriptor }) => self.descriptor = Some(*descriptor),
                Heard::Answer(Answer::Findings { findings }) => self.findings = findings,
                Heard::Answer(Answer::Log { line }) => self.logs.push(line),
            }
        }
    }

    /// Kills what is left of the child and hears what it printed last.
    fn end(&mut self) {
        self.child.kill_group();
        let _ = self.child.wait_exit(Instant::now() + GRACE);
        for pipe in &self.pipes {
            self.printed.take_from(pipe);
        }
    }
}

/// The first of what a child printed.
#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    more: bool,
}

// === impl Printed ===

impl Printed {
    /// Takes what is there now; what does not fit is read and dropped.
    fn take_from(&mut self, pipe: &PipeReader) -> Read {
        let mut buffer = [0; 4096];
        // A child that prints without end is not listened to for ever.
        for _ in 0..64 {
            match pipe.read(&mut buffer) {
                Read::Bytes(bytes) => {
                    let room = PRINTED - self.bytes.len();
                    self.more |= bytes > room;
                    self.bytes.extend_from_slice(&buffer[..bytes.min(room)]);
                }
                other => return other,
            }
        }
        Read::Nothing
    }

    /// As text that is safe to show on a terminal.
    fn text(&self) -> String {
        let mut text = harmless(String::from_utf8_lossy(&self.bytes).trim_end());
        if self.more {
            text.push_str("\n(and more)");
        }
        text
    }
}
