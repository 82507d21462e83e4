//! What the ledgers share: the open file, and which messages are struck by which fault.

use std::path::{Path, PathBuf};

use devour::prelude::*;

use crate::{
    fault::Fault,
    record::{Outcome, Record, Writer, monotonic_ns, number},
};

/// The ledger of one instance.
pub struct Book {
    file: PathBuf,
    faults: Vec<Fault>,
    writer: Writer,
    pid: u32,
    digests: u64,
}

// === impl Book ===

impl Book {
    /// Opens the file; the first of `faults` that fits a message decides.
    pub fn open(file: PathBuf, faults: Vec<Fault>) -> Result<Self, DigestError> {
        Ok(Self {
            writer: Writer::open(&file).or_fatal()?,
            file,
            faults,
            pid: std::process::id(),
            digests: 0,
        })
    }

    /// The line of a message that is being digested, and the fault that strikes it.
    pub fn enter(
        &mut self,
        offset: i64,
        message: &Message<'_>,
    ) -> Result<(Record, Option<Fault>), DigestError> {
        self.digests += 1;
        let n = message.payload().and_then(number);
        let mut fault = None;
        for rule in &self.faults {
            if rule.strikes(&self.file, self.digests, n)? {
                fault = Some(rule.clone());
                break;
            }
        }
        let record = Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset,
            n,
            attempt: message.attempt(),
            pid: self.pid,
            at: 0,
            outcome: fault.as_ref().map_or(Outcome::Ok, Fault::outcome),
        };
        Ok((record, fault))
    }

    /// Writes a line, as of now.
    pub fn write(&mut self, record: &Record) -> Result<(), DigestError> {
        let at = monotonic_ns();
        self.writer.write(&Record { at, ..record.clone() })?;
        Ok(())
    }

    /// Where it is written.
    pub fn file(&self) -> &Path {
        &self.file
    }
}
