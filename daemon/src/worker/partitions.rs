//! The partitions of a route, by slot. A slot is a number that lives as long as one assignment of one partition: a
//! partition that is revoked and assigned again gets a new one, so an outcome that comes late names a slot that is
//! gone and changes nothing (the fence).

use std::{collections::HashMap, sync::Arc};

use super::{
    completed::{self, Completed},
    offsets::Tracker,
    queues::QueueId,
};
use crate::{
    kafka::{CommitTicket, TopicPartition},
    lane::Slot,
};

/// One partition in one assignment.
#[derive(Debug)]
pub struct Partition {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub number: i32,
    /// Which offsets are finished.
    pub tracker: Tracker,
    /// What the group has for it, as far as we know.
    pub committed: Option<i64>,
    /// The text that the group has beside it, as far as we know.
    beside: Option<String>,
    /// What is on its way to the group.
    sent: Option<(CommitTicket, String)>,
    /// The first message that was read since the last commit that counts, where offsets are committed in transactions.
    pub uncommitted_from: Option<i64>,
    /// Messages that are with the plugin, or wait for what they produced.
    pub in_hand: u32,
    /// Of those, messages that are digested and wait for what they produced.
    pub unwritten: u32,
    /// Its queue, where messages go straight to the lane and this partition waits.
    pub queue: QueueId,
    /// Not fetched, because too much of it waits here.
    pub paused: bool,
    /// What is finished beyond the frontier nearly fills its room: nothing new begins.
    pub crowded: bool,
    /// Too much of it waits behind digests that take long: it is not read on.
    pub blocked: bool,
    /// About to be given up: nothing of it is handed out any more.
    pub going: bool,
    /// Ours; false once it was revoked.
    pub assigned: bool,
    /// Leader epochs, each from the offset on at which it was first seen, ascending.
    epochs: Vec<(i64, i32)>,
}

/// All partitions that a worker has ever had, and which are assigned now.
#[derive(Debug)]
pub struct Partitions {
    /// `None`: given up, with nothing left in hand.
    slots: Vec<Option<Box<Partition>>>,
    by_name: HashMap<(Arc<str>, i32), Slot>,
    /// What stands for those that are gone.
    gone: Box<Partition>,
}

// === impl Partition ===

impl Partition {
    fn new(topic: &Arc<str>, number: i32, committed: Option<i64>, position: Option<i64>) -> Self {
        Self {
            topic: Arc::clone(topic),
            number,
            tracker: Tracker::new(position),
            committed,
            beside: None,
            sent: None,
            uncommitted_from: None,
            in_hand: 0,
            unwritten: 0,
            queue: QueueId::NONE,
            paused: false,
            crowded: false,
            blocked: false,
            going: false,
            assigned: true,
            epochs: Vec::new(),
        }
    }

    /// Notes the leader epoch of a message, which travels with the commit so that a truncated log is noticed.
    pub fn note_epoch(&mut self, offset: i64, epoch: i32) {
        if epoch >= 0 && self.epochs.last().is_none_or(|(_, last)| *last != epoch) {
            self.epochs.push((offset, epoch));
        }
    }

    /// The leader epoch of the message before `frontier`, -1 if unknown. Forgets the epochs before it.
    pub fn epoch_before(&mut self, frontier: i64) -> i32 {
        let after = self.epochs.partition_point(|(from, _)| *from < frontier);
        if after > 1 {
            self.epochs.drain(..after - 1);
        }
        self.epochs
            .first()
            .filter(|(from, _)| *from < frontier)
            .map_or(-1, |(_, epoch)| *epoch)
    }

    /// What is to be committed, offset and text beside it, if it is not what the group has: the frontier and, where
    /// `carries` says that it goes along, what is finished above it.
    #[must_use]
    pub fn to_commit(&self, carries: bool) -> Option<(i64, String)> {
        let frontier = self.tracker.frontier().filter(|_| self.assigned)?;
        let text = if carries {
            // What does not fit is digested again after a crash: no reason to commit nothing.
            completed::encode(frontier, &self.tracker.completed()).0
        } else {
            String::new()
        };
        let changed = self.committed != Some(frontier) || self.beside.as_ref() != Some(&text);
        changed.then_some((frontier, text))
    }

