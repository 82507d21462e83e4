//! What can be asked over the control socket, and what comes back.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// One line of a client, such as `{"command":"resume","route":"orders"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Read the settings and the plugins' files again.
    Reload {
        /// Answer with the receipt, when it is done.
        #[serde(default)]
        wait: bool,
    },
    /// Say how the routes stand.
    Status {
        /// One route, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
    },
    /// Fetch and digest nothing more, and keep assignment and plugin.
    Pause {
        /// One route, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
    },
    /// End a pause, and try again what `on_error.then: stop` has parked.
    Resume {
        /// One route, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
    },
    /// Leave the group and end the plugin.
    Stop {
        /// One route.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
        /// All routes.
        #[serde(default)]
        all: bool,
    },
    /// Start what is stopped, try again what failed.
    Start {
        /// One route, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
    },
    /// Put a new plugin process in place.
    Restart {
        /// One route, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<String>,
        /// A new Kafka client too.
        #[serde(default)]
        client: bool,
    },
    /// Pass a parked message by.
    Skip {
        /// The route.
        route: String,
        /// The message's topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
}

/// One line of the daemon: `{"done":...}` or `{"failed":{"error":"..."}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done; what there is to say about it.
    Done(serde_json::Value),
    /// It was not.
    Failed {
        /// Why, and what to do.
        error: String,
    },
}

/// A request on its way to who can answer it.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: Request,
    /// The process group of who asks, where the kernel knows it.
    pub process_group: Option<u32>,
    /// Where the answer goes. Dropped, the client hears that the daemon did not answer.
    pub reply: oneshot::Sender<Answer>,
}

// === impl Request ===

impl Request {
    /// Whether the answer comes without waiting for the work that it tells of.
    #[must_use]
    pub fn is_answered_at_once(&self) -> bool {
        match self {
            Self::Reload { wait } => !wait,
            // A stop finishes what is in hand first, a start waits for the plugin.
            Self::Stop { .. } | Self::Start { .. } | Self::Restart { .. } => false,
            Self::Status { .. } | Self::Pause { .. } | Self::Resume { .. } | Self::Skip { .. } => true,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// It was not done.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_what_clients_of_any_language_write_and_read() {
        let skip = Request::Skip {
            route: "orders".to_owned(),
            topic: "o".to_owned(),
            partition: 3,
            offset: 17,
        };
        let line = r#"{"command":"skip","route":"orders","topic":"o","partition":3,"offset":17}"#;
        assert_eq!(serde_json::to_string(&skip).unwrap(), line);
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), skip);
        let failed = serde_json::to_string(&Answer::failed("no such route")).unwrap();
        assert_eq!(failed, r#"{"failed":{"error":"no such route"}}"#);
        let done = serde_json::to_string(&Answer::Done(serde_json::json!({"resumed": []}))).unwrap();
        assert_eq!(done, r#"{"done":{"resumed":[]}}"#);
        for wrong in [
            r#"{"command":"explode"}"#,
            r#"{"command":"skip","route":"a"}"#,
            r#"{"command":"resume","route":"a","x":1}"#,
            "resume",
        ] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }
}
