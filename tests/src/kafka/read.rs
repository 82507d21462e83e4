//! Reading a topic as it is: every message with all its parts, without a group.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError as ClientError,
    message::{Headers, Timestamp},
};

use super::{Admin, AdminError};
use crate::wait;

/// A message as the brokers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// `None` is Kafka's null key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// In their order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch, if the message has a time of its own.
    pub timestamp: Option<i64>,
}

/// A topic that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its ends could not be asked for.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The client's word.
    #[error("cannot read {topic}: {source}")]
    Client {
        /// The topic.
        topic: String,
        /// librdkafka's error.
        source: ClientError,
    },
    /// A transaction in it stays open.
    #[error(transparent)]
    Undecided(#[from] wait::TimedOut),
    /// It has messages that do not come.
    #[error("cannot read {topic}: {missing} of its messages did not come within {WITHIN:?}")]
    Missing {
        /// The topic.
        topic: String,
        /// How many.
        missing: i64,
    },
}

const WITHIN: Duration = Duration::from_secs(30);
/// A transaction whose producer is gone is aborted by the brokers after a minute.
const DECIDED: Duration = Duration::from_secs(90);

/// A client that reads, and commits nothing.
fn reader(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "devour-tests-reader")
        .set("client.id", "devour-tests-reader")
        .set("enable.auto.commit", "false");
    config
}

/// The messages of `topic` that are committed, by partition and offset, once every transaction in it is decided: the
/// offsets of one may be seen before its markers are in all partitions it wrote to.
pub(super) fn read_committed(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<Kept>, ReadError> {
    let failed = |source| ReadError::Client {
        topic: topic.to_owned(),
        source,
    };
    await_decided(bootstrap, topic, partitions)?;
    let consumer: BaseConsumer = reader(bootstrap)
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .map_err(failed)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(failed)?;
    }
    consumer.assign(&assignment).map_err(failed)?;
    let begin = Instant::now();
    let mut kept = Vec::new();
    let mut ended = std::collections::BTreeSet::new();
    while (ended.len() as i32) < partitions {
        if begin.elapsed() > WITHIN {
            return Err(ReadError::Missing {
                topic: topic.to_owned(),
                missing: i64::from(partitions) - ended.len() as i64,
            });
        }
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => kept.push(Kept::of(&message)),
            Some(Err(ClientError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(source)) => return Err(failed(source)),
        }
    }
    kept.sort_by_key(|kept| (kept.partition, kept.offset));
    Ok(kept)
}

/// Waits until no transaction is open in any partition: what a reader of committed records may read ends where the log does.
fn await_decided(bootstrap: &str, topic: &str, partitions: i32) -> Result<(), ReadError> {
    let ends_for = |isolation: &str| {
        let created = reader(bootstrap)
            .set("isolation.level", isolation)
            .create::<BaseConsumer>();
        created.map_err(|source| ReadError::Client {
            topic: topic.to_owned(),
            source,
        })
    };
    let (stable, all) = (ends_for("read_committed")?, ends_for("read_uncommitted")?);
    for partition in 0..partitions {
        let what = format!("the transactions in {topic}/{partition} to be decided");
        wait::until_told(&what, DECIDED, || {
            let end = |client: &BaseConsumer| {
                let ends = client.fetch_watermarks(topic, partition, WITHIN);
                ends.map(|(_, end)| end).map_err(|error| error.to_string())
            };
            let (stable, all) = (end(&stable)?, end(&all)?);
            (stable == all)
                .then_some(())
                .ok_or_else(|| format!("decided up to {stable} of {all}"))
        })?;
    }
    Ok(())
}

/// All messages that `topic` holds now, by partition and offset.
pub(super) fn read(bootstrap: &str, topic: &str, partitions: i32) -> Result<Vec<Kept>, ReadError> {
    let admin = Admin::new(bootstrap)?;
    let failed = |source| ReadError::Client {
        topic: topic.to_owned(),
        source,
    };
    let consumer: BaseConsumer = reader(bootstrap).create().map_err(failed)?;
    let mut assignment = TopicPartitionList::new();
    let (mut missing, mut ends) = (0, Vec::new());
    for partition in 0..partitions {
        let (low, high) = admin.watermarks(topic, partition)?;
        missing += high - low;
        ends.push(high);
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(failed)?;
    }
    consumer.assign(&assignment).map_err(failed)?;
    let begin = Instant::now();
    let mut kept = Vec::new();
    while missing > 0 {
        match consumer.poll(Duration::from_millis(200)) {
            Some(message) => {
                let message = Kept::of(&message.map_err(failed)?);
                // What others have produced meanwhile is none of those that are missing.
                if usize::try_from(message.partition).is_ok_and(|place| message.offset < ends[place]) {
                    kept.push(message);
                    missing -= 1;
                }
            }
            None if begin.elapsed() > WITHIN => {
                return Err(ReadError::Missing {
                    topic: topic.to_owned(),
                    missing,
                });
            }
            None => {}
        }
    }
    kept.sort_by_key(|message| (message.partition, message.offset));
    Ok(kept)
}

// === impl Kept ===

impl Kept {
    fn of(message: &rdkafka::message::BorrowedMessage<'_>) -> Self {
        let headers = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect();
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers,
            timestamp: match message.timestamp() {
                Timestamp::CreateTime(at) => Some(at),
                _ => None,
            },
        }
    }

    /// The last header of this name, as bytes.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let header = self.headers.iter().rfind(|(known, _)| known == name)?;
        header.1.as_deref()
    }

    /// The last header of this name, as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }
}
