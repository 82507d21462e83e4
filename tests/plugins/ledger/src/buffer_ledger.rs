//! The ledger that remembers what it digests and writes it down when it is flushed.

use std::{path::PathBuf, time::Duration};

use devour::prelude::*;

use crate::{
    book::Book,
    fault::{Fault, FlushFault},
    record::{Outcome, Record},
};

/// Settings of a [`BufferLedger`].
#[settings]
#[derive(Clone, Debug)]
pub struct BufferLedgerSettings {
    /// Where every flushed digest is appended.
    pub file: PathBuf,
    /// It asks for a flush at so many messages.
    #[serde(default)]
    pub max_messages: Option<u64>,
    /// It asks for a flush so many milliseconds after the first message.
    #[serde(default)]
    pub max_wait_ms: Option<u64>,
    /// What happens in a digest, so between taking messages and flushing them. The first rule that fits decides.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What happens in a flush. The first rule that fits decides.
    #[serde(default)]
    pub flush_faults: Vec<FlushFault>,
}

/// Remembers every digest and writes it down at the next flush; fails or dies on order.
pub struct BufferLedger {
    book: Book,
    flush_faults: Vec<FlushFault>,
    taken: Vec<Record>,
    flushes: u64,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = BufferLedgerSettings, buffering)]
impl BufferLedger {
    fn construct(settings: BufferLedgerSettings) -> Result<Self, DigestError> {
        Ok(Self {
            book: Book::open(settings.file, settings.faults)?,
            flush_faults: settings.flush_faults,
            taken: Vec::new(),
            flushes: 0,
        })
    }

    fn describe(settings: &BufferLedgerSettings, mut attributes: Attributes) -> Attributes {
        if let Some(messages) = settings.max_messages {
            attributes = attributes.flush_max_messages(messages);
        }
        if let Some(milliseconds) = settings.max_wait_ms {
            attributes = attributes.flush_max_wait(Duration::from_millis(milliseconds));
        }
        attributes
    }

    fn check(settings: &BufferLedgerSettings) -> Vec<String> {
        let is_after = settings.faults.iter().any(|fault| fault.after);
        let text = "faults: `after` is for a ledger that writes in its digest; use `flush_faults`";
        is_after.then(|| text.to_owned()).into_iter().collect()
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        match self.book.enter(offset, &message)? {
            (record, None) => {
                self.taken.push(record);
                Ok(())
            }
            (record, Some(fault)) => {
                self.book.write(&record)?;
                fault.happen()
            }
        }
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        // A flush without messages is not counted: there is nothing that a fault could touch.
        let Some(first) = self.taken.first() else {
            return Ok(());
        };
        self.flushes += 1;
        let mut fault = None;
        for rule in &self.flush_faults {
            if rule.strikes(self.book.file(), self.flushes)? {
                fault = Some(rule);
                break;
            }
        }
        let Some(fault) = fault else {
            for record in &self.taken {
                self.book.write(record)?;
            }
            self.taken.clear();
            return Ok(());
        };
        let written = fault.at.of(self.taken.len());
        if written == 0 {
            let outcome = fault.outcome();
            self.book.write(&Record {
                outcome,
                ..first.clone()
            })?;
        }
        for record in &self.taken[..written] {
            let outcome = Outcome::OkThenDied;
            self.book.write(&Record {
                outcome,
                ..record.clone()
            })?;
        }
        fault.happen()
    }

    /// What is lost is another member's already. Else all of it was flushed before.
    fn revoked(&mut self, revoked: &Revoked) -> Result<(), DigestError> {
        let before = self.taken.len();
        self.taken.retain(|record| {
            let is_same = |p: &AssignedPartition| p.topic == record.topic && p.partition == record.partition;
            !revoked.partitions.iter().any(is_same)
        });
        let left = before - self.taken.len();
        if left > 0 && !revoked.lost {
            return Err(DigestError::fatal(format!(
                "{left} messages were revoked before they were flushed"
            )));
        }
        Ok(())
    }

    fn stopped(&mut self) -> Result<(), DigestError> {
        match self.taken.len() {
            0 => Ok(()),
            left => Err(DigestError::fatal(format!(
                "{left} messages were not flushed before the stop"
            ))),
        }
    }
}
