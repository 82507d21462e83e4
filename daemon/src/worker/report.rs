//! What a route's thread says of itself when it is asked: partitions and how far they are, what is in hand, what is
//! parked. The ends of the partitions are those that the last fetch named; where nothing is fetched, brokers are asked.

use std::{collections::HashMap, time::Duration};

use super::{engine::Engine, queues::Waiting};
use crate::{
    kafka::{Consumer, StartOffset, TopicPartition},
    lane::Slot,
};

/// A route at work, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its partitions, in order.
    pub partitions: Vec<PartitionReport>,
    /// Messages with the plugin.
    pub in_hand: usize,
    /// Messages that were read and wait for the plugin.
    pub queued: usize,
    /// What the plugin is at, if it has something in hand.
    pub at_work: Option<String>,
    /// What waits for a person, in order: the first ones.
    pub parked: Vec<Parked>,
    /// How many wait for a person in all.
    pub parked_count: usize,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct PartitionReport {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The lowest unfinished offset.
    pub frontier: Option<i64>,
    /// What the group has.
    pub committed: Option<i64>,
    /// The offset that its next message gets.
    pub end: Option<i64>,
}

/// A message that waits for a person.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub error: String,
}

/// With an order by key every key may be parked: an answer names so many.
const MOST_PARKED: usize = 1000;

/// How long brokers may take to say where partitions end: the route's thread has nothing else to do.
const ENDS: Duration = Duration::from_millis(250);

// === impl PartitionReport ===

impl PartitionReport {
    /// Messages behind the frontier.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        // A frontier can be ahead of what the last fetch said of the end.
        Some((self.end? - self.frontier?).max(0))
    }
}

// === impl Engine ===

impl Engine {
    pub(super) fn report(&self, client: &Consumer) -> Report {
        let slots = self.partitions.assigned_slots();
        let names = self.partitions.names(&slots);
        // Of what is not fetched the client does not hear how far it has grown.
        let asks = self.held_back && (self.paused || !self.is_up());
        let ends = if asks {
            client.ends(&names, ENDS).unwrap_or_default()
        } else {
            Vec::new()
        };
        let ends: HashMap<TopicPartition, i64> = ends.into_iter().collect();
        let begins_at_the_beginning =
            matches!(self.config.without_offset, StartOffset::Beginning) && !self.config.keeps_offsets;
        let mut partitions: Vec<PartitionReport> = slots
            .iter()
            .zip(names)
            .map(|(slot, at)| {
                let partition = self.partitions.get(*slot);
                let marks = client.watermarks(&at);
                // Of which nothing was read yet, and nothing is committed, all is unfinished.
                let begins = marks.filter(|_| begins_at_the_beginning && partition.committed.is_none());
                PartitionReport {
                    frontier: partition.tracker.frontier().or(begins.map(|marks| marks.low)),
                    committed: partition.committed,
                    end: ends.get(&at).copied().or(marks.map(|marks| marks.high)),
                    topic: at.topic.to_string(),
                    partition: at.partition,
                }
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let in_hand = self.in_hand();
        let waiting: usize = self.outgoing.iter().map(|call| call.items.len()).sum();
        let (parked, parked_count) = self.parked();
        Report {
            partitions,
            in_hand,
            queued: self.queues.len() + waiting,
            at_work: (in_hand > 0 || !self.steps.is_empty()).then(|| self.blocked_by()),
            parked,
            parked_count,
        }
    }

    /// What waits for a person: the first ones, and how many there are.
    fn parked(&self) -> (Vec<Parked>, usize) {
        let stopped = self
            .queues
            .all_waiting()
            .filter_map(|(_, slot, waiting)| match waiting {
                Waiting::Stopped { offset, error } => Some((slot, *offset, error)),
                _ => None,
            });
        let mut stopped: Vec<(Slot, i64, &String)> = stopped.collect();
        let count = stopped.len();
        stopped.sort_unstable_by_key(|(slot, offset, _)| {
            let partition = self.partitions.get(*slot);
            (partition.topic.clone(), partition.number, *offset)
        });
        stopped.truncate(MOST_PARKED);
        let parked = stopped.into_iter().map(|(slot, offset, error)| {
            let partition = self.partitions.get(slot);
            Parked {
                topic: partition.topic.to_string(),
                partition: partition.number,
                offset,
                error: error.clone(),
            }
        });
        (parked.collect(), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_never_negative_and_unknown_where_a_part_of_it_is() {
        let partition = |frontier, end| PartitionReport {
            topic: "o".to_owned(),
            partition: 0,
            frontier,
            committed: None,
            end,
        };
        assert_eq!(partition(Some(3), Some(10)).lag(), Some(7));
        assert_eq!(partition(Some(12), Some(10)).lag(), Some(0));
        assert_eq!(partition(None, Some(10)).lag(), None);
        assert_eq!(partition(Some(3), None).lag(), None);
    }
}
