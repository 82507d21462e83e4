//! How a ledger fails on order: which messages, how, and how often.

use std::{fs, io, path::Path};

use devour::{DigestError, prelude::*};

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
    /// `exit(0)`.
    Exit,
    /// SIGKILL to its own process.
    Kill,
    /// Never returns.
    Block,
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
            Some(n) => Ok(struck(ledger, n)? < self.times),
            None => Ok(false),
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
        match self.kind {
            Kind::Retry => return Err(DigestError::retry("retry on order")),
            Kind::Reject => return Err(DigestError::reject("reject on order")),
            Kind::Fatal => return Err(DigestError::fatal("fatal on order")),
            Kind::Panic => panic!("panic on order"),
            Kind::Abort => std::process::abort(),
            Kind::Exit => std::process::exit(0),
            Kind::Kill => {
                let killed =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                killed.or_fatal()?;
            }
            Kind::Block => {}
        }
        loop {
            std::thread::park();
        }
    }
}

/// How often this message was struck before, and counts once more.
fn struck(ledger: &Path, n: u64) -> io::Result<u64> {
    let counter = ledger.with_extension(format!("struck-{n}"));
    let before = fs::metadata(&counter).map_or(0, |metadata| metadata.len());
    let mut file = fs::File::options().create(true).append(true).open(counter)?;
    io::Write::write_all(&mut file, b".")?;
    Ok(before)
}

fn once() -> u64 {
    1
}
