//! From a file to [`Settings`]: read, check against the schema, lay routes over their defaults, check what only
//! several keys together can tell, convert.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
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
use super::fragments::{self, Fragment, Parsed};
use super::guard::LARGEST;
use super::keys::{CLIENT, ROOT, ROUTE};
use super::positions::{KeyPath, Position, SourceMap, Span};
use super::route::{Route, RouteName, Topics};
use super::sources::{Source, Sources};
use super::text::{escaped, quoted};
use super::types::{Cluster, Log, Settings};
use super::units::{format_duration, format_size};
use super::words::{ConsumerType, Delivery, Order, Then};

/// A member that does not answer this long is taken for dead (librdkafka's default).
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// librdkafka's default for `socket.timeout.ms`.
const SOCKET_TIMEOUT_MS: u64 = 60_000;

/// Reads and checks a settings file.
///
/// # Errors
/// Everything that is wrong with it, and the warnings.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Settings, Findings> {
    parse(path, &read(path, env)?, env)
}

/// `control_socket` of a settings file, whatever is wrong with its other keys.
///
/// # Errors
/// The file cannot be read, or it is this key that is wrong.
pub fn control_socket(path: &Path, env: &dyn Environment) -> Result<Option<PathBuf>, Findings> {
    const KEY: &str = "control_socket";
    let Parsed {
        root,
        source,
        findings: found,
    } = parsed(path, &read(path, env)?)?;
    let mut findings = Findings::new(path, Arc::new(source));
    let Some(mut root) = root else {
        found.into_iter().for_each(|finding| findings.add(finding));
        return Err(findings);
    };
    match &mut root.value {
        Value::Map(entries) => entries.retain(|entry| entry.key == KEY),
        Value::Null => {}
        _ => return Err(Findings::unread(path, "expected settings (a mapping of keys)")),
    }
    let mut checker = Checker::new(env);
    let at = At {
        path: &KeyPath::root(),
        key: None,
    };
    let tree = checker.block(&ROOT, &root, at);
    let of_it = |finding: &Finding| finding.key.last_key() == Some(KEY);
    let said = found.into_iter().chain(checker.findings);
    said.filter(of_it).for_each(|finding| findings.add(finding));
    if findings.has_errors() {
        return Err(findings);
    }
    Ok(tree.given(KEY))
}

fn read(path: &Path, env: &dyn Environment) -> Result<Vec<u8>, Findings> {
    let unread = |message: String| Err(Findings::unread(path, message));
    match env.read(path, LARGEST) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            unread("this is a directory: name the settings file in it".into())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            unread("there is no such file: name one by `--settings FILE` or KAFKA_SETTINGS_PATH".into())
        }
        Err(error) => unread(format!("the file cannot be read: {error}")),
    }
}

fn parsed(path: &Path, bytes: &[u8]) -> Result<Parsed, Findings> {
    if bytes.len() as u64 > LARGEST {
        return Err(Findings::unread(
            path,
            "the file is longer than 1 MiB: is this a settings file?",
        ));
    }
    fragments::parsed(bytes).map_err(|(at, message)| {
        let mut findings = Findings::new(path, Arc::default());
        findings.add(Finding::new(Severity::Error, &KeyPath::root(), Some(at), message));
        findings
    })
}

