//! The trait of async consumers that are written by hand, without `#[consumer]`.

use std::future::Future;

use devour_abi::{AssignedPartition, StartOffset};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{Attributes, ConsumerContext, DigestError, Extract, Revoked};

/// A consumer whose digest is a future: many messages are in flight at once, up to the route's `in_flight`, and of one
/// partition (or key) only one. Export it with [`export_async_consumer!`](crate::export_async_consumer).
///
/// Its futures run on a tokio runtime of the instance's own, with as many threads as [`Attributes::workers`] says (one by
/// default), so timers, sockets and all else of [`devour::tokio`](crate::tokio) work inside. A message is digested once
/// its future returned `Ok`. A panic, like [`DigestError::fatal`], ends the instance; what else was in flight then is
/// dropped where it awaits, and digested again.
///
/// ```
/// use std::time::Duration;
///
/// use devour::{prelude::*, tokio::time::sleep};
///
/// struct Remind;
///
/// impl AsyncConsumer for Remind {
///     type Settings = NoSettings;
///     type Message<'m> = Object<'m>;
///
///     fn attributes() -> Attributes {
///         Attributes::new().topic("reminders").config("consumer_group", "remind")
///     }
///
///     fn construct(_: NoSettings, _: ConsumerContext) -> Result<Self, DigestError> {
///         Ok(Self)
///     }
///
///     async fn digest(&self, offset: i64, message: Object<'_>) -> Result<(), DigestError> {
///         sleep(Duration::from_millis(10)).await;
///         info!(offset, key = ?message.key(), "remember");
///         Ok(())
///     }
/// }
///
/// export_async_consumer!(Remind);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `AsyncConsumer`",
    note = "one that `impl Consumer` is exported with `export_consumer!`; `#[consumer(..)]` exports by itself"
)]
pub trait AsyncConsumer: Sized + Send + Sync + 'static {
    /// The plugin's own settings of a route; [`NoSettings`](crate::NoSettings) if it has none.
    type Settings: DeserializeOwned + JsonSchema;
    /// What a digest takes: [`Raw`](crate::Raw), [`Object`](crate::Object), [`Json<T>`](crate::Json).
    type Message<'m>: Extract<'m> + Send;

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

    /// Makes an instance, inside its runtime: it may make what needs one.
    ///
    /// # Errors
    /// Why there can be none.
    fn construct(settings: Self::Settings, context: ConsumerContext) -> Result<Self, DigestError>;

    /// Digests one message. It counts as digested once this returns `Ok`.
    ///
    /// # Errors
    /// Why it was not, and what to do about it.
    fn digest<'m>(
        // One lifetime for both, which an `async fn digest(&self, offset: i64, message: Raw<'_>)` is more general than.
        &'m self,
        offset: i64,
        message: Self::Message<'m>,
    ) -> impl Future<Output = Result<(), DigestError>> + Send;

    /// First of all: open what you need.
    ///
    /// # Errors
    /// Why it cannot begin.
    fn started(&self) -> impl Future<Output = Result<(), DigestError>> + Send {
        async { Ok(()) }
    }

    /// These partitions are the route's from now on. A consumer that keeps its own offsets answers where to begin.
    ///
    /// # Errors
    /// Why it cannot take them.
    fn assigned(
        &self,
        partitions: &[AssignedPartition],
    ) -> impl Future<Output = Result<Vec<StartOffset>, DigestError>> + Send {
        let _ = partitions;
        async { Ok(Vec::new()) }
    }

    /// These partitions are given up; nothing of them is in hand any more.
    ///
    /// # Errors
    /// What could not be put away.
    fn revoked(&self, revoked: &Revoked) -> impl Future<Output = Result<(), DigestError>> + Send {
        let _ = revoked;
        async { Ok(()) }
    }

    /// Last of all; then the runtime ends.
    ///
    /// # Errors
    /// What could not be closed.
    fn stopped(&self) -> impl Future<Output = Result<(), DigestError>> + Send {
        async { Ok(()) }
    }
}
