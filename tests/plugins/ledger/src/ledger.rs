//! The consumer that writes down every digest.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use devour::prelude::*;

use crate::{
    fault::Fault,
    record::{Outcome, Record, Writer, monotonic_ns},
};

/// Settings of a [`Ledger`].
#[settings]
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Where every digest is appended.
    pub file: PathBuf,
    /// How long each digest takes, in microseconds.
    #[serde(default)]
    pub work_us: u64,
    /// The first rule that fits a message decides.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Writes down every digest, and fails or dies on order.
pub struct Ledger {
    settings: LedgerSettings,
    writer: Writer,
    pid: u32,
    digests: u64,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = LedgerSettings)]
impl Ledger {
    fn construct(settings: LedgerSettings) -> Result<Self, DigestError> {
        let writer = Writer::open(&settings.file).or_fatal()?;
        Ok(Self {
            writer,
            settings,
            pid: std::process::id(),
            digests: 0,
        })
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        self.work();
        self.digests += 1;
        let n = message.payload().and_then(number);
        let mut fault = None;
        for rule in &self.settings.faults {
            if rule.strikes(&self.settings.file, self.digests, n)? {
                fault = Some(rule);
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
            at: monotonic_ns(),
            outcome: fault.map_or(Outcome::Ok, Fault::outcome),
        };
        self.writer.write(&record)?;
        fault.map_or(Ok(()), Fault::happen)
    }
}

// === impl Ledger ===

impl Ledger {
    /// Takes as long as it was told to. Short times are spent at work: a sleep is never below some 50 us.
    fn work(&self) {
        let work = Duration::from_micros(self.settings.work_us);
        if work >= Duration::from_millis(1) {
            thread::sleep(work);
        } else if !work.is_zero() {
            let begin = Instant::now();
            while begin.elapsed() < work {
                std::hint::spin_loop();
            }
        }
    }
}

/// The number in `{"n":7,...}`, which the scenarios' producer writes first.
fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(br#"{"n":"#)?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}
