//! How old each message is when it is digested: the moment of its making stands in it. What is written down is shared
//! with the bare loop that the plugin is compared with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use devour::prelude::*;

use crate::moment::now;

/// What [`Latency`] measures.
#[derive(Clone, Debug, Deserialize, JsonSchema, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySettings {
    /// Messages with a moment in them to measure.
    pub measured: usize,
    /// The file that the ages are written to, once, as a JSON list of nanoseconds; beside it, with the extension `seen`,
    /// an empty one when the first message came.
    pub report: PathBuf,
}

/// Writes down how old its messages are.
#[derive(Debug)]
pub struct Latency(Ages);

/// The ages of messages, until there are enough.
#[derive(Debug)]
pub struct Ages {
    ages: Vec<u64>,
    saw_any: bool,
    settings: LatencySettings,
}

/// Bytes of a message that hold its moment.
const STAMP: usize = 8;

/// What a message carries: CLOCK_MONOTONIC, nanoseconds, or nothing in one that is not measured.
pub fn stamp(payload: &mut [u8], at: Option<u64>) {
    payload[..STAMP].copy_from_slice(&at.unwrap_or(0).to_le_bytes());
}

/// Where the file lies that says that a message came.
#[must_use]
pub fn seen_beside(report: &Path) -> PathBuf {
    report.with_extension("seen")
}

// === impl Ages ===

impl Ages {
    /// None yet.
    #[must_use]
    pub fn new(settings: LatencySettings) -> Self {
        Self {
            ages: Vec::with_capacity(settings.measured),
            saw_any: false,
            settings,
        }
    }

    /// Takes the age of a message, now. True when this was the last that was wanted, and all are written down.
    ///
    /// # Errors
    /// When a file cannot be written, or the message has no room for a moment.
    #[inline]
    pub fn take(&mut self, payload: Option<&[u8]>) -> io::Result<bool> {
        let at = now();
        let stamp = payload.and_then(<[u8]>::first_chunk::<STAMP>);
        let made = u64::from_le_bytes(*stamp.ok_or(io::ErrorKind::InvalidData)?);
        if !self.saw_any {
            self.saw_any = true;
            fs::write(seen_beside(&self.settings.report), "")?;
        }
        if made == 0 || self.ages.len() == self.settings.measured {
            return Ok(false);
        }
        self.ages.push(at.saturating_sub(made));
        let all = self.ages.len() == self.settings.measured;
        if all {
            let part = self.settings.report.with_extension("part");
            fs::write(&part, serde_json::to_vec(&self.ages)?)?;
            fs::rename(&part, &self.settings.report)?;
        }
        Ok(all)
    }
}

// === impl Latency ===

impl Consumer for Latency {
    type Settings = LatencySettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: LatencySettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self(Ages::new(settings)))
    }

    fn digest(&mut self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        self.0.take(value).or_reject()?;
        Ok(())
    }
}

export_consumer!(Latency);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ages_of_stamped_messages_are_written_once_there_are_enough() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("report");
        let mut ages = Ages::new(LatencySettings {
            measured: 2,
            report: report.clone(),
        });
        let mut payload = [0; 10];
        assert!(!ages.take(Some(&payload)).unwrap());
        assert!(seen_beside(&report).exists());
        stamp(&mut payload, Some(now() - 5_000));
        assert!(!ages.take(Some(&payload)).unwrap() && !report.exists());
        assert!(ages.take(Some(&payload)).unwrap());
        let written: Vec<u64> = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!(written.len(), 2);
        assert!(written.iter().all(|age| *age >= 5_000), "{written:?}");
        assert!(!ages.take(Some(&payload)).unwrap(), "no more than were wanted");
        assert!(ages.take(Some(&[1])).is_err());
    }
}
