use std::time::Duration;

use proptest::prelude::*;

use super::*;

pub(super) const EVERYTHING: &str = r#"
hosts: "kafka1:9092, kafka2:9092"
zookeeper_hosts: zk:2181
ssl_config: { cafile: /etc/ca.pem, certfile: /etc/c.pem, password: "hunter2", verify_hostname: true }
socket_timeout_ms: 30000
offsets_channel_socket_timeout_ms: 5000
use_greenlets: true
exclude_internal_topics: false
source_address: 127.0.0.7
broker_version: 0.9
auto_start: false
log_name: x
zookeeper: zk
zookeeper_connection_timeout_ms: 1
librdkafka: { client.id: devour-1, fetch.queue.backoff.ms: 10, "sasl.password": sesame, enable.idempotence: true }
plugin_dirs: [/a, /b]
state_dir: /state
control_socket: /run/x.sock
log: { level: debug, format: json }
shutdown_timeout: 1m
core_dumps: true
plugin_file_checks: enforce
defaults:
  isolation: thread
  on_error: { attempts: 7, backoff: { initial: 2s } }
  settings: { currency: USD, list: [1, two, 3.5, null, true] }
consumer_routes:
  short: libexample.so::ExampleConsumer
  orders:
    path: ./liborders.so
    symbol: OrderConsumer
    topic: [orders, "^paid.*$"]
    consumer_type: balanced_consumer
    config:
      consumer_group: billing
      auto_commit_interval_ms: 1000
      auto_offset_reset: -1
      queued_max_messages: 2000
      num_consumer_fetchers: 1
      generation_id: -1
      consumer_id: ""
      consumer_timeout_ms: -1
      membership_protocol: roundrobin
    isolation: process
    digest_name: second
    dump_raw: true
    dump_json: true
    schema_class: Order
    schema: { attributes: [id, { customer: [id, { address: [city] }] }] }
    batch: { max_messages: 500, max_bytes: 64KiB }
    memory: 8MiB
    on_error: { then: skip }
    tombstones: reject
    restart: { initial: 500ms, max: 2m, budget: { restarts: 5, per: 1m } }
    membership: dynamic
    lifecycle_timeout: 5s
    drain_timeout: 10s
    digest_timeout: 1m
    stall_timeout: none
    release_after: 90s
    poison_after: none
    deserializer: avro
    schema_registry: { url: "http://a:8081,https://b/path", credentials: "ada:hunter3" }
    concurrency: { order: key, lanes: 8 }
    flush: { max_wait: 1s }
    rate_limit: 200/s
    settings: { currency: EUR }
  elsewhere:
    path: liborders.so
    symbol: OrderConsumer
    topic: ^orders
    hosts: [other:9092]
    ssl_config: none
    librdkafka: { client.id: other }
"#;

