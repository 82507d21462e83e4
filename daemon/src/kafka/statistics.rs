//! What librdkafka's statistics say of each partition: how far it is fetched, and how far it could be.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::broker_watch::BrokerState;
use super::consumer::{Consumer, TopicPartition};

/// One report on all partitions that the client knows. Made every `statistics.interval.ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How often this client had changed what it fetches (assignment, pause, resume, seek) when the report was made.
    /// Two reports with the same number have no such change between them.
    pub changes: u64,
    /// The queue was found empty after the report was made: every message that had been fetched by then was given out,
    /// at the latest by the call of `batch` in which the report came.
    pub drained: bool,
    pub partitions: Vec<PartitionStatistics>,
}

/// One partition, in librdkafka's words. An offset that it does not know is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatistics {
    pub partition: TopicPartition,
    /// What is fetched next. All messages below it, down to where fetching began, have been put into the client's
    /// queue, or are none that a consumer gets.
    pub next_offset: Option<i64>,
    /// The offset after the last message that was taken from the queue.
    pub app_offset: Option<i64>,
    /// The end of what this client may read: the last stable offset, or with `isolation.level: read_uncommitted` the
    /// high watermark.
    pub ls_offset: Option<i64>,
    /// The high watermark.
    pub hi_offset: Option<i64>,
    /// The first offset of the log.
    pub lo_offset: Option<i64>,
    /// Messages in the client's queue, of all its partitions.
    pub fetchq_cnt: u64,
    /// `ls_offset` less the committed offset.
    pub consumer_lag: Option<i64>,
    /// It is being fetched, and from an offset that is known.
    pub active: bool,
    /// It has a leader, and the leader is connected.
    pub reachable: bool,
    /// The broker that it is fetched from; -1 for none.
    pub broker: i32,
    /// Fetch requests that were sent to that broker so far.
    pub fetches: u64,
}

/// A topic in the JSON.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TopicState {
    #[serde(default)]
    partitions: BTreeMap<String, PartitionState>,
}

/// A partition in the JSON; what is missing is unknown.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct PartitionState {
    partition: i32,
    broker: i32,
    leader: i32,
    fetchq_cnt: u64,
    fetch_state: String,
    next_offset: i64,
    app_offset: i64,
    ls_offset: i64,
    hi_offset: i64,
    lo_offset: i64,
    consumer_lag: i64,
}

const UNKNOWN: i64 = -1001;

impl Default for PartitionState {
    fn default() -> Self {
        Self {
            partition: -1,
            broker: -1,
            leader: -1,
            fetchq_cnt: 0,
            fetch_state: String::new(),
            next_offset: UNKNOWN,
            app_offset: UNKNOWN,
            ls_offset: UNKNOWN,
            hi_offset: UNKNOWN,
            lo_offset: UNKNOWN,
            consumer_lag: UNKNOWN,
        }
    }
}

/// The partitions of a report.
pub(super) fn partitions(
    topics: &BTreeMap<String, TopicState>,
    brokers: &BTreeMap<String, BrokerState>,
) -> Vec<PartitionStatistics> {
    let broker = |id: i32| brokers.values().find(|broker| id >= 0 && broker.nodeid == id);
    let mut found = Vec::new();
    for (name, topic) in topics {
        let name: Arc<str> = name.as_str().into();
        // -1 is librdkafka's own, for messages that have no partition yet.
        for state in topic.partitions.values().filter(|state| state.partition >= 0) {
            let known = |offset: i64| (offset >= 0).then_some(offset);
            found.push(PartitionStatistics {
                partition: TopicPartition::new(Arc::clone(&name), state.partition),
                next_offset: known(state.next_offset),
                app_offset: known(state.app_offset),
                ls_offset: known(state.ls_offset),
                hi_offset: known(state.hi_offset),
                lo_offset: known(state.lo_offset),
                fetchq_cnt: state.fetchq_cnt,
                consumer_lag: known(state.consumer_lag),
                active: state.fetch_state == "active",
                reachable: broker(state.leader).is_some_and(BrokerState::is_up),
                broker: state.broker,
                fetches: broker(state.broker).map_or(0, |broker| broker.req.fetch),
            });
        }
    }
    found
}

// === impl Consumer ===

impl Consumer {
    /// The latest report of librdkafka, once, if one came in a call of `batch`. It was made after the last change of
    /// what is fetched; one that may have been made before is dropped.
    pub fn take_statistics(&self) -> Option<Statistics> {
        self.statistics.take()
    }

    /// A report overtakes the messages in the queue. One that was made before a change was in the queue when the
    /// change was done (librdkafka's main thread does both), so once the queue was empty only newer ones come.
    pub(super) fn keep_statistics(&self, changes: u64, drained: bool) {
        if let Some(partitions) = self.handle.context().take_statistics()
            && changes == self.changes.get()
            && changes == self.settled.get()
        {
            *self.statistics.borrow_mut() = Some(Statistics {
                changes,
                drained,
                partitions,
            });
        }
        if drained {
            self.settled.set(self.changes.get());
        }
    }

    /// What is fetched changes now: reports from before say nothing any more.
    pub(super) fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
        self.statistics.take();
    }
}
