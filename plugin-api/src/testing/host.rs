//! The host of a consumer under test: it writes down what it is told.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use devour_abi::{HostServices, LogLevel, ProduceRecord};
use serde_json::Value;

use super::Outcome;

/// A line that the consumer logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// Where it comes from, a module's path.
    pub target: String,
    /// The text.
    pub message: String,
    /// Its fields and those of its spans, an object.
    pub fields: Value,
}

/// A record that the consumer produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedRecord {
    /// The topic's name.
    pub topic: String,
    /// The partition, if the consumer chose one.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(super) struct TestHost {
    settings: String,
    stopping: AtomicBool,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    logs: Vec<LogLine>,
    counters: BTreeMap<String, u64>,
    timings: BTreeMap<String, Vec<Duration>>,
    produced: Vec<ProducedRecord>,
    completed: Vec<(i32, i64, Outcome)>,
    paused: Vec<(String, i32)>,
}

// === impl TestHost ===

impl TestHost {
    pub(super) fn new(settings: &Value) -> Self {
        Self {
            settings: settings.to_string(),
            stopping: AtomicBool::new(false),
            said: Mutex::new(Said::default()),
        }
    }

    pub(super) fn request_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn complete(&self, partition: i32, offset: i64, outcome: Outcome) {
        self.said().completed.push((partition, offset, outcome));
    }

    pub(super) fn logs(&self) -> Vec<LogLine> {
        self.said().logs.clone()
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.said().counters.get(name).copied().unwrap_or(0)
    }

    pub(super) fn timings(&self, name: &str) -> Vec<Duration> {
        self.said().timings.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn produced(&self) -> Vec<ProducedRecord> {
        self.said().produced.clone()
    }

    pub(super) fn completed(&self) -> Vec<(i32, i64, Outcome)> {
        self.said().completed.clone()
    }

    pub(super) fn paused(&self) -> Vec<(String, i32)> {
        self.said().paused.clone()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // A plugin's panic poisons nothing that a test could not read.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostServices for TestHost {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &str) {
        self.said().logs.push(LogLine {
            level,
            target: target.to_owned(),
            message: message.to_owned(),
            fields: serde_json::from_str(fields).unwrap_or(Value::Null),
        });
    }

    fn log_enabled(&self, _: LogLevel) -> bool {
        true
    }

    fn count(&self, name: &str, by: u64) {
        *self.said().counters.entry(name.to_owned()).or_default() += by;
    }

    fn time(&self, name: &str, nanoseconds: u64) {
        self.said()
            .timings
            .entry(name.to_owned())
            .or_default()
            .push(Duration::from_nanos(nanoseconds));
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn stop_requested(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), String> {
        let headers = record.headers.iter().map(|header| {
            (
                header.name.to_string(),
                header.value.into_option().map(|value| value.as_slice().to_vec()),
            )
        });
        self.said().produced.push(ProducedRecord {
            topic: record.topic.to_string(),
            partition: (record.partition >= 0).then_some(record.partition),
            key: record.key.into_option().map(|key| key.as_slice().to_vec()),
            payload: record
                .payload
                .into_option()
                .map(|payload| payload.as_slice().to_vec()),
            headers: headers.collect(),
        });
        Ok(())
    }

    fn pause(&self, topic: &str, partition: i32) -> Result<(), String> {
        self.said().paused.push((topic.to_owned(), partition));
        Ok(())
    }

    fn resume(&self, topic: &str, partition: i32) -> Result<(), String> {
        self.said()
            .paused
            .retain(|paused| (paused.0.as_str(), paused.1) != (topic, partition));
        Ok(())
    }
}
