//! Adding up the lengths of messages, at the least cost that a plugin can have; and the same with headers.

use std::path::PathBuf;

use devour::prelude::*;

use crate::moment::{self, Measured, Meter};

/// What [`Sum`] and [`SumHeaders`] measure.
#[derive(Clone, Debug, Deserialize, JsonSchema, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SumSettings {
    /// Messages before the measured ones.
    pub warm_up: u64,
    /// Messages to measure.
    pub measured: u64,
    /// The file that the result is written to, once.
    pub report: PathBuf,
    /// The parent process is the daemon, and its CPU time counts too.
    pub beside_daemon: bool,
}

/// Adds up the lengths of the values.
#[derive(Debug)]
pub struct Sum(Tally);

/// Adds up the lengths of the values, and those of all headers' values.
#[derive(Debug)]
pub struct SumHeaders {
    tally: Tally,
    header_bytes: u64,
    /// How many of them came before the measured messages.
    before: u64,
}

/// What was seen so far.
#[derive(Debug)]
struct Tally {
    bytes: u64,
    messages: u64,
    /// The number of messages at which there is something to write down.
    next: u64,
    meter: Meter,
    settings: SumSettings,
}

// === impl Sum ===

impl Consumer for Sum {
    type Settings = SumSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: SumSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self(Tally::new(settings)))
    }

    fn digest(&mut self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        if self.0.add(value)
            && let Some(measured) = self.0.mark()?
        {
            self.0.report(&measured)?;
        }
        Ok(())
    }
}

export_consumer!(Sum);

// === impl SumHeaders ===

impl Consumer for SumHeaders {
    type Settings = SumSettings;
    type Message<'m> = Object<'m>;

    fn construct(settings: SumSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self {
            tally: Tally::new(settings),
            header_bytes: 0,
            before: 0,
        })
    }

    fn digest(&mut self, _: i64, message: Object<'_>) -> Result<(), DigestError> {
        for header in message.headers() {
            self.header_bytes += header.value.map_or(0, <[u8]>::len) as u64;
        }
        if self.tally.add(message.payload()) {
            match self.tally.mark()? {
                None => self.before = self.header_bytes,
                Some(measured) => self.tally.report(&Measured {
                    header_bytes: self.header_bytes - self.before,
                    ..measured
                })?,
            }
        }
        Ok(())
    }
}

export_consumer!(SumHeaders);

// === impl Tally ===

impl Tally {
    fn new(settings: SumSettings) -> Self {
        let daemon = settings.beside_daemon.then(moment::parent);
        Self {
            bytes: 0,
            messages: 0,
            next: settings.warm_up,
            meter: Meter::new(daemon),
            settings,
        }
    }

    /// Adds a value; true if there is something to write down.
    #[inline]
    fn add(&mut self, value: Option<&[u8]>) -> bool {
        self.bytes += value.map_or(0, <[u8]>::len) as u64;
        self.messages += 1;
        self.messages == self.next
    }

    /// The measured messages begin, or are over.
    #[cold]
    fn mark(&mut self) -> Result<Option<Measured>, DigestError> {
        let measured = self.meter.mark(self.messages, self.bytes).or_reject()?;
        self.next = match measured {
            None => self.settings.warm_up + self.settings.measured,
            Some(_) => u64::MAX,
        };
        Ok(measured)
    }

    fn report(&self, measured: &Measured) -> Result<(), DigestError> {
        measured.write(&self.settings.report).or_reject()
    }
}