#[test]
fn every_key_reaches_its_type() {
    let settings = good(EVERYTHING);
    let cluster = &settings.cluster;
    assert_eq!(cluster.hosts, ["kafka1:9092", "kafka2:9092"]);
    let ssl = cluster.ssl.as_ref().unwrap();
    assert_eq!(ssl.keyfile.as_deref(), Some(Path::new("/etc/c.pem")));
    assert_eq!(ssl.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(cluster.socket_timeout_ms, Some(30_000));
    assert_eq!(cluster.source_address, Some([127, 0, 0, 7].into()));
    assert_eq!(cluster.librdkafka["fetch.queue.backoff.ms"], "10");
    assert_eq!(cluster.librdkafka["enable.idempotence"], "true");
    assert!(!cluster.exclude_internal_topics);
    assert_eq!(settings.use_greenlets, Some(true));
    assert_eq!(settings.plugin_dirs, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(
        settings.log,
        Log {
            level: LogLevel::Debug,
            format: LogFormat::Json
        }
    );
    assert_eq!(settings.shutdown_timeout, Duration::from_secs(60));
    let names: Vec<&str> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["short", "orders", "elsewhere"]);

    let orders = settings.route("orders").unwrap();
    assert_eq!(orders.path, "./liborders.so");
    assert_eq!(
        orders.topic,
        Some(Topics::Names(vec!["orders".into(), "^paid.*$".into()]))
    );
    assert_eq!(orders.consumer_type, Some(ConsumerType::Balanced));
    assert_eq!(orders.config.auto_offset_reset, Some(OffsetReset::Latest));
    assert_eq!(
        orders.config.membership_protocol,
        Some(MembershipProtocol::RoundRobin)
    );
    assert_eq!(orders.deserializer, Some(Deserializer::Avro));
    let registry = &orders.schema_registry;
    assert_eq!(registry.urls, ["http://a:8081", "https://b/path"]);
    assert_eq!(registry.credentials.as_ref().unwrap().expose(), "ada:hunter3");
    assert_eq!(orders.dump, Some(DumpMode::Raw));
    let named = |name: &str, attributes: Option<Attributes>| Attribute {
        name: name.to_owned(),
        attributes,
    };
    let address = Attributes(vec![named("city", None)]);
    let customer = Attributes(vec![named("id", None), named("address", Some(address))]);
    assert_eq!(
        orders.schema,
        Some(Attributes(vec![
            named("id", None),
            named("customer", Some(customer))
        ]))
    );
    assert_eq!(
        orders.batch,
        Batch {
            max_messages: 500,
            max_bytes: 65_536,
            max_wait: Duration::ZERO
        }
    );
    assert_eq!(
        (orders.memory, orders.tombstones, orders.membership),
        (8 << 20, Tombstones::Reject, Membership::Dynamic)
    );
    assert_eq!(
        orders.restart,
        Restart {
            backoff: Backoff {
                initial: Duration::from_millis(500),
                max: Duration::from_secs(120)
            },
            budget: Some(RestartBudget {
                restarts: 5,
                per: Duration::from_secs(60)
            }),
        }
    );
    assert_eq!(orders.digest_timeout, Some(Duration::from_secs(60)));
    let line = EVERYTHING.lines().position(|line| line == "  orders:").unwrap() + 1;
    assert_eq!(
        orders.concurrency,
        Concurrency {
            order: Order::Key,
            lanes: 8,
            in_flight: 100
        }
    );
    let second = Duration::from_secs(1);
    assert_eq!(
        orders.rate_limit,
        Some(RateLimit {
            messages: 200,
            per: second
        })
    );
    assert_eq!(
        (orders.flush.max_wait, orders.flush.max_messages),
        (Some(second), None)
    );
    assert_eq!(orders.stall_timeout, None);
    assert_eq!(
        (orders.release_after, orders.poison_after),
        (Some(Duration::from_secs(90)), None)
    );
    assert_eq!((orders.position.line, orders.position.column), (line, 3));

    let elsewhere = settings.route("elsewhere").unwrap();
    assert_eq!(elsewhere.topic, Some(Topics::Pattern("^orders".into())));
    assert_eq!(elsewhere.cluster.hosts, ["other:9092"]);
    assert_eq!(elsewhere.cluster.ssl, None);
    assert_eq!(elsewhere.cluster.librdkafka["client.id"], "other");
    assert_eq!(elsewhere.cluster.librdkafka["sasl.password"], "sesame");
}

#[test]
fn a_route_is_laid_over_the_defaults_key_by_key() {
    let settings = good(EVERYTHING);
    let (short, orders) = (
        settings.route("short").unwrap(),
        settings.route("orders").unwrap(),
    );
    assert_eq!(
        (short.isolation, orders.isolation),
        (Isolation::Thread, Isolation::Process)
    );
    let backoff = Backoff {
        initial: Duration::from_secs(2),
        max: Duration::from_secs(30),
    };
    assert_eq!(
        short.on_error,
        OnError {
            attempts: Some(7),
            backoff,
            then: Then::Stop,
            dead_letter: None
        }
    );
    assert_eq!(
        orders.on_error,
        OnError {
            attempts: Some(7),
            backoff,
            then: Then::Skip,
            dead_letter: None
        }
    );
    let list = serde_json::json!([1, "two", 3.5, null, true]);
    assert_eq!(
        orders.settings,
        serde_json::json!({"currency": "EUR", "list": list})
    );
}

#[test]
fn what_modern_kafka_cannot_honour_is_warned_about_once_each() {
    let warnings: Vec<String> = good(EVERYTHING)
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    for name in [
        "zookeeper_hosts",
        "broker_version",
        "auto_start",
        "log_name",
        "zookeeper",
        "zookeeper_connection_timeout_ms",
        "num_consumer_fetchers",
    ] {
        let said = warnings
            .iter()
            .filter(|warning| warning.contains(&format!("`{name}` is accepted")))
            .count();
        assert_eq!(said, 1, "{name}: {warnings:#?}");
    }
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("`use_greenlets: true`")),
        "{warnings:#?}"
    );
    assert_eq!(warnings.len(), 8, "{warnings:#?}");
    let twice = "hosts: a\ndefaults: {config: {num_consumer_fetchers: 1}}\nconsumer_routes:\n  r: {path: a, symbol: B, config: {num_consumer_fetchers: 2, managed: false, auto_commit_enable: false}}\n";
    assert_eq!(lines(twice).len(), 3, "{:#?}", lines(twice));
}

