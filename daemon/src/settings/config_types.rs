//! A route's `config:` block as types, and how it is laid over what the plugin says.

use serde_json::{Map, Value};

use super::words::words;

words! {
    /// Where to begin where nothing is committed.
    OffsetReset {
        /// At the oldest message.
        Earliest = "earliest",
        /// At the next message.
        Latest = "latest",
    }
}
words! {
    /// How a group of the classic protocol shares its partitions.
    MembershipProtocol {
        /// Neighbours together, topic by topic.
        Range = "range",
        /// One to each in turn.
        RoundRobin = "roundrobin",
    }
}

/// Declares the struct, with its merging, from one list of fields.
macro_rules! options {
    ($($(#[$meta:meta])* $field:ident: $type:ty),+ $(,)?) => {
        /// The seed's consumer options that are set; `None` is "not said here".
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ConsumerConfig { $($(#[$meta])* pub $field: Option<$type>),+ }

        impl ConsumerConfig {
            /// These options over the plugin's: what is set here wins, key by key.
            #[must_use]
            pub fn over(&self, plugin: &ConsumerConfig) -> ConsumerConfig {
                ConsumerConfig { $($field: self.$field.clone().or_else(|| plugin.$field.clone())),+ }
            }

            /// Reads the options of a tree that was checked against the schema.
            pub(super) fn from_tree(tree: &super::convert::Tree) -> ConsumerConfig {
                ConsumerConfig { $($field: tree.given(stringify!($field))),+ }
            }
        }
    };
}

options! {
    /// `group.id`.
    consumer_group: String,
    /// Whether finished work is committed; `None` means where there is a group.
    auto_commit_enable: bool,
    /// How often, in milliseconds.
    auto_commit_interval_ms: u64,
    /// Where to begin without a committed offset.
    auto_offset_reset: OffsetReset,
    /// Begin there at the first assignment after the daemon starts, whatever is committed.
    reset_offset_on_start: bool,
    /// `fetch.message.max.bytes`.
    fetch_message_max_bytes: u64,
    /// `fetch.min.bytes`.
    fetch_min_bytes: u64,
    /// `fetch.wait.max.ms`.
    fetch_wait_max_ms: u64,
    /// `fetch.error.backoff.ms`.
    fetch_error_backoff_ms: u64,
    /// Messages read ahead in a partition, about.
    queued_max_messages: u64,
    /// The wait after the n-th commit that failed is n times this, in milliseconds.
    offsets_channel_backoff_ms: u64,
    /// How often a failed commit is tried again.
    offsets_commit_max_retries: u32,
    /// `heartbeat.interval.ms`.
    heartbeat_interval_ms: u64,
    /// `partition.assignment.strategy`.
    membership_protocol: MembershipProtocol,
    /// Accepted; gaps between offsets are always fine.
    compacted_topic: bool,
    /// Accepted; Kafka always manages the group.
    managed: bool,
    /// Accepted; it is always used.
    use_rdkafka: bool,
    /// The route ends after this long without a message, in milliseconds; -1 is never.
    consumer_timeout_ms: i64,
    /// Accepted as -1.
    generation_id: i64,
    /// Accepted as empty.
    consumer_id: String,
}

impl ConsumerConfig {
    /// The `config` of a plugin's descriptor, under the same rules as a route's `config:` block.
    ///
    /// # Errors
    /// Every key that is wrong, each in a sentence that names it.
    pub fn from_plugin(map: &Map<String, Value>) -> Result<ConsumerConfig, Vec<String>> {
        super::load::plugin_config(map)
    }

    /// Whether finished work is to be committed: as said, else where there is a group.
    #[must_use]
    pub fn commits(&self) -> bool {
        self.consumer_group.is_some() && self.auto_commit_enable.unwrap_or(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(value: Value) -> Result<ConsumerConfig, Vec<String>> {
        ConsumerConfig::from_plugin(value.as_object().unwrap())
    }

    #[test]
    fn a_routes_options_win_over_the_plugins_key_by_key() {
        let plugin = config(serde_json::json!({"consumer_group": "a", "fetch_min_bytes": 7})).unwrap();
        let route = config(serde_json::json!({"consumer_group": "b", "auto_offset_reset": -1})).unwrap();
        let both = route.over(&plugin);
        assert_eq!(both.consumer_group.as_deref(), Some("b"));
        assert_eq!(both.fetch_min_bytes, Some(7));
        assert_eq!(both.auto_offset_reset, Some(OffsetReset::Latest));
    }

    #[test]
    fn a_plugins_options_are_checked_like_a_routes() {
        let errors = config(
            serde_json::json!({"consumer_grup": "a", "fetch_min_bytes": 0, "deserializer": 1, "managed": true}),
        );
        let errors = errors.unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors.iter().any(|error| error.contains("consumer_group")),
            "{errors:?}"
        );
    }

    #[test]
    fn a_group_commits_unless_it_is_told_not_to() {
        assert!(!config(serde_json::json!({})).unwrap().commits());
        assert!(
            config(serde_json::json!({"consumer_group": "a"}))
                .unwrap()
                .commits()
        );
        assert!(
            !config(serde_json::json!({"consumer_group": "a", "auto_commit_enable": false}))
                .unwrap()
                .commits()
        );
    }
}
