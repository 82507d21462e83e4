//! What the properties of a client are made of, and what librdkafka says to them.

#![allow(clippy::unwrap_used)]
use super::super::property_check::{check, check_topics};
use super::*;

fn cluster() -> Cluster {
    Cluster::of(&["a:9092", "b:9092"])
}

fn group(name: &str) -> ConsumerConfig {
    ConsumerConfig {
        consumer_group: Some(name.into()),
        ..Default::default()
    }
}

fn balanced(cluster: &Cluster, config: &ConsumerConfig) -> Result<ClientProperties, Vec<PropertyFinding>> {
    let route = RouteName::new("r").unwrap();
    consumer_properties(cluster, ConsumerType::Balanced, config, &route, Some("id".into()))
}

#[test]
fn a_plain_route_gets_our_defaults_and_librdkafka_accepts_them() {
    let properties = balanced(&cluster(), &group("g")).unwrap();
    for (key, value) in [
        ("bootstrap.servers", "a:9092,b:9092"),
        ("group.id", "g"),
        ("group.instance.id", "id"),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "false"),
        ("fetch.queue.backoff.ms", "10"),
        ("partition.assignment.strategy", "cooperative-sticky"),
    ] {
        assert_eq!(properties.get(key), Some(value), "{key}");
    }
    assert_eq!(properties.protocol(), Protocol::Cooperative);
    assert_eq!(check(&properties), []);
}

#[test]
fn the_seeds_options_become_librdkafkas() {
    let mut cluster = cluster();
    cluster.socket_timeout_ms = Some(500);
    cluster.source_address = Some("127.0.0.7".parse().unwrap());
    let config = ConsumerConfig {
        fetch_message_max_bytes: Some(32 << 20),
        fetch_wait_max_ms: Some(50),
        queued_max_messages: Some(2000),
        auto_offset_reset: Some(crate::settings::OffsetReset::Latest),
        ..group("g")
    };
    let properties = balanced(&cluster, &config).unwrap();
    for (key, value) in [
        ("socket.timeout.ms", "500"),
        ("socket.connection.setup.timeout.ms", "1000"),
        ("broker.address.family", "v4"),
        ("fetch.message.max.bytes", "33554432"),
        ("fetch.max.bytes", "33554432"),
        ("queued.min.messages", "2000"),
        ("queued.max.messages.kbytes", "65536"),
        ("auto.offset.reset", "latest"),
    ] {
        assert_eq!(properties.get(key), Some(value), "{key}");
    }
    assert_eq!(check(&properties), []);
}

#[test]
fn the_free_form_map_wins_but_not_over_what_the_daemon_owns() {
    let mut cluster = cluster();
    cluster
        .librdkafka
        .insert("fetch.queue.backoff.ms".into(), "77".into());
    cluster
        .librdkafka
        .insert("partition.assignment.strategy".into(), "range".into());
    let properties = balanced(&cluster, &group("g")).unwrap();
    assert_eq!(properties.get("fetch.queue.backoff.ms"), Some("77"));
    assert_eq!(properties.protocol(), Protocol::Eager);

    for key in [
        "enable.auto.commit",
        "group.id",
        "enable.partition.eof",
        "bootstrap.servers",
        "plugin.library.paths",
    ] {
        let mut cluster = self::cluster();
        cluster.librdkafka.insert(key.into(), "x".into());
        let findings = balanced(&cluster, &group("g")).unwrap_err();
        assert_eq!(findings.len(), 1, "{key}");
        assert_eq!(findings[0].key, format!("librdkafka.{key}"));
    }
    cluster.librdkafka.insert("group.id".into(), "g".into());
    assert!(
        balanced(&cluster, &group("g")).is_ok(),
        "the same group said twice is no conflict"
    );
}