#[test]
fn secrets_are_shown_nowhere() {
    let settings = good(EVERYTHING);
    let shown = format!(
        "{settings:?} {} {}",
        settings.findings().render(),
        serde_json::to_string(&settings.warnings).unwrap()
    );
    assert!(!shown.contains("hunter2") && !shown.contains("sesame"), "{shown}");
    let broken = "hosts: a\nssl_config: {password: hunter2, cafle: x}\nlibrdkafka: {sasl.password: [hunter2]}\nconsumer_routes: {}\n";
    let findings = read(broken).unwrap_err();
    assert!(
        !format!("{findings} {findings:?}").contains("hunter2"),
        "{findings}"
    );
    assert!(findings.render().contains("password: *******"), "{findings}");
    let unparsed = read("hosts: a\npassword: hunter2\n b: [\n").unwrap_err();
    assert!(!unparsed.render().contains("hunter2"));
    let substituted = World::default().variable("T", "hunter2");
    let findings = read_in(
        "hosts: a\nsocket_timeout_ms: ${T}\nlog: {level: '${T}'}\nconsumer_routes: {}\n",
        &substituted,
    )
    .unwrap_err();
    assert_eq!(findings.len(), 2);
    assert!(!format!("{findings}").contains("hunter2"), "{findings}");
}

#[test]
fn the_cluster_may_stand_in_a_client_block() {
    let settings = good("client: {hosts: 'a:1', socket_timeout_ms: 1000}\nconsumer_routes: {}\n");
    assert_eq!(
        (settings.cluster.hosts, settings.cluster.socket_timeout_ms),
        (vec!["a:1".to_owned()], Some(1000))
    );
    let both = lines("hosts: a:1\nclient:\n  hosts: b:1\nconsumer_routes: {}\n");
    assert_eq!(both.len(), 1);
    assert!(both[0].starts_with("settings.yaml:3:3: error: client.hosts: `hosts` stands at the top and in `client`, first in line 1"), "{both:?}");
}

