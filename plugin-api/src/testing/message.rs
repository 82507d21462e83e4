//! A message that a test makes.

use abi_stable::std_types::ROption;
use devour_abi::{HeaderView, MessageView, TimestampType, abi_stable};

use super::Outcome;

/// A message for [`Tester::feed`](super::Tester::feed): topic `test`, partition 0 and the next offset, unless set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestMessage {
    topic: String,
    partition: i32,
    pub(super) offset: Option<i64>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp_ms: i64,
    attempt: u32,
}

impl TestMessage {
    /// A message with these bytes.
    pub fn raw(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: "test".to_owned(),
            partition: 0,
            offset: None,
            key: None,
            payload: Some(payload.into()),
            headers: Vec::new(),
            timestamp_ms: -1,
            attempt: 1,
        }
    }

    /// A message with this JSON: a text, or a [`serde_json::Value`] through `to_string`.
    #[must_use]
    pub fn json(json: &str) -> Self {
        Self::raw(json)
    }

    /// A message without a value.
    #[must_use]
    pub fn tombstone() -> Self {
        Self {
            payload: None,
            ..Self::raw("")
        }
    }

    /// Sets the topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// Sets the offset.
    #[must_use]
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header whose value is null.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Sets the timestamp, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp_ms(mut self, milliseconds: i64) -> Self {
        self.timestamp_ms = milliseconds;
        self
    }

    pub(super) fn place(&self) -> (String, i32) {
        (self.topic.clone(), self.partition)
    }

    /// Where it was and how it ended.
    pub(super) fn ended(&self, outcome: Outcome) -> (i32, i64, Outcome) {
        (self.partition, self.offset.unwrap_or(0), outcome)
    }

    /// The message at its next attempt.
    pub(super) fn again(mut self) -> Self {
        self.attempt += 1;
        self
    }

    pub(super) fn view(&self, order_tag: u64) -> MessageView<'_> {
        MessageView {
            topic: self.topic.as_str().into(),
            key: self.key.as_deref().map(Into::into).into(),
            payload: self.payload.as_deref().map(Into::into).into(),
            offset: self.offset.unwrap_or(0),
            timestamp_ms: self.timestamp_ms,
            order_tag,
            partition: self.partition,
            attempt: self.attempt,
            timestamp_type: if self.timestamp_ms < 0 {
                TimestampType::NOT_AVAILABLE
            } else {
                TimestampType::CREATE_TIME
            },
            more: ROption::RNone,
        }
    }

    pub(super) fn header_views(&self) -> Vec<HeaderView<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| HeaderView {
                name: name.as_str().into(),
                value: value.as_deref().map(Into::into).into(),
            })
            .collect()
    }
}
