//! Reading what the witness plugins wrote.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::wait::{self, TimedOut};

/// What a witness wrote, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Statements {
    /// One JSON object a message.
    pub all: Vec<Value>,
}

impl Statements {
    /// Waits until `file` holds at least `count` statements.
    pub fn of(file: &Path, count: usize, within: Duration) -> Result<Self, TimedOut> {
        wait::until_told(&format!("{count} statements of the witness"), within, || {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let all: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            if all.len() >= count {
                Ok(Self { all })
            } else {
                Err(format!("{} of {count}: {text}", all.len()))
            }
        })
    }
}
