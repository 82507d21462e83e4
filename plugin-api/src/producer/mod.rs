//! Producers: a payload, cut by a schema, on its way to a topic.

use std::future::Future;

use devour_abi::Delivered;
use serde::Serialize;
use serde_json::Value;

use crate::{AnySchema, ConsumerContext, HostError, Record, Schema, context::Refused};

mod context;
#[cfg(test)]
mod tests;

pub use context::{Event, Extras, ProduceContext};

/// Something that is produced: a payload, and where it goes. Only [`new`](Self::new) and [`payload`](Self::payload) have
/// to be written; [`config`](Self::config) says what is the same for all of its messages, a hook what is not.
///
/// ```
/// use devour::{PartitionKey, ProduceContext, Producer, ProducerConfig, prelude::*, serde::Serialize};
///
/// #[derive(Serialize)]
/// #[serde(crate = "devour::serde")]
/// pub struct Invoice {
///     id: u64,
///     cents: u64,
/// }
///
/// pub struct Invoices(Invoice);
///
/// impl Producer for Invoices {
///     type Payload = Invoice;
///
///     fn new(payload: Invoice) -> Self {
///         Self(payload)
///     }
///
///     fn payload(&self) -> &Invoice {
///         &self.0
///     }
///
///     fn config() -> ProducerConfig {
///         ProducerConfig::new().topic("invoices").partition_key("id")
///     }
/// }
///
/// #[derive(Default)]
/// pub struct Billing;
///
/// #[consumer(topic = "orders")]
/// impl Billing {
///     fn digest(&mut self, _offset: i64, id: u64, cents: u64) -> Result<(), DigestError> {
///         Invoices::new(Invoice { id, cents }).produce((), ())?;
///         Ok(())
///     }
/// }
///
/// let mut tester = devour::testing::Tester::<Billing>::new().expect("it needs no settings");
/// tester.feed([devour::testing::TestMessage::json(r#"{"id": 7, "cents": 250}"#)]);
/// let produced = &tester.produced()[0];
/// assert_eq!((produced.topic.as_str(), produced.key.as_deref()), ("invoices", Some(&b"7"[..])));
/// assert_eq!(produced.payload.as_deref(), Some(&br#"{"cents":250,"id":7}"#[..]));
/// ```
pub trait Producer: Sized {
    /// What is produced.
    type Payload: Serialize;

    /// A producer of this payload.
    fn new(payload: Self::Payload) -> Self;

    /// The payload.
    fn payload(&self) -> &Self::Payload;

    /// What is the same for all of its messages.
    #[must_use]
    fn config() -> ProducerConfig {
        ProducerConfig::new()
    }

    /// The topic: the configured one, else the [generic](generic_topic) one.
    fn topic(&self, context: &ProduceContext) -> String {
        let _ = context;
        Self::config().topic.unwrap_or_else(generic_topic::<Self>)
    }

    /// What the payload is cut down to: the configured schema; without one it is taken whole.
    fn schema(&self, context: &ProduceContext) -> Option<AnySchema> {
        let _ = context;
        Self::config().schema_class
    }

    /// What the key is: the configured attribute; without one there is no key.
    fn partition_key(&self, context: &ProduceContext) -> Option<PartitionKey> {
        let _ = context;
        Self::config().partition_key.map(PartitionKey::Attribute)
    }

    /// What would be produced.
    ///
    /// # Errors
    /// When the payload cannot be a message.
    fn record(&self, context: &ProduceContext, extras: Extras) -> Result<Record, ProduceError> {
        let payload = serde_json::to_value(self.payload()).map_err(ProduceError::Payload)?;
        let topic = self.topic(context);
        let key = match self.partition_key(context) {
            None => None,
            Some(PartitionKey::Value(value)) => Some(value),
            Some(PartitionKey::Attribute(name)) => key_of(&payload, &name, &topic)?,
        };
        let mut extras = extras.0;
        if let Some(event) = context.event() {
            extras.entry("event").or_insert_with(|| Value::from(event.name()));
        }
        let schema = self
            .schema(context)
            .unwrap_or_else(AnySchema::of::<crate::schema::All>);
        let message = schema.cut(payload, extras);
        let bytes = serde_json::to_vec(&message).map_err(ProduceError::Payload)?;
        let mut record = Record::to(topic).payload(bytes);
        if let Some(key) = key {
            record = record.key(key);
        }
        for (name, value) in &context.headers {
            record = record.header(name.as_str(), value.as_slice());
        }
        if let Some(partition) = context.partition {
            record = record.partition(partition);
        }
        if let Some(at) = context.timestamp_ms {
            record = record.timestamp_ms(at);
        }
        Ok(record)
    }

    /// Produces it through the daemon. A [`SyncProducer`](ProducerType::SyncProducer) (the default) returns once the
    /// broker has acknowledged, with its place; a [`Producer`](ProducerType::Producer) at once, with `None`: the
    /// message that is being digested is then finished only once the broker has acknowledged, and fails with it.
    ///
    /// # Errors
    /// When the payload cannot be a message, or is not written. Through `?`, what no second try mends is a reject.
    fn produce(
        self,
        context: impl Into<ProduceContext>,
        extras: impl Into<Extras>,
    ) -> Result<Option<Delivered>, ProduceError> {
        let host = host()?;
        let record = self.record(&context.into(), extras.into())?;
        match Self::config().producer_type {
            ProducerType::SyncProducer => Ok(Some(host.produce_sync(&record)?)),
            ProducerType::Producer => {
                host.produce(&record)?;
                Ok(None)
            }
        }
    }