    /// A commit is on its way.
    pub fn sent(&mut self, ticket: CommitTicket, beside: String) {
        self.sent = Some((ticket, beside));
    }

    /// The group has `offset` now, by that commit.
    pub fn written(&mut self, ticket: CommitTicket, offset: i64) {
        self.committed = Some(offset);
        // Of a commit of an earlier assignment the text is not known: it is written once more.
        let ours = self.sent.take_if(|(sent, _)| *sent == ticket);
        self.beside = ours.map(|(_, beside)| beside);
    }

    /// A message of a transaction was read.
    pub fn begins_at(&mut self, offset: i64) {
        self.uncommitted_from.get_or_insert(offset);
    }

    /// The group has `offset` now, by a transaction.
    pub fn is_committed(&mut self, offset: i64) {
        self.committed = Some(offset);
        self.beside = Some(String::new());
        self.uncommitted_from = Some(offset);
    }

    /// Something was read of it that is not committed.
    #[must_use]
    pub fn is_uncommitted(&self) -> bool {
        self.uncommitted_from
            .is_some_and(|from| self.tracker.position() != Some(from))
    }

    /// The group has `beside` with the committed offset, where reading begins and above which `completed` is finished.
    pub fn resume(&mut self, completed: &Completed, beside: String) {
        self.beside = Some(beside);
        if let Some(position) = self.tracker.position() {
            self.tracker = Tracker::resume(position, completed);
        }
    }

    /// So much is finished above the frontier that new work is to wait, or a restart would have to do it again.
    pub fn is_crowded(&mut self) -> bool {
        self.tracker.crowded()
    }

    /// `topic/partition`, for people.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.topic, self.number)
    }
}

// === impl Partitions ===

