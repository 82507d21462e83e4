//! The trait of consumers that are written by hand, without `#[consumer]`.

use devour_abi::{AssignedPartition, StartOffset};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Attributes, Batch, ConsumerContext, DigestError, Extract};

/// A consumer: what is made of every message of its topics. Export it with [`export_consumer!`](crate::export_consumer).
///
/// ```
/// use devour::{abi::ConsumerType, prelude::*};
///
/// #[derive(Debug, Deserialize)]
/// #[serde(crate = "devour::serde")]
/// struct Order {
///     id: u64,
///     cents: u64,
/// }
///
/// #[derive(Default)]
/// struct OrderTotals {
///     cents: u64,
/// }
///
/// impl Consumer for OrderTotals {
///     type Settings = NoSettings;
///     type Message<'m> = Json<Order>;
///
///     fn attributes() -> Attributes {
///         Attributes::new()
///             .topic("orders")
///             .consumer_type(ConsumerType::BalancedConsumer)
///             .config("consumer_group", "billing")
///     }
///
///     fn construct(_: NoSettings, _: ConsumerContext) -> Result<Self, DigestError> {
///         Ok(Self::default())
///     }
///
///     fn digest(&mut self, _offset: i64, Json(order): Json<Order>) -> Result<(), DigestError> {
///         self.cents = self.cents.checked_add(order.cents).ok_or_else(|| DigestError::fatal("rich"))?;
///         Ok(())
///     }
/// }
///
/// export_consumer!(OrderTotals);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `Consumer`",
    note = "one that `impl AsyncConsumer` is exported with `export_async_consumer!`; `#[consumer(..)]` exports by itself"
)]
pub trait Consumer: Sized + Send + 'static {
    /// The plugin's own settings of a route; [`NoSettings`] if it has none.
    type Settings: DeserializeOwned + JsonSchema;
    /// What a digest takes: [`Raw`](crate::Raw), [`Object`](crate::Object), [`Json<T>`](crate::Json).
    type Message<'m>: Extract<'m>;
    /// Whether `digest_batch` is called instead of `digest`. Set it where you override that.
    const TAKES_BATCHES: bool = false;

    /// Topic, consumer type, configuration and the rest; the route can override each.
    fn attributes() -> Attributes {
        Attributes::new()
    }

    /// What of the attributes depends on the settings.
    fn describe(settings: &Self::Settings, attributes: Attributes) -> Attributes {
        let _ = settings;
        attributes
    }

    /// What is wrong with settings that fit their type, one text each. Pure: it runs before a consumer is made.
    fn check(settings: &Self::Settings) -> Vec<String> {
        let _ = settings;
        Vec::new()
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// Why there can be none.
    fn construct(settings: Self::Settings, context: ConsumerContext) -> Result<Self, DigestError>;

    /// Digests one message. It counts as digested once this returns `Ok`.
    ///
    /// # Errors
    /// Why it was not, and what to do about it.
    fn digest(&mut self, offset: i64, message: Self::Message<'_>) -> Result<(), DigestError>;

    /// Digests a call's messages at once, where [`TAKES_BATCHES`](Self::TAKES_BATCHES) says so.
    ///
    /// # Errors
    /// Why none of them was digested; for single ones there is [`Batch::fail`].
    fn digest_batch(&mut self, batch: &mut Batch<Self::Message<'_>>) -> Result<(), DigestError> {
        for entry in batch.drain() {
            if let Err(error) = self.digest(entry.offset, entry.message) {
                batch.fail(entry.place, error);
            }
        }
        Ok(())
    }

    /// First of all: open what you need.
    ///
    /// # Errors
    /// Why it cannot begin.
    fn started(&mut self) -> Result<(), DigestError> {
        Ok(())
    }

    /// These partitions are the route's from now on. A consumer that keeps its own offsets answers where to begin.
    ///
    /// # Errors
    /// Why it cannot take them.
    fn assigned(&mut self, partitions: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError> {
        let _ = partitions;
        Ok(Vec::new())
    }

    /// These partitions are given up; nothing of them is in hand any more.
    ///
    /// # Errors
    /// What could not be put away.
    fn revoked(&mut self, revoked: &Revoked) -> Result<(), DigestError> {
        let _ = revoked;
        Ok(())
    }

    /// Called for a consumer that is [buffering](Attributes::buffering): what its digests took must be done when this
    /// returns `Ok`.
    ///
    /// # Errors
    /// Why it is not. The instance is then ended, and what it took since the last flush is handed in again.
    fn flush(&mut self) -> Result<(), DigestError> {
        Ok(())
    }

    /// Last of all.
    ///
    /// # Errors
    /// What could not be closed.
    fn stopped(&mut self) -> Result<(), DigestError> {
        Ok(())
    }
}

/// The settings of a plugin that has none: anything but an empty object is a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Partitions that are given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Which.
    pub partitions: Vec<AssignedPartition>,
    /// They are another member's already: nothing can be committed for them.
    pub lost: bool,
}
