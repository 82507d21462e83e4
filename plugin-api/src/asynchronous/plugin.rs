//! What stands behind the symbol of an async consumer: written by `#[consumer]`, or given to every [`AsyncConsumer`]. An
//! author needs nothing of this by name.

use std::future::Future;

use devour_abi::{AssignedPartition, Call, CallReturn, DigestInfo, DumpMode, StartOffset};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::run::{self, Tasks};
use crate::{
    AsyncConsumer, Attributes, ConsumerContext, DigestError, Extract, Message, Revoked, Undecodable,
    plugin::info, run::Lane,
};

/// An async type with its digests and its life. The methods are those of [`AsyncConsumer`], whose docs hold.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async consumer",
    note = "write `#[consumer(..)]` over an impl block with an `async fn digest(&self, ..)`, or `impl AsyncConsumer for {Self}`"
)]
pub trait AsyncPlugin: Sized + Send + Sync + 'static {
    /// See [`AsyncConsumer::Settings`].
    type Settings: DeserializeOwned + JsonSchema;

    /// The digests; the first is used unless the route names another.
    fn digests() -> Vec<AsyncDigestEntry<Self>>;

    /// See [`AsyncConsumer::attributes`].
    fn attributes() -> Attributes;

    /// See [`AsyncConsumer::describe`].
    fn describe(settings: &Self::Settings, attributes: Attributes) -> Attributes {
        let _ = settings;
        attributes
    }

    /// See [`AsyncConsumer::check`].
    fn check(settings: &Self::Settings) -> Vec<String> {
        let _ = settings;
        Vec::new()
    }

    /// See [`AsyncConsumer::construct`].
    ///
    /// # Errors
    /// Why there can be no instance.
    fn construct(settings: Self::Settings, context: ConsumerContext) -> Result<Self, DigestError>;

    /// See [`AsyncConsumer::started`].
    ///
    /// # Errors
    /// Why it cannot begin.
    fn started(&self) -> impl Future<Output = Result<(), DigestError>> + Send {
        async { Ok(()) }
    }

    /// See [`AsyncConsumer::assigned`].
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

    /// See [`AsyncConsumer::revoked`].
    ///
    /// # Errors
    /// What could not be put away.
    fn revoked(&self, revoked: &Revoked) -> impl Future<Output = Result<(), DigestError>> + Send {
        let _ = revoked;
        async { Ok(()) }
    }

    /// See [`AsyncConsumer::stopped`].
    ///
    /// # Errors
    /// What could not be closed.
    fn stopped(&self) -> impl Future<Output = Result<(), DigestError>> + Send {
        async { Ok(()) }
    }
}

/// An async digest.
pub trait AsyncHandler<C: 'static>: 'static {
    /// What it takes.
    type Message<'m>: Extract<'m> + Send;
    /// See [`Handler::extract`](crate::plugin::Handler::extract).
    ///
    /// # Errors
    /// Where the message's bytes are not what it is made from.
    #[inline]
    fn extract(message: Message<'_>, dump: DumpMode) -> Result<Option<Self::Message<'_>>, Undecodable> {
        Extract::extract(message, dump)
    }
    /// Digests.
    ///
    /// # Errors
    /// What the digest says.
    fn digest<'m>(
        consumer: &'m C,
        offset: i64,
        message: Self::Message<'m>,
    ) -> impl Future<Output = Result<(), DigestError>> + Send;
}

/// One digest of an async plugin: what the daemon is told of it, and its loop over a call.
pub struct AsyncDigestEntry<C> {
    pub(super) info: DigestInfo,
    pub(super) run: fn(&Tasks<'_, C>, &Call<'_>, &mut Lane) -> CallReturn,
}

// === impl AsyncDigestEntry ===

impl<C: AsyncPlugin> AsyncDigestEntry<C> {
    /// A digest that takes one message.
    #[must_use]
    pub fn single<H: AsyncHandler<C>>(name: &str) -> Self {
        Self {
            info: info::<H::Message<'static>>(name, false),
            run: run::spawn_each::<C, H>,
        }
    }

    /// With this dump mode of those that it takes as its own.
    #[must_use]
    pub fn dump(mut self, dump: DumpMode) -> Self {
        self.info.dump = dump;
        self
    }
}

// === every AsyncConsumer is an AsyncPlugin ===

impl<C: AsyncConsumer> AsyncPlugin for C {
    type Settings = <C as AsyncConsumer>::Settings;

    fn digests() -> Vec<AsyncDigestEntry<Self>> {
        vec![AsyncDigestEntry::single::<ByHand>("digest")]
    }

    fn attributes() -> Attributes {
        <C as AsyncConsumer>::attributes()
    }

    fn describe(settings: &Self::Settings, attributes: Attributes) -> Attributes {
        <C as AsyncConsumer>::describe(settings, attributes)
    }

    fn check(settings: &Self::Settings) -> Vec<String> {
        <C as AsyncConsumer>::check(settings)
    }

    fn construct(settings: Self::Settings, context: ConsumerContext) -> Result<Self, DigestError> {
        <C as AsyncConsumer>::construct(settings, context)
    }

    fn started(&self) -> impl Future<Output = Result<(), DigestError>> + Send {
        AsyncConsumer::started(self)
    }

    fn assigned(
        &self,
        partitions: &[AssignedPartition],
    ) -> impl Future<Output = Result<Vec<StartOffset>, DigestError>> + Send {
        AsyncConsumer::assigned(self, partitions)
    }

    fn revoked(&self, revoked: &Revoked) -> impl Future<Output = Result<(), DigestError>> + Send {
        AsyncConsumer::revoked(self, revoked)
    }

    fn stopped(&self) -> impl Future<Output = Result<(), DigestError>> + Send {
        AsyncConsumer::stopped(self)
    }
}

struct ByHand;

impl<C: AsyncConsumer> AsyncHandler<C> for ByHand {
    type Message<'m> = C::Message<'m>;

    fn digest<'m>(
        consumer: &'m C,
        offset: i64,
        message: Self::Message<'m>,
    ) -> impl Future<Output = Result<(), DigestError>> + Send {
        consumer.digest(offset, message)
    }
}

/// Exports a hand-written [`AsyncConsumer`] under its type's name, as [`export_consumer!`](crate::export_consumer) does
/// for others: `export_async_consumer!(Remind)`, `export_async_consumer!(Remind as "reminders")`.
#[macro_export]
macro_rules! export_async_consumer {
    ($consumer:ident) => {
        $crate::export_async_consumer!($consumer as stringify!($consumer));
    };
    ($consumer:ty as $symbol:expr) => {
        $crate::export_through!(
            $consumer,
            $symbol,
            $crate::asynchronous::shim::AsyncShim<$consumer>
        );
    };
}
