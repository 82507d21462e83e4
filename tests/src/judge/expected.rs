//! What was produced, and so is to be digested.

use std::collections::BTreeMap;

use super::{Partition, Place};
use crate::ledger::Record;

/// What was produced: per partition, the number at each offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub(super) partitions: BTreeMap<Partition, BTreeMap<i64, u64>>,
}

// === impl Expected ===

impl Expected {
    /// Message number `n` went to this place.
    pub fn add(&mut self, topic: &str, partition: i32, offset: i64, n: u64) {
        self.partitions
            .entry((topic.to_owned(), partition))
            .or_default()
            .insert(offset, n);
    }

    /// These as well.
    pub fn extend(&mut self, more: Self) {
        for (partition, messages) in more.partitions {
            self.partitions.entry(partition).or_default().extend(messages);
        }
    }

    /// Without what lies at `place`: it is not to be digested.
    pub fn remove(&mut self, place: &Place) {
        if let Some(messages) = self.partitions.get_mut(&(place.topic.clone(), place.partition)) {
            messages.remove(&place.offset);
        }
    }

    /// How many messages.
    pub fn count(&self) -> u64 {
        self.partitions
            .values()
            .map(|messages| messages.len() as u64)
            .sum()
    }

    /// The places of all messages, by partition and offset.
    pub fn places(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        self.partitions.iter().flat_map(|(partition, messages)| {
            messages
                .iter()
                .map(|(&offset, &n)| (Place::in_partition(partition, offset), n))
        })
    }

    pub(super) fn knows(&self, record: &Record) -> bool {
        let messages = self.partitions.get(&(record.topic.clone(), record.partition));
        let produced = messages.and_then(|messages| messages.get(&record.offset));
        // A message without a number in its payload (a tombstone) is known by its place alone.
        produced.is_some_and(|&n| record.n.is_none_or(|seen| seen == n))
    }
}
