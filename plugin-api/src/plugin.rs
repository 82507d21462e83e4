//! What stands behind an exported symbol: written by `#[consumer]`, or given to every [`Consumer`]. An author needs
//! nothing of this by name.

use devour_abi::{AssignedPartition, Call, CallReturn, DigestInfo, DumpMode, PluginConsumer, StartOffset};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Attributes, Batch, Consumer, ConsumerContext, DigestError, Extract, Message, Revoked, Undecodable,
    run::{self, Lane},
};

/// A type with its digests and its life. The methods are those of [`Consumer`], whose docs hold.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a consumer",
    note = "write `#[consumer(..)]` over an impl block with a `digest` method, or `impl Consumer for {Self}`"
)]
pub trait Plugin: Sized + Send + 'static {
    /// See [`Consumer::Settings`].
    type Settings: DeserializeOwned + JsonSchema;

    /// The digests; the first is used unless the route names another.
    fn digests() -> Vec<DigestEntry<Self>>;

    /// See [`Consumer::attributes`].
    fn attributes() -> Attributes;

    /// See [`Consumer::describe`].
    fn describe(settings: &Self::Settings, attributes: Attributes) -> Attributes {
        let _ = settings;
        attributes
    }

    /// See [`Consumer::check`].
    fn check(settings: &Self::Settings) -> Vec<String> {
        let _ = settings;
        Vec::new()
    }

    /// See [`Consumer::construct`].
    ///
    /// # Errors
    /// Why there can be no instance.
    fn construct(settings: Self::Settings, context: ConsumerContext) -> Result<Self, DigestError>;

    /// See [`Consumer::started`].
    ///
    /// # Errors
    /// Why it cannot begin.
    fn started(&mut self) -> Result<(), DigestError> {
        Ok(())
    }

    /// See [`Consumer::assigned`].
    ///
    /// # Errors
    /// Why it cannot take them.
    fn assigned(&mut self, partitions: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError> {
        let _ = partitions;
        Ok(Vec::new())
    }

    /// See [`Consumer::revoked`].
    ///
    /// # Errors
    /// What could not be put away.
    fn revoked(&mut self, revoked: &Revoked) -> Result<(), DigestError> {
        let _ = revoked;
        Ok(())
    }

    /// See [`Consumer::flush`].
    ///
    /// # Errors
    /// Why it is not done.
    fn flush(&mut self) -> Result<(), DigestError> {
        Ok(())
    }

    /// See [`Consumer::stopped`].
    ///
    /// # Errors
    /// What could not be closed.
    fn stopped(&mut self) -> Result<(), DigestError> {
        Ok(())
    }
}

/// A consumer with the name it is exported under, the crate it comes from, and what stands behind its symbol.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not exported",
    note = "`#[consumer(..)]` exports; after `impl Consumer for {Self}` write `export_consumer!({Self})`, after \
            `impl AsyncConsumer` `export_async_consumer!({Self})`"
)]
pub trait Exported: Sized + 'static {
    /// The symbol.
    const SYMBOL: &'static str;
    /// The crate's name.
    const PACKAGE: &'static str;
    /// The crate's version.
    const VERSION: &'static str;
    /// What leads it through calls and life.
    type Shim: PluginConsumer;
}

/// A digest that takes one message.
pub trait Handler<C> {
    /// What it takes.
    type Message<'m>: Extract<'m>;
    /// Makes it from a message: as it is, or from what the consumer's schema leaves of it.
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
    fn digest(consumer: &mut C, offset: i64, message: Self::Message<'_>) -> Result<(), DigestError>;
}

/// A digest that takes a batch.
pub trait BatchHandler<C> {
    /// What its messages are.
    type Message<'m>: Extract<'m>;
    /// Makes it from a message: as it is, or from what the consumer's schema leaves of it.
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
    /// What the digest says of all messages.
    fn digest(consumer: &mut C, batch: &mut Batch<Self::Message<'_>>) -> Result<(), DigestError>;
}

/// One digest of a plugin: what the daemon is told of it, and its loop over a call.
pub struct DigestEntry<C> {
    pub(crate) info: DigestInfo,
    pub(crate) run: fn(&mut C, &Call<'_>, &mut Lane) -> CallReturn,
}

/// What an `assigned` written for [`consumer`](macro@crate::consumer) may return: nothing, start offsets, or a `Result`
/// of either.
#[diagnostic::on_unimplemented(
    message = "`assigned` returns `()`, `Vec<StartOffset>` or a `Result` of either, not `{Self}`"
)]
pub trait IntoStartOffsets {
    /// As the one type that the shim knows.
    ///
    /// # Errors
    /// What `assigned` says.
    fn into_start_offsets(self) -> Result<Vec<StartOffset>, DigestError>;
}

impl IntoStartOffsets for () {
    fn into_start_offsets(self) -> Result<Vec<StartOffset>, DigestError> {
        Ok(Vec::new())
    }
}

impl IntoStartOffsets for Vec<StartOffset> {
    fn into_start_offsets(self) -> Result<Vec<StartOffset>, DigestError> {
        Ok(self)
    }
}

impl<T: IntoStartOffsets, E: Into<DigestError>> IntoStartOffsets for Result<T, E> {
    fn into_start_offsets(self) -> Result<Vec<StartOffset>, DigestError> {
        self.map_err(Into::into)?.into_start_offsets()
    }
}

// === impl DigestEntry ===

impl<C: 'static> DigestEntry<C> {
    /// A digest that takes one message.
    #[must_use]
    pub fn single<H: Handler<C> + 'static>(name: &str) -> Self {
        Self {
            info: info::<H::Message<'static>>(name, false),
            run: run::one_by_one::<C, H>,
        }
    }

    /// A digest that takes a batch.
    #[must_use]
    pub fn batch<H: BatchHandler<C> + 'static>(name: &str) -> Self {
        Self {
            info: info::<H::Message<'static>>(name, true),
            run: run::all_at_once::<C, H>,
        }
    }

    /// With this dump mode of those that it takes as its own.
    #[must_use]
    pub fn dump(mut self, dump: DumpMode) -> Self {
        self.info.dump = dump;
        self
    }
}