impl Partitions {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let mut gone = Partition::new(&Arc::from(""), -1, None, None);
        gone.assigned = false;
        Self {
            slots: Vec::new(),
            by_name: HashMap::new(),
            gone: Box::new(gone),
        }
    }

    /// A partition is ours from now on.
    pub fn assign(
        &mut self,
        topic: &Arc<str>,
        number: i32,
        committed: Option<i64>,
        position: Option<i64>,
    ) -> Slot {
        let slot = Slot(
            u32::try_from(self.slots.len()).expect("fewer than 2^32 assignments in the life of a client"),
        );
        let partition = Partition::new(topic, number, committed, position);
        self.slots.push(Some(Box::new(partition)));
        self.by_name.insert((Arc::clone(topic), number), slot);
        slot
    }

    /// A partition is not ours any more.
    pub fn revoke(&mut self, slot: Slot) {
        let partition = self.get_mut(slot);
        partition.assigned = false;
        // The slot stays, so that late outcomes find it; what it knew does not.
        partition.tracker = Tracker::new(None);
        partition.epochs = Vec::new();
        let key = (Arc::clone(&partition.topic), partition.number);
        if self.by_name.get(&key) == Some(&slot) {
            self.by_name.remove(&key);
        }
    }

    /// The slot of an assigned partition.
    #[must_use]
    pub fn find(&self, topic: &str, number: i32) -> Option<Slot> {
        // One lookup per run of messages: the allocation of a key is not worth a second map.
        self.by_name.get(&(Arc::from(topic), number)).copied()
    }

    /// One partition.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> &Partition {
        let found = self.slots.get(slot.0 as usize).and_then(Option::as_deref);
        found.unwrap_or(&self.gone)
    }

    /// One partition, to change.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> &mut Partition {
        match self.slots.get_mut(slot.0 as usize) {
            Some(Some(partition)) => partition,
            _ => &mut self.gone,
        }
    }

    /// Forgets a slot that was given up and has nothing in hand any more. Whether it did.
    pub fn forget(&mut self, slot: Slot) -> bool {
        let over = |partition: &Partition| !partition.assigned && partition.in_hand == 0;
        match self.slots.get_mut(slot.0 as usize) {
            Some(found) if found.as_deref().is_some_and(over) => {
                *found = None;
                true
            }
            _ => false,
        }
    }

    /// The assigned ones.
    pub fn assigned(&self) -> impl Iterator<Item = (Slot, &Partition)> {
        self.by_name.values().map(|slot| (*slot, self.get(*slot)))
    }

    /// The slots of the assigned ones.
    #[must_use]
    pub fn assigned_slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.by_name.values().copied().collect();
        slots.sort_unstable();
        slots
    }

    /// As Kafka names them.
    #[must_use]
    pub fn names(&self, slots: &[Slot]) -> Vec<TopicPartition> {
        slots
            .iter()
            .map(|slot| self.get(*slot))
            .map(|partition| TopicPartition::new(Arc::clone(&partition.topic), partition.number))
            .collect()
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::offsets::Seen;

    #[test]
    fn a_partition_assigned_again_has_a_new_slot_and_the_old_one_is_fenced() {
        let topic: Arc<str> = "orders".into();
        let mut partitions = Partitions::default();
        let old = partitions.assign(&topic, 3, Some(5), Some(5));
        partitions.revoke(old);
        assert_eq!(partitions.find("orders", 3), None);
        let new = partitions.assign(&topic, 3, Some(5), Some(5));
        assert_ne!(old, new);
        let _ = partitions.get_mut(old).tracker.begin(5);
        partitions.get_mut(old).tracker.finish(5);
        assert_eq!(
            partitions.get(old).to_commit(true),
            None,
            "nothing of the old assignment is committed"
        );
        partitions.revoke(old);
        assert_eq!(
            partitions.find("orders", 3),
            Some(new),
            "a late revoke does not touch the new assignment"
        );
    }

    #[test]
    fn a_set_that_changed_under_the_same_frontier_is_committed() {
        let topic: Arc<str> = "orders".into();
        let mut partitions = Partitions::default();
        let slot = partitions.assign(&topic, 0, Some(5), Some(5));
        let partition = partitions.get_mut(slot);
        partition.resume(&Completed::default(), String::new());
        assert_eq!(partition.to_commit(true), None, "the group has it");
        for offset in 5..9 {
            assert_eq!(partition.tracker.begin(offset), Seen::First);
        }
        assert_eq!(partition.to_commit(true), None, "nothing is finished");
        partition.tracker.finish(7);
        let (offset, beside) = partition.to_commit(true).expect("7 is finished");
        assert_eq!(
            completed::decode(offset, beside.as_bytes()),
            Ok(std::iter::once(7..8).collect())
        );
        assert_eq!(
            partition.to_commit(false),
            None,
            "where the set may not be carried"
        );
        partition.sent(CommitTicket::numbered(1), beside.clone());
        partition.written(CommitTicket::numbered(1), offset);
        assert_eq!(partition.to_commit(true), None);
        partition.tracker.finish(8);
        let (again, more) = partition.to_commit(true).expect("8 is finished too");
        assert_eq!(again, offset);
        assert_ne!(more, beside);
        // An answer to a commit of an earlier assignment says nothing of this one's text.
        partition.written(CommitTicket::numbered(0), offset);
        assert!(partition.to_commit(true).is_some());
        let slot = partitions.assign(&topic, 0, Some(5), Some(5));
        let partition = partitions.get_mut(slot);
        partition.resume(&std::iter::once(7..9).collect(), more);
        assert_eq!(
            partition.to_commit(true),
            None,
            "what was found is not written again"
        );
    }

    #[test]
    fn the_epoch_of_a_commit_is_that_of_the_message_before_it() {
        let topic: Arc<str> = "orders".into();
        let mut partitions = Partitions::default();
        let slot = partitions.assign(&topic, 0, None, None);
        let partition = partitions.get_mut(slot);
        partition.note_epoch(0, 4);
        partition.note_epoch(10, 4);
        partition.note_epoch(20, 6);
        assert_eq!(partition.epoch_before(0), -1);
        assert_eq!(partition.epoch_before(20), 4);
        assert_eq!(partition.epoch_before(21), 6);
    }
}
