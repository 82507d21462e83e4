//! What became of the messages that a test handed in.

use std::{collections::BTreeMap, time::Duration};

use devour_abi::{Failure, FailureKind};

/// What became of the messages of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One outcome per message, in their order.
    pub outcomes: Vec<Outcome>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Digested.
    Done,
    /// A tombstone that the digest has no value for: passed over and counted.
    Passed,
    /// To be tried again.
    Retry {
        /// Why.
        message: String,
        /// When, if the digest said so.
        delay: Option<Duration>,
    },
    /// Not to be tried again.
    Rejected {
        /// Why.
        message: String,
    },
    /// Its bytes are not what the digest takes, so the digest never saw it.
    Undecodable {
        /// What does not fit.
        message: String,
    },
    /// Passed over, because an earlier message of its partition waits.
    NotBegun,
    /// Taken beyond the call, or by a buffering consumer: it ends later, see [`Tester::completed`](super::Tester::completed).
    Taken,
    /// The digest returned a fatal error or panicked: the instance is gone.
    Broken {
        /// Which of the two.
        kind: FailureKind,
        /// Why.
        message: String,
    },
    /// The call ended before it.
    NotReached,
}

// === impl Report ===

impl Report {
    /// Whether every message was digested.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.outcomes.iter().all(|outcome| *outcome == Outcome::Done)
    }

    /// How often each kind of outcome came, by its name, for a test that counts.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for outcome in &self.outcomes {
            *counts.entry(outcome.name()).or_default() += 1;
        }
        counts
    }
}

// === impl Outcome ===

impl Outcome {
    /// The outcome's name in words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Passed => "passed",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
            Self::Undecodable { .. } => "undecodable",
            Self::NotBegun => "not begun",
            Self::Taken => "taken",
            Self::Broken { .. } => "broken",
            Self::NotReached => "not reached",
        }
    }

    pub(super) fn of(failure: Failure) -> Self {
        let message = failure.message.into_string();
        match failure.kind {
            FailureKind::REJECT => Self::Rejected { message },
            FailureKind::UNDECODABLE => Self::Undecodable { message },
            FailureKind::FATAL | FailureKind::PANIC => Self::Broken {
                kind: failure.kind,
                message,
            },
            _ => {
                let delay = (failure.delay_ms != 0).then(|| Duration::from_millis(failure.delay_ms));
                Self::Retry { message, delay }
            }
        }
    }
}
