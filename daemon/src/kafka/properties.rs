//! From settings to librdkafka's properties: the seed's options in librdkafka's words, our own defaults, and the
//! free-form `librdkafka:` map on top, except for what the daemon must own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use rdkafka::config::{ClientConfig, NativeClientConfig};
use rdkafka::error::KafkaError;

use super::errors::ClientError;
use super::property_check::reason;
use super::topics::InternalTopics;
use crate::settings::{Cluster, ConsumerConfig, ConsumerType, RouteName};

/// Everything that one client is made of.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientProperties {
    pub(super) map: BTreeMap<String, String>,
    /// Which setting gave a property, for findings; our own defaults have none.
    origins: BTreeMap<String, String>,
    source_address: Option<IpAddr>,
    pub(super) internal_topics: InternalTopics,
    has_group: bool,
}

/// What is wrong with one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyFinding {
    /// The setting to look at, such as `librdkafka.fetch.min.bytes` or `config.fetch_min_bytes`; empty where only
    /// the whole is wrong.
    pub key: String,
    pub message: String,
}

/// How partitions change hands in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Each rebalance takes all and gives all.
    Eager,
    /// Each rebalance says only what changes.
    Cooperative,
}

/// Ours wherever nobody says otherwise. Memory: at most 32 MiB of messages wait in a client, plus one fetch of 16 MiB
/// a broker; more does not make it faster, as one broker connection is its bottleneck.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "devourd"),
    ("allow.auto.create.topics", "false"),
    // librdkafka's default, the newest message, loses what came before the first start.
    ("auto.offset.reset", "earliest"),
    // At the default of 1,000 every consumer that is slower than its fetcher stutters.
    ("fetch.queue.backoff.ms", "10"),
    ("queued.min.messages", "100000"),
    ("queued.max.messages.kbytes", "32768"),
    ("fetch.max.bytes", "16777216"),
    ("fetch.wait.max.ms", "100"),
    ("socket.keepalive.enable", "true"),
    // A broker that was restarted is found again this soon (the default is ten seconds).
    ("reconnect.backoff.max.ms", "5000"),
    // A topic that is made after the subscription is found this soon (the default is five minutes).
    ("topic.metadata.refresh.interval.ms", "10000"),
    // The only way to learn that a broker is back, and how far a partition is fetched.
    ("statistics.interval.ms", "5000"),
    // The client's telemetry would be waited for at its end.
    ("enable.metrics.push", "false"),
    ("log.queue", "true"),
    // The only way to learn that a topic was made again: see `made_again` in `callbacks`. A few lines for each refresh.
    ("debug", "topic"),
];

/// What the daemon must own, and why: key, reason.
const OWNED: &[(&str, &str)] = &[
    (
        "enable.auto.commit",
        "every commit is the daemon's own, after the digest; use auto_commit_enable in `config`",
    ),
    (
        "auto.commit.enable",
        "every commit is the daemon's own, after the digest; use auto_commit_enable in `config`",
    ),
    (
        "auto.commit.interval.ms",
        "every commit is the daemon's own; use auto_commit_interval_ms in `config`",
    ),
    (
        "enable.auto.offset.store",
        "the daemon commits what was digested, not what was fetched",
    ),
    ("offset.store.method", "offsets are kept by the broker"),
    ("offset.store.path", "offsets are kept by the broker"),
    (
        "enable.partition.eof",
        "with it this version of librdkafka can pass over a message after a pause",
    ),
    ("bootstrap.servers", "use `hosts`"),
    ("metadata.broker.list", "use `hosts`"),
    (
        "group.instance.id",
        "the daemon makes it of host, settings file and route; use `membership`",
    ),
    ("log.queue", "log lines go to the daemon's log"),
    (
        "statistics.interval.ms",
        "the daemon learns from them every five seconds which brokers are back and how far each partition is read",
    ),
    ("enabled_events", "events are served by the daemon"),
    (
        "plugin.library.paths",
        "no foreign code is loaded beside a Kafka client",
    ),
    (
        "internal.termination.signal",
        "the daemon ends its clients itself",
    ),
    ("opaque", "it is a pointer of the daemon's"),
    (
        "test.mock.num.brokers",
        "it would start a broker inside the daemon; the embedded broker is a process of its own",
    ),
];

