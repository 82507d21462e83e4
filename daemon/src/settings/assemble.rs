//! Checked trees to the types of `types` and `route`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bounds::RouteBounds;
use super::config_types::ConsumerConfig;
use super::convert::{Tree, Valid};
use super::positions::Position;
use super::route::{
    Batch, Concurrency, DeadLetter, Flush, OnError, Route, RouteName, SchemaRegistry, Topics,
};
use super::types::{Cluster, SslConfig};
use super::words::{DumpMode, Then};

/// The file's cluster, unless a part of it was refused.
pub(super) fn cluster_of(tree: &Tree) -> Option<Cluster> {
    let source_address: Option<String> = tree.given("source_address");
    Some(Cluster {
        hosts: tree.given("hosts")?,
        ssl: ssl_of(tree)?,
        socket_timeout_ms: tree.given("socket_timeout_ms"),
        offsets_channel_socket_timeout_ms: tree.get("offsets_channel_socket_timeout_ms"),
        // empty, as in the seed, is "not said"
        source_address: source_address.and_then(|address| address.parse().ok()),
        exclude_internal_topics: tree.get("exclude_internal_topics"),
        librdkafka: tree.get("librdkafka"),
    })
}

/// A route's cluster: its own hosts and TLS in place of the file's, its properties over the file's.
pub(super) fn cluster_over(file: &Cluster, tree: &Tree) -> Cluster {
    let mut cluster = file.clone();
    if let Some(hosts) = tree.given("hosts") {
        cluster.hosts = hosts;
    }
    match tree.raw("ssl_config") {
        Some(Valid::None) => cluster.ssl = None,
        Some(_) => cluster.ssl = ssl_of(tree).flatten(),
        None => {}
    }
    cluster
        .librdkafka
        .extend(tree.get::<BTreeMap<String, String>>("librdkafka"));
    cluster
}

/// `Some(None)` is no TLS, `None` is TLS that was refused.
fn ssl_of(tree: &Tree) -> Option<Option<SslConfig>> {
    let Some(Valid::Block(ssl)) = tree.raw("ssl_config") else {
        return Some(None);
    };
    let certfile: Option<PathBuf> = ssl.given("certfile");
    Some(Some(SslConfig {
        cafile: ssl.given("cafile")?,
        // as in Python, a certificate's file may hold its key
        keyfile: ssl.given("keyfile").or_else(|| certfile.clone()),
        certfile,
        password: ssl.given("password"),
        verify_hostname: ssl.get("verify_hostname"),
    }))
}

pub(super) fn convert_route(
    tree: &Tree,
    name: RouteName,
    topic: Option<Topics>,
    cluster: Cluster,
    position: Position,
) -> Route {
    let dump = [DumpMode::Raw, DumpMode::Object, DumpMode::Json];
    let batch = tree.block("batch");
    let on_error = tree.block("on_error");
    let dead_letter = on_error.block("dead_letter");
    let concurrency = tree.block("concurrency");
    let flush = tree.block("flush");
    Route {
        name,
        path: tree.get("path"),
        symbol: tree.get("symbol"),
        sha256: tree
            .given::<String>("sha256")
            .map(|hash| hash.to_ascii_lowercase()),
        topic,
        consumer_type: tree.given("consumer_type"),
        config: ConsumerConfig::from_tree(&tree.block("config")),
        isolation: tree.get("isolation"),
        bounds: RouteBounds::from_tree(tree),
        digest_name: tree.given("digest_name"),
        // raw beats object beats JSON
        dump: dump
            .into_iter()
            .find(|mode| tree.given(mode.as_str()) == Some(true)),
        schema_class: tree.given("schema_class"),
        schema: match tree.raw("schema") {
            Some(Valid::Block(schema)) => schema.given("attributes"),
            _ => None,
        },
        deserializer: tree.given("deserializer"),
        schema_registry: SchemaRegistry {
            urls: tree.block("schema_registry").given("url").unwrap_or_default(),
            credentials: tree.block("schema_registry").given("credentials"),
        },
        batch: Batch {
            max_messages: batch.get("max_messages"),
            max_bytes: batch.get("max_bytes"),
            max_wait: batch.get("max_wait"),
        },
        concurrency: Concurrency {
            order: concurrency.get("order"),
            lanes: concurrency.get("lanes"),
            in_flight: concurrency.get("in_flight"),
        },
        flush: Flush {
            max_wait: flush.given("max_wait"),
            max_messages: flush.given("max_messages"),
        },
        rate_limit: tree.given("rate_limit"),
        memory: tree.get("memory"),
        on_error: OnError {
            attempts: on_error.get("attempts"),
            backoff: on_error.get("backoff"),
            then: on_error.get("then"),
            dead_letter: dead_letter
                .given("topic")
                .filter(|_| on_error.get::<Then>("then") == Then::DeadLetter)
                .map(|topic| DeadLetter {
                    topic,
                    headers: dead_letter.get("headers"),
                }),
        },
        tombstones: tree.get("tombstones"),
        restart: tree.get("restart"),
        membership: tree.get("membership"),
        delivery: tree.get("delivery"),
        lifecycle_timeout: tree.get("lifecycle_timeout"),
        drain_timeout: tree.get("drain_timeout"),
        digest_timeout: tree.get("digest_timeout"),
        stall_timeout: tree.get("stall_timeout"),
        release_after: tree.get("release_after"),
        poison_after: tree.get("poison_after"),
        settings: tree.get("settings"),
        cluster,
        autoloaded: false,
        position,
    }
}
