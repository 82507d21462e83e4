//! A real Apache Kafka for scenarios: one broker shared by all, a cluster of three for those that lose one of several,
//! brokers of their own for those that stop the only one, and the reasons why there is none.
//!
//! - `DEVOUR_TEST_BOOTSTRAP=host:port` makes that cluster the shared one.
//! - `DEVOUR_TEST_REQUIRE_KAFKA=1` turns "no Kafka here" from *ignored* into a failure.

mod acl;
mod admin;
mod broker;
mod cluster;
mod groups;
mod guest;
mod jars;
mod layout;
mod load;
mod metadata;
mod node;
mod offsets;
mod produce;
mod read;
mod request_log;
mod tls;

use std::sync::OnceLock;

pub use admin::{Admin, AdminError, GroupView, Member};
pub use broker::{Broker, BrokerOptions, Detached};
pub use cluster::{Cluster, Nodes, cluster};
pub use groups::{Generation, GroupMember};
pub use guest::Guest;
pub use jars::{VERSION, ensure as ensure_jars, tool};
pub use load::Load;
pub use produce::{KEYS, ProduceError, Producer, Record, TransactionEnd, numbered_key, numbered_payload};
pub use read::{Kept, ReadError};
pub use request_log::Fetch;
pub use tls::Tls;

use crate::process::ProcessError;

/// The cluster that a scenario talks to.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    own: Option<Broker>,
}

/// Why there is no Kafka to test against.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaError {
    /// This machine lacks something; scenarios are ignored with this reason.
    #[error("no Kafka here: {0}")]
    Unavailable(String),
    /// All is there, and still it does not work: scenarios fail.
    #[error("Kafka does not work: {0}")]
    Broken(String),
}

static SHARED: OnceLock<Result<Kafka, KafkaError>> = OnceLock::new();

/// The cluster that all scenarios share, started at the first call and ended with this process. Topics and groups on
/// it have names of their own: see [`unique`].
pub fn shared() -> Result<&'static Kafka, KafkaError> {
    let shared = SHARED.get_or_init(|| match std::env::var("DEVOUR_TEST_BOOTSTRAP") {
        Ok(bootstrap) if !bootstrap.is_empty() => Kafka::at(&bootstrap),
        _ => Kafka::start(BrokerOptions::default()),
    });
    shared.as_ref().map_err(Clone::clone)
}

/// True if a missing Kafka is a failure.
pub fn required() -> bool {
    std::env::var("DEVOUR_TEST_REQUIRE_KAFKA").is_ok_and(|value| value == "1")
}

/// A name for a topic or group that no other scenario and no other run uses.
pub fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() % 100_000_000;
    format!(
        "{name}-{since}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

// === impl Kafka ===

impl Kafka {
    /// A broker of our own.
    pub fn start(options: BrokerOptions) -> Result<Self, KafkaError> {
        let broker = Broker::start(options)?;
        Ok(Self {
            bootstrap: broker.bootstrap(),
            own: Some(broker),
        })
    }

    /// A cluster that somebody else runs; it must answer.
    pub fn at(bootstrap: &str) -> Result<Self, KafkaError> {
        let kafka = Self {
            bootstrap: bootstrap.to_owned(),
            own: None,
        };
        let broken =
            |error: AdminError| KafkaError::Broken(format!("DEVOUR_TEST_BOOTSTRAP={bootstrap}: {error}"));
        kafka
            .admin()
            .and_then(|admin| admin.await_answer())
            .map_err(broken)?;
        Ok(kafka)
    }

    /// `host:port` of the plain listener.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The broker behind it, if it is ours.
    pub fn broker(&self) -> Option<&Broker> {
        self.own.as_ref()
    }

    /// As [`Kafka::broker`], to stop it and start it again.
    pub fn broker_mut(&mut self) -> Option<&mut Broker> {
        self.own.as_mut()
    }

    /// Topics, groups and offsets of this cluster.
    pub fn admin(&self) -> Result<Admin, AdminError> {
        Admin::new(&self.bootstrap)
    }

    /// As [`Kafka::producer`], for transactions under an id of its own.
    pub fn transactions(&self, id: &str) -> Result<Producer, ProduceError> {
        Producer::transactional(&self.bootstrap, id)
    }

    /// A producer that knows where each of its messages went.
    pub fn producer(&self) -> Result<Producer, ProduceError> {
        Producer::new(&self.bootstrap)
    }

    /// All messages that a topic of so many partitions holds now, by partition and offset.
    pub fn read(&self, topic: &str, partitions: i32) -> Result<Vec<Kept>, ReadError> {
        read::read(&self.bootstrap, topic, partitions)
    }

    /// Reads what a `read_committed` reader sees of `topic`, up to where it can see now.
    pub fn read_committed(&self, topic: &str, partitions: i32) -> Result<Vec<Kept>, ReadError> {
        read::read_committed(&self.bootstrap, topic, partitions)
    }
}

// === impl KafkaError ===

impl From<ProcessError> for KafkaError {
    fn from(error: ProcessError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<std::io::Error> for KafkaError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}
