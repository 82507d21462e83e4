//! The benchmarks' plugin: [`Sum`] adds up the lengths of messages and writes down when and at what cost, [`SumHeaders`]
//! reads their headers too; [`Pass`] produces each to another topic; [`Wait`] and [`WaitAsync`] take a while for each, on their thread and in a future; [`Latency`]
//! writes down how old each was; [`Slow`] takes its time and writes down when each instance digested first.

pub mod latency;
pub mod moment;
mod pass;
mod seen;
mod sum;
mod wait;

use std::{fs::File, io::Write, path::PathBuf, time::Duration};

use devour::prelude::*;

pub use latency::{Latency, LatencySettings};
use moment::now;
pub use pass::{Pass, PassSettings};
pub use sum::{Sum, SumHeaders, SumSettings};
pub use wait::{Wait, WaitAsync, WaitSettings};

/// Settings of [`Slow`].
#[derive(Clone, Debug, Deserialize, JsonSchema, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlowSettings {
    /// The file that every instance appends a [`FirstDigest`] to, as a line of JSON.
    pub report: PathBuf,
    /// What one digest takes, microseconds.
    pub digest_us: u64,
}

/// When and where an instance of [`Slow`] digested first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct FirstDigest {
    /// Its process.
    pub pid: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at: u64,
}

/// Digests slowly, so that its client has read ahead as far as it may.
#[derive(Debug)]
pub struct Slow {
    is_first: bool,
    settings: SlowSettings,
}

// === impl Slow ===

impl Consumer for Slow {
    type Settings = SlowSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: SlowSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self {
            is_first: true,
            settings,
        })
    }

    fn digest(&mut self, _: i64, _: Raw<'_>) -> Result<(), DigestError> {
        if std::mem::take(&mut self.is_first) {
            let line = serde_json::to_string(&FirstDigest::now()).or_reject()? + "\n";
            let mut report = File::options()
                .create(true)
                .append(true)
                .open(&self.settings.report)
                .or_reject()?;
            report.write_all(line.as_bytes()).or_reject()?;
        }
        // Not a wait for a state: the time that a digest takes is what this plugin is for.
        std::thread::sleep(Duration::from_micros(self.settings.digest_us));
        Ok(())
    }
}

export_consumer!(Slow);

impl FirstDigest {
    /// One that is now and here.
    #[must_use]
    pub fn now() -> Self {
        Self {
            pid: std::process::id(),
            at: now(),
        }
    }
}