/// Bounds that librdkafka sets and a person cannot know.
const MAX_QUEUED_KBYTES: u64 = 65536;
const MAX_SOCKET_TIMEOUT_MS: u64 = 300_000;
const MIN_SOCKET_TIMEOUT_MS: u64 = 10;
const MIN_CONNECT_TIMEOUT_MS: u64 = 1000;

/// Values that stay out of every log.
pub(super) const SECRET: &[&str] = &[
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
];

/// The properties of a route's consumer. `membership` is its `group.instance.id`, for a static member.
pub fn consumer_properties(
    cluster: &Cluster,
    consumer_type: ConsumerType,
    config: &ConsumerConfig,
    route: &RouteName,
    membership: Option<String>,
) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let mut properties = of_cluster(cluster);
    let mut findings = Vec::new();
    let kip_848 = cluster
        .librdkafka
        .get("group.protocol")
        .is_some_and(|value| value == "consumer");

    match (&config.consumer_group, consumer_type) {
        (Some(group), _) => {
            properties.set("config.consumer_group", "group.id", group);
            properties.has_group = true;
        }
        (None, ConsumerType::Balanced) => findings.push(PropertyFinding {
            key: "config.consumer_group".into(),
            message: "a balanced_consumer needs a consumer_group: the group shares the partitions out".into(),
        }),
        // librdkafka has no consumer queue without a group id. This group is never joined and never written.
        (None, ConsumerType::Simple) => {
            properties.ours("group.id", &format!("devourd.simple.{route}"));
        }
    }
    properties.ours("enable.auto.commit", "false");
    properties.ours("enable.auto.offset.store", "false");
    properties.ours("enable.partition.eof", "false");
    if consumer_type == ConsumerType::Balanced && !kip_848 {
        properties.ours("partition.assignment.strategy", "cooperative-sticky");
        if let Some(id) = membership {
            properties.ours("group.instance.id", &id);
        }
    }
    of_config(&mut properties, config, kip_848);
    pass_through(
        &mut properties,
        cluster,
        config.consumer_group.as_deref(),
        &mut findings,
    );
    if findings.is_empty() {
        Ok(properties)
    } else {
        Err(findings)
    }
}

/// The properties of a producer to the same cluster.
pub fn producer_properties(cluster: &Cluster) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let mut properties = of_cluster(cluster);
    let mut findings = Vec::new();
    for key in [
        "auto.offset.reset",
        "allow.auto.create.topics",
        "statistics.interval.ms",
        "debug",
    ] {
        properties.map.remove(key);
    }
    let consumers = |key: &&String| !key.starts_with("fetch.") && !key.starts_with("queued.");
    properties.map = properties
        .map
        .iter()
        .filter(|(key, _)| consumers(key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    pass_through(&mut properties, cluster, None, &mut findings);
    if findings.is_empty() {
        Ok(properties)
    } else {
        Err(findings)
    }
}

/// The properties of a [`Sender`](super::Sender): nothing that it was given is lost or changes its order, whatever the
/// cluster's `librdkafka:` map says for other producers.
pub fn sender_properties(cluster: &Cluster) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let mut properties = producer_properties(cluster)?;
    // What would weaken it, by all of its names.
    for key in [
        "request.required.acks",
        "retries",
        "message.send.max.retries",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "queue.buffering.backpressure.threshold",
        "delivery.timeout.ms",
        "transactional.id",
        "enable.gapless.guarantee",
        "queuing.strategy",
    ] {
        properties.map.remove(key);
    }
    properties.ours("enable.idempotence", "true");
    properties.ours("acks", "all");
    // The broker's limit is the one that counts.
    properties.ours("message.max.bytes", "1000000000");
    // Its owner tries again, and says so; an answer must not take minutes.
    properties.ours("message.timeout.ms", "30000");
    properties.ours("topic.metadata.propagation.max.ms", "5000");
    // Else its own partitioner would not be asked about a record without a key.
    properties.ours("sticky.partitioning.linger.ms", "0");
    Ok(properties)
}