/// Whether `M` can be made from a message in this mode; for the assertions of `#[consumer]`.
#[doc(hidden)]
#[must_use]
pub const fn accepts<M: Extract<'static>>(mode: DumpMode) -> bool {
    let mut place = 0;
    while place < M::ACCEPTS.len() {
        if M::ACCEPTS[place] as u8 == mode as u8 {
            return true;
        }
        place += 1;
    }
    false
}

pub(crate) fn info<M: Extract<'static>>(name: &str, takes_batches: bool) -> DigestInfo {
    DigestInfo {
        name: name.to_owned(),
        dump: M::ACCEPTS[0],
        accepts: M::ACCEPTS.to_vec(),
        reads_headers: M::READS_HEADERS,
        takes_batches,
    }
}

// === every Consumer is a Plugin ===

impl<C: Consumer> Plugin for C {
    type Settings = <C as Consumer>::Settings;

    fn digests() -> Vec<DigestEntry<Self>> {
        vec![if C::TAKES_BATCHES {
            DigestEntry::batch::<ByHand>("digest_batch")
        } else {
            DigestEntry::single::<ByHand>("digest")
        }]
    }

    fn attributes() -> Attributes {
        <C as Consumer>::attributes()
    }

    fn describe(settings: &Self::Settings, attributes: Attributes) -> Attributes {
        <C as Consumer>::describe(settings, attributes)
    }

    fn check(settings: &Self::Settings) -> Vec<String> {
        <C as Consumer>::check(settings)
    }

    fn construct(settings: Self::Settings, context: ConsumerContext) -> Result<Self, DigestError> {
        <C as Consumer>::construct(settings, context)
    }

    fn started(&mut self) -> Result<(), DigestError> {
        Consumer::started(self)
    }

    fn assigned(&mut self, partitions: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError> {
        Consumer::assigned(self, partitions)
    }

    fn revoked(&mut self, revoked: &Revoked) -> Result<(), DigestError> {
        Consumer::revoked(self, revoked)
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        Consumer::flush(self)
    }

    fn stopped(&mut self) -> Result<(), DigestError> {
        Consumer::stopped(self)
    }
}

struct ByHand;

impl<C: Consumer> Handler<C> for ByHand {
    type Message<'m> = C::Message<'m>;

    #[inline]
    fn digest(consumer: &mut C, offset: i64, message: Self::Message<'_>) -> Result<(), DigestError> {
        consumer.digest(offset, message)
    }
}

impl<C: Consumer> BatchHandler<C> for ByHand {
    type Message<'m> = C::Message<'m>;

    fn digest(consumer: &mut C, batch: &mut Batch<Self::Message<'_>>) -> Result<(), DigestError> {
        consumer.digest_batch(batch)
    }
}

/// Exports a hand-written [`Consumer`] under its type's name: `export_consumer!(OrderTotals)` gives the symbol
/// `OrderTotals`, which is what settings name; `export_consumer!(OrderTotals as "orders")` gives `orders`.
#[macro_export]
macro_rules! export_consumer {
    ($consumer:ident) => {
        $crate::export_consumer!($consumer as stringify!($consumer));
    };
    ($consumer:ty as $symbol:expr) => {
        $crate::export_through!($consumer, $symbol, $crate::shim::Shim<$consumer>);
    };
}

/// Exports a type through a shim; for the macros that know which.
#[doc(hidden)]
#[macro_export]
macro_rules! export_through {
    ($consumer:ty, $symbol:expr, $shim:ty) => {
        const _: () = {
            impl $crate::plugin::Exported for $consumer {
                const SYMBOL: &'static str = $symbol;
                const PACKAGE: &'static str = env!("CARGO_PKG_NAME");
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");
                type Shim = $shim;
            }
            $crate::abi::export_symbol!($symbol, $shim);
        };
    };
}
