//! Adding up the lengths of messages, at the least cost that a plugin can have; and the same with headers. All instances
//! of a process count together, so that lanes are measured as one; each tells the others now and then only.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use devour::prelude::*;

use crate::seen::{Count, Seen, Span};

/// What [`Sum`] and [`SumHeaders`] measure.
#[derive(Clone, Debug, Deserialize, JsonSchema, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SumSettings {
    /// Messages before the measured ones, in all instances of the process.
    pub warm_up: u64,
    /// Messages to measure.
    pub measured: u64,
    /// The file that the result is written to, once.
    pub report: PathBuf,
    /// The parent process is the daemon, and its CPU time counts too.
    pub beside_daemon: bool,
    /// Messages that an instance counts for itself before it tells the others; many, so that telling costs nothing.
    #[serde(default = "step")]
    pub step: u64,
}

/// Adds up the lengths of the values.
#[derive(Debug)]
pub struct Sum(Tally);

/// Adds up the lengths of the values, and those of all headers' values.
#[derive(Debug)]
pub struct SumHeaders(Tally);

/// What an instance has seen since it last told the others.
#[derive(Debug)]
struct Tally {
    since: Count,
    settings: SumSettings,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen::new());

fn step() -> u64 {
    1024
}

// === impl Sum ===

impl Consumer for Sum {
    type Settings = SumSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: SumSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self(Tally::new(settings)))
    }

    fn digest(&mut self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        self.0.add(value)
    }
}

export_consumer!(Sum);

// === impl SumHeaders ===

impl Consumer for SumHeaders {
    type Settings = SumSettings;
    type Message<'m> = Object<'m>;

    fn construct(settings: SumSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self(Tally::new(settings)))
    }

    fn digest(&mut self, _: i64, message: Object<'_>) -> Result<(), DigestError> {
        for header in message.headers() {
            self.0.since.header_bytes += header.value.map_or(0, <[u8]>::len) as u64;
        }
        self.0.add(message.payload())
    }
}

export_consumer!(SumHeaders);

// === impl Tally ===

impl Tally {
    fn new(settings: SumSettings) -> Self {
        Self {
            since: Count::default(),
            settings,
        }
    }

    #[inline]
    fn add(&mut self, value: Option<&[u8]>) -> Result<(), DigestError> {
        self.since.bytes += value.map_or(0, <[u8]>::len) as u64;
        self.since.messages += 1;
        if self.since.messages >= self.settings.step {
            return self.tell();
        }
        Ok(())
    }

    #[cold]
    fn tell(&mut self) -> Result<(), DigestError> {
        let span = Span {
            warm_up: self.settings.warm_up,
            measured: self.settings.measured,
            report: &self.settings.report,
            beside_daemon: self.settings.beside_daemon,
        };
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        seen.add(std::mem::take(&mut self.since), span).or_reject()
    }
}
