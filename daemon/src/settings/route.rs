//! A route as the rest of the daemon sees it: typed, complete, laid over its defaults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::attributes::Attributes;
use super::bounds::RouteBounds;
use super::config_types::ConsumerConfig;
use super::forms::check_topic;
use super::positions::Position;
use super::types::{Cluster, Secret};
use super::words::{
    ConsumerType, Delivery, Deserializer, DumpMode, HeaderStyle, Isolation, Membership, Order, Then,
    Tombstones,
};

/// One supervised consumer.
#[derive(Clone)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// The library, as written: a name to search in `plugin_dirs`, or a path.
    pub path: String,
    /// The consumer's symbol in the library.
    pub symbol: String,
    /// SHA-256 of the only content that the library may have, in lower case.
    pub sha256: Option<String>,
    /// Topics, where they are not the plugin's.
    pub topic: Option<Topics>,
    /// How it consumes, where that is not as the plugin says.
    pub consumer_type: Option<ConsumerType>,
    /// The seed's consumer keys that the route sets; they win over the plugin's ([`ConsumerConfig::over`]).
    pub config: ConsumerConfig,
    /// Where its lane lives.
    pub isolation: Isolation,
    /// What bounds its plugin's process.
    pub bounds: RouteBounds,
    /// Which of several digests is called.
    pub digest_name: Option<String>,
    /// How a digest takes messages, where that is not as the plugin says.
    pub dump: Option<DumpMode>,
    /// The schema of its messages, where that is not the plugin's.
    pub schema_class: Option<String>,
    /// The attributes that messages are cut down to before the plugin sees them; `None` is all.
    pub schema: Option<Attributes>,
    /// What messages are written in, where the plugin is to see JSON.
    pub deserializer: Option<Deserializer>,
    /// Where the schemas of the `deserializer` are.
    pub schema_registry: SchemaRegistry,
    /// How many digest at once, and in which order.
    pub concurrency: Concurrency,
    /// How much one call carries at most.
    pub batch: Batch,
    /// When a buffering consumer is told to flush, where that is not as the plugin says.
    pub flush: Flush,
    /// How many messages are digested in a time at most.
    pub rate_limit: Option<RateLimit>,
    /// The route's budget in bytes: its arena.
    pub memory: usize,
    /// What happens when a digest fails.
    pub on_error: OnError,
    /// What a tombstone is to a digest with JSON parameters.
    pub tombstones: Tombstones,
    /// Waits between restarts of the plugin, and how many there may be.
    pub restart: Restart,
    /// How the route is a member of its group.
    pub membership: Membership,
    /// How offsets and what digests produce are committed.
    pub delivery: Delivery,
    /// Deadline of a constructor and of each lifecycle method.
    pub lifecycle_timeout: Duration,
    /// How long a revoked partition may take to finish what is in hand.
    pub drain_timeout: Duration,
    /// Deadline of one digest.
    pub digest_timeout: Option<Duration>,
    /// How long a partition with messages to read may make no progress before its reading begins anew.
    pub stall_timeout: Option<Duration>,
    /// How long the route keeps its partitions without digesting.
    pub release_after: Option<Duration>,
    /// Deaths of the plugin at which a message was alone in hand, until it is given up.
    pub poison_after: Option<u32>,
    /// The plugin's own settings, an object.
    pub settings: serde_json::Value,
    /// Its cluster.
    pub cluster: Cluster,
    /// Nobody wrote it down: its library lies in a plugin directory.
    pub autoloaded: bool,
    /// Where the route's name stands in its file. No part of equality: a route that moved is the same route.
    pub position: Position,
}

/// What a route reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    /// Names; an entry that begins with `^` is a pattern.
    Names(Vec<String>),
    /// One regular expression, with its `^`.
    Pattern(String),
}

/// Where schemas are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaRegistry {
    /// URLs of one registry, to be tried in turn.
    pub urls: Vec<String>,
    /// `user:password`, or a token.
    pub credentials: Option<Secret>,
}

/// How much one call of a plugin carries at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Messages.
    pub max_messages: usize,
    /// Bytes.
    pub max_bytes: usize,
    /// How long a call may wait to become full.
    pub max_wait: Duration,
}

/// How many messages of a route are digested at once, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// What keeps its order.
    pub order: Order,
    /// Instances of the consumer, each with a thread.
    pub lanes: usize,
    /// Messages that an async consumer has going at once, in all lanes together.
    pub in_flight: usize,
}

/// When a buffering consumer is told to flush; what is `None` is as the plugin says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// So long after the first message that it took.
    pub max_wait: Option<Duration>,
    /// When it has taken so many.
    pub max_messages: Option<usize>,
}

/// A number of messages in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages, at least one.
    pub messages: u32,
    /// The time.
    pub per: Duration,
}

/// Where dead letters go, and how they say what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The topic.
    pub topic: String,
    /// Names of the headers.
    pub headers: HeaderStyle,
}

/// What happens when a digest fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnError {
    /// How often a message is tried; `None` is for ever.
    pub attempts: Option<u32>,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// What comes after the last attempt, and what a rejected message gets.
    pub then: Then,
    /// Where dead letters go; present where `then` is `dead_letter`.
    pub dead_letter: Option<DeadLetter>,
}

/// An exponential back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}

/// When a plugin that died is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Waits between restarts.
    pub backoff: Backoff,
    /// How many there may be; `None` is no limit.
    pub budget: Option<RestartBudget>,
}

/// Restarts in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts, at least one.
    pub restarts: u32,
    /// The time.
    pub per: Duration,
}

