//! A producer that knows where each message went: what it returns is what the judge expects.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::KafkaError as ClientError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::judge::Expected;

/// Keeps order within a partition (idempotent), waits for all acknowledgements.
pub struct Producer {
    producer: ThreadedProducer<Deliveries>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionEnd {
    /// Its messages are there.
    Commit,
    /// They are not, though they keep their offsets.
    Abort,
}

/// One message to send.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The number that the ledger will know it by.
    pub n: u64,
    /// `None` is Kafka's null key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// In this order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
}

/// What could not be produced.
#[derive(Debug, thiserror::Error)]
#[error("cannot produce{}: {source}", topic.as_deref().map(|topic| format!(" to {topic}")).unwrap_or_default())]
pub struct ProduceError {
    topic: Option<String>,
    source: ClientError,
}

#[derive(Default)]
struct Deliveries {
    done: Mutex<Vec<Delivered>>,
    failed: Mutex<Option<ClientError>>,
}

struct Delivered {
    partition: i32,
    offset: i64,
    n: u64,
    key: Option<Box<[u8]>>,
}

/// How many keys [`Producer::numbered`] gives each partition.
pub const KEYS: u64 = 16;
const TRANSACTION: Duration = Duration::from_secs(60);

// === impl Producer ===

impl Producer {
    /// A producer for the cluster at `bootstrap`.
    pub fn new(bootstrap: &str) -> Result<Self, ProduceError> {
        Self::of(&config(bootstrap))
    }

    /// A producer whose messages are sent in transactions, under an id that is its own.
    pub fn transactional(bootstrap: &str, id: &str) -> Result<Self, ProduceError> {
        let producer = Self::of(config(bootstrap).set("transactional.id", id))?;
        producer
            .producer
            .init_transactions(TRANSACTION)
            .map_err(|source| ProduceError { topic: None, source })?;
        Ok(producer)
    }

    fn of(config: &ClientConfig) -> Result<Self, ProduceError> {
        let producer = config
            .create_with_context(Deliveries::default())
            .map_err(|source| ProduceError { topic: None, source })?;
        Ok(Self { producer })
    }

    /// Sends `records` to one partition in one transaction, and ends it so: what was aborted no consumer gets.
    pub fn transact(
        &self,
        topic: &str,
        partition: i32,
        records: &[Record],
        end: TransactionEnd,
    ) -> Result<Expected, ProduceError> {
        let error = |source| ProduceError {
            topic: Some(topic.to_owned()),
            source,
        };
        self.producer.begin_transaction().map_err(error)?;
        let sent = self.send(topic, partition, records)?;
        match end {
            TransactionEnd::Commit => self.producer.commit_transaction(TRANSACTION).map_err(error)?,
            TransactionEnd::Abort => self.producer.abort_transaction(TRANSACTION).map_err(error)?,
        }
        Ok(match end {
            TransactionEnd::Commit => sent,
            TransactionEnd::Abort => Expected::default(),
        })
    }

    /// Sends `records` to one partition, in their order, and returns once all are acknowledged.
    pub fn send(&self, topic: &str, partition: i32, records: &[Record]) -> Result<Expected, ProduceError> {
        for record in records {
            self.enqueue(topic, partition, record)?;
        }
        self.acknowledged(topic)
    }

    /// Sends the messages numbered `numbers`: number `n` to partition `n % partitions`, with one of [`KEYS`] keys of that
    /// partition and the JSON payload `{"n":n}`, padded to `size` bytes if that is more.
    pub fn numbered(
        &self,
        topic: &str,
        partitions: i32,
        numbers: Range<u64>,
        size: usize,
    ) -> Result<Expected, ProduceError> {
        let key = |n| Some(n % (partitions as u64 * KEYS));
        self.numbered_by(topic, partitions, numbers, size, key)
    }

    /// As [`Producer::numbered`], with the key that `key` says for each number; `None` is Kafka's null key.
    pub fn numbered_by(
        &self,
        topic: &str,
        partitions: i32,
        numbers: Range<u64>,
        size: usize,
        key: impl Fn(u64) -> Option<u64>,
    ) -> Result<Expected, ProduceError> {
        for n in numbers {
            let partition = (n % partitions as u64) as i32;
            let record = Record {
                n,
                key: key(n).map(|key| key.to_string().into_bytes()),
                payload: Some(numbered_payload(n, size)),
                ..Record::default()
            };
            self.enqueue(topic, partition, &record)?;
        }
        self.acknowledged(topic)
    }

    fn enqueue(&self, topic: &str, partition: i32, record: &Record) -> Result<(), ProduceError> {
        let error = |source| ProduceError {
            topic: Some(topic.to_owned()),
            source,
        };
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(topic, record.n as usize).partition(partition);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(payload) = &record.payload {
            message = message.payload(payload);
        }
        if let Some(timestamp) = record.timestamp {
            message = message.timestamp(timestamp);
        }
        if !record.headers.is_empty() {
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: value.as_ref(),
                    })
                });
            message = message.headers(headers);
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    self.producer.flush(Duration::from_secs(60)).map_err(error)?;
                }
                // New since the client looked last: it looks again.
                Err((ClientError::MessageProduction(RDKafkaErrorCode::UnknownPartition), back))
                    if Instant::now() < deadline =>
                {
                    message = back;
                    let looked = self
                        .producer
                        .client()
                        .fetch_metadata(Some(topic), Duration::from_secs(10));
                    looked.map_err(error)?;
                }
                Err((source, _)) => return Err(error(source)),
            }
        }
    }

    fn acknowledged(&self, topic: &str) -> Result<Expected, ProduceError> {
        let error = |source| ProduceError {
            topic: Some(topic.to_owned()),
            source,
        };
        self.producer.flush(Duration::from_secs(120)).map_err(error)?;
        let deliveries = self.producer.context();
        if let Some(source) = deliveries
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            return Err(error(source));
        }
        let done = std::mem::take(&mut *deliveries.done.lock().unwrap_or_else(PoisonError::into_inner));
        let mut expected = Expected::default();
        for Delivered {
            partition,
            offset,
            n,
            key,
        } in done
        {
            expected.add_keyed(topic, partition, offset, n, key);
        }
        Ok(expected)
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Producer")
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "devour-tests-producer")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.max.bytes", "10485760")
        .set("queue.buffering.max.messages", "1000000");
    config
}

/// The key of message `n` of a topic with so many partitions.
pub fn numbered_key(n: u64, partitions: i32) -> Vec<u8> {
    (n % (partitions as u64 * KEYS)).to_string().into_bytes()
}

/// `{"n":n}`, or `{"n":n,"pad":"xx.."}` of `size` bytes.
pub fn numbered_payload(n: u64, size: usize) -> Vec<u8> {
    let bare = format!("{{\"n\":{n}}}");
    let frame = bare.len() + r#","pad":"""#.len();
    if size <= frame {
        return bare.into_bytes();
    }
    format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(size - frame)).into_bytes()
}

// === impl Deliveries ===

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, n: usize) {
        match result {
            Ok(message) => {
                let delivered = Delivered {
                    partition: message.partition(),
                    offset: message.offset(),
                    n: n as u64,
                    key: message.key().map(Box::from),
                };
                self.done
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(delivered);
            }
            Err((error, _)) => {
                self.failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert_with(|| error.clone());
            }
        }
    }
}
