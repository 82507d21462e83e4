//! The settings as the rest of the daemon sees them: typed, complete, every default filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::findings::{Finding, Findings};
use super::route::{Route, RouteName};
use super::sources::Sources;
use super::text::is_secret_key;
use super::words::{FileChecks, LogFormat, LogLevel};

/// A settings file, read and found good.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The cluster of every route that names no other.
    pub cluster: Cluster,
    /// Where plugins that are named without a slash are searched, in this order.
    pub plugin_dirs: Vec<PathBuf>,
    /// What a route of a library in `plugin_dirs` is like that no route names, where these are routed: its name, library
    /// and symbol are placeholders ([`Settings::autoloaded`]).
    pub autoload: Option<Box<Route>>,
    /// How many versions of its plugin a route in thread isolation may run before the daemon has to be restarted.
    pub max_generations: u64,
    /// Where copies of plugins, locks and probes' results are kept.
    pub state_dir: PathBuf,
    /// The control socket, if the settings name one.
    pub control_socket: Option<PathBuf>,
    /// What is logged and how.
    pub log: Log,
    /// How long a stop may take to finish what is in hand.
    pub shutdown_timeout: Duration,
    /// What the budgets of all routes together may be at most.
    pub memory: Option<usize>,
    /// Whether plugin processes may leave core files.
    pub core_dumps: bool,
    /// Whether owner and mode of plugin files are checked.
    pub plugin_file_checks: FileChecks,
    /// What the seed's `use_greenlets` says, if anything: the plugin decides, a mismatch is to be said once.
    pub use_greenlets: Option<bool>,
    /// The routes in the order of the file, then those of `routes_dir`.
    pub routes: Vec<Route>,
    /// What the reader should know of settings that can be used.
    pub warnings: Vec<Finding>,
    /// Variables that are substituted anywhere but in a plugin's own `settings:`; a plugin's process must not have
    /// them in its environment.
    pub substituted_variables: BTreeSet<String>,
    pub(super) sources: Sources,
}

/// How to reach a cluster. A route's own keys are already merged over the file's.
#[derive(Clone, PartialEq)]
pub struct Cluster {
    /// `host:port` each.
    pub hosts: Vec<String>,
    /// TLS, if it is used.
    pub ssl: Option<SslConfig>,
    /// 10 to 300,000; `None` leaves librdkafka's.
    pub socket_timeout_ms: Option<u64>,
    /// Deadline for committing and for reading committed offsets.
    pub offsets_channel_socket_timeout_ms: u64,
    /// Address that connections come from.
    pub source_address: Option<IpAddr>,
    /// Whether topics whose names begin with `__` are kept from consumers.
    pub exclude_internal_topics: bool,
    /// Further librdkafka properties.
    pub librdkafka: BTreeMap<String, String>,
}

#[cfg(test)]
impl Cluster {
    /// These brokers, and nothing said about them.
    pub(crate) fn of(hosts: &[&str]) -> Self {
        Self {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ssl: None,
            socket_timeout_ms: None,
            offsets_channel_socket_timeout_ms: 10_000,
            source_address: None,
            exclude_internal_topics: true,
            librdkafka: BTreeMap::new(),
        }
    }
}

/// TLS to the brokers.
#[derive(Clone, Debug, PartialEq)]
pub struct SslConfig {
    /// Who is trusted.
    pub cafile: PathBuf,
    /// The client's certificate.
    pub certfile: Option<PathBuf>,
    /// Its key; the certificate's file, where only that is set.
    pub keyfile: Option<PathBuf>,
    /// What opens the key.
    pub password: Option<Secret>,
    /// Whether a broker's name must match its certificate.
    pub verify_hostname: bool,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What is logged and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: LogLevel,
    /// As text or as JSON.
    pub format: LogFormat,
}

// === impl Settings ===

impl Settings {
    /// The route of that name.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.name.as_str() == name)
    }

    /// The route of a consumer that no route of the settings names; none where such are not routed.
    #[must_use]
    pub fn autoloaded(&self, name: RouteName, library: &str, symbol: &str) -> Option<Route> {
        let like = self.autoload.as_deref()?;
        Some(Route {
            name,
            path: library.to_owned(),
            symbol: symbol.to_owned(),
            ..like.clone()
        })
    }

    /// The warnings of this file, to which other parts add what they find ([`Findings::add_at`]).
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut findings = Findings::of(self.sources.clone());
        self.warnings
            .iter()
            .cloned()
            .for_each(|warning| findings.add(warning));
        findings
    }
}

// === impl Cluster ===

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hosts,
            ssl,
            socket_timeout_ms,
            offsets_channel_socket_timeout_ms,
            source_address,
            exclude_internal_topics,
            librdkafka,
        } = self;
        let shown = |(key, value): (&String, &String)| {
            (
                key.clone(),
                if is_secret_key(key) {
                    "***".to_owned()
                } else {
                    value.clone()
                },
            )
        };
        f.debug_struct("Cluster")
            .field("hosts", hosts)
            .field("ssl", ssl)
            .field("socket_timeout_ms", socket_timeout_ms)
            .field(
                "offsets_channel_socket_timeout_ms",
                offsets_channel_socket_timeout_ms,
            )
            .field("source_address", source_address)
            .field("exclude_internal_topics", exclude_internal_topics)
            .field(
                "librdkafka",
                &librdkafka.iter().map(shown).collect::<BTreeMap<_, _>>(),
            )
            .finish()
    }
}

// === impl Secret ===

impl Secret {
    /// Wraps what must not be shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
