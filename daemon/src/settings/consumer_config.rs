//! The keys of a route's `config:` block: the options of the seed's consumers, and what becomes of each.

use super::config_types::MembershipProtocol;
use super::forms::not_empty;
use super::schema::Standing::Only;
use super::schema::{Block, Kind, ignored, key, refused};

/// The `config:` block.
pub(super) static CONFIG: Block = Block {
    name: "config",
    keys: &[
        key("consumer_group", Kind::Text { what: "the name of a group", check: check_group }, "The group. A balanced consumer needs one; a simple consumer commits only if it has one.")
            .otherwise("as the plugin says")
            .example("billing"),
        key("auto_commit_enable", Kind::Bool, "Whether finished work is committed, on a timer and at every stop.")
            .otherwise("true where there is a `consumer_group`")
            .example("true")
            .warn("false", "nothing is ever committed: after every start the same messages are digested again (this was the seed's default)"),
        key("auto_commit_interval_ms", Kind::integer(1, 86_400_000, "milliseconds"), "How often finished work is committed.")
            .otherwise("5000")
            .example("5000"),
        key("auto_offset_reset", Kind::OffsetReset, "Where to begin where nothing is committed, or what was committed is gone.")
            .otherwise("`earliest`, as in the seed")
            .example("earliest"),
        key("reset_offset_on_start", Kind::Bool, "Begin there once when the daemon starts, whatever is committed; never after a restart of the route, a reload or a rebalance.")
            .otherwise("false")
            .example("false"),
        key("fetch_message_max_bytes", Kind::integer(1, 1_000_000_000, "bytes"), "How much is asked of one partition at a time; a larger message still comes.")
            .otherwise("librdkafka's 1048576")
            .example("1048576"),
        key("fetch_min_bytes", Kind::integer(1, 100_000_000, "bytes"), "How much a broker waits for before it answers.")
            .otherwise("1")
            .example("1"),
        key("fetch_wait_max_ms", Kind::integer(0, 300_000, "milliseconds"), "How long a broker waits for that. Less than the socket timeout.")
            .otherwise("100")
            .example("100"),
        key("fetch_error_backoff_ms", Kind::integer(0, 300_000, "milliseconds"), "How long a partition rests after a fetch that failed.")
            .otherwise("librdkafka's 500")
            .example("500"),
        key("queued_max_messages", Kind::integer(1, 10_000_000, "messages"), "How many messages of a partition are read ahead, about (`queued.min.messages` and `queued.max.messages.kbytes`).")
            .otherwise("librdkafka's 100000, within 32 MiB for the whole client")
            .example("2000"),
        key("offsets_channel_backoff_ms", Kind::integer(0, 3_600_000, "milliseconds"), "The wait after the first commit that failed; after the n-th it is n times as long.")
            .otherwise("1000")
            .example("1000"),
        key("offsets_commit_max_retries", Kind::integer(0, 1_000_000, "retries"), "How often a commit that failed is tried again before it is reported as an error.")
            .otherwise("5")
            .example("5"),
        key("heartbeat_interval_ms", Kind::integer(1, 3_600_000, "milliseconds"), "How often the group's coordinator hears of us. Classic group protocol only.")
            .otherwise("librdkafka's 3000")
            .example("3000"),
        key("membership_protocol", Kind::choice(MembershipProtocol::WORDS), "How a group shares its partitions. Classic group protocol only.")
            .otherwise("`cooperative-sticky`")
            .example("roundrobin"),
        key("compacted_topic", Kind::Bool, "Accepted: gaps between offsets are always fine.").otherwise("false").example("false"),
        key("managed", Kind::Bool, "Whether Kafka balances the group.")
            .default("true")
            .warn("false", "balancing through ZooKeeper does not exist any more; the group is balanced by Kafka itself"),
        key("use_rdkafka", Kind::Bool, "Whether librdkafka is used.")
            .default("true")
            .warn("false", "librdkafka is always used"),
        key("consumer_timeout_ms", Kind::integer(-1, i64::MAX, "milliseconds"), "How long the route waits for a message before it ends; -1 is for ever.")
            .default("-1"),
        key("generation_id", Kind::integer(-1, i64::MAX, ""), "Accepted: the group protocol gives it.")
            .default("-1")
            .standing(Only("-1", "the generation comes from the group protocol")),
        key("consumer_id", Kind::Text { what: "text", check: any }, "Accepted: the group protocol gives it.")
            .default("\"\"")
            .standing(Only("\"\"", "the member's id comes from the group protocol; name the client with `librdkafka: {client.id: ...}`")),
        ignored("num_consumer_fetchers", Kind::Any, "1", "librdkafka has one fetcher for each broker"),
        ignored("rebalance_backoff_ms", Kind::Any, "2000", "librdkafka joins a group again for as long as it takes"),
        ignored("rebalance_max_retries", Kind::Any, "5", "librdkafka joins a group again for as long as it takes"),
        refused("deserializer", "a function cannot be a setting; a plugin's digest decodes its messages"),
        refused("post_rebalance_callback", "a function cannot be a setting; a plugin has `assigned` and `revoked`"),
        refused("zookeeper", "Kafka has no ZooKeeper any more; remove the key"),
        refused("zookeeper_connect", "Kafka has no ZooKeeper any more; remove the key"),
        refused("zookeeper_connection_timeout_ms", "Kafka has no ZooKeeper any more; remove the key"),
        refused("zookeeper_hosts", "Kafka has no ZooKeeper any more; remove the key"),
        refused("use_greenlets", "it is a setting of the client: move it to the top of the file or into `client`"),
        refused("auto_start", "it is a setting of the client: move it to the top of the file or into `client`"),
        refused("topic", "it is a key of the route: move it out of `config`"),
        refused("consumer_type", "it is a key of the route: move it out of `config`"),
    ],
};

/// pykafka's rule, kept because tools of the group's operators assume it.
fn check_group(name: &str) -> Result<(), String> {
    not_empty(name)?;
    if !name.is_ascii() {
        return Err("the name of a group is ASCII".into());
    }
    if name.len() > 249 || name.contains(|c: char| c.is_ascii_control()) {
        return Err(
            "the name of a group has at most 249 characters, none of them a control character".into(),
        );
    }
    Ok(())
}

fn any(_: &str) -> Result<(), String> {
    Ok(())
}
