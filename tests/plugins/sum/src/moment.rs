//! When, and how much CPU time processes had used by then. Shared by the plugin and the bare loop that it is compared
//! with, so that both are measured in one way.

use std::{io, path::Path};

use rustix::{
    process::getppid,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

/// A moment in the life of some processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at: u64,
    /// CPU time of this process and of those beside it until now, user and system, nanoseconds.
    pub cpu: u64,
}

/// What lies between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Messages between them.
    pub messages: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Wall time, nanoseconds.
    pub wall: u64,
    /// CPU time, nanoseconds.
    pub cpu: u64,
    /// Bytes of their headers' values, where somebody reads headers.
    #[serde(default)]
    pub header_bytes: u64,
}

/// Takes the two moments.
#[derive(Debug)]
pub struct Meter {
    beside: Vec<u32>,
    first: Option<(Moment, u64, u64)>,
}

/// /proc counts CPU time in hundredths of a second, whatever the kernel's own tick.
const TICK_NS: u64 = 10_000_000;

// === impl Meter ===

impl Meter {
    /// Measures this process, and the other one if there is one.
    #[must_use]
    pub fn new(beside: Option<u32>) -> Self {
        Self {
            beside: beside.into_iter().collect(),
            first: None,
        }
    }

    /// So many messages and bytes were seen. The first call begins, the second gives what lies between.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn mark(&mut self, messages: u64, bytes: u64) -> io::Result<Option<Measured>> {
        let now = Moment::now(&self.beside)?;
        match self.first.take() {
            None => {
                self.first = Some((now, messages, bytes));
                Ok(None)
            }
            Some((then, messages_then, bytes_then)) => Ok(Some(Measured {
                messages: messages - messages_then,
                bytes: bytes - bytes_then,
                wall: now.at - then.at,
                cpu: now.cpu - then.cpu,
                header_bytes: 0,
            })),
        }
    }
}

// === impl Measured ===

impl Measured {
    /// Writes it to a file that is either there as a whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, report: &Path) -> io::Result<()> {
        let beside = report.with_extension("part");
        std::fs::write(&beside, serde_json::to_vec(self)?)?;
        std::fs::rename(&beside, report)
    }
}

// === impl Moment ===

impl Moment {
    /// Now, with the CPU time of this process and of those beside it.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn now(beside: &[u32]) -> io::Result<Self> {
        let mut cpu = cpu_of("self")?;
        for pid in beside {
            cpu += cpu_of(&pid.to_string())?;
        }
        Ok(Self { at: now(), cpu })
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
#[must_use]
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The process that started this one.
#[must_use]
pub fn parent() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_pid().cast_unsigned())
}

/// CPU time of all threads of a process, those that have ended included, nanoseconds.
fn cpu_of(process: &str) -> io::Result<u64> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path)?;
    // The name stands in parentheses and may itself hold some; the times are fields 14 and 15.
    let times = stat
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_ascii_whitespace().skip(11).take(2));
    let ticks: Option<u64> = times.and_then(|times| times.map(|ticks| ticks.parse::<u64>().ok()).sum());
    ticks
        .map(|ticks| ticks * TICK_NS)
        .ok_or_else(|| io::Error::other(format!("{path} is not understood: {stat}")))
}