/// Properties of the producer of what plugins produce: as [`sender_properties`], but a record is tried until it is written
/// or refused, as long as its route lives.
pub fn output_properties(cluster: &Cluster) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let mut properties = sender_properties(cluster)?;
    properties.map.remove("sticky.partitioning.linger.ms");
    // Offsets wait for it: to give up would only be to digest again what is written by then.
    properties.ours("message.timeout.ms", "0");
    // Each route bounds its own bytes; a full queue would be another route's doing.
    properties.ours("queue.buffering.max.messages", "0");
    properties.ours("queue.buffering.max.kbytes", "2147483647");
    if properties.get("partitioner").is_none() {
        // As in Java's client.
        properties.ours("partitioner", "murmur2_random");
    }
    Ok(properties)
}

/// What `transaction.timeout.ms` is where nobody says: the brokers abort a transaction that is open for longer.
const TRANSACTION_TIMEOUT_MS: u64 = 60_000;

/// How long a connection of such a producer idles where nobody says.
const TRANSACTION_IDLE_MS: u64 = 20_000;

/// Properties of the producer of a route whose offsets and records are committed together, by its `transactional.id`: as
/// [`output_properties`], but no record outlives its transaction.
pub fn transaction_properties(cluster: &Cluster, id: &str) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let mut properties = output_properties(cluster)?;
    properties.map.remove("message.timeout.ms");
    if properties.get("transaction.timeout.ms").is_none() {
        properties.ours("transaction.timeout.ms", &TRANSACTION_TIMEOUT_MS.to_string());
    }
    // librdkafka refuses a request that may take longer than the transaction.
    let most = properties.transaction_timeout_ms().saturating_sub(100);
    let longer = |value: &str| value.parse::<u64>().is_ok_and(|value| value > most);
    if properties.get("socket.timeout.ms").is_some_and(longer) {
        properties.map.remove("socket.timeout.ms");
    }
    // Where the group's coordinator moves as its broker comes back, librdkafka can wait with offsets, longer than it was
    // told to, until some connection of the client changes. By itself it closes none; brokers do after ten idle minutes.
    // (Idle is a connection on which nothing comes or goes: a request that is not answered for so long is sent again.)
    if properties.get("connections.max.idle.ms").is_none() {
        properties.ours("connections.max.idle.ms", &TRANSACTION_IDLE_MS.to_string());
    }
    // Dead letters wish for a partition, also those without a key: the sender's own partitioner is asked about them.
    properties.ours("sticky.partitioning.linger.ms", "0");
    properties.ours("transactional.id", id);
    Ok(properties)
}

impl ClientProperties {
    /// The `transaction.timeout.ms` of a producer.
    #[must_use]
    pub fn transaction_timeout_ms(&self) -> u64 {
        let set = self
            .get("transaction.timeout.ms")
            .and_then(|value| value.parse().ok());
        set.unwrap_or(TRANSACTION_TIMEOUT_MS)
    }
}