#[test]
fn substitutions_fill_values_of_every_type_and_are_remembered_outside_a_plugins_settings() {
    let world = World::default()
        .variable("HOSTS", "a:1,b:2")
        .variable("TIMEOUT", "250")
        .variable("ON", "true")
        .variable("PORT", "8080")
        .variable("WAIT", "5s")
        .variable("CREDENTIALS_DIRECTORY", "/run/c")
        .file("/run/c/key", "sesame\n");
    let settings = read_in(
        r#"
hosts: ${HOSTS}
socket_timeout_ms: ${TIMEOUT}
exclude_internal_topics: "${ON}"
librdkafka: { sasl.password: "${credential:key}" }
defaults: { settings: { mode: "${MODE:-fast}" } }
consumer_routes:
  r:
    path: "${LIB:-liba.so}"
    symbol: A
    memory: ${PORT}KiB
    lifecycle_timeout: ${WAIT}
    config: { auto_offset_reset: "${RESET:-latest}", consumer_group: "$$g" }
    settings: { port: "${PORT}", number: 1, plain: ${PORT}, secret: "${credential:key}" }
"#,
        &world,
    );
    // a plain ${...} inside {...} is not YAML: the braces are its own
    assert!(settings.is_err());
    let settings = read_in(
        r#"
hosts: ${HOSTS}
socket_timeout_ms: ${TIMEOUT}
exclude_internal_topics: "${ON}"
librdkafka: { sasl.password: "${credential:key}" }
defaults: { settings: { mode: "${MODE:-fast}" } }
consumer_routes:
  r:
    path: "${LIB:-liba.so}"
    symbol: A
    memory: ${PORT}KiB
    lifecycle_timeout: ${WAIT}
    config: { auto_offset_reset: "${RESET:-latest}", consumer_group: "$$g" }
    settings:
      port: "${PORT}"
      plain: ${PORT}
      secret: "${credential:key}"
"#,
        &world,
    )
    .unwrap_or_else(|findings| panic!("{findings}"));
    let route = settings.route("r").unwrap();
    assert_eq!(settings.cluster.hosts, ["a:1", "b:2"]);
    assert_eq!(settings.cluster.socket_timeout_ms, Some(250));
    assert_eq!(settings.cluster.librdkafka["sasl.password"], "sesame");
    assert_eq!(route.memory, 8080 << 10);
    assert_eq!(route.config.consumer_group.as_deref(), Some("$g"));
    assert_eq!(
        route.settings,
        serde_json::json!({"mode": "fast", "port": "8080", "plain": 8080, "secret": "sesame"})
    );
    let remembered: Vec<&str> = settings
        .substituted_variables
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(
        remembered,
        ["HOSTS", "LIB", "ON", "PORT", "RESET", "TIMEOUT", "WAIT"]
    );
}

#[test]
fn a_route_that_only_moved_is_the_same_route() {
    let one = good("hosts: a\nconsumer_routes: {r: 'a::B', s: 'c::D'}\n");
    let two = good("# moved\nhosts: a\n\nconsumer_routes: {s: 'c::D', r: 'a::B'}\n");
    assert_eq!(one.route("r"), two.route("r"));
    assert_ne!(one.route("r").unwrap().position, two.route("r").unwrap().position);
    let three = good("hosts: b\nconsumer_routes: {r: 'a::B'}\n");
    assert_ne!(one.route("r"), three.route("r"));
}

#[test]
fn other_parts_add_what_they_find_at_its_place() {
    let settings = good("hosts: a\ndefaults: {topic: t}\nconsumer_routes:\n  r: a::B\n");
    let mut findings = settings.findings();
    findings.add_at(Severity::Error, &KeyPath::route("r").key("path"), "no such file");
    findings.add_at(
        Severity::Warning,
        &KeyPath::route("r").key("topic"),
        "no such topic",
    );
    let lines: Vec<String> = findings.sorted().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "settings.yaml:2:19: warning: consumer_routes.r.topic: no such topic",
            "settings.yaml:4:6: error: consumer_routes.r.path: no such file"
        ]
    );
    assert!(findings.has_errors());
}

#[test]
fn anchors_merge_keys_byte_order_marks_and_line_ends_of_windows_are_fine() {
    let text = "\u{feff}hosts: a\r\nconsumer_routes:\r\n  r: &r {path: a, symbol: B, memory: 2MiB}\r\n  s: {<<: *r, symbol: C}\r\n";
    let settings = good(text);
    let s = settings.route("s").unwrap();
    assert_eq!((s.symbol.as_str(), s.memory, s.position.line), ("C", 2 << 20, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_loading_panic(text in "(\\PC|[\\n\\t:\\-\\[\\]{}#&*!|>'\"%@`,? $]){0,200}") {
        let _ = read(&text).map_err(|findings| (findings.render(), serde_json::to_string(&findings)));
    }

    #[test]
    fn no_bytes_make_loading_panic(bytes: Vec<u8>) {
        let _ = parse(Path::new("f"), &bytes, &World::default()).map_err(|findings| findings.render());
    }

    /// Good files with a few characters changed: closer to what people break.
    #[test]
    fn no_broken_file_makes_loading_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), "[\\n\\t:\\-\\[\\]{}#&*!|>'\"%@`,? $0-9a-zé]{0,3}", 0_usize..6), 1..6)) {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for (at, insert, remove) in edits {
            let at = at.index(text.len().max(1));
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let _ = read(&text).map_err(|findings| (findings.render(), findings.render_coloured()));
    }
}
