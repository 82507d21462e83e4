//! What was produced, and so is to be digested.

use std::collections::BTreeMap;

use super::{Partition, Place};
use crate::ledger::Record;

/// What was produced: per partition, the message at each offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub(super) partitions: BTreeMap<Partition, BTreeMap<i64, Produced>>,
    pub(super) order: Order,
}

/// One message that was produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Produced {
    /// Its number.
    n: u64,
    key: Option<Box<[u8]>>,
}

/// What is to be digested in the order of its offsets: the words of the setting `concurrency.order`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// All messages of a partition.
    #[default]
    Partition,
    /// Those of a partition that have the same key; one without a key is alone.
    Key,
    /// Nothing.
    None,
}

// === impl Expected ===

impl Expected {
    /// Nothing yet, to be digested in this order.
    pub fn in_order_of(order: Order) -> Self {
        Self {
            order,
            ..Self::default()
        }
    }

    /// Message number `n` went to this place, without a key.
    pub fn add(&mut self, topic: &str, partition: i32, offset: i64, n: u64) {
        self.add_keyed(topic, partition, offset, n, None);
    }

    /// Message number `n` with this key went to this place.
    pub fn add_keyed(&mut self, topic: &str, partition: i32, offset: i64, n: u64, key: Option<Box<[u8]>>) {
        self.partitions
            .entry((topic.to_owned(), partition))
            .or_default()
            .insert(offset, Produced { n, key });
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

    /// Without what `keep` says no to.
    pub fn retain(&mut self, keep: impl Fn(&Place) -> bool) {
        for (partition, messages) in &mut self.partitions {
            messages.retain(|&offset, _| keep(&Place::in_partition(partition, offset)));
        }
    }

    /// How many messages.
    pub fn count(&self) -> u64 {
        self.partitions
            .values()
            .map(|messages| messages.len() as u64)
            .sum()
    }

    /// The places and numbers of all messages, by partition and offset.
    pub fn places(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        self.partitions.iter().flat_map(|(partition, messages)| {
            messages
                .iter()
                .map(|(&offset, message)| (Place::in_partition(partition, offset), message.n))
        })
    }

    pub(super) fn knows(&self, record: &Record) -> bool {
        let messages = self.partitions.get(&(record.topic.clone(), record.partition));
        let produced = messages.and_then(|messages| messages.get(&record.offset));
        // A message without a number in its payload (a tombstone) is known by its place alone.
        produced.is_some_and(|message| record.n.is_none_or(|seen| seen == message.n))
    }
}

// === impl Order ===

impl Order {
    /// As the setting has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Key => "key",
            Self::None => "none",
        }
    }

    /// What has to keep its order with this message: `None` is nothing, else messages with the same answer.
    pub(super) fn line_of(self, message: &Produced) -> Option<Option<&[u8]>> {
        match self {
            Self::Partition => Some(None),
            Self::Key => message.key.as_deref().map(Some),
            Self::None => None,
        }
    }
}
