//! One line of the ledger: what one digest did with one message. Shared by the plugin that writes it and the judge.
//!
//! A line is written by a single `write` to a file opened with O_APPEND, so it survives the writer's SIGKILL and lines
//! of several processes do not mix. It begins *and* ends with a newline and its last field is a dot: a line torn by a
//! death is known as torn, and does not spoil the next.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
};

use rustix::time::{ClockId, clock_gettime};

/// One digest of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The message's topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The number in its payload, if it has one.
    pub n: Option<u64>,
    /// 1 at the first delivery, one more for every failed attempt.
    pub attempt: u32,
    /// The process that digested it: the daemon's in thread isolation, else the plugin's.
    pub pid: u32,
    /// CLOCK_MONOTONIC in nanoseconds, comparable between processes of one machine.
    pub at: u64,
    /// How the digest ended.
    pub outcome: Outcome,
}

/// How a digest ends; written down just before it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Digested.
    Ok,
    /// Fails: to be tried again.
    Retry,
    /// Fails: never to be tried again.
    Reject,
    /// Fails: the plugin wants a restart.
    Fatal,
    /// Ends its process (or panics) without having digested the message.
    Died,
    /// Has digested the message and ends its process before the host can hear of it: the message is in hand.
    OkThenDied,
}

/// An open ledger file.
#[derive(Debug)]
pub struct Writer {
    file: File,
    line: String,
}

const NAMES: [(Outcome, &str); 6] = [
    (Outcome::Ok, "ok"),
    (Outcome::Retry, "retry"),
    (Outcome::Reject, "reject"),
    (Outcome::Fatal, "fatal"),
    (Outcome::Died, "died"),
    (Outcome::OkThenDied, "ok-then-died"),
];

// === impl Record ===

impl Record {
    /// Reads one line; `None` if it is torn or not one of ours.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let record = Self {
            topic: fields.next()?.to_owned(),
            partition: fields.next()?.parse().ok()?,
            offset: fields.next()?.parse().ok()?,
            n: match fields.next()? {
                "-" => None,
                n => Some(n.parse().ok()?),
            },
            attempt: fields.next()?.parse().ok()?,
            pid: fields.next()?.parse().ok()?,
            at: fields.next()?.parse().ok()?,
            outcome: Outcome::parse(fields.next()?)?,
        };
        (fields.next() == Some(".") && fields.next().is_none()).then_some(record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}\t", self.topic, self.partition, self.offset)?;
        match self.n {
            Some(n) => write!(f, "{n}")?,
            None => f.write_str("-")?,
        }
        write!(
            f,
            "\t{}\t{}\t{}\t{}\t.",
            self.attempt,
            self.pid,
            self.at,
            self.outcome.name()
        )
    }
}

// === impl Outcome ===

impl Outcome {
    /// True if the message was digested, whatever the host heard.
    pub fn is_digested(self) -> bool {
        matches!(self, Self::Ok | Self::OkThenDied)
    }

    /// True if the process (or the instance) died in this digest.
    pub fn is_death(self) -> bool {
        matches!(self, Self::Died | Self::OkThenDied)
    }

    fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(outcome, _)| *outcome == self)
            .map_or("?", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(outcome, _)| *outcome)
    }
}

// === impl Writer ===

impl Writer {
    /// Opens `path` for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::options().create(true).append(true).open(path)?,
            line: String::new(),
        })
    }

    /// Appends one line with one `write`.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        use fmt::Write as _;
        self.line.clear();
        let _ = writeln!(self.line, "\n{record}");
        let written = self.file.write(self.line.as_bytes())?;
        if written == self.line.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}

/// CLOCK_MONOTONIC now, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The number in `{"n":7,...}`, which the scenarios' producer writes first.
pub fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(br#"{"n":"#)?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}
