//! One life of a plugin's process, as the daemon holds it: its sockets, its page, its pipes, its birth.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    DownCause, HomeConfig, Printed,
    channel::{Hello, LANES, LANES_AT_ONCE, MAX_INLINE},
    outbox::Outbox,
    printed::Stdio,
    voice::Stream,
};
use crate::os::{
    Bounds, Child, Exit, Interest, Launch, Poller, SeqPacket, SharedBytes, SharedPage,
    cgroup::{Delegated, Group},
    pipe::pipe,
    process,
    shared_page::Writer,
    socket::{Sent, Wait},
    spawn::signal_name,
};

pub(super) struct PluginProcess {
    pub child: Child,
    /// One for each lane.
    pub works: Vec<Outbox>,
    pub talk: Outbox,
    /// Where its lanes say what they are at.
    pub cells: SharedPage,
    pub stdout: Option<Stdio>,
    pub stderr: Option<Stdio>,
    pub stage: Stage,
    /// Lanes whose instance stands.
    pub lanes_up: usize,
    /// Why it was killed, if it was.
    pub killed: Option<DownCause>,
    /// It closed a socket: either it is about to be reaped, or it is ended.
    pub closed: bool,
    /// Its outcomes are not heard any more: it broke the protocol, or said that it is broken.
    pub deaf: bool,
    /// What holds its memory, with the limit, where the system lets the daemon hold it.
    group: Option<(Group, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not all of its constructors have answered.
    Building,
    /// All instances stand.
    Up,
}

/// The first lane's; the others follow.
pub(super) const WORK: u64 = 16;
pub(super) const TALK: u64 = 1;
pub(super) const STDOUT: u64 = 2;
pub(super) const STDERR: u64 = 3;
pub(super) const EXIT: u64 = 4;

/// The first word of the page of cells in which lanes say which message produced the first record that is not sent.
pub(super) const UNSENT: usize = SharedPage::WORDS / 2;

/// The first byte of the first frame: the JSON follows, or lies in the last memfd beside the frame.
pub(super) const HELLO_INLINE: u8 = 1;
pub(super) const HELLO_BESIDE: u8 = 2;

// === impl PluginProcess ===

impl PluginProcess {
    /// Spawns the process and tells it all that it needs; waits for nothing.
    pub(super) fn start(
        config: &HomeConfig,
        arena: (BorrowedFd<'_>, usize),
        cuts: BorrowedFd<'_>,
        poller: &Poller,
    ) -> io::Result<Self> {
        let (talk, their_talk) = SeqPacket::pair()?;
        let lanes = config.construct.lanes.max(1);
        let (mut works, mut their_works) = (Vec::new(), Vec::new());
        for _ in 0..lanes {
            let (work, theirs) = SeqPacket::pair()?;
            works.push(work);
            their_works.push(theirs);
        }
        let (cells, cells_fd) = SharedPage::create("devour-cells", Writer::Receiver)?;
        let library = config.library.open_copy()?;
        let (stderr, their_stderr) = pipe()?;
        let (stdout, their_stdout) = match config.stdout {
            Printed::Log => {
                let (stdout, theirs) = pipe()?;
                (Some(stdout), theirs)
            }
            Printed::PassThrough => (None, process::copy_of_stdout()?),
        };
        let group = memory_group(config)?;
        let bounds = Bounds {
            memory: config.bounds.memory.filter(|_| group.is_none()),
            ..config.bounds.clone()
        };
        let child = config.spawner.spawn(Launch {
            args: vec![OsString::from("host")],
            environment: config.environment.clone(),
            stdin: OwnedFd::from(their_talk),
            stdout: their_stdout,
            stderr: their_stderr,
            user: bounds.user.as_ref().map(|user| user.id),
        })?;
        // Before it hears what it is for, so that nothing foreign runs outside of the group.
        let entered = group.as_ref().map_or(Ok(()), |(group, _)| group.enter(child.pid));
        let introduced = entered.and_then(|()| {
            introduce(
                config,
                bounds,
                &talk,
                arena,
                &[cells_fd.as_fd(), cuts, library.as_fd()],
                &their_works,
            )
        });
        let watched = introduced.and_then(|()| {
            poller.add(child.exit_fd(), EXIT, Interest::Read)?;
            if let Some(stdout) = &stdout {
                poller.add(stdout, STDOUT, Interest::Read)?;
            }
            poller.add(&stderr, STDERR, Interest::Read)?;
            let works: io::Result<Vec<Outbox>> = (WORK..)
                .zip(works)
                .map(|(token, work)| Outbox::new(work, poller, token))
                .collect();
            Ok((works?, Outbox::new(talk, poller, TALK)?))
        });
        let (works, talk) = watched.inspect_err(|_| {
            let _ = poller.remove(child.exit_fd());
            child.kill_group();
        })?;
        Ok(Self {
            child,
            works,
            talk,
            cells,
            stdout: stdout.map(|pipe| Stdio::new(pipe, Stream::Stdout)),
            stderr: Some(Stdio::new(stderr, Stream::Stderr)),
            stage: Stage::Building,
            lanes_up: 0,
            killed: None,
            closed: false,
            deaf: false,
            group,
        })
    }

    /// Takes work, and is heard.
    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Up && self.killed.is_none() && !self.closed
    }

