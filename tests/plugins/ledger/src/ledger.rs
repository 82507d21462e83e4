//! The consumer that writes down every digest.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use devour::prelude::*;

use crate::{book::Book, fault::Fault};

/// Settings of a [`Ledger`].
#[settings]
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Where every digest is appended.
    pub file: PathBuf,
    /// How long each digest takes, in microseconds.
    #[serde(default)]
    pub work_us: u64,
    /// The messages with these numbers in their payload...
    #[serde(default)]
    pub slow: Vec<u64>,
    /// ...take so many milliseconds more.
    #[serde(default)]
    pub slow_ms: u64,
    /// The first rule that fits a message decides.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Writes down every digest, and fails or dies on order.
pub struct Ledger {
    work: Duration,
    slow: Vec<u64>,
    slow_work: Duration,
    book: Book,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = LedgerSettings)]
impl Ledger {
    pub(crate) fn construct(settings: LedgerSettings) -> Result<Self, DigestError> {
        Ok(Self {
            work: Duration::from_micros(settings.work_us),
            slow: settings.slow,
            slow_work: Duration::from_millis(settings.slow_ms),
            book: Book::open(settings.file, settings.faults)?,
        })
    }

    pub(crate) fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        self.work();
        let (record, fault) = self.book.enter(offset, &message)?;
        if record.n.is_some_and(|n| self.slow.contains(&n)) {
            thread::sleep(self.slow_work);
        }
        self.book.write(&record)?;
        fault.as_ref().map_or(Ok(()), Fault::happen)
    }
}

// === impl Ledger ===

impl Ledger {
    /// Takes as long as it was told to. Short times are spent at work: a sleep is never below some 50 us.
    fn work(&self) {
        if self.work >= Duration::from_millis(1) {
            thread::sleep(self.work);
        } else if !self.work.is_zero() {
            let begin = Instant::now();
            while begin.elapsed() < self.work {
                std::hint::spin_loop();
            }
        }
    }
}