fn of_cluster(cluster: &Cluster) -> ClientProperties {
    let mut properties = ClientProperties {
        map: BTreeMap::new(),
        origins: BTreeMap::new(),
        source_address: cluster.source_address,
        internal_topics: match cluster.exclude_internal_topics {
            true => InternalTopics::Exclude,
            false => InternalTopics::Allow,
        },
        has_group: false,
    };
    for (key, value) in DEFAULTS {
        properties.ours(key, value);
    }
    properties.set("hosts", "bootstrap.servers", &cluster.hosts.join(","));
    if let Some(ssl) = &cluster.ssl {
        properties.set("ssl_config", "security.protocol", "ssl");
        properties.set(
            "ssl_config.cafile",
            "ssl.ca.location",
            &ssl.cafile.to_string_lossy(),
        );
        if let Some(file) = &ssl.certfile {
            properties.set(
                "ssl_config.certfile",
                "ssl.certificate.location",
                &file.to_string_lossy(),
            );
        }
        if let Some(file) = &ssl.keyfile {
            properties.set("ssl_config.keyfile", "ssl.key.location", &file.to_string_lossy());
        }
        if let Some(password) = &ssl.password {
            properties.set("ssl_config.password", "ssl.key.password", password.expose());
        }
        let verify = if ssl.verify_hostname { "https" } else { "none" };
        properties.set(
            "ssl_config.verify_hostname",
            "ssl.endpoint.identification.algorithm",
            verify,
        );
    }
    if let Some(timeout) = cluster.socket_timeout_ms {
        let requests = timeout.clamp(MIN_SOCKET_TIMEOUT_MS, MAX_SOCKET_TIMEOUT_MS);
        properties.set("socket_timeout_ms", "socket.timeout.ms", &requests.to_string());
        let connects = timeout.clamp(MIN_CONNECT_TIMEOUT_MS, MAX_SOCKET_TIMEOUT_MS);
        properties.set(
            "socket_timeout_ms",
            "socket.connection.setup.timeout.ms",
            &connects.to_string(),
        );
    }
    if let Some(address) = cluster.source_address {
        let family = if address.is_ipv4() { "v4" } else { "v6" };
        properties.set("source_address", "broker.address.family", family);
    }
    properties
}

fn of_config(properties: &mut ClientProperties, config: &ConsumerConfig, kip_848: bool) {
    let numbers = [
        (
            "fetch_message_max_bytes",
            "fetch.message.max.bytes",
            config.fetch_message_max_bytes,
        ),
        ("fetch_min_bytes", "fetch.min.bytes", config.fetch_min_bytes),
        (
            "fetch_error_backoff_ms",
            "fetch.error.backoff.ms",
            config.fetch_error_backoff_ms,
        ),
        ("fetch_wait_max_ms", "fetch.wait.max.ms", config.fetch_wait_max_ms),
        (
            "queued_max_messages",
            "queued.min.messages",
            config.queued_max_messages,
        ),
    ];
    for (setting, property, value) in numbers {
        if let Some(value) = value {
            properties.set(&format!("config.{setting}"), property, &value.to_string());
        }
    }
    // A classic group beats from the client; under KIP-848 the broker says how often.
    if let (Some(beat), false) = (config.heartbeat_interval_ms, kip_848) {
        properties.set(
            "config.heartbeat_interval_ms",
            "heartbeat.interval.ms",
            &beat.to_string(),
        );
    }
    const DEFAULT_FETCH: u64 = 1_048_576;
    if let Some(count) = config.queued_max_messages {
        // As many as fit when each has the greatest size, but never more memory than librdkafka's own default.
        let size = config.fetch_message_max_bytes.unwrap_or(DEFAULT_FETCH);
        let kbytes = (count.saturating_mul(size) / 1024).clamp(1024, MAX_QUEUED_KBYTES);
        properties.set(
            "config.queued_max_messages",
            "queued.max.messages.kbytes",
            &kbytes.to_string(),
        );
    }
    if let Some(size) = config.fetch_message_max_bytes {
        // librdkafka refuses a fetch that could not hold one partition's part, or an answer that is larger than it
        // would receive.
        let fetch = size.clamp(16 * DEFAULT_FETCH, 2_147_483_135);
        properties.set(
            "config.fetch_message_max_bytes",
            "fetch.max.bytes",
            &fetch.to_string(),
        );
        let receive = fetch.saturating_add(512).clamp(100_000_000, 2_147_483_647);
        properties.set(
            "config.fetch_message_max_bytes",
            "receive.message.max.bytes",
            &receive.to_string(),
        );
    }
    if let Some(reset) = config.auto_offset_reset {
        properties.set("config.auto_offset_reset", "auto.offset.reset", reset.as_str());
    }
    if let (Some(protocol), false) = (config.membership_protocol, kip_848) {
        properties.set(
            "config.membership_protocol",
            "partition.assignment.strategy",
            protocol.as_str(),
        );
    }
}

