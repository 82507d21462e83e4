//! What an instance is told about its life, and what it may answer. Crosses as JSON text.

use serde::{Deserialize, Serialize};

/// One step in the life of an instance. An SDK answers a step that it does not know with [`LifecycleAnswer::default`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum LifecycleCall {
    /// First of all: the instance may open what it needs.
    Started,
    /// These partitions are its route's from now on. Only lane 0 is asked for start offsets.
    Assigned {
        /// The new partitions.
        partitions: Vec<AssignedPartition>,
        /// Whether start offsets in the answer are honoured.
        ask_start_offsets: bool,
    },
    /// These partitions are given up. Nothing of them is in hand any more.
    Revoked {
        /// The partitions.
        partitions: Vec<AssignedPartition>,
        /// They are another member's already: nothing can be committed for them.
        lost: bool,
    },
    /// What a buffering consumer took must be done when this returns `Ok`; an error ends the instance, and what was
    /// taken is handed in again.
    Flush,
    /// Last of all.
    Stopped,
}

/// A partition of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The group's committed offset (the next to read), if there is one.
    #[serde(default)]
    pub committed: Option<i64>,
}

/// Where an instance that keeps its own offsets wants to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
}

/// What an instance answers to a [`LifecycleCall`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleAnswer {
    /// To `Assigned`: where to begin. Partitions that are not named begin where the group's offset says.
    pub start_offsets: Vec<StartOffset>,
}
