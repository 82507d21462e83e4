//! A consumer that writes down every digest as the ledger does and, once, at a moment of its life that its settings
//! name, does what no consumer may: see [`Deed`].
//!
//! A marker beside its ledger remembers that the deed was done, over processes: the next instance behaves.

// What it does to its process can only be done that way.
#![allow(unsafe_code)]

mod asked;
mod deed;
mod descriptors;
mod fork;
#[path = "../../ledger/src/record.rs"]
#[allow(dead_code)] // the reader's half is the judge's
mod record;
mod secrets;

use std::{fs::OpenOptions, io::ErrorKind, path::PathBuf};

use devour::prelude::*;

pub use deed::Deed;
use record::{Outcome, Record, Writer, monotonic_ns, number};

/// Settings of [`Misbehaves`].
#[settings]
#[derive(Clone, Debug)]
pub struct MisdeedSettings {
    /// Where every digest is appended.
    pub file: PathBuf,
    /// What it does.
    pub deed: Deed,
    /// When.
    #[serde(default)]
    pub moment: Moment,
    /// In the digest: at the message with this number.
    #[serde(default)]
    pub n: u64,
    /// What the deed needs: a file, a socket, words to look for.
    #[serde(default)]
    pub with: Vec<String>,
}

/// A moment in the life of an instance.
#[settings]
#[serde(rename_all = "kebab-case")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// In its constructor.
    Construct,
    /// In `started`.
    Started,
    /// In `assigned`.
    Assigned,
    /// In the digest of a message, before it is written down.
    #[default]
    Digest,
    /// In `revoked`.
    Revoked,
    /// In `stopped`.
    Stopped,
    /// When it is dropped.
    Drop,
}

/// Misbehaves once.
pub struct Misbehaves {
    settings: MisdeedSettings,
    writer: Writer,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = MisdeedSettings)]
impl Misbehaves {
    fn construct(settings: MisdeedSettings) -> Result<Self, DigestError> {
        let writer = Writer::open(&settings.file).or_fatal()?;
        settings.act(Moment::Construct);
        Ok(Self { settings, writer })
    }

    fn started(&mut self) -> Result<(), DigestError> {
        self.settings.act(Moment::Started);
        Ok(())
    }

    fn assigned(&mut self, _: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError> {
        self.settings.act(Moment::Assigned);
        Ok(Vec::new())
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        let n = message.payload().and_then(number);
        if n == Some(self.settings.n) {
            self.settings.act(Moment::Digest);
        }
        self.writer.write(&Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset,
            n,
            attempt: message.attempt(),
            pid: std::process::id(),
            at: monotonic_ns(),
            outcome: Outcome::Ok,
        })?;
        Ok(())
    }

    fn revoked(&mut self, _: &Revoked) -> Result<(), DigestError> {
        self.settings.act(Moment::Revoked);
        Ok(())
    }

    fn stopped(&mut self) -> Result<(), DigestError> {
        self.settings.act(Moment::Stopped);
        Ok(())
    }
}

// === impl Misbehaves ===

impl Drop for Misbehaves {
    fn drop(&mut self) {
        self.settings.act(Moment::Drop);
    }
}

// === impl MisdeedSettings ===

impl MisdeedSettings {
    fn act(&self, now: Moment) {
        if now != self.moment {
            return;
        }
        let marker = self.file.with_extension("done");
        match OpenOptions::new().write(true).create_new(true).open(&marker) {
            Ok(_) => self.deed.happen(self),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // Its test would wait in vain: it is told at once.
            Err(error) => panic!("{}: {error}", marker.display()),
        }
    }

    fn with(&self, which: usize) -> &str {
        self.with.get(which).map_or("", String::as_str)
    }
}
