//! Keeps orders in a database, and produces every change of them: an ORM's models beside Kafka.
//!
//! A message is `{"id": 7, "version": 2, "customer": "Ada", "cents": 250, "status": "open"}`, or
//! `{"id": 7, "version": 3, "deleted": true}`. The row is written, changed or deleted; what it is then goes to the topic
//! `orders__order`, with its `event`. A version that is not newer than the row's changes nothing and produces nothing, so a
//! message that comes again does no harm.
//!
//! The row and its message are committed together, through an outbox. Two copies of SQLite in one process would drop each
//! other's locks on the file, so the plugin demands a process of its own, and that a new version of it is started after
//! the old one has ended (`swap = "after"`).

use std::sync::{PoisonError, RwLock};

use devour::{
    outbox::{Relay, RelayOptions, Waker},
    prelude::*,
};

mod connection;
mod database;
mod model;
mod order;
mod outbox;

#[cfg(feature = "postgres")]
pub use connection::Postgres;
pub use connection::{Connection, Place};
pub use database::{Database, ModelError};
pub use model::{
    Columns, Model, ModelProducer, ModelSchema, ProducerModel, Producers, Saving, Signal, Written, config_of,
};
pub use order::Order;
pub use outbox::Outbox;

/// Settings of `Orders`.
#[settings]
#[derive(Debug, Default)]
pub struct OrdersSettings {
    /// Where the orders are: `sqlite:/path/to/file`, or `postgres://user@host/name`.
    database: String,
    /// What is produced automatically.
    #[serde(default)]
    producers: Producers,
}

/// The consumer.
pub struct Orders {
    database: Database,
    context: ConsumerContext,
    place: Place,
    /// The first lane's.
    relay: Option<Relay>,
}

/// The relay of this process: every lane wakes it.
static WAKER: RwLock<Option<Waker>> = RwLock::new(None);

#[consumer(
    topic = "order_changes",
    consumer_type = "balanced_consumer",
    config(consumer_group = "orders"),
    settings = OrdersSettings,
    swap = "after",
    isolation = "process"
)]
impl Orders {
    fn check(settings: &OrdersSettings) -> Vec<String> {
        Place::parse(&settings.database).err().into_iter().collect()
    }

    fn construct(settings: OrdersSettings, context: ConsumerContext) -> Result<Self, DigestError> {
        let place = Place::parse(&settings.database).or_fatal()?;
        Ok(Self {
            database: Database::new(place.clone(), settings.producers),
            context,
            place,
            relay: None,
        })
    }

    fn started(&mut self) -> Result<(), DigestError> {
        // Said now, and not at the first message.
        self.database.connection()?;
        if self.context.lane() == 0 {
            let store = Outbox::new(self.place.clone());
            let relay = Relay::start(store, &self.context, RelayOptions::default())?;
            *WAKER.write().unwrap_or_else(PoisonError::into_inner) = Some(relay.waker());
            self.relay = Some(relay);
        }
        Ok(())
    }

    // The parameters after `offset` are the fields of the JSON message.
    #[allow(clippy::too_many_arguments)]
    fn digest(
        &mut self,
        offset: i64,
        id: i64,
        version: i64,
        customer: Option<String>,
        cents: Option<i64>,
        status: Option<String>,
        deleted: Option<bool>,
    ) -> Result<(), DigestError> {
        if let Some(waker) = WAKER.read().unwrap_or_else(PoisonError::into_inner).clone() {
            self.database.waking(waker);
        }
        let is_deleted = deleted == Some(true);
        let missing =
            |name: &str| DigestError::reject(format!("an order that is not deleted has a `{name}`"));
        let order = Order {
            id,
            version,
            customer: customer
                .or(is_deleted.then(String::new))
                .ok_or_else(|| missing("customer"))?,
            cents: cents
                .or(is_deleted.then_some(0))
                .ok_or_else(|| missing("cents"))?,
            status: status
                .or(is_deleted.then(String::new))
                .ok_or_else(|| missing("status"))?,
        };
        let saving = Saving::new();
        if is_deleted {
            let erased = order.delete(&mut self.database, &saving)?;
            debug!(offset, id, version, was_there = erased.is_some(), "deleted");
        } else {
            let written = order.save(&mut self.database, &saving)?;
            debug!(offset, id, version, ?written, "saved");
        }
        Ok(())
    }

    fn stopped(&mut self) -> Result<(), DigestError> {
        if let Some(relay) = self.relay.take() {
            relay.stop();
        }
        Ok(())
    }
}

/// The page on models, whose examples are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/models.md")]
struct Models;
