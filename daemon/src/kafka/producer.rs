//! A small producer for the demo, for tools and tests: send, flush, count what was delivered and what was not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use super::properties::ClientProperties;

/// A producer for one thread.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
}

/// What is sent; all but the topic may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub topic: &'a str,
    /// None: by the key, or anywhere.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// None is a tombstone.
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since 1970; none is now.
    pub timestamp: Option<i64>,
}

/// Why a record could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    #[error("librdkafka cannot make a producer: {0}")]
    Create(KafkaError),
    #[error("a record for {topic} cannot be sent: {source}")]
    Send { topic: String, source: KafkaError },
    #[error(
        "a record for {topic} could not be queued within {seconds} s: the broker does not take the others"
    )]
    Full { topic: String, seconds: u64 },
    #[error("{left} records were not delivered in time")]
    Flush { left: i32 },
}

#[derive(Default)]
struct Deliveries {
    delivered: AtomicU64,
    failed: AtomicU64,
}

// === impl Deliveries ===

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", facility, "{text}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{text}")
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.delivered.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => {
                tracing::debug!(target: "librdkafka", %error, "a record was not delivered");
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

// === impl Producer ===

impl Producer {
    /// Makes the client; see [`producer_properties`](super::producer_properties).
    pub fn create(properties: &ClientProperties) -> Result<Self, ProducerError> {
        let inner = properties
            .client_config()
            .create_with_context(Deliveries::default())
            .map_err(ProducerError::Create)?;
        Ok(Self { inner })
    }

    /// Queues a record, which is copied; waits up to `deadline` while the queue is full.
    pub fn send(&self, record: &Record<'_>, deadline: Duration) -> Result<(), ProducerError> {
        let end = Instant::now() + deadline;
        let mut next = base_record(record);
        loop {
            match self.inner.send(next) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if Instant::now() >= end {
                        let topic = record.topic.to_owned();
                        return Err(ProducerError::Full {
                            topic,
                            seconds: deadline.as_secs(),
                        });
                    }
                    next = back;
                    self.poll(Duration::from_millis(50));
                }
                Err((source, _)) => {
                    return Err(ProducerError::Send {
                        topic: record.topic.to_owned(),
                        source,
                    });
                }
            }
        }
    }

    /// Takes delivery reports, waiting up to `timeout` for the first; call it now and then between sends.
    pub fn poll(&self, timeout: Duration) {
        self.inner.poll(timeout);
    }

    /// Waits until all that was sent is delivered or has failed.
    pub fn flush(&self, deadline: Duration) -> Result<(), ProducerError> {
        self.inner.flush(deadline).map_err(|_| ProducerError::Flush {
            left: self.inner.in_flight_count(),
        })
    }

    /// Records that the broker has acknowledged.
    pub fn delivered(&self) -> u64 {
        self.inner.context().delivered.load(Ordering::Relaxed)
    }

    /// Records that were given up.
    pub fn failed(&self) -> u64 {
        self.inner.context().failed.load(Ordering::Relaxed)
    }
}

fn base_record<'a>(record: &Record<'a>) -> BaseRecord<'a, [u8], [u8], ()> {
    let mut base = BaseRecord::to(record.topic);
    base.partition = record.partition;
    base.key = record.key;
    base.payload = record.payload;
    base.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(Header { key, value: *value });
        }
        base.headers = Some(headers);
    }
    base
}
