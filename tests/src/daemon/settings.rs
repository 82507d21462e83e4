//! A settings file for the daemon under test, written as JSON, which is YAML.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Home, plugin_dir};
use crate::{judge::Order, kafka::Tls, scenario::Isolation, variant};

/// The settings of one daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    keys: Map<String, Value>,
    routes: Vec<(String, Value)>,
}

/// A route of the scenarios' plugins.
#[derive(Clone, Debug)]
pub struct Route {
    keys: Value,
}

// === impl Settings ===

impl Settings {
    /// Settings for the cluster at `hosts`, without routes.
    pub fn of(hosts: &str) -> Self {
        let mut keys = Map::new();
        keys.insert("hosts".to_owned(), json!(hosts));
        keys.insert("log".to_owned(), json!({"format": "json", "level": "info"}));
        Self {
            keys,
            routes: Vec::new(),
        }
    }

    /// Any key at top level.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.keys.insert(key.to_owned(), value);
        self
    }

    /// TLS with a client certificate.
    pub fn with_tls(self, tls: &Tls, certificate: Option<(&Path, &Path)>) -> Self {
        let mut ssl = json!({"cafile": tls.ca});
        if let Some((cert, key)) = certificate {
            ssl["certfile"] = json!(cert);
            ssl["keyfile"] = json!(key);
        }
        self.with("ssl_config", ssl)
    }

    /// One more route, or another one of that name.
    pub fn route(mut self, name: &str, route: Route) -> Self {
        self.routes.retain(|(known, _)| known != name);
        self.routes.push((name.to_owned(), variant::vary(route.keys)));
        self
    }

    /// Without that route.
    pub fn without(mut self, name: &str) -> Self {
        self.routes.retain(|(known, _)| known != name);
        self
    }

    /// The file's text.
    pub(super) fn to_yaml(&self, home: &Home) -> String {
        let mut keys = self.keys.clone();
        keys.entry("state_dir")
            .or_insert_with(|| json!(home.file("state")));
        keys.entry("control_socket")
            .or_insert_with(|| json!(home.file("control.sock")));
        keys.entry("plugin_dirs").or_insert_with(|| json!([plugin_dir()]));
        keys.insert(
            "consumer_routes".to_owned(),
            Value::Object(self.routes.iter().cloned().collect()),
        );
        format!("{:#}\n", Value::Object(keys))
    }
}

// === impl Route ===

impl Route {
    /// The ledger, appending to `file`, as a member of `group`.
    pub fn ledger(isolation: Isolation, topic: &str, group: &str, file: &Path) -> Self {
        Self::of("Ledger", isolation, topic, group, file)
    }

    /// Another consumer of the ledger's library: `AsyncLedger`, `BufferLedger`, `WitnessRaw`, `WitnessObject`, `WitnessJson`.
    pub fn of(symbol: &str, isolation: Isolation, topic: &str, group: &str, file: &Path) -> Self {
        Self::from_library("libdevour_test_ledger.so", symbol, isolation, topic, group)
            .with("settings", json!({"file": file}))
    }

    /// A consumer of any library.
    pub fn from_library(library: &str, symbol: &str, isolation: Isolation, topic: &str, group: &str) -> Self {
        Self {
            keys: json!({
                "path": library,
                "symbol": symbol,
                "topic": topic,
                "isolation": isolation.name(),
                "config": {"consumer_group": group},
            }),
        }
    }

    /// Any key of the route; in a mapping that is there already, the keys of `value` are added.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        match (self.keys.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, value) => self.keys[key] = value,
        }
        self
    }

    /// Without that key.
    pub fn without(mut self, key: &str) -> Self {
        if let Value::Object(keys) = &mut self.keys {
            keys.remove(key);
        }
        self
    }

    /// Each digest of a ledger takes this long.
    pub fn work_us(self, work_us: u64) -> Self {
        self.with("settings", json!({"work_us": work_us}))
    }

    /// A ledger's faults: see crate `devour-test-ledger`, module `fault`.
    pub fn faults(self, faults: Value) -> Self {
        self.with("settings", json!({"faults": faults}))
    }

    /// So many lanes, and what keeps its order.
    pub fn lanes(self, order: Order, lanes: u32) -> Self {
        self.with("concurrency", json!({"order": order.name(), "lanes": lanes}))
    }

    /// Waits of milliseconds where a person would have seconds: between attempts, and between restarts of the plugin.
    pub fn quick_again(self) -> Self {
        self.with("on_error", json!({"backoff": {"initial": "2ms", "max": "8ms"}}))
            .with("restart", json!({"initial": "10ms", "max": "100ms"}))
    }

    /// How often the group's offsets are committed.
    pub fn commit_every_ms(self, interval_ms: u64) -> Self {
        self.with("config", json!({"auto_commit_interval_ms": interval_ms}))
    }
}