#[test]
fn what_librdkafka_refuses_is_told_in_its_words_at_the_setting() {
    let mut cluster = cluster();
    cluster.librdkafka.insert("fetch.min.byte".into(), "1".into());
    cluster
        .librdkafka
        .insert("compression.codec".into(), "brotli".into());
    let config = ConsumerConfig {
        fetch_wait_max_ms: Some(400_000),
        ..group("g")
    };
    let findings = check(&balanced(&cluster, &config).unwrap());
    let keys: Vec<_> = findings.iter().map(|finding| finding.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "librdkafka.compression.codec",
            "librdkafka.fetch.min.byte",
            "config.fetch_wait_max_ms"
        ]
    );
    assert!(
        findings[1].message.contains("No such configuration property"),
        "{findings:?}"
    );
    assert!(
        findings[2].message.contains("outside allowed range"),
        "{findings:?}"
    );
}

#[test]
fn what_only_does_not_go_together_is_found_too() {
    let mut cluster = cluster();
    cluster
        .librdkafka
        .insert("max.poll.interval.ms".into(), "1000".into());
    let findings = check(&balanced(&cluster, &group("g")).unwrap());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].key, "librdkafka.max.poll.interval.ms", "{findings:?}");

    let mut cluster = self::cluster();
    cluster.ssl = Some(crate::settings::SslConfig {
        cafile: "/no/such/ca.pem".into(),
        certfile: None,
        keyfile: None,
        password: None,
        verify_hostname: true,
    });
    let findings = check(&balanced(&cluster, &group("g")).unwrap());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].key, "ssl_config.cafile", "{findings:?}");
}

#[test]
fn a_simple_consumer_needs_no_group_and_a_balanced_one_does() {
    let route = RouteName::new("r").unwrap();
    let simple = consumer_properties(
        &cluster(),
        ConsumerType::Simple,
        &ConsumerConfig::default(),
        &route,
        None,
    )
    .unwrap();
    assert!(!simple.has_group());
    assert_eq!(check(&simple), []);
    let findings = balanced(&cluster(), &ConsumerConfig::default()).unwrap_err();
    assert_eq!(findings[0].key, "config.consumer_group");
}

#[test]
fn kip_848_members_are_dynamic_and_get_no_classic_property() {
    let mut cluster = cluster();
    cluster
        .librdkafka
        .insert("group.protocol".into(), "consumer".into());
    let config = ConsumerConfig {
        heartbeat_interval_ms: Some(1000),
        ..group("g")
    };
    let properties = balanced(&cluster, &config).unwrap();
    assert_eq!(properties.get("group.instance.id"), None);
    assert_eq!(properties.protocol(), Protocol::Cooperative);
    assert_eq!(check(&properties), []);
    assert_eq!(check_topics(&properties, &["^.*".into()]).len(), 1);
    assert_eq!(check_topics(&properties, &["^orders".into()]), []);
}

#[test]
fn kafkas_own_topics_are_refused_unless_allowed() {
    let mut properties = balanced(&cluster(), &group("g")).unwrap();
    assert_eq!(
        check_topics(
            &properties,
            &["__consumer_offsets".into(), "t".into(), "^.*".into()]
        )
        .len(),
        1
    );
    properties.internal_topics = InternalTopics::Allow;
    assert_eq!(check_topics(&properties, &["__consumer_offsets".into()]), []);
    assert_eq!(check_topics(&properties, &["^(".into()]).len(), 1);
}

#[test]
fn a_producer_gets_no_consumer_property() {
    let properties = producer_properties(&cluster()).unwrap();
    assert!(
        properties.map.keys().all(|key| !key.starts_with("fetch.")),
        "{properties:?}"
    );
}

#[test]
fn secrets_are_shown_to_nobody() {
    let mut cluster = cluster();
    cluster.librdkafka.insert("sasl.password".into(), "geheim".into());
    let properties = balanced(&cluster, &group("g")).unwrap();
    assert!(!format!("{properties:?}").contains("geheim"));
}

#[test]
fn connections_of_a_transactional_producer_do_not_idle_for_long_unless_told_to() {
    let mut cluster = cluster();
    let idle = |cluster: &Cluster| {
        let properties = transaction_properties(cluster, "id").unwrap();
        properties.get("connections.max.idle.ms").map(str::to_owned)
    };
    assert_eq!(idle(&cluster).as_deref(), Some("20000"));
    let told = ("connections.max.idle.ms".to_owned(), "0".into());
    cluster.librdkafka.extend([told]);
    assert_eq!(idle(&cluster).as_deref(), Some("0"));
}
