//! The host of a consumer under test: it writes down what it is told.

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use devour_abi::{Delivered, Delivery, HostServices, LogLevel, MessageId, ProduceRecord};
use serde_json::Value;

use super::{Outcome, TestMessage};

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
    /// A message that was taken beyond its call has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Said {
    logs: Vec<LogLine>,
    counters: BTreeMap<String, u64>,
    timings: BTreeMap<String, Vec<Duration>>,
    produced: Vec<ProducedRecord>,
    completed: Vec<(i32, i64, Outcome)>,
    /// Completed ones that the test has not looked at.
    ended: Vec<(TestMessage, Outcome)>,
    /// How many were taken and are not completed.
    in_hand: usize,
    paused: Vec<(String, i32)>,
}

/// A test whose messages do not end fails rather than hangs.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

// === impl TestHost ===

impl TestHost {
    pub(super) fn new(settings: &Value) -> Self {
        Self {
            settings: settings.to_string(),
            stopping: AtomicBool::new(false),
            said: Mutex::new(Said::default()),
            ended: Condvar::new(),
        }
    }

    pub(super) fn request_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// A message is taken beyond its call.
    pub(super) fn take(&self) {
        self.said().in_hand += 1;
    }

    /// It ends.
    pub(super) fn complete(&self, message: TestMessage, outcome: Outcome) {
        let mut said = self.said();
        said.in_hand -= 1;
        said.completed.push(message.ended(outcome.clone()));
        said.ended.push((message, outcome));
        self.ended.notify_all();
    }

    /// A message ends that was not taken by a handle.
    pub(super) fn note(&self, message: &TestMessage, outcome: Outcome) {
        self.said().completed.push(message.ended(outcome));
    }

    pub(super) fn in_hand(&self) -> usize {
        self.said().in_hand
    }

    /// What was completed since this was last asked.
    pub(super) fn take_ended(&self) -> Vec<(TestMessage, Outcome)> {
        std::mem::take(&mut self.said().ended)
    }

    /// Waits until something was completed; false if there is nothing to wait for.
    pub(super) fn await_end(&self) -> bool {
        let said = self.said();
        let (said, waited) = self
            .ended
            .wait_timeout_while(said, LONGEST_WAIT, |said| {
                said.ended.is_empty() && said.in_hand != 0
            })
            .unwrap_or_else(PoisonError::into_inner);
        let in_hand = said.in_hand;
        assert!(
            !waited.timed_out(),
            "{in_hand} messages are in hand and none of them ended for {LONGEST_WAIT:?}"
        );
        !said.ended.is_empty()
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

    /// Acknowledged at once, at the place that it has among those of its topic.
    fn produce_then(&self, record: &ProduceRecord<'_>, _: MessageId, delivery: Delivery) {
        let of_topic = |said: &Said| {
            let same = |produced: &&ProducedRecord| produced.topic == record.topic.as_str();
            said.produced.iter().filter(same).count()
        };
        let offset = of_topic(&self.said()) as i64;
        let partition = record.partition.max(0);
        let outcome = self.produce_for(record, MessageId::NONE);
        delivery.tell(outcome.map(|()| Delivered { partition, offset }));
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