    /// Ends it; the first cause stands.
    pub(super) fn kill(&mut self, cause: DownCause) {
        if self.killed.is_none() {
            self.killed = Some(cause);
            self.child.kill_group();
        }
    }

    /// Ends it because of what it said, or how.
    pub(super) fn distrust(&mut self, what: impl ToString) {
        self.deaf = true;
        self.kill(DownCause::Protocol(what.to_string()));
    }

    /// Why it is gone: what it died of by itself, unless it was killed first. `asked` is why it was asked to end, if it
    /// was and had the time to.
    pub(super) fn cause(&self, exit: Exit, asked: Option<DownCause>) -> DownCause {
        const KILL: i32 = 9;
        const TERM: i32 = 15;
        let own = match exit {
            Exit::Code(status) => DownCause::Exited(status),
            Exit::Signal(signal) => DownCause::Signal(signal_name(signal)),
        };
        if let (Some((group, limit)), None | Some(DownCause::Deadline(_)), Exit::Signal(KILL)) =
            (&self.group, &self.killed, exit)
            && group.was_out_of_memory()
        {
            return DownCause::Memory(*limit);
        }
        match (&self.killed, asked) {
            // It crashed just before it would have been ended for being slow.
            (Some(DownCause::Deadline(_)), _) if exit != Exit::Signal(KILL) => own,
            (Some(cause), _) => cause.clone(),
            (None, Some(asked)) if matches!(exit, Exit::Code(_) | Exit::Signal(TERM)) => asked,
            (None, _) => own,
        }
    }
}

/// A group that holds the memory of the process to come, where there is a limit and the system lets the daemon hold it.
fn memory_group(config: &HomeConfig) -> io::Result<Option<(Group, u64)>> {
    match (config.bounds.memory, Delegated::find()) {
        (Some(limit), Some(delegated)) => {
            let group = delegated
                .group(config.route.as_str(), limit)
                .map_err(|error| io::Error::other(format!("its memory cannot be limited: {error}")))?;
            Ok(Some((group, limit)))
        }
        _ => Ok(None),
    }
}

/// Sends the first frame.
fn introduce(
    config: &HomeConfig,
    bounds: Bounds,
    talk: &SeqPacket,
    (arena, arena_bytes): (BorrowedFd<'_>, usize),
    fds: &[BorrowedFd<'_>],
    works: &[SeqPacket],
) -> io::Result<()> {
    let hello = Hello {
        route: config.route.to_string(),
        library: config.library.file.clone(),
        symbol: config.symbol.clone(),
        construct: config.construct.clone(),
        arena_bytes,
        reads_headers: config.digest.reads_headers,
        hold_on_reject: config.hold_on_reject,
        takes: config.takes,
        log_level: config.voice.level(),
        core_dumps: process::is_dumpable(),
        bounds,
        open_files: process::open_files_at_start(),
    };
    let mut frame = vec![HELLO_INLINE];
    serde_json::to_writer(&mut frame, &hello)?;
    let mut all = vec![arena];
    all.extend_from_slice(fds);
    let beside;
    if frame.len() > MAX_INLINE {
        beside = beside_frame(&frame[1..])?;
        all.push(beside.as_fd());
        frame = vec![HELLO_BESIDE];
    }
    say_first(talk, &frame, &all)?;
    for some in works.chunks(LANES_AT_ONCE) {
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
        say_first(talk, &[LANES], &fds)?;
    }
    Ok(())
}

fn say_first(talk: &SeqPacket, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    match talk.send(frame, fds, Wait::No)? {
        Sent::Done | Sent::Closed => Ok(()),
        Sent::Full => Err(io::Error::other("a new socket is full")),
    }
}

/// A text that is too long for a frame, in memory that goes beside it.
pub(super) fn beside_frame(text: &[u8]) -> io::Result<SharedBytes> {
    let mut memory = SharedBytes::create("devour-text", text.len())?;
    memory.get_mut(0..text.len()).copy_from_slice(text);
    Ok(memory)
}