/// Checks the content of a settings file; `path` is only named.
///
/// # Errors
/// Everything that is wrong with it, and the warnings.
pub fn parse(path: &Path, bytes: &[u8], env: &dyn Environment) -> Result<Settings, Findings> {
    let Parsed {
        root,
        source,
        findings: found,
    } = parsed(path, bytes)?;
    let source = Arc::new(source);
    let Some(root) = root else {
        let mut findings = Findings::new(path, source);
        found.into_iter().for_each(|finding| findings.add(finding));
        return Err(findings);
    };
    let mut loader = Loader {
        checker: Checker::new(env),
        fragments: Vec::new(),
    };
    loader.checker.findings = found;
    let settings = loader.settings(path, &root, env, &source);
    let mut findings = Findings::new(path, source).with_fragments(loader.fragments);
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

/// `FILE:LINE:COLUMN` of a route's name.
fn place(file: &Path, entry: &Entry) -> String {
    let file = escaped(&file.to_string_lossy());
    match entry.key_span {
        Some(span) => format!("{file}:{}", span.start),
        None => file,
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
    /// The files of `routes_dir`.
    fragments: Vec<Source>,
}

/// Where a route was first named, in words.
type Named = HashMap<String, String>;

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
        let mut tree = self.with_client(&tree, entries);
        let routes_dir: Option<PathBuf> = tree.given("routes_dir");
        if (routes_dir.is_some() || tree.get("autoload")) && !tree.has("consumer_routes") {
            tree.set("consumer_routes", Valid::None);
        }
        self.checker.require(&ROOT, &tree, at);
        self.tls(&tree, at.path);
        let defaults = tree.block("defaults");
        self.tls(&defaults, &at.path.key("defaults"));
        let cluster = cluster_of(&tree);
        let (mut routes, mut named) = self.routes(path, entries, &defaults, cluster.as_ref());
        if let Some(dir) = &routes_dir {
            routes.extend(self.fragments(dir, env, &defaults, cluster.as_ref(), &mut named));
        }
        let autoload = tree
            .get::<bool>("autoload")
            .then(|| self.autoload(&defaults, cluster.as_ref()));
        Some(Settings {
            file: path.to_owned(),
            cluster: cluster?,
            plugin_dirs: tree.get("plugin_dirs"),
            autoload: autoload.flatten(),
            max_generations: tree.get("max_generations"),
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
            sources: Sources::new(path, Arc::clone(source)).with_fragments(self.fragments.iter().cloned()),
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

    /// The routes of the settings file, and all that are named in it, be they right or wrong.
    fn routes(
        &mut self,
        path: &Path,
        entries: &[Entry],
        defaults: &Tree,
        cluster: Option<&Cluster>,
    ) -> (Vec<Route>, Named) {
        let routes = entries
            .iter()
            .find(|entry| entry.key == "consumer_routes")
            .map(|entry| &entry.node.value);
        let Some(Value::Map(routes)) = routes else {
            return Default::default();
        };
        let named = routes.iter().map(|entry| (entry.key.clone(), place(path, entry)));
        let named = named.collect();
        let routes = routes
            .iter()
            .filter_map(|entry| self.route(entry, defaults, cluster))
            .collect();
        (routes, named)
    }

    /// The routes of all files in `dir`.
    fn fragments(
        &mut self,
        dir: &Path,
        env: &dyn Environment,
        defaults: &Tree,
        cluster: Option<&Cluster>,
        named: &mut Named,
    ) -> Vec<Route> {
        let key = KeyPath::root().key("routes_dir");
        let (fragments, passed_over) = match fragments::read(dir, env) {
            Ok(read) => read,
            Err(why) => {
                self.checker.error(&key, None, why);
                return Vec::new();
            }
        };
        for file in passed_over {
            let message = format!(
                "{} is not read: its name does not end with `.yaml`",
                file.display()
            );
            self.checker.warning(&key, None, message);
        }
        let mut routes = Vec::new();
        for Fragment {
            source,
            routes: entries,
            findings,
        } in fragments
        {
            self.checker.findings.extend(findings);
            let before = self.checker.findings.len();
            for entry in &entries {
                if let Some(first) = named.get(&entry.key) {
                    let message = format!("this route is named twice: first in {first}");
                    self.checker
                        .error(&KeyPath::route(&entry.key), entry.key_span, message);
                    continue;
                }
                named.insert(entry.key.clone(), place(&source.file, entry));
                routes.extend(self.route(entry, defaults, cluster));
            }
            // What has no place of its own is found by its key, which may stand in `defaults`.
            for finding in &mut self.checker.findings[before..] {
                if finding.position.is_some() {
                    finding.file.clone_from(&source.file);
                }
            }
            self.fragments.push(source);
        }
        routes
    }

    /// What an autoloaded route is like: `defaults` and nothing else.
    fn autoload(&mut self, defaults: &Tree, cluster: Option<&Cluster>) -> Option<Box<Route>> {
        let mut tree = Tree::new(&ROUTE);
        for key in ["path", "symbol"] {
            tree.set(key, Valid::Text("autoload".to_owned()));
        }
        let (path, before) = (KeyPath::root().key("defaults"), self.errors());
        let position = Position { line: 1, column: 1 };
        let (name, at) = (
            RouteName::new("autoload").ok()?,
            At {
                path: &path,
                key: None,
            },
        );
        let route = self.assembled(&tree.over(defaults), name, at, cluster?, position)?;
        (self.errors() == before).then(|| Box::new(route))
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
        let position = entry
            .key_span
            .map_or(Position { line: 1, column: 1 }, |span| span.start);
        self.assembled(&tree, name?, at, cluster?, position)
    }

    /// A route of keys that are each right.
    fn assembled(
        &mut self,
        tree: &Tree,
        name: RouteName,
        at: At<'_>,
        cluster: &Cluster,
        position: Position,
    ) -> Option<Route> {
        let cluster = cluster_over(cluster, tree);
        let topic = match tree
            .given::<Vec<String>>("topic")
            .map(|entries| Topics::parse(&entries))
            .transpose()
        {
            Ok(topic) => topic,
            Err(why) => {
                self.checker.error(&at.path.key("topic"), at.key, why);
                return None;
            }
        };
        let route = convert_route(tree, name, topic, cluster, position);
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
        if route.delivery == Delivery::ExactlyOnce {
            let refused = exactly_once_refuses(route);
            errors.extend(refused.into_iter().map(|(keys, message)| {
                let path = keys.iter().fold(at.path.clone(), |path, key| path.key(key));
                (path, message)
            }));
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

/// What does not go with `delivery: exactly_once`, by key.
fn exactly_once_refuses(route: &Route) -> Vec<(Vec<&'static str>, String)> {
    let mut found: Vec<(Vec<&'static str>, String)> = Vec::new();
    let mut refuse = |keys: &[&'static str], message: &str| found.push((keys.to_vec(), message.to_owned()));
    if route.config.auto_commit_enable == Some(false) {
        refuse(
            &["config", "auto_commit_enable"],
            "with `delivery: exactly_once` offsets are committed in transactions: they cannot be left out",
        );
    }
    if route.consumer_type == Some(ConsumerType::Simple) {
        refuse(
            &["consumer_type"],
            "`delivery: exactly_once` needs a balanced_consumer: its group tells who may commit",
        );
    }
    if route.concurrency.order != Order::Partition && route.on_error.then == Then::Stop {
        refuse(
            &["on_error", "then"],
            "with `delivery: exactly_once` and messages that overtake each other, one that stops would hold up the commits of \
             all behind it: choose `dead_letter` or `skip`, or `order: partition`",
        );
    }
    let isolation = route.cluster.librdkafka.get("isolation.level");
    if isolation.is_some_and(|level| level != "read_committed") {
        refuse(
            &["librdkafka"],
            "`delivery: exactly_once` needs `isolation.level: read_committed`, which is the default: else it would digest what \
             was aborted, and begin at offsets that may be taken back",
        );
    }
    found
}
