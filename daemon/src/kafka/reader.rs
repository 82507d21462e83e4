//! Reads a topic from anywhere to its present end, for commands: no group shares its partitions out, nothing is
//! committed but by order.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka_sys as sys;

use super::batch::{Batch, Message};
use super::commit::CommitOffset;
use super::consumer::{Consumer, TopicPartition, millis};
use super::errors::{ClientError, ErrorCode};
use super::properties::{ClientProperties, PropertyFinding, consumer_properties};
use super::query::Watermarks;
use super::rebalance::{Rebalance, Revocation, Start, StartOffset};
use crate::settings::{Cluster, ConsumerConfig, ConsumerType, RouteName};

/// A consumer that reads partitions to their end.
pub struct Reader {
    consumer: Consumer,
}

/// Where a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
}

/// How long the brokers may be silent in the middle of reading.
const SILENCE: Duration = Duration::from_secs(30);
const BATCH: usize = 500;

/// The properties of a [`Reader`]. `group` is where its offsets are kept, if they are.
pub fn reader_properties(
    cluster: &Cluster,
    route: &RouteName,
    group: Option<String>,
) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let config = ConsumerConfig {
        consumer_group: group,
        ..ConsumerConfig::default()
    };
    let mut properties = consumer_properties(cluster, ConsumerType::Simple, &config, route, None)?;
    // Else the end of a partition whose last offsets hold no message would never be known. (What this version of
    // librdkafka can pass over after it needs a pause, and there is none here.)
    properties
        .map
        .insert("enable.partition.eof".into(), "true".into());
    Ok(properties)
}

// === impl Reader ===

