//! From a file to [`Settings`]: read, check against the schema, lay routes over their defaults, check what only
//! several keys together can tell, convert.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::assemble::{cluster_of, cluster_over, convert_route};
use super::check::{At, Checker, detached};
use super::config_types::ConsumerConfig;
use super::consumer_config::CONFIG;
use super::convert::{Tree, Valid};
use super::document::{self, Entry, Node, Value};
use super::environment::{Environment, state_dir};
use super::findings::{Finding, Findings, Severity};
use super::forms::check_symbol;
use super::guard::{self, LARGEST};
use super::keys::{CLIENT, ROOT, ROUTE};
use super::positions::{KeyPath, Position, SourceMap, Span};
use super::route::{Route, RouteName, Topics};
use super::text::quoted;
use super::types::{Cluster, Log, Settings};
use super::units::{format_duration, format_size};
use super::words::Then;

/// A member that does not answer this long is taken for dead (librdkafka's default).
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// librdkafka's default for `socket.timeout.ms`.
const SOCKET_TIMEOUT_MS: u64 = 60_000;

/// Reads and checks a settings file.
///
/// # Errors
/// Everything that is wrong with it, and the warnings.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Settings, Findings> {
    let unread = |message: String| Err(Findings::unread(path, message));
    let bytes = match env.read(path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return unread("this is a directory: name the settings file in it".into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return unread(
                "there is no such file: name one by `--settings FILE` or KAFKA_SETTINGS_PATH".into(),
            );
        }
        Err(error) => return unread(format!("the file cannot be read: {error}")),
    };
    parse(path, &bytes, env)
}

/// Checks the content of a settings file; `path` is only named.
///
/// # Errors
/// Everything that is wrong with it, and the warnings.
pub fn parse(path: &Path, bytes: &[u8], env: &dyn Environment) -> Result<Settings, Findings> {
    if bytes.len() as u64 > LARGEST {
        return Err(Findings::unread(
            path,
            "the file is longer than 1 MiB: is this a settings file?",
        ));
    }
    let text = guard::text(bytes).map_err(|(at, message)| {
        let mut findings = Findings::new(path, Arc::default());
        findings.add(Finding::new(Severity::Error, &KeyPath::root(), Some(at), message));
        findings
    })?;
    let mut source = SourceMap::new(text);
    let mut found = Vec::new();
    let root = match document::read(text, &mut found) {
        Ok(root) => root,
        Err(finding) => {
            source.blot_by_looks();
            let mut findings = Findings::new(path, Arc::new(source));
            findings.add(*finding);
            return Err(findings);
        }
    };
    document::survey(&root, &KeyPath::root(), &mut source);
    let source = Arc::new(source);
    let mut loader = Loader {
        checker: Checker::new(env),
    };
    loader.checker.findings = found;
    let settings = loader.settings(path, &root, env, &source);
    let mut findings = Findings::new(path, Arc::clone(&source));
    loader
        .checker
        .findings
        .into_iter()
        .for_each(|finding| findings.add(finding));
    match settings {
        Some(mut settings) if !findings.has_errors() => {
            settings.warnings = findings.into_vec();
            Ok(settings)
        }
        _ => Err(findings),
    }
}

/// The `config` of a plugin's descriptor.
pub(super) fn plugin_config(
    map: &serde_json::Map<String, serde_json::Value>,
) -> Result<ConsumerConfig, Vec<String>> {
    let node = document::from_json(&serde_json::Value::Object(map.clone()));
    let (tree, findings) = detached(&CONFIG, &node);
    let errors: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| {
            let help = finding
                .help
                .as_ref()
                .map(|help| format!(" ({help})"))
                .unwrap_or_default();
            format!("config.{}: {}{help}", finding.key, finding.message)
        })
        .collect();
    if errors.is_empty() {
        Ok(ConsumerConfig::from_tree(&tree))
    } else {
        Err(errors)
    }
}

struct Loader<'a> {
    checker: Checker<'a>,
}

// === impl Loader ===

