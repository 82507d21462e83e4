//! What is known about the brokers of one client, fed by librdkafka's log lines, errors and statistics: a broker
//! that is down is named once, and once more when it answers again. Pure: the caller writes the lines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::statistics::TopicState;

/// Whether a client reaches Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// No broker has answered yet, and none has failed.
    Connecting,
    /// At least one broker answers.
    Up,
    /// None answers; the client tries for ever.
    Down,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Down(String),
    Back(String),
}

#[derive(Debug)]
pub(super) struct BrokerWatch {
    down: BTreeSet<String>,
    connectivity: Connectivity,
    coordinator_down: bool,
}

/// The few fields of librdkafka's statistics that this needs.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    pub(super) brokers: BTreeMap<String, BrokerState>,
    #[serde(default)]
    pub(super) topics: BTreeMap<String, TopicState>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BrokerState {
    #[serde(default)]
    nodename: String,
    #[serde(default)]
    state: String,
    /// Its id in the cluster; -1 for a bootstrap address, and for the coordinator's own connection.
    #[serde(default = "no_id")]
    pub(super) nodeid: i32,
    #[serde(default)]
    pub(super) req: Requests,
}

/// How many requests of a kind were sent to a broker.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Requests {
    #[serde(default, rename = "Fetch")]
    pub(super) fetch: u64,
}

/// Drops lines that repeat: the same line but for its numbers is written once a minute, with a count.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: BTreeMap<String, (Instant, u32)>,
}

fn no_id() -> i32 {
    -1
}

const COORDINATOR: &str = "GroupCoordinator";
const QUIET: Duration = Duration::from_secs(60);

// === impl BrokerState ===

impl BrokerState {
    pub(super) fn is_up(&self) -> bool {
        self.state == "UP"
    }
}

// === impl BrokerWatch ===

impl BrokerWatch {
    pub(super) fn new() -> Self {
        Self {
            down: BTreeSet::new(),
            connectivity: Connectivity::Connecting,
            coordinator_down: false,
        }
    }

    pub(super) fn connectivity(&self) -> Connectivity {
        self.connectivity
    }

    /// The group's coordinator is known to be unreachable.
    pub(super) fn coordinator_down(&self) -> bool {
        self.coordinator_down || self.connectivity == Connectivity::Down
    }

    /// A connection failed. `text` is librdkafka's: `[thrd:..]: NAME: what happened (after ..ms in state ..)`.
    pub(super) fn failed(&mut self, text: &str) -> Option<Line> {
        let text = match text.strip_prefix("[thrd:") {
            Some(rest) => rest.split_once("]: ").map_or(text, |(_, rest)| rest),
            None => text,
        };
        let (mut name, mut reason) = text.split_once(": ")?;
        if name == COORDINATOR {
            self.coordinator_down = true;
            (name, reason) = reason.split_once(": ")?;
        }
        // A broker that closes a connection may only be tidying up; if it is gone, the next connect says so.
        if reason.starts_with("Disconnected") {
            return None;
        }
        let name = host_and_port(name);
        if !self.down.insert(name.to_owned()) {
            return None;
        }
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        Some(Line::Down(format!(
            "the Kafka broker {name} does not answer: {reason}; it is tried again until it does"
        )))
    }

    /// librdkafka says that no broker is left.
    pub(super) fn all_down(&mut self) {
        self.connectivity = Connectivity::Down;
    }

    /// Something came from a broker that only a living one can send.
    pub(super) fn answered(&mut self) {
        self.connectivity = Connectivity::Up;
    }

    /// The group's coordinator answered (an assignment, a commit).
    pub(super) fn coordinator_answered(&mut self) {
        self.coordinator_down = false;
        self.connectivity = Connectivity::Up;
    }

    /// The state of every broker, as librdkafka sees it now.
    pub(super) fn statistics(&mut self, statistics: &Statistics) -> Vec<Line> {
        let mut lines = Vec::new();
        for (name, broker) in &statistics.brokers {
            if !broker.is_up() {
                continue;
            }
            self.connectivity = Connectivity::Up;
            if name == COORDINATOR {
                self.coordinator_down = false;
            }
            // `nodename` is empty for a broker without an address; the key then has nothing better.
            let node = if broker.nodename.is_empty() {
                name
            } else {
                &broker.nodename
            };
            let node = host_and_port(node);
            if self.down.remove(node) {
                lines.push(Line::Back(format!("the Kafka broker {node} answers again")));
            }
        }
        lines
    }
}