impl Reader {
    /// Makes the client.
    pub fn create(properties: &ClientProperties, route: RouteName) -> Result<Self, ClientError> {
        let consumer = Consumer::create(properties, route)?;
        Ok(Self { consumer })
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str, timeout: Duration) -> Result<i32, ClientError> {
        let found = self.consumer.topics(&[topic.to_owned()], timeout)?;
        let code = found
            .first()
            .map_or(ErrorCode::UNKNOWN_TOPIC_OR_PART, |found| found.error);
        if !code.is_ok() {
            return Err(ClientError::call("asking for the topic", code));
        }
        let count = found.first().map_or(0, |found| found.partitions.len());
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// All partitions of a topic from their first offset to their present end.
    pub fn extents(&self, topic: &str, timeout: Duration) -> Result<Vec<Extent>, ClientError> {
        let found = self.consumer.topics(&[topic.to_owned()], timeout)?;
        let mut extents = Vec::new();
        for topic_found in &found {
            if !topic_found.error.is_ok() {
                return Err(ClientError::call("asking for the topic", topic_found.error));
            }
            for partition in &topic_found.partitions {
                let marks = self.ask_watermarks(topic, *partition, timeout)?;
                extents.push(Extent {
                    partition: *partition,
                    from: marks.low,
                    to: marks.high,
                });
            }
        }
        Ok(extents)
    }

    fn ask_watermarks(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<Watermarks, ClientError> {
        let name = CString::new(topic).map_err(|_| ClientError::Name(topic.to_owned()))?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: a live client, a terminated name, two results to write.
        let code = unsafe {
            let rk = self.consumer.handle.rk();
            let wait = millis(timeout).max(1);
            sys::rd_kafka_query_watermark_offsets(rk, name.as_ptr(), partition, &mut low, &mut high, wait)
        };
        match ErrorCode::from(code) {
            ErrorCode::NONE => Ok(Watermarks { low, high }),
            code => Err(ClientError::call("asking for the ends of a partition", code)),
        }
    }

    /// What the reader's group has committed, by partition.
    pub fn committed(
        &self,
        topic: &str,
        partitions: &[i32],
        timeout: Duration,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let topic: Arc<str> = topic.into();
        let asked: Vec<TopicPartition> = partitions
            .iter()
            .map(|partition| TopicPartition::new(Arc::clone(&topic), *partition))
            .collect();
        let mut offsets = BTreeMap::new();
        for entry in self.consumer.committed(&asked, timeout)? {
            if !entry.error.is_ok() {
                return Err(ClientError::call("reading the committed offsets", entry.error));
            }
            offsets.extend(entry.offset.map(|offset| (entry.partition.partition, offset)));
        }
        Ok(offsets)
    }

    /// Commits offsets of the reader's group, and waits until that is done.
    pub fn commit(
        &self,
        topic: &str,
        offsets: &BTreeMap<i32, i64>,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let topic: Arc<str> = topic.into();
        let offsets: Vec<CommitOffset> = offsets
            .iter()
            .map(|(partition, offset)| CommitOffset {
                partition: TopicPartition::new(Arc::clone(&topic), *partition),
                offset: *offset,
                leader_epoch: None,
                metadata: String::new(),
            })
            .collect();
        let ticket = self.consumer.commit(&offsets)?;
        let failed = |code| Err(ClientError::call("committing", code));
        match self.consumer.wait_commit(ticket, Instant::now() + timeout) {
            None => failed(ErrorCode::TIMED_OUT),
            Some(result) if !result.error.is_ok() => failed(result.error),
            Some(result) => match result.partitions.iter().find(|part| !part.error.is_ok()) {
                Some(part) => failed(part.error),
                None => Ok(()),
            },
        }
    }

    /// Reads these partitions and gives what comes to `each`, in the order of each partition, until all are read or
    /// `each` has enough. What was written after the extents were asked for is never given.
    pub fn read(
        &self,
        topic: &str,
        extents: &[Extent],
        mut each: impl FnMut(&[Message<'_>]) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let topic: Arc<str> = topic.into();
        let ends: BTreeMap<i32, i64> = extents
            .iter()
            .filter(|extent| extent.from < extent.to)
            .map(|extent| (extent.partition, extent.to))
            .collect();
        let mut left = ends.clone();
        let starts: Vec<Start> = extents
            .iter()
            .filter(|extent| left.contains_key(&extent.partition))
            .map(|extent| Start {
                partition: TopicPartition::new(Arc::clone(&topic), extent.partition),
                offset: StartOffset::At(extent.from),
                leader_epoch: None,
            })
            .collect();
        if starts.is_empty() {
            return Ok(());
        }
        self.consumer.assign_all(&starts)?;
        let mut batch = Batch::with_capacity(BATCH);
        // What is not wanted is no sign that the rest will come.
        let mut heard = Instant::now();
        while !left.is_empty() {
            let before = left.len();
            let wait = Duration::from_millis(500);
            let info = self.consumer.batch(BATCH, wait, &mut Nobody, &mut batch)?;
            for ended in &info.ended {
                left.remove(&ended.partition);
            }
            if !batch.is_empty() {
                let wanted: Vec<Message<'_>> = batch
                    .iter()
                    .filter(|message| {
                        ends.get(&message.partition())
                            .is_some_and(|end| message.offset() < *end)
                    })
                    .collect();
                if !wanted.is_empty() {
                    if each(&wanted).is_break() {
                        break;
                    }
                    heard = Instant::now();
                }
                for message in batch.iter() {
                    let is_last = |to: &i64| message.offset() + 1 >= *to;
                    if left.get(&message.partition()).is_some_and(is_last) {
                        left.remove(&message.partition());
                    }
                }
            }
            if left.len() < before {
                heard = Instant::now();
            }
            if !left.is_empty() && heard.elapsed() > SILENCE {
                return Err(ClientError::call("reading", ErrorCode::TIMED_OUT));
            }
        }
        batch.clear();
        Ok(())
    }

    /// Ends the client.
    pub fn close(self, deadline: Duration) {
        let _ = self.consumer.close(deadline, &mut Nobody);
    }
}

/// There is no group that could give or take.
struct Nobody;

impl Rebalance for Nobody {
    fn assigned(&mut self, _: &Consumer, _: Vec<TopicPartition>) -> Vec<Start> {
        Vec::new()
    }

    fn revoked(&mut self, _: &Consumer, _: Vec<TopicPartition>, _: Revocation) {}
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