impl Loader<'_> {
    fn settings(
        &mut self,
        path: &Path,
        root: &Node,
        env: &dyn Environment,
        source: &Arc<SourceMap>,
    ) -> Option<Settings> {
        let top = root.span.map(|span| Span::at(span.start.line, span.start.column));
        let at = At {
            path: &KeyPath::root(),
            key: top,
        };
        let entries = match &root.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => {
                let help = "it needs at least `hosts` and `consumer_routes`";
                self.checker
                    .error(at.path, None, "the file holds no settings")
                    .help = Some(help.into());
                return None;
            }
            _ => {
                let span = Some(top.unwrap_or(Span::at(1, 1)));
                self.checker
                    .expected("settings (a mapping of keys)", root, At { key: span, ..at }, None);
                return None;
            }
        };
        let tree = self.checker.block(&ROOT, root, at);
        let tree = self.with_client(&tree, entries);
        self.checker.require(&ROOT, &tree, at);
        self.tls(&tree, at.path);
        let defaults = tree.block("defaults");
        self.tls(&defaults, &at.path.key("defaults"));
        let cluster = cluster_of(&tree);
        let routes = self.routes(entries, &defaults, cluster.as_ref());
        Some(Settings {
            file: path.to_owned(),
            cluster: cluster?,
            plugin_dirs: tree.get("plugin_dirs"),
            state_dir: tree.given("state_dir").unwrap_or_else(|| state_dir(env)),
            control_socket: tree.given("control_socket"),
            log: Log {
                level: tree.block("log").get("level"),
                format: tree.block("log").get("format"),
            },
            shutdown_timeout: tree.get("shutdown_timeout"),
            memory: self.budget(tree.get("memory"), &routes, at.path),
            core_dumps: tree.get("core_dumps"),
            plugin_file_checks: tree.get("plugin_file_checks"),
            use_greenlets: tree.given("use_greenlets"),
            routes,
            warnings: Vec::new(),
            substituted_variables: std::mem::take(&mut self.checker.expander.variables),
            source: Arc::clone(source),
        })
    }

    /// The keys of `client:` beside those at the top; the same key in both is an error.
    fn with_client(&mut self, tree: &Tree, entries: &[Entry]) -> Tree {
        let client = tree.block("client");
        let in_client = entries
            .iter()
            .find(|entry| entry.key == "client")
            .map(|entry| &entry.node.value);
        if let Some(Value::Map(inside)) = in_client {
            for inner in inside.iter().filter(|inner| CLIENT.key(&inner.key).is_some()) {
                let Some(outer) = entries.iter().find(|outer| outer.key == inner.key) else {
                    continue;
                };
                let (later, earlier, path) = if outer.key_span > inner.key_span {
                    (outer.key_span, inner.key_span, KeyPath::root().key(&outer.key))
                } else {
                    (
                        inner.key_span,
                        outer.key_span,
                        KeyPath::root().key("client").key(&inner.key),
                    )
                };
                let place = earlier
                    .map(|span| format!(", first in line {}", span.start.line))
                    .unwrap_or_default();
                let message = format!(
                    "`{}` stands at the top and in `client`{place}: one of them is enough",
                    inner.key
                );
                self.checker.error(&path, later, message);
            }
        }
        let mut merged = tree.clone();
        for key in CLIENT.keys {
            if let (Some(value), false) = (client.raw(key.name), tree.has(key.name)) {
                merged.set(key.name, value.clone());
            }
        }
        merged
    }

    fn routes(&mut self, entries: &[Entry], defaults: &Tree, cluster: Option<&Cluster>) -> Vec<Route> {
        let routes = entries
            .iter()
            .find(|entry| entry.key == "consumer_routes")
            .map(|entry| &entry.node.value);
        let Some(Value::Map(routes)) = routes else {
            return Vec::new();
        };
        routes
            .iter()
            .filter_map(|entry| self.route(entry, defaults, cluster))
            .collect()
    }

    fn route(&mut self, entry: &Entry, defaults: &Tree, cluster: Option<&Cluster>) -> Option<Route> {
        let path = KeyPath::route(&entry.key);
        let at = At {
            path: &path,
            key: entry.key_span,
        };
        let before = self.errors();
        let name = match RouteName::new(&entry.key) {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("{} cannot name a route: {error}", quoted(&entry.key));
                self.checker.error(&path, entry.key_span, message);
                None
            }
        };
        let given = match &entry.node.value {
            Value::Map(_) => self.checker.block(&ROUTE, &entry.node, at),
            Value::Text(_) => self.short(&entry.node, at)?,
            Value::Invalid => return None,
            _ => {
                let what = "`library::Symbol` or a mapping with `path` and `symbol`";
                self.checker.expected(what, &entry.node, at, None);
                return None;
            }
        };
        self.tls(&given, &path);
        let tree = given.over(defaults);
        self.checker.require(&ROUTE, &tree, at);
        if self.errors() > before {
            return None;
        }
        let cluster = cluster_over(cluster?, &tree);
        let topic = match tree
            .given::<Vec<String>>("topic")
            .map(|entries| Topics::parse(&entries))
            .transpose()
        {
            Ok(topic) => topic,
            Err(why) => {
                self.checker.error(&path.key("topic"), entry.key_span, why);
                return None;
            }
        };
        let position = entry
            .key_span
            .map_or(Position { line: 1, column: 1 }, |span| span.start);
        let route = convert_route(&tree, name?, topic, cluster, position);
        self.together(&route, at);
        Some(route)
    }

    /// The daemon's budget, which those of the routes must fit into.
    fn budget(&mut self, memory: Option<usize>, routes: &[Route], path: &KeyPath) -> Option<usize> {
        let asked: usize = routes.iter().map(|route| route.memory).sum();
        if let Some(memory) = memory.filter(|memory| asked > *memory) {
            let (asked, memory) = (format_size(asked as u64), format_size(memory as u64));
            let message = format!(
                "the {} routes ask for {asked} together, which is more than the {memory} of the daemon",
                routes.len()
            );
            self.checker.error(&path.key("memory"), None, message);
        }
        memory
    }

    /// `library::Symbol`.
    fn short(&mut self, node: &Node, at: At<'_>) -> Option<Tree> {
        let text = self.checker.text(node, at)?;
        let what = "`library::Symbol`, as in `libexample.so::ExampleConsumer`";
        let why = match text.rsplit_once("::") {
            Some(("", _)) => Some("the library is missing before `::`".to_owned()),
            Some((library, symbol)) => match check_symbol(symbol) {
                Ok(()) if !library.contains("::") => {
                    let mut tree = Tree::new(&ROUTE);
                    tree.set("path", Valid::Text(library.to_owned()));
                    tree.set("symbol", Valid::Text(symbol.to_owned()));
                    return Some(tree);
                }
                Ok(()) => Some("it has more than one `::`".into()),
                Err(why) => Some(format!("after `::` stands the consumer's symbol: {why}")),
            },
            None if !text.contains(['/', ':']) && text.matches('.').count() > 1 => {
                Some("this looks like a Python path; a plugin is a compiled library".into())
            }
            None => Some("it has no `::`".into()),
        };
        self.checker.expected(what, node, at, why);
        None
    }

    /// What only the keys of an `ssl_config` together can tell.
    fn tls(&mut self, tree: &Tree, path: &KeyPath) {
        let Some(Valid::Block(ssl)) = tree.raw("ssl_config") else {
            return;
        };
        for name in ["keyfile", "password"] {
            if ssl.has(name) && !ssl.has("certfile") {
                let path = path.key("ssl_config").key(name);
                self.checker
                    .error(&path, None, format!("`{name}` needs a `certfile`"));
            }
        }
    }

    /// What only several keys of a route together can tell.
    fn together(&mut self, route: &Route, at: At<'_>) {
        let property = |name: &str| route.cluster.librdkafka.get(name);
        let number = |name: &str| property(name).and_then(|value| value.parse::<u64>().ok());
        let mut errors: Vec<(KeyPath, String)> = Vec::new();
        if route.batch.max_bytes > route.memory {
            errors.push((
                at.path.key("batch").key("max_bytes"),
                "a batch is larger than the route's `memory`".into(),
            ));
        }
        for (path, backoff) in [
            (at.path.key("on_error").key("backoff"), route.on_error.backoff),
            (at.path.key("restart"), route.restart.backoff),
        ] {
            if backoff.initial > backoff.max {
                let (initial, max) = (format_duration(backoff.initial), format_duration(backoff.max));
                errors.push((
                    path.key("initial"),
                    format!("the first wait ({initial}) is longer than the longest ({max})"),
                ));
            }
        }
        for key in route.bounds.homeless(route.isolation) {
            errors.push((
                at.path.key(key),
                format!(
                    "`{key}` bounds a process of the plugin's own: it needs `isolation: process`, or `{key}: none` here"
                ),
            ));
        }
        let on_error = at.path.key("on_error");
        match (&route.on_error.dead_letter, route.on_error.then) {
            (None, Then::DeadLetter) => errors.push((
                on_error.key("then"),
                "dead letters need a topic: `dead_letter: { topic: NAME }`".into(),
            )),
            (Some(dead), _)
                if route
                    .topic
                    .as_ref()
                    .is_some_and(|topics| topics.reads(&dead.topic)) =>
            {
                errors.push((
                    on_error.key("dead_letter").key("topic"),
                    format!(
                        "the route itself reads `{}`: a dead letter would come back for ever",
                        dead.topic
                    ),
                ));
            }
            _ => {}
        }
        let session = number("session.timeout.ms").map_or(SESSION_TIMEOUT, Duration::from_millis);
        if route.drain_timeout >= session {
            let (drain, session) = (format_duration(route.drain_timeout), format_duration(session));
            let message = format!(
                "{drain} is not less than the session timeout ({session}): the group would not wait so long"
            );
            errors.push((at.path.key("drain_timeout"), message));
        }
        let socket = route
            .cluster
            .socket_timeout_ms
            .or_else(|| number("socket.timeout.ms"))
            .unwrap_or(SOCKET_TIMEOUT_MS);
        if let Some(wait) = route.config.fetch_wait_max_ms.filter(|wait| *wait >= socket) {
            let message = format!("{wait} is not less than the socket timeout ({socket} milliseconds)");
            errors.push((at.path.key("config").key("fetch_wait_max_ms"), message));
        }
        if property("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
            let set = [
                (
                    "heartbeat_interval_ms",
                    route.config.heartbeat_interval_ms.is_some(),
                ),
                ("membership_protocol", route.config.membership_protocol.is_some()),
            ];
            for (name, _) in set.into_iter().filter(|(_, set)| *set) {
                let message = format!(
                    "`{name}` belongs to the classic group protocol, and `group.protocol` is `consumer`: the brokers decide"
                );
                errors.push((at.path.key("config").key(name), message));
            }
        }
        for (path, message) in errors {
            self.checker.error(&path, None, message);
        }
    }

    fn errors(&self) -> usize {
        self.checker
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count()
    }
}