// === impl Repeats ===

impl Repeats {
    /// Whether to write the line, and how many of its like were dropped since the last one.
    pub(super) fn admit(&mut self, line: &str, now: Instant) -> Option<u32> {
        let shape: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        if let Some((last, dropped)) = self.seen.get_mut(&shape) {
            if now.duration_since(*last) < QUIET {
                *dropped += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(dropped));
        }
        // Bounded whatever librdkafka says: what is old enough to be written again need not be remembered.
        if self.seen.len() >= 256 {
            self.seen.retain(|_, (last, _)| now.duration_since(*last) < QUIET);
        }
        if self.seen.len() < 256 {
            self.seen.insert(shape, (now, 0));
        }
        Some(0)
    }
}

/// `ssl://host:9093/1` and `host:9093/bootstrap` are both `host:9093`.
fn host_and_port(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REFUSED: &str = "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 \
                           failed: Connection refused (after 0ms in state CONNECT)";

    fn up(name: &str, node: &str) -> Statistics {
        let json = format!(r#"{{"brokers":{{"{name}":{{"nodename":"{node}","state":"UP","x":1}}}},"y":[]}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_broker_that_is_down_is_named_once_and_once_more_when_it_is_back() {
        let mut watch = BrokerWatch::new();
        let Some(Line::Down(line)) = watch.failed(REFUSED) else {
            panic!("the first failure is told")
        };
        assert!(
            line.contains("127.0.0.1:9092 does not answer") && line.contains("Connection refused"),
            "{line}"
        );
        assert!(!line.contains("after 0ms"), "{line}");
        assert_eq!(watch.failed(REFUSED), None);
        // the same broker by its id, and as the coordinator
        assert_eq!(
            watch.failed("127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: refused"),
            None
        );
        assert_eq!(
            watch.failed("GroupCoordinator: 127.0.0.1:9092: Connect to x failed: refused"),
            None
        );
        assert!(watch.coordinator_down());
        let back = watch.statistics(&up("127.0.0.1:9092/1", "127.0.0.1:9092"));
        assert_eq!(
            back,
            [Line::Back("the Kafka broker 127.0.0.1:9092 answers again".into())]
        );
        assert!(
            watch
                .statistics(&up("127.0.0.1:9092/1", "127.0.0.1:9092"))
                .is_empty()
        );
        assert!(watch.failed(REFUSED).is_some(), "a second outage is told again");
    }

    #[test]
    fn a_closed_connection_alone_is_no_outage() {
        let mut watch = BrokerWatch::new();
        assert_eq!(
            watch.failed("[thrd:h:1/1]: h:1/1: Disconnected (after 600000ms in state UP)"),
            None
        );
        assert_eq!(watch.connectivity(), Connectivity::Connecting);
        assert!(!watch.coordinator_down());
        assert_eq!(
            watch.failed("[thrd:GroupCoordinator]: GroupCoordinator: h:1: Disconnected (after 1ms)"),
            None
        );
        assert!(watch.coordinator_down());
        watch.statistics(&up("GroupCoordinator", "h:1"));
        assert!(!watch.coordinator_down());
    }

    #[test]
    fn a_broker_name_with_a_scheme_is_the_same_broker() {
        let mut watch = BrokerWatch::new();
        assert!(
            watch
                .failed("ssl://h:9093/2: SSL handshake failed: bad certificate")
                .is_some()
        );
        assert_eq!(watch.statistics(&up("ssl://h:9093/2", "h:9093")).len(), 1);
    }

    #[test]
    fn repeated_lines_are_counted_and_written_once_a_minute() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        assert_eq!(repeats.admit("tried 1 times", start), Some(0));
        assert_eq!(
            repeats.admit("tried 2 times", start + Duration::from_secs(1)),
            None
        );
        assert_eq!(repeats.admit("something else", start), Some(0));
        assert_eq!(
            repeats.admit("tried 3 times", start + Duration::from_secs(61)),
            Some(1)
        );
    }
}
