//! How a ledger fails on order: which messages (or flushes), how, and how often.

use std::{fs, io, path::Path};

use devour::{DigestError, prelude::*};
use rustix::process::{Signal, getpid, kill_process};

use crate::record::Outcome;

/// What happens in the digest of a chosen message.
#[settings]
#[serde(rename_all = "kebab-case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `DigestError::retry`.
    Retry,
    /// `DigestError::reject`.
    Reject,
    /// `DigestError::fatal`.
    Fatal,
    /// A panic.
    Panic,
    /// `abort()`: SIGABRT.
    Abort,
    /// SIGSEGV to its own process.
    Segfault,
    /// `exit(0)`.
    Exit,
    /// SIGKILL to its own process.
    Kill,
    /// Never returns.
    Block,
    /// Of an async ledger: keeps its thread, and the message, until a file `.release` stands beside the ledger; then writes
    /// into a file `.held` whether the message is what it was. Of another it is as `block`.
    Hold,
    /// Takes memory, a MiB at a time and touched, until its process is ended for it.
    Leak,
}

/// Chooses messages and says what happens to them.
#[settings]
#[derive(Clone, Debug)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// Each message that makes a multiple of this many digests in one process (or instance).
    #[serde(default)]
    pub every: Option<u64>,
    /// The messages that have no number in their payload.
    #[serde(default)]
    pub unnumbered: bool,
    /// The messages with these numbers in their payload...
    #[serde(default)]
    pub numbers: Vec<u64>,
    /// ...at their first so many times (whoever digests them): it is counted in a file beside the ledger.
    #[serde(default = "once")]
    pub times: u64,
    /// The message counts as digested and is written down so *before* it happens: what the host had in hand.
    #[serde(default)]
    pub after: bool,
}

/// Chooses flushes of a [`BufferLedger`](crate::BufferLedger) and says what happens in them.
#[settings]
#[derive(Clone, Debug)]
pub struct FlushFault {
    /// What happens. `retry`, `reject` and `fatal` are all the same of a flush: it failed.
    pub kind: Kind,
    /// Each flush of an instance whose number (from 1) is a multiple of this.
    #[serde(default)]
    pub every: Option<u64>,
    /// The flushes of an instance with these numbers...
    #[serde(default)]
    pub numbers: Vec<u64>,
    /// ...the first so many times that an instance has one of that number: it is counted in a file beside the ledger.
    #[serde(default = "once")]
    pub times: u64,
    /// How much of what was taken is written down before it happens. What is, is `ok-then-died`; if nothing is, the first
    /// message is written down as what happens, so that the ledger knows of it.
    #[serde(default)]
    pub at: FlushPlace,
}

/// Where in a flush a fault happens.
#[settings]
#[serde(rename_all = "kebab-case")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushPlace {
    /// Before anything is written down.
    #[default]
    Begin,
    /// When half of it is.
    Middle,
    /// When all of it is.
    End,
}

// === impl Fault ===

impl Fault {
    /// True if this message, the `count`th of this instance, is chosen.
    ///
    /// # Errors
    /// If the file that counts cannot be written.
    pub fn strikes(&self, ledger: &Path, count: u64, n: Option<u64>) -> io::Result<bool> {
        if self.every.is_some_and(|every| count.is_multiple_of(every)) {
            return Ok(true);
        }
        match n.filter(|n| self.numbers.contains(n)) {
            Some(n) => Ok(struck(ledger, &n.to_string())? < self.times),
            None => Ok(self.unnumbered && n.is_none()),
        }
    }

    /// How the digest will have ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            Kind::Retry => Outcome::Retry,
            Kind::Reject => Outcome::Reject,
            Kind::Fatal => Outcome::Fatal,
            _ if self.after => Outcome::OkThenDied,
            _ => Outcome::Died,
        }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// Where it is an error that happens.
    pub fn happen(&self) -> Result<(), DigestError> {
        self.kind.happen()
    }
}

// === impl FlushFault ===

impl FlushFault {
    /// True if the `count`th flush of this instance is chosen.
    ///
    /// # Errors
    /// If the file that counts cannot be written.
    pub fn strikes(&self, ledger: &Path, count: u64) -> io::Result<bool> {
        if self.every.is_some_and(|every| count.is_multiple_of(every)) {
            return Ok(true);
        }
        if self.numbers.contains(&count) {
            return Ok(struck(ledger, &format!("flush-{count}"))? < self.times);
        }
        Ok(false)
    }

    /// How the digest of a message that is not written down will have ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            Kind::Retry | Kind::Reject | Kind::Fatal => Outcome::Fatal,
            _ => Outcome::Died,
        }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// Where it is an error that happens.
    pub fn happen(&self) -> Result<(), DigestError> {
        self.kind.happen()
    }
}

// === impl FlushPlace ===

impl FlushPlace {
    /// How many of so many messages are written down before.
    #[must_use]
    pub fn of(self, messages: usize) -> usize {
        match self {
            Self::Begin => 0,
            Self::Middle => messages / 2,
            Self::End => messages,
        }
    }
}

// === impl Kind ===

impl Kind {
    fn happen(self) -> Result<(), DigestError> {
        match self {
            Kind::Retry => return Err(DigestError::retry("retry on order")),
            Kind::Reject => return Err(DigestError::reject("reject on order")),
            Kind::Fatal => return Err(DigestError::fatal("fatal on order")),
            Kind::Panic => panic!("panic on order"),
            Kind::Abort => std::process::abort(),
            Kind::Exit => std::process::exit(0),
            Kind::Segfault => raise(Signal::SEGV)?,
            Kind::Kill => raise(Signal::KILL)?,
            Kind::Leak => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Kind::Block | Kind::Hold => {}
        }
        loop {
            std::thread::park();
        }
    }
}

/// Again and again: the handler of Rust's runtime, which looks for overflown stacks, gives a first SIGSEGV back to the
/// system and returns.
fn raise(signal: Signal) -> Result<(), DigestError> {
    loop {
        kill_process(getpid(), signal).or_fatal()?;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// How often this message (or flush) was struck before, and counts once more.
fn struck(ledger: &Path, what: &str) -> io::Result<u64> {
    let counter = ledger.with_extension(format!("struck-{what}"));
    let before = fs::metadata(&counter).map_or(0, |metadata| metadata.len());
    let mut file = fs::File::options().create(true).append(true).open(counter)?;
    io::Write::write_all(&mut file, b".")?;
    Ok(before)
}

fn once() -> u64 {
    1
}
