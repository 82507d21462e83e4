//! What a consumer says of itself: the seed's class attributes, and what the daemon must know besides.

use std::time::Duration;

use devour_abi::{ConsumerType, Descriptor, IsolationDemand, SwapMode, Topics};
use serde_json::Value;

use crate::{AnySchema, Schema};

/// The attributes of a consumer. Every one of them can be overridden by the route.
///
/// ```
/// use devour::{Attributes, abi::ConsumerType};
///
/// let attributes = Attributes::new()
///     .topic("orders")
///     .consumer_type(ConsumerType::BalancedConsumer)
///     .config("consumer_group", "billing");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    descriptor: Descriptor,
    headers: Option<bool>,
    workers: Option<usize>,
}

impl Attributes {
    /// None set: then the route must name topic and the rest.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a topic, or a pattern (`^...`).
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        let mut names = self
            .descriptor
            .topic
            .take()
            .map_or_else(Vec::new, |topics| topics.names().to_vec());
        names.push(name.into());
        self.descriptor.topic = Some(if names.len() == 1 {
            Topics::One(names.remove(0))
        } else {
            Topics::Many(names)
        });
        self
    }

    /// Whether the partitions are shared with a group, or all of them read.
    #[must_use]
    pub fn consumer_type(mut self, consumer_type: ConsumerType) -> Self {
        self.descriptor.consumer_type = Some(consumer_type);
        self
    }

    /// Sets one key of the consumer's configuration, such as `consumer_group`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.descriptor.config.insert(key.into(), value.into());
        self
    }

    /// The schema of the messages: the daemon shows its attributes. The digests of `#[consumer]` then take what it leaves
    /// of a message; a [`Consumer`](crate::Consumer) by hand takes `Json<S>`.
    #[must_use]
    pub fn schema<S: Schema>(mut self) -> Self {
        self.descriptor.schema_class = Some(S::NAME.to_owned());
        self.descriptor.schema = Some(AnySchema::of::<S>().info());
        self
    }

    /// Names the schema of the messages, for people and tools.
    #[must_use]
    pub fn schema_class(mut self, name: impl Into<String>) -> Self {
        self.descriptor.schema_class = Some(name.into());
        self
    }

    /// How new code takes over from old.
    #[must_use]
    pub fn swap(mut self, mode: SwapMode) -> Self {
        self.descriptor.swap = mode;
        self
    }

    /// Where the consumer may run.
    #[must_use]
    pub fn isolation(mut self, demand: IsolationDemand) -> Self {
        self.descriptor.isolation = demand;
        self
    }

    /// The consumer keeps its offsets itself and answers `assigned` with where to begin.
    #[must_use]
    pub fn keeps_offsets(mut self) -> Self {
        self.descriptor.keeps_offsets = true;
        self
    }

    /// The consumer keeps what it digests until `flush`: a message whose digest returned `Ok` is taken, and done when the
    /// next `flush` returned `Ok`. An error of `flush` ends the instance, and what was taken is handed in again.
    #[must_use]
    pub fn buffering(mut self) -> Self {
        self.descriptor.buffering = true;
        self
    }

    /// `flush` is called so long after the first message that was taken. The route may say otherwise.
    #[must_use]
    pub fn flush_max_wait(mut self, wait: Duration) -> Self {
        self.descriptor.flush_max_wait_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// `flush` is called when so many messages were taken. The route may say otherwise.
    #[must_use]
    pub fn flush_max_messages(mut self, messages: u64) -> Self {
        self.descriptor.flush_max_messages = Some(messages);
        self
    }

    /// The consumer takes messages beyond a call by [`Message::take`](crate::Message::take) and completes them from
    /// threads of its own. An [`AsyncConsumer`](crate::AsyncConsumer) is asynchronous without saying so.
    #[must_use]
    pub fn asynchronous(mut self) -> Self {
        self.descriptor.asynchronous = true;
        self
    }

    /// How many threads the runtime of an [`AsyncConsumer`](crate::AsyncConsumer) has; one if it does not say.
    #[must_use]
    pub fn workers(mut self, threads: usize) -> Self {
        self.workers = Some(threads);
        self
    }

    /// The consumer's digests see headers. Else only those that take the whole message do.
    #[must_use]
    pub fn with_headers(mut self) -> Self {
        self.headers = Some(true);
        self
    }

    /// The consumer's digests see no headers, also where they take the whole message: then headers are neither
    /// parsed nor copied for it.
    #[must_use]
    pub fn without_headers(mut self) -> Self {
        self.headers = Some(false);
        self
    }

    pub(crate) fn headers(&self) -> Option<bool> {
        self.headers
    }

    pub(crate) fn worker_threads(&self) -> usize {
        self.workers.unwrap_or(1).max(1)
    }

    pub(crate) fn into_descriptor(self) -> Descriptor {
        self.descriptor
    }
}
