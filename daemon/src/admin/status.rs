//! What `devourd status` answers: the document that `--json` prints, field by field. Fields are added, never renamed;
//! `docs/control.md` describes each. Times are UTC, such as `2026-11-28T21:04:05.678Z`.

use serde::{Deserialize, Serialize};

/// A daemon and its routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's process.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// Its routes, by name.
    pub routes: Vec<RouteStatus>,
    /// What became of the last reload; `None` before the first.
    #[serde(default)]
    pub last_reload: Option<serde_json::Value>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: String,
    /// Since when it is there.
    pub since: String,
    /// What a person ordered that holds until somebody orders otherwise.
    pub by_hand: Option<ByHandStatus>,
    /// `process` or `thread`.
    pub isolation: String,
    /// The plugin's process; `None` in thread isolation and between restarts.
    pub pid: Option<u32>,
    /// The plugin's file; as the settings name it where it could not be used.
    pub plugin: String,
    /// The consumer in it.
    pub symbol: String,
    /// The crate that the plugin was made of.
    pub package: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Which of the codes that the route was given since the daemon's start, from 1.
    pub generation: Option<u64>,
    /// Topics, and patterns.
    pub topics: Vec<String>,
    /// Its consumer group.
    pub group: Option<String>,
    /// The partitions that it has; `None` before its group has answered, and where it has no client.
    pub assignment: Option<Vec<PartitionStatus>>,
    /// Messages that it is behind, in all partitions where that is known; `None` where it is not known of any.
    pub lag: Option<i64>,
    /// Messages digested a second, over the last seconds.
    pub rate: f64,
    /// Messages with the plugin.
    pub in_hand: Option<u64>,
    /// Messages that were read and wait for the plugin.
    pub queued: Option<u64>,
    /// What the plugin is at, where it has something in hand.
    pub at_work: Option<String>,
    /// What the route has done since the daemon started, or a reload gave it a new client.
    pub counts: CountStatus,
    /// What its digests produced in that time.
    pub outputs: OutputStatus,
    /// Its transactions in that time, under `delivery: exactly_once`.
    pub transactions: Option<TransactionStatus>,
    /// How often something of it was started again.
    pub restarts: RestartStatus,
    /// What `on_error.then: stop` has stopped: the first thousand.
    pub parked: Vec<ParkedStatus>,
    /// How many are parked in all.
    pub parked_count: u64,
    /// In `backoff`, what failed: `plugin` or `client`.
    pub ails: Option<String>,
    /// It left its group because its plugin did not run for `release_after`, and joins again when it does.
    pub released: bool,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether the route's thread answered: what only it knows is as of then.
    pub thread: ThreadStatus,
    /// When what the route's thread says was so (`assignment`, `lag`, `in_hand`, `queued`, `at_work`, `parked`).
    pub as_of: Option<String>,
}

/// A standing order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHandStatus {
    /// `paused` or `stopped`.
    pub state: String,
    /// When it was ordered.
    pub since: String,
}

/// One partition of an assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The lowest offset that is not finished.
    pub offset: Option<i64>,
    /// What the group has committed.
    pub committed: Option<i64>,
    /// The offset that its next message gets.
    pub end: Option<i64>,
    /// `end` less `offset`.
    pub lag: Option<i64>,
}

/// Messages, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CountStatus {
    /// Digested.
    pub digested: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Passed by: `on_error.then: skip`, `devourd skip`.
    pub skipped: u64,
    /// Their dead letters are with the brokers.
    pub dead_lettered: u64,
}

/// Records, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputStatus {
    /// Produced.
    pub produced: u64,
    /// The brokers have them.
    pub acknowledged: u64,
    /// They were not written.
    pub failed: u64,
    /// What is on its way takes so many bytes.
    pub waiting_bytes: u64,
}

/// Transactions, by how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TransactionStatus {
    /// They count.
    pub committed: u64,
    /// Nothing of them is seen, and their messages were digested again.
    pub aborted: u64,
}

/// Restarts that nobody ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartStatus {
    /// Of the plugin.
    pub plugin: u64,
    /// Of the Kafka client.
    pub client: u64,
}

/// A message that waits for a person, and with it what follows it in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParkedStatus {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub error: String,
}

/// What is known of a route's thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreadStatus {
    /// There is none: the route is stopped, failed, or waits for its next client.
    #[default]
    None,
    /// It answered.
    Answered,
    /// It did not answer in time: a rebalance, or the Kafka client, keeps it.
    Silent,
    /// It is finishing what is in hand, to stop, and answers nobody.
    Ending,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_document_keeps_its_shape() {
        let status = Status {
            pid: 7,
            version: "0.1.0".to_owned(),
            routes: vec![RouteStatus {
                name: "orders".to_owned(),
                state: "running".to_owned(),
                assignment: Some(vec![PartitionStatus {
                    topic: "o".to_owned(),
                    offset: Some(3),
                    end: Some(5),
                    lag: Some(2),
                    ..PartitionStatus::default()
                }]),
                thread: ThreadStatus::Answered,
                ..RouteStatus::default()
            }],
            last_reload: None,
        };
        let json = serde_json::to_value(&status).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let sorted = |keys: &[&str]| {
            let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            keys.sort_unstable();
            keys
        };
        let mut top = keys(&json);
        top.sort_unstable();
        assert_eq!(top, sorted(&["pid", "version", "routes", "last_reload"]));
        let route = &json["routes"][0];
        let mut of_route = keys(route);
        of_route.sort_unstable();
        let expected = [
            "name",
            "state",
            "since",
            "by_hand",
            "isolation",
            "pid",
            "plugin",
            "symbol",
            "package",
            "version",
            "generation",
            "topics",
            "group",
            "assignment",
            "lag",
            "rate",
            "in_hand",
            "queued",
            "at_work",
            "counts",
            "outputs",
            "transactions",
            "restarts",
            "parked",
            "parked_count",
            "ails",
            "released",
            "last_error",
            "thread",
            "as_of",
        ];
        assert_eq!(of_route, sorted(&expected));
        assert_eq!(route["thread"], "answered");
        assert_eq!(
            route["assignment"][0],
            serde_json::json!({"topic": "o", "partition": 0, "offset": 3, "committed": null, "end": 5, "lag": 2})
        );
        // A program, and an older or newer command, read what they know.
        let mut newer = json.clone();
        newer["routes"][0]["colour"] = "red".into();
        assert_eq!(serde_json::from_value::<Status>(newer).unwrap(), status);
        let least = serde_json::json!({"pid": 7, "version": "0.1.0", "routes": [{"name": "orders"}]});
        assert_eq!(
            serde_json::from_value::<Status>(least).unwrap().routes[0].name,
            "orders"
        );
    }
}