/// The name of a route: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with `.` or `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName(Arc<str>);

/// Why a text is not the name of a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteNameError {
    /// Empty or longer than 64.
    #[error("a route's name has 1 to 64 characters, this one has {0}")]
    Length(usize),
    /// A character that is not allowed.
    #[error("a route's name has only letters, digits, `.`, `_` and `-`, not `{}`", .0.escape_default())]
    Character(char),
    /// It would be a hidden file, or look like a flag.
    #[error("a route's name does not begin with `{0}`")]
    Start(char),
}

// === impl Route ===

/// Two routes are equal if they would run alike: where they stand does not matter, nor what pins the library (a library
/// is compared by its content).
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        // taken apart, so that a new field cannot be forgotten here
        let Self {
            name,
            path,
            symbol,
            sha256: _,
            topic,
            consumer_type,
            config,
            isolation,
            bounds,
            digest_name,
            dump,
            schema_class,
            schema,
            deserializer,
            schema_registry,
            concurrency,
            batch,
            flush,
            rate_limit,
            memory,
            on_error,
            tombstones,
            restart,
            membership,
            delivery,
            lifecycle_timeout,
            drain_timeout,
            digest_timeout,
            stall_timeout,
            release_after,
            poison_after,
            settings,
            cluster,
            autoloaded: _,
            position: _,
        } = self;
        *name == other.name
            && *path == other.path
            && *symbol == other.symbol
            && *topic == other.topic
            && *consumer_type == other.consumer_type
            && *config == other.config
            && *isolation == other.isolation
            && *bounds == other.bounds
            && *digest_name == other.digest_name
            && *dump == other.dump
            && *schema_class == other.schema_class
            && *schema == other.schema
            && *deserializer == other.deserializer
            && *schema_registry == other.schema_registry
            && *concurrency == other.concurrency
            && *batch == other.batch
            && *flush == other.flush
            && *rate_limit == other.rate_limit
            && *memory == other.memory
            && *on_error == other.on_error
            && *tombstones == other.tombstones
            && *restart == other.restart
            && *membership == other.membership
            && *delivery == other.delivery
            && *lifecycle_timeout == other.lifecycle_timeout
            && *drain_timeout == other.drain_timeout
            && *digest_timeout == other.digest_timeout
            && *stall_timeout == other.stall_timeout
            && *release_after == other.release_after
            && *poison_after == other.poison_after
            && *settings == other.settings
            && *cluster == other.cluster
    }
}

/// The plugin's own settings may hold anything, so only their keys are shown.
impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self
            .settings
            .as_object()
            .map(|map| map.keys().collect())
            .unwrap_or_default();
        f.debug_struct("Route")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("symbol", &self.symbol)
            .field("sha256", &self.sha256)
            .field("topic", &self.topic)
            .field("consumer_type", &self.consumer_type)
            .field("config", &self.config)
            .field("isolation", &self.isolation)
            .field("bounds", &self.bounds)
            .field("digest_name", &self.digest_name)
            .field("dump", &self.dump)
            .field("schema_class", &self.schema_class)
            .field("schema", &self.schema)
            .field("deserializer", &self.deserializer)
            .field("schema_registry", &self.schema_registry)
            .field("concurrency", &self.concurrency)
            .field("batch", &self.batch)
            .field("flush", &self.flush)
            .field("rate_limit", &self.rate_limit)
            .field("memory", &self.memory)
            .field("on_error", &self.on_error)
            .field("tombstones", &self.tombstones)
            .field("restart", &self.restart)
            .field("membership", &self.membership)
            .field("delivery", &self.delivery)
            .field("lifecycle_timeout", &self.lifecycle_timeout)
            .field("drain_timeout", &self.drain_timeout)
            .field("digest_timeout", &self.digest_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("release_after", &self.release_after)
            .field("poison_after", &self.poison_after)
            .field("settings (keys)", &keys)
            .field("cluster", &self.cluster)
            .field("autoloaded", &self.autoloaded)
            .field("position", &self.position)
            .finish()
    }
}

// === impl Topics ===

impl Topics {
    /// All the names and patterns, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<&str> {
        match self {
            Self::Names(names) => names.iter().map(String::as_str).collect(),
            Self::Pattern(pattern) => vec![pattern],
        }
    }

    /// Whether `topic` is one of them by its name. (What a pattern matches, librdkafka's own rules say.)
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        self.entries().contains(&topic)
    }

    /// Topics from a route or a plugin's descriptor, each a name or a `^pattern`.
    ///
    /// # Errors
    /// Says which entry is not the name of a topic and why.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        for (at, entry) in entries.iter().enumerate() {
            check_topic(entry)?;
            if entries[..at].contains(entry) {
                return Err(format!("topic `{entry}` is listed twice"));
            }
        }
        match entries {
            [] => Err("the list of topics is empty".into()),
            [one] if one.starts_with('^') => Ok(Self::Pattern(one.clone())),
            names => Ok(Self::Names(names.to_vec())),
        }
    }
}

// === impl RouteName ===

impl RouteName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(name: &str) -> Result<Self, RouteNameError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(c) = name.chars().find(|c| !legal(*c)) {
            return Err(RouteNameError::Character(c));
        }
        match name.chars().next() {
            None => Err(RouteNameError::Length(0)),
            Some(c @ ('.' | '-')) => Err(RouteNameError::Start(c)),
            Some(_) if name.len() > 64 => Err(RouteNameError::Length(name.len())),
            Some(_) => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for RouteName {
    type Err = RouteNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl std::ops::Deref for RouteName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RouteName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for RouteName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for RouteName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
