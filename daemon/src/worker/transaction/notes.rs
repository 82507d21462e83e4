//! What is known of messages whose transaction was aborted because of them, until they are committed: how often each was
//! tried, whether it may have killed the plugin, and whether it is given up. Pure.

use std::{collections::HashMap, sync::Arc};

/// The notes of a route, by topic, partition and offset.
#[derive(Debug, Default)]
pub(super) struct Notes {
    known: HashMap<(Arc<str>, i32), HashMap<i64, Note>>,
}

/// What is known of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Attempts that failed.
    pub attempts: u32,
    /// It may have killed the plugin: at so many deaths it was alone in hand.
    pub deaths: Option<u32>,
    /// It does not meet the plugin again, for this reason.
    pub given_up: Option<GivenUp>,
}

/// The kind of those that a person has passed by.
pub(super) const SKIPPED: &str = "skipped by order";

/// Why a message is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub kind: &'static str,
    pub error: String,
    pub attempts: u32,
}

// === impl Notes ===

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is known of a message, to be added to.
    pub(super) fn of(&mut self, topic: &Arc<str>, partition: i32, offset: i64) -> &mut Note {
        let of_partition = self.known.entry((Arc::clone(topic), partition)).or_default();
        of_partition.entry(offset).or_default()
    }

    pub(super) fn find(&self, topic: &Arc<str>, partition: i32, offset: i64) -> Option<&Note> {
        self.known.get(&(Arc::clone(topic), partition))?.get(&offset)
    }

    /// What is below `offset` is committed.
    pub(super) fn committed(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        let key = (Arc::clone(topic), partition);
        if let Some(of_partition) = self.known.get_mut(&key) {
            of_partition.retain(|at, _| *at >= offset);
            if of_partition.is_empty() {
                self.known.remove(&key);
            }
        }
    }

    /// The partition is another's.
    pub(super) fn forget(&mut self, topic: &Arc<str>, partition: i32) {
        self.known.remove(&(Arc::clone(topic), partition));
    }

    /// All are as new, but for those that a person has passed by.
    pub(super) fn forgive(&mut self) {
        let is_skipped = |note: &Note| {
            note.given_up
                .as_ref()
                .is_some_and(|given_up| given_up.kind == SKIPPED)
        };
        self.known.retain(|_, of_partition| {
            of_partition.retain(|_, note| is_skipped(note));
            !of_partition.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stays_until_its_message_is_committed_or_its_partition_is_gone() {
        let (topic, other): (Arc<str>, Arc<str>) = ("orders".into(), "other".into());
        let mut notes = Notes::default();
        notes.of(&topic, 0, 5).attempts = 2;
        notes.of(&topic, 0, 9).attempts = 1;
        notes.of(&other, 1, 5).deaths = Some(1);
        notes.committed(&topic, 0, 5);
        assert_eq!(notes.find(&topic, 0, 5).map(|note| note.attempts), Some(2));
        notes.committed(&topic, 0, 6);
        assert_eq!(notes.find(&topic, 0, 5), None);
        assert_eq!(notes.find(&topic, 0, 9).map(|note| note.attempts), Some(1));
        assert_eq!(notes.find(&topic, 1, 9), None);
        notes.committed(&topic, 0, 10);
        notes.forget(&other, 1);
        assert!(notes.is_empty());
    }

    #[test]
    fn who_is_passed_by_is_not_forgiven() {
        let topic: Arc<str> = "orders".into();
        let given_up = |kind| {
            Some(GivenUp {
                kind,
                error: String::new(),
                attempts: 1,
            })
        };
        let mut notes = Notes::default();
        notes.of(&topic, 0, 5).given_up = given_up(SKIPPED);
        notes.of(&topic, 0, 6).given_up = given_up("reject");
        notes.of(&topic, 1, 6).attempts = 2;
        notes.forgive();
        assert!(notes.find(&topic, 0, 5).is_some());
        assert!(notes.find(&topic, 0, 6).is_none() && notes.find(&topic, 1, 6).is_none());
    }
}
