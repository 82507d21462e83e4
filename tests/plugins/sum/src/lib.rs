//! The benchmarks' plugin: [`Sum`] adds up the lengths of messages and writes down when and at what cost, [`Slow`] takes
//! its time and writes down when each instance digested first.

pub mod moment;

use std::{fs::File, io::Write, path::PathBuf, time::Duration};

use devour::prelude::*;

use moment::{Measured, Meter, now};

/// What [`Sum`] measures.
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
pub struct Sum {
    bytes: u64,
    messages: u64,
    /// The number of messages at which there is something to write down.
    next: u64,
    meter: Meter,
    settings: SumSettings,
}

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

// === impl Sum ===

impl Sum {
    #[cold]
    fn mark(&mut self) -> Result<(), DigestError> {
        let told = self.meter.mark(self.messages, self.bytes).or_reject()?;
        match told {
            None => self.next = self.settings.warm_up + self.settings.measured,
            Some(measured) => {
                self.next = u64::MAX;
                measured.write(&self.settings.report).or_reject()?;
            }
        }
        Ok(())
    }
}

impl Consumer for Sum {
    type Settings = SumSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: SumSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        let daemon = settings.beside_daemon.then(moment::parent);
        Ok(Self {
            bytes: 0,
            messages: 0,
            next: settings.warm_up,
            meter: Meter::new(daemon),
            settings,
        })
    }

    fn digest(&mut self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        self.bytes += value.map_or(0, <[u8]>::len) as u64;
        self.messages += 1;
        if self.messages == self.next {
            self.mark()?;
        }
        Ok(())
    }
}

export_consumer!(Sum);

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

impl Measured {
    /// Writes it to a file that is either there as a whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, report: &std::path::Path) -> std::io::Result<()> {
        let beside = report.with_extension("part");
        std::fs::write(&beside, serde_json::to_vec(self)?)?;
        std::fs::rename(&beside, report)
    }
}
