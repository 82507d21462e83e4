//! What a consumer asks its brokers: committed offsets, watermarks, topics and their partitions.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use rdkafka_sys as sys;

use super::consumer::{Consumer, TopicPartition, list_of, millis};
use super::errors::{ClientError, ErrorCode, text_of};
use super::native::List;

/// What the group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub partition: TopicPartition,
    /// The next offset to be read; none where nothing was committed.
    pub offset: Option<i64>,
    pub leader_epoch: Option<i32>,
    /// The text beside the offset; it may be another program's.
    pub metadata: Vec<u8>,
    pub error: ErrorCode,
}

/// The first offset of a partition, and the one that its next message will get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    pub low: i64,
    pub high: i64,
}

/// A topic as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: Arc<str>,
    /// The numbers of its partitions, ascending.
    pub partitions: Vec<i32>,
    /// `UNKNOWN_TOPIC_OR_PART` where there is no such topic (yet).
    pub error: ErrorCode,
}

impl Consumer {
    /// Asks the group's coordinator. Waits up to `timeout`; an error of one partition stands in its entry.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Committed>, ClientError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = list_of(partitions)?;
        // SAFETY: a live client and list, whose entries the call fills.
        let code = unsafe { sys::rd_kafka_committed(self.handle.rk(), list.as_ptr(), millis(timeout)) };
        let code = ErrorCode::from(code);
        if !code.is_ok() {
            return Err(ClientError::call("reading the committed offsets", code));
        }
        self.handle
            .context()
            .brokers(|brokers| brokers.coordinator_answered());
        debug_assert_eq!(list.len(), partitions.len());
        let answers = list.entries().map(|entry| Committed {
            partition: TopicPartition {
                topic: entry.topic().into(),
                partition: entry.partition(),
            },
            offset: (entry.offset() >= 0).then(|| entry.offset()),
            leader_epoch: entry.leader_epoch(),
            metadata: entry.metadata(),
            error: entry.error(),
        });
        Ok(answers.collect())
    }

    /// Asks whether the group's coordinator is there, waiting up to `timeout`. The news that it is back comes by
    /// itself, but up to five seconds late: for the last commit of a client it is worth asking.
    pub fn coordinator_answers(&self, timeout: Duration) -> bool {
        let Some(one) = self.assignment().into_iter().next() else {
            return false;
        };
        self.committed(&[one], timeout).is_ok()
    }

    /// What the last fetch of the partition said; asks nobody. None before the first fetch.
    pub fn watermarks(&self, partition: &TopicPartition) -> Option<Watermarks> {
        let topic = CString::new(&*partition.topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: a live client, a terminated name, two results to write.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.handle.rk(),
                topic.as_ptr(),
                partition.partition,
                &mut low,
                &mut high,
            )
        };
        // A high mark that was never told is -1001.
        (ErrorCode::from(code).is_ok() && high >= 0).then_some(Watermarks {
            low: low.max(0),
            high,
        })
    }

    /// Asks the partitions' leaders where their logs end, as far as this client may read. Waits up to `timeout`; those that
    /// did not answer are not among the answers.
    pub fn ends(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, i64)>, ClientError> {
        /// Asks for the end instead of a time.
        const END: i64 = -1;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = List::new(partitions.len());
        for at in partitions {
            list.add(&at.topic, at.partition)?.set_offset(END);
        }
        // SAFETY: a live client and list, whose entries the call fills.
        let code = unsafe {
            sys::rd_kafka_offsets_for_times(self.handle.rk(), list.as_ptr(), millis(timeout).max(1))
        };
        let code = ErrorCode::from(code);
        if !code.is_ok() {
            return Err(ClientError::call("asking for the ends of partitions", code));
        }
        let answered = list
            .entries()
            .filter(|entry| entry.error().is_ok() && entry.offset() >= 0);
        let answers = answered.map(|entry| {
            let partition = TopicPartition::new(entry.topic().into(), entry.partition());
            (partition, entry.offset())
        });
        Ok(answers.collect())
    }

    /// Asks a broker for these topics; one that does not exist has an error in its entry. Waits up to `timeout` for
    /// each.
    pub fn topics(&self, names: &[String], timeout: Duration) -> Result<Vec<TopicMetadata>, ClientError> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let c_name = CString::new(name.as_str()).map_err(|_| ClientError::Name(name.clone()))?;
            // SAFETY: a live client and name; null means the default configuration. The topic is ours until
            // destroyed, after the question.
            unsafe {
                let topic = sys::rd_kafka_topic_new(self.handle.rk(), c_name.as_ptr(), std::ptr::null_mut());
                if topic.is_null() {
                    return Err(ClientError::call("naming a topic", ErrorCode::INVALID_ARG));
                }
                let answer = self.ask(topic, timeout);
                sys::rd_kafka_topic_destroy(topic);
                found.extend(answer?);
            }
        }
        Ok(found)
    }

    /// Asks a broker for all topics, Kafka's own included.
    pub fn all_topics(&self, timeout: Duration) -> Result<Vec<TopicMetadata>, ClientError> {
        // SAFETY: null asks for all.
        unsafe { self.ask(std::ptr::null_mut(), timeout) }
    }

    /// # Safety
    /// `topic` is null or a live topic of this client.
    unsafe fn ask(
        &self,
        topic: *mut sys::rd_kafka_topic_t,
        timeout: Duration,
    ) -> Result<Vec<TopicMetadata>, ClientError> {
        let mut answer: *const sys::rd_kafka_metadata_t = std::ptr::null();
        let all = i32::from(topic.is_null());
        // SAFETY: the contract, and a result to write, which is ours.
        let code = unsafe {
            sys::rd_kafka_metadata(self.handle.rk(), all, topic, &mut answer, millis(timeout).max(1))
        };
        let code = ErrorCode::from(code);
        if !code.is_ok() || answer.is_null() {
            return Err(ClientError::call("asking for topics", code));
        }
        self.handle.context().brokers(|brokers| brokers.answered());
        // SAFETY: on success the answer holds as many topics, and each as many partitions, as it says (null where
        // none). An error is read as a number: a broker's code may be none of the enum's.
        unsafe {
            let topics = slice((*answer).topics, (*answer).topic_cnt);
            let found = topics
                .iter()
                .map(|topic| {
                    let mut partitions: Vec<i32> = slice(topic.partitions, topic.partition_cnt)
                        .iter()
                        .map(|partition| partition.id)
                        .collect();
                    partitions.sort_unstable();
                    TopicMetadata {
                        name: text_of(topic.topic).into(),
                        partitions,
                        error: ErrorCode::new((&raw const topic.err).cast::<i32>().read()),
                    }
                })
                .collect();
            sys::rd_kafka_metadata_destroy(answer);
            Ok(found)
        }
    }
}

/// # Safety
/// `first` is null or points to `count` values that live as long as `'a`.
unsafe fn slice<'a, T>(first: *const T, count: i32) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the contract.
        Ok(count) if !first.is_null() => unsafe { std::slice::from_raw_parts(first, count) },
        _ => &[],
    }
}
