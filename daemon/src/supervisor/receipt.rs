//! What a reload did, for the log, `devourd reload --wait` and `devourd status`: every route, and how long it was not
//! digesting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reload::Change;
use crate::settings::RouteName;

/// Why settings or plugins were read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The daemon started: a reload from nothing.
    Start,
    /// SIGHUP.
    Signal,
    /// `devourd reload`.
    Command,
    /// A plugin's file changed.
    Plugins,
}

/// How a reload as a whole ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is as the settings say.
    Done,
    /// Something was wrong with them, or with a plugin: nothing was changed.
    Refused,
    /// It was acted on, and some route is not as the settings say.
    Failed,
}

/// What became of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Nothing of it differs.
    Kept,
    /// It has a new plugin: the same client, the same assignment.
    Swapped,
    /// It has a new client.
    Restarted,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is not as the settings say; the error says why.
    Failed,
}

/// A reload, after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// When it began, UTC.
    pub at: String,
    /// Why.
    pub reason: Reason,
    /// How it ended.
    pub outcome: Outcome,
    /// What was wrong with the settings as a whole.
    #[serde(default)]
    pub error: Option<String>,
    /// How long it took.
    pub took_ms: u64,
    /// Every route of the settings, and every one that is gone, by name.
    pub routes: Vec<RouteReceipt>,
}

/// One route of a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteReceipt {
    /// The route.
    pub name: String,
    /// What became of it.
    pub change: Became,
    /// How long it was not digesting because of it, in milliseconds; absent where it never stopped or had not begun.
    #[serde(default)]
    pub not_digesting_ms: Option<f64>,
    /// Why it failed, or why it was kept although its plugin's file is another.
    #[serde(default)]
    pub error: Option<String>,
}

// === impl Receipt ===

impl Receipt {
    /// How many routes became that.
    #[must_use]
    pub fn count(&self, became: Became) -> usize {
        self.routes.iter().filter(|route| route.change == became).count()
    }

    /// For a person: a line for the whole, then one for each route that was not kept.
    #[must_use]
    pub fn describe(&self) -> String {
        let counts = [
            (Became::Kept, "kept"),
            (Became::Swapped, "swapped"),
            (Became::Restarted, "restarted"),
            (Became::Added, "added"),
            (Became::Removed, "removed"),
            (Became::Failed, "failed"),
        ];
        let counts: Vec<String> = counts
            .into_iter()
            .map(|(became, word)| (self.count(became), word))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let outcome = match self.outcome {
            Outcome::Done => "reloaded",
            Outcome::Refused => "reload refused, nothing was changed",
            Outcome::Failed => "reloaded, but not everything is as the settings say",
        };
        let mut text = format!("{outcome}, in {} ms", self.took_ms);
        if !counts.is_empty() {
            text.push_str(&format!(": {}", counts.join(", ")));
        }
        if let Some(error) = &self.error {
            text.push_str(&format!("\n{error}"));
        }
        let is_told = |route: &&RouteReceipt| route.change != Became::Kept || route.error.is_some();
        for route in self.routes.iter().filter(is_told) {
            text.push_str(&format!("\n  {}: {}", route.name, route.change.name()));
            if let Some(pause) = route.not_digesting_ms {
                text.push_str(&format!(", not digesting for {pause:.1} ms"));
            }
            if let Some(error) = &route.error {
                text.push_str(&format!(": {}", error.replace('\n', "\n    ")));
            }
        }
        text
    }
}

// === impl RouteReceipt ===

impl RouteReceipt {
    pub(super) fn new(name: &RouteName, change: Became) -> Self {
        Self {
            name: name.to_string(),
            change,
            not_digesting_ms: None,
            error: None,
        }
    }

    pub(super) fn failed(name: &RouteName, error: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::new(name, Became::Failed)
        }
    }

    pub(super) fn not_digesting(mut self, pause: Duration) -> Self {
        // Tens of microseconds are as fine as anything here is known.
        self.not_digesting_ms = Some((pause.as_secs_f64() * 100_000.0).round() / 100.0);
        self
    }
}

// === impl Became ===

impl Became {
    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Swapped => "swapped",
            Self::Restarted => "restarted",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Failed => "failed",
        }
    }
}

impl From<Change> for Became {
    fn from(change: Change) -> Self {
        match change {
            Change::Kept => Self::Kept,
            Change::Added => Self::Added,
            Change::Removed => Self::Removed,
            Change::Swapped => Self::Swapped,
            Change::Restarted => Self::Restarted,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_happened_and_a_program_the_same() {
        let name: RouteName = "orders".parse().unwrap();
        let receipt = Receipt {
            at: "2026-01-01T00:00:00.000Z".to_owned(),
            reason: Reason::Command,
            outcome: Outcome::Failed,
            error: None,
            took_ms: 31,
            routes: vec![
                RouteReceipt::new(&"idle".parse().unwrap(), Became::Kept),
                RouteReceipt::new(&name, Became::Swapped).not_digesting(Duration::from_micros(4_216)),
                RouteReceipt::failed(&"bills".parse().unwrap(), "its constructor failed: no port"),
            ],
        };
        let expected = "reloaded, but not everything is as the settings say, in 31 ms: 1 kept, 1 swapped, 1 failed\n  \
                        orders: swapped, not digesting for 4.2 ms\n  bills: failed: its constructor failed: no port";
        assert_eq!(receipt.describe(), expected);
        let json = serde_json::to_value(&receipt).unwrap();
        assert_eq!(json["routes"][1]["not_digesting_ms"], 4.22);
        assert_eq!(json["routes"][2]["change"], "failed");
        assert_eq!(serde_json::from_value::<Receipt>(json).unwrap(), receipt);
    }
}