    /// As [`produce`](Self::produce), for async digests: nothing waits but the future.
    ///
    /// # Errors
    /// As [`produce`](Self::produce).
    fn produce_async(
        self,
        context: impl Into<ProduceContext>,
        extras: impl Into<Extras>,
    ) -> impl Future<Output = Result<Option<Delivered>, ProduceError>> + Send + 'static {
        let begun = host().and_then(|host| {
            let record = self.record(&context.into(), extras.into())?;
            match Self::config().producer_type {
                ProducerType::SyncProducer => Ok(Some(host.produce_async(&record))),
                ProducerType::Producer => {
                    host.produce(&record)?;
                    Ok(None)
                }
            }
        });
        async move {
            match begun? {
                Some(delivered) => Ok(Some(delivered.await?)),
                None => Ok(None),
            }
        }
    }
}

/// Produces `payload` by the producer `P`, in one call.
///
/// # Errors
/// As [`Producer::produce`].
pub fn produce<P: Producer>(
    payload: P::Payload,
    context: impl Into<ProduceContext>,
    extras: impl Into<Extras>,
) -> Result<Option<Delivered>, ProduceError> {
    P::new(payload).produce(context, extras)
}

/// What is the same for all messages of a [`Producer`].
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    topic: Option<String>,
    schema_class: Option<AnySchema>,
    producer_type: ProducerType,
    auto_produce: bool,
    partition_key: Option<String>,
}

/// Whether producing waits for the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProducerType {
    /// It returns once the broker has acknowledged: `sync_producer`.
    #[default]
    SyncProducer,
    /// It returns at once: `producer`.
    Producer,
}

/// What the key of a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionKey {
    /// This attribute of the payload, also if the schema leaves it out; `customer.id` is the one of an object in it. Texts
    /// are taken as their bytes, null is no key, anything else as JSON.
    Attribute(String),
    /// These bytes.
    Value(Vec<u8>),
}

/// Why a payload was not produced.
#[derive(Debug)]
pub enum ProduceError {
    /// There is no consumer in this library that the daemon runs.
    NoHost,
    /// The payload is no JSON.
    Payload(serde_json::Error),
    /// It has no such attribute to be its key.
    NoKey {
        /// The attribute.
        attribute: String,
        /// Where it should have gone.
        topic: String,
    },
    /// The daemon's word.
    Host(HostError),
}

/// The topic of a producer that names none: `topic__` and the type's name in lower case.
///
/// ```
/// struct InvoiceSent;
/// assert_eq!(devour::generic_topic::<InvoiceSent>(), "topic__invoicesent");
/// ```
#[must_use]
pub fn generic_topic<P>() -> String {
    let whole = std::any::type_name::<P>();
    // Without the paths, and the types that it is generic in.
    let name = whole.split('<').next().unwrap_or(whole);
    let name = name.rsplit("::").next().unwrap_or(name);
    format!("topic__{}", name.to_lowercase())
}

fn host() -> Result<ConsumerContext, ProduceError> {
    crate::context().ok_or(ProduceError::NoHost)
}

fn key_of(payload: &Value, name: &str, topic: &str) -> Result<Option<Vec<u8>>, ProduceError> {
    let mut value = Some(payload);
    for part in name.split('.') {
        value = value.and_then(|value| value.get(part));
    }
    match value {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(value) => Ok(Some(value.to_string().into_bytes())),
        None => Err(ProduceError::NoKey {
            attribute: name.to_owned(),
            topic: topic.to_owned(),
        }),
    }
}

// === impl ProducerConfig ===

impl ProducerConfig {
    /// The generic topic, the whole payload, no key, waiting for the broker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            topic: None,
            schema_class: None,
            producer_type: ProducerType::default(),
            auto_produce: true,
            partition_key: None,
        }
    }

    /// Sets the topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Cuts every payload by `S`.
    #[must_use]
    pub fn schema_class<S: Schema>(mut self) -> Self {
        self.schema_class = Some(AnySchema::of::<S>());
        self
    }

    /// Says whether producing waits for the broker.
    #[must_use]
    pub fn producer_type(mut self, producer_type: ProducerType) -> Self {
        self.producer_type = producer_type;
        self
    }

    /// Says whether a model that is saved or deleted produces by itself; it does if nobody says otherwise.
    #[must_use]
    pub fn auto_produce(mut self, auto_produce: bool) -> Self {
        self.auto_produce = auto_produce;
        self
    }

    /// Takes the key from this attribute of the payload; see [`PartitionKey::Attribute`].
    #[must_use]
    pub fn partition_key(mut self, attribute: impl Into<String>) -> Self {
        self.partition_key = Some(attribute.into());
        self
    }

    /// Whether a model produces by itself.
    #[must_use]
    pub fn produces_by_itself(&self) -> bool {
        self.auto_produce
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self::new()
    }
}

// === impl ProduceError ===

impl std::fmt::Display for ProduceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoHost => f.write_str(
                "nothing can be produced before a consumer of this library is constructed, or after the last is gone",
            ),
            Self::Payload(error) => write!(f, "the payload cannot be written as JSON: {error}"),
            Self::NoKey { attribute, topic } => write!(
                f,
                "a payload for {topic} has no attribute `{attribute}`, which is its producer's partition_key"
            ),
            Self::Host(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProduceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoHost => None,
            // The same payload fails again.
            Self::Payload(_) | Self::NoKey { .. } => Some(&Refused),
            Self::Host(error) => error.source(),
        }
    }
}

impl From<HostError> for ProduceError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