fn pass_through(
    properties: &mut ClientProperties,
    cluster: &Cluster,
    group: Option<&str>,
    findings: &mut Vec<PropertyFinding>,
) {
    for (key, value) in &cluster.librdkafka {
        let origin = format!("librdkafka.{key}");
        if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| owned == key) {
            findings.push(PropertyFinding {
                key: origin,
                message: format!("`{key}` cannot be set here: {reason}"),
            });
        } else if key == "group.id" {
            if group != Some(value.as_str()) {
                let message = "`group.id` cannot be set here: use consumer_group in `config`".into();
                findings.push(PropertyFinding { key: origin, message });
            }
        } else {
            // librdkafka knows some properties by two names; the later one would win by the alphabet.
            for alias in ALIASES
                .iter()
                .filter(|names| names.contains(&key.as_str()))
                .flat_map(|names| names.iter())
            {
                properties.map.remove(*alias);
            }
            properties.set(&origin, key, value);
            if key == "debug" {
                properties.set(&origin, key, format!("topic,{value}").trim_end_matches(','));
            }
        }
    }
}

const ALIASES: &[[&str; 2]] = &[
    ["fetch.message.max.bytes", "max.partition.fetch.bytes"],
    ["sasl.mechanism", "sasl.mechanisms"],
    ["linger.ms", "queue.buffering.max.ms"],
    ["compression.codec", "compression.type"],
];

// === impl ClientProperties ===

impl ClientProperties {
    fn ours(&mut self, key: &str, value: &str) {
        self.map.insert(key.into(), value.into());
    }

    fn set(&mut self, origin: &str, key: &str, value: &str) {
        self.map.insert(key.into(), value.into());
        self.origins.insert(key.into(), origin.into());
    }

    pub(super) fn origin(&self, key: &str) -> String {
        self.origins.get(key).cloned().unwrap_or_else(|| key.into())
    }

    /// The value of a property, where this map has one.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.map.get(key).map(String::as_str)
    }

    /// The address that the sockets are bound to.
    pub fn source_address(&self) -> Option<IpAddr> {
        self.source_address
    }

    /// The user named a group: offsets can be committed.
    pub fn has_group(&self) -> bool {
        self.has_group
    }

    pub fn internal_topics(&self) -> InternalTopics {
        self.internal_topics
    }

    pub fn is_kip_848(&self) -> bool {
        self.get("group.protocol") == Some("consumer")
    }

    /// How the group hands partitions over; known from the properties, so that nobody has to be asked.
    pub fn protocol(&self) -> Protocol {
        let strategy = self.get("partition.assignment.strategy").unwrap_or("");
        if self.is_kip_848() || strategy.contains("cooperative") {
            Protocol::Cooperative
        } else {
            Protocol::Eager
        }
    }

    /// `max.poll.interval.ms`, in milliseconds: the longest time between two batch calls.
    pub fn max_poll_interval_ms(&self) -> u64 {
        self.get("max.poll.interval.ms")
            .and_then(|value| value.parse().ok())
            .unwrap_or(300_000)
    }

    pub(super) fn native_config(&self) -> Result<NativeClientConfig, ClientError> {
        self.client_config().create_native_config().map_err(|error| {
            let key = match &error {
                KafkaError::ClientConfig(_, _, key, _) => key.clone(),
                _ => String::new(),
            };
            ClientError::Property {
                reason: reason(&error, &key),
                key: self.origin(&key),
            }
        })
    }

    /// What a client of rdkafka is made with. It does not bind its sockets.
    pub fn client_config(&self) -> ClientConfig {
        self.map
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.map.iter().map(|(key, value)| {
            (
                key.as_str(),
                if SECRET.contains(&key.as_str()) {
                    "[hidden]"
                } else {
                    value.as_str()
                },
            )
        });
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
#[path = "properties_tests.rs"]
mod tests;
