//! Write plugins for devourd: consumers of Kafka messages as plain Rust types, in a library that the daemon loads.
//!
//! A plugin is a crate of `crate-type = ["cdylib", "rlib"]` whose only need is this crate:
//!
//! ```
//! use devour::prelude::*;
//!
//! #[derive(Default)]
//! pub struct Sum {
//!     total: u64,
//! }
//!
//! #[consumer(topic = "sums", consumer_type = "balanced_consumer", config(consumer_group = "sum_consumers"))]
//! impl Sum {
//!     // the parameters after `offset` are the fields of the JSON object in the message
//!     fn digest(&mut self, offset: i64, numbers: Vec<u64>, note: Option<&str>) -> Result<(), DigestError> {
//!         for number in numbers {
//!             self.total = self.total.checked_add(number).ok_or_else(|| DigestError::reject("too large"))?;
//!         }
//!         info!(offset, total = self.total, note, "summed up");
//!         Ok(())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! The library exports the symbol `Sum`; a route of the settings names it: `path: libsum.so`, `symbol: Sum`. Nothing
//! is committed to Kafka before its digest returned `Ok`; what fails says what to do about it ([`DigestError`]).
//!
//! - [`consumer`] makes a consumer of an impl block; [`Consumer`] is the same by hand.
//! - With `async fn digest` many messages are in flight at once; by hand that is an [`AsyncConsumer`].
//! - A consumer that is `buffering` keeps what it digests until its `flush`.
//! - [`Raw`], [`Object`] and [`Json`] are what a digest takes, one per dump mode.
//! - [`macro@Schema`] cuts a payload down to the attributes that a struct names.
//! - A [`Producer`] is a payload on its way to a topic; its [`Schema`] cuts it.
//! - [`ConsumerContext`] counts, times, produces; `tracing` reaches the daemon's log.
//! - [`testing`] feeds messages to a consumer without a broker.

// The attribute writes paths that begin with `::devour`; inside this crate they must resolve too.
extern crate self as devour;

pub mod asynchronous;
mod attributes;
mod batch;
mod consumer;
mod context;
mod error;
mod extract;
pub mod json;
mod log;
mod message;
#[cfg(feature = "outbox")]
pub mod outbox;
pub mod plugin;
mod producer;
mod run;
pub mod schema;
pub mod shim;
pub mod testing;

#[doc(inline)]
pub use devour_abi as abi;
pub use devour_abi::{Delivered, HostErrorKind};
pub use devour_macros::{Schema, consumer, settings};
pub use schemars;
pub use serde;
pub use serde_json;
pub use tokio;
pub use tracing;

pub use asynchronous::consumer::AsyncConsumer;
pub use attributes::Attributes;
pub use batch::{Batch, BatchEntry, Place};
pub use consumer::{Consumer, NoSettings, Revoked};
pub use context::{ConsumerContext, HostError, Record, RecordParts, context};
pub use error::{DigestError, IntoOutcome, OrDigestError};
pub use extract::{Dumped, Extract, Json, JsonFields, Object, Raw, Undecodable, WithMessage};
pub use message::{Header, Message, TakenMessage};
pub use producer::{
    Event, Extras, PartitionKey, ProduceContext, ProduceError, Producer, ProducerConfig, ProducerType,
    generic_topic, produce,
};
pub use schema::{AnySchema, Attribute, Schema};

/// All that a plugin usually needs: `use devour::prelude::*;`.
pub mod prelude {
    pub use crate::{
        AsyncConsumer, Attributes, Batch, Consumer, ConsumerContext, Delivered, DigestError, Dumped, Event,
        Extras, HostError, HostErrorKind, Json, Message, NoSettings, Object, OrDigestError, ProduceContext,
        Producer, ProducerConfig, Raw, Record, Revoked, Schema, TakenMessage, WithMessage,
        abi::{AssignedPartition, StartOffset},
        consumer, export_async_consumer, export_consumer, settings,
    };
    pub use schemars::JsonSchema;
    pub use serde::Deserialize;
    pub use tracing::{debug, error, info, trace, warn};
}

/// The author's guide, whose examples are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-a-plugin.md")]
struct Guide;

/// The page about schemas.
#[cfg(doctest)]
#[doc = include_str!("../../docs/schemas.md")]
struct Schemas;

/// The page on producing, as above.
#[cfg(doctest)]
#[doc = include_str!("../../docs/producing.md")]
struct Producing;
