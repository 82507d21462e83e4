//! The messages that are read again and again: 100 bytes each, on a topic of eight partitions of a real Kafka, loaded
//! before anything is measured. With `DEVOUR_TEST_BOOTSTRAP` they stay on that cluster and are loaded once.

use std::time::Duration;

use devour_tests::{
    kafka::{self, Admin, Kafka},
    wait,
};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};

use crate::Result;

/// The loaded topic.
pub(crate) struct Data {
    kafka: &'static Kafka,
    admin: Admin,
}

pub(crate) const TOPIC: &str = "devour-bench-100b";
const PARTITIONS: i32 = 8;
const BYTES: usize = 100;
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

// === impl Data ===

impl Data {
    /// The topic, made if it is not there.
    pub(crate) fn open() -> Result<Self> {
        eprintln!("bench: starting Kafka");
        let kafka = kafka::shared()?;
        let admin = kafka.admin()?;
        if admin.watermarks(TOPIC, PARTITIONS - 1).is_err() {
            admin.create_topic(TOPIC, PARTITIONS)?;
        }
        Ok(Self { kafka, admin })
    }

    pub(crate) fn bootstrap(&self) -> &str {
        self.kafka.bootstrap()
    }

    /// Loads messages until there are at least so many.
    pub(crate) fn load(&self, at_least: u64) -> Result<()> {
        // A topic that was just made may have no leader in the eyes of some client yet.
        let there = wait::until_told("the topic's partitions", SETTLES_WITHIN, || self.count())?;
        if there >= at_least {
            return Ok(());
        }
        let missing = at_least - there;
        eprintln!("bench: loading {:.1} million messages", missing as f64 / 1e6);
        self.produce(missing)
    }

    /// Messages on all partitions.
    fn count(&self) -> std::result::Result<u64, String> {
        (0..PARTITIONS).try_fold(0, |sum, partition| {
            let (low, high) = self
                .admin
                .watermarks(TOPIC, partition)
                .map_err(|error| error.to_string())?;
            Ok(sum + (high - low).max(0).cast_unsigned())
        })
    }

    fn produce(&self, messages: u64) -> Result<()> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("client.id", "devour-bench-load")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "500000")
            .create()?;
        // Text that differs from message to message, as messages do.
        let mut payload = [b'x'; BYTES];
        for n in 0..messages {
            payload[..20].copy_from_slice(format!("{n:020}").as_bytes());
            let partition = (n % PARTITIONS.unsigned_abs() as u64) as i32;
            let mut record = BaseRecord::<(), [u8]>::to(TOPIC)
                .partition(partition)
                .payload(&payload);
            while let Err((error, back)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(100));
                record = back;
            }
            if n % 10_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        Ok(producer.flush(Duration::from_secs(300))?)
    }
}
