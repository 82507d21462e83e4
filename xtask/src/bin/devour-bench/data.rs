//! The messages that are read again and again, on topics of eight partitions of a real Kafka, loaded before anything is
//! measured. Which message is which depends on its number alone, so that all runs read the same. With
//! `DEVOUR_TEST_BOOTSTRAP` they stay on that cluster and are loaded once.

use std::time::Duration;

use devour_tests::{
    kafka::{self, Admin, Kafka},
    wait,
};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};

use crate::{Result, zipf::Zipf};

/// The cluster with the topics.
pub(crate) struct Data {
    kafka: &'static Kafka,
    admin: Admin,
}

/// A topic, and what its messages are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topic {
    pub name: &'static str,
    /// Bytes of a value.
    pub bytes: usize,
    pub keys: Keys,
    /// Whether each has [`HEADERS`].
    pub headers: bool,
}

/// Which keys messages have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// None, and one partition after the other.
    None,
    /// One of so many, all as likely; a key's partition is its hash's, as Java's clients have it.
    Uniform(u32),
    /// One of so many, the n-th as likely as 1 / n ^ `exponent`.
    Zipf { keys: u32, exponent: f64 },
}

/// 100 bytes, without keys: several benchmarks read it.
pub(crate) const HUNDRED: Topic = Topic {
    name: "devour-bench-100b",
    bytes: 100,
    keys: Keys::None,
    headers: false,
};

/// What a message with headers carries.
const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("trace-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ("source", "orders"),
];
/// Bytes of their values.
pub(crate) const HEADER_BYTES: u64 = 16 + 32 + 6;

pub(crate) const PARTITIONS: i32 = 8;
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

// === impl Data ===

impl Data {
    /// The cluster; without `DEVOUR_TEST_BOOTSTRAP` one that is started now.
    pub(crate) fn open() -> Result<Self> {
        eprintln!("bench: starting Kafka");
        let kafka = kafka::shared()?;
        let admin = kafka.admin()?;
        Ok(Self { kafka, admin })
    }

    pub(crate) fn bootstrap(&self) -> &str {
        self.kafka.bootstrap()
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Loads messages until there are at least so many.
    pub(crate) fn load(&self, topic: &Topic, at_least: u64) -> Result<()> {
        if self.admin.watermarks(topic.name, PARTITIONS - 1).is_err() {
            self.admin.create_topic(topic.name, PARTITIONS)?;
        }
        let there = self.count(topic)?;
        if there >= at_least {
            return Ok(());
        }
        let missing = at_least - there;
        eprintln!(
            "bench: loading {:.1} million messages to {}",
            missing as f64 / 1e6,
            topic.name
        );
        self.produce(topic, there..at_least)
    }

    /// Messages on all partitions.
    pub(crate) fn count(&self, topic: &Topic) -> Result<u64> {
        let count = || {
            (0..PARTITIONS).try_fold(0, |sum, partition| {
                let (low, high) = self
                    .admin
                    .watermarks(topic.name, partition)
                    .map_err(|error| error.to_string())?;
                Ok(sum + (high - low).max(0).cast_unsigned())
            })
        };
        // A topic that was just made may have no leader in the eyes of some client yet.
        Ok(wait::until_told("the topic's partitions", SETTLES_WITHIN, count)?)
    }

    /// Gives the room back where the cluster is our own: all topics together are more than a machine may hold.
    pub(crate) fn forget(&self, topic: &Topic) -> Result<()> {
        if self.kafka.broker().is_some() {
            self.admin.delete_topic(topic.name)?;
        }
        Ok(())
    }

    /// A producer for [`produce_one`].
    pub(crate) fn producer(&self, linger: Duration) -> Result<BaseProducer> {
        Ok(ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("client.id", "devour-bench-load")
            .set("linger.ms", linger.as_millis().to_string())
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "500000")
            .create()?)
    }

    fn produce(&self, topic: &Topic, numbers: std::ops::Range<u64>) -> Result<()> {
        let producer = self.producer(Duration::from_millis(20))?;
        let zipf = match topic.keys {
            Keys::Zipf { keys, exponent } => Some(Zipf::new(keys, exponent)),
            _ => None,
        };
        // Text that differs from message to message, as messages do.
        let mut payload = vec![b'x'; topic.bytes];
        for n in numbers {
            payload[..20].copy_from_slice(format!("{n:020}").as_bytes());
            let key = match (topic.keys, &zipf) {
                (Keys::Uniform(keys), _) => Some(chance(n) % u64::from(keys)),
                (_, Some(zipf)) => Some(u64::from(zipf.rank(chance(n)))),
                _ => None,
            };
            let key = key.map(|key| format!("key-{key:08}"));
            let mut record = BaseRecord::to(topic.name).payload(&payload[..]);
            match &key {
                Some(key) => record = record.key(key.as_bytes()),
                None => record = record.partition((n % PARTITIONS.unsigned_abs() as u64) as i32),
            }
            if topic.headers {
                let header = |(key, value)| Header {
                    key,
                    value: Some(value),
                };
                let headers = OwnedHeaders::new_with_capacity(HEADERS.len());
                let headers = HEADERS
                    .map(header)
                    .into_iter()
                    .fold(headers, OwnedHeaders::insert);
                record = record.headers(headers);
            }
            produce_one(&producer, record)?;
            if n % 10_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        Ok(producer.flush(Duration::from_secs(300))?)
    }
}

/// Hands a message to the producer, as soon as it has room.
pub(crate) fn produce_one(producer: &BaseProducer, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
    let mut record = record;
    while let Err((error, back)) = producer.send(record) {
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        producer.poll(Duration::from_millis(100));
        record = back;
    }
    Ok(())
}

/// A number that looks random and is the same for each `n` (splitmix64).
fn chance(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
