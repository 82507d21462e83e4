//! Partitions come and go. Runs inside the client's batch call, on the route's thread: nothing else moves meanwhile,
//! so it pumps the plugin itself and never waits without a deadline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use devour_abi::LifecycleCall;

use super::{
    ResetTo,
    completed::{self, Completed},
    engine::{Engine, Plugin},
};
use crate::{
    kafka::{Committed, Consumer, Rebalance, Revocation, Start, StartOffset, TopicPartition},
    lane::{DownCause, Slot},
};

impl Rebalance for Engine {
    fn assigned(&mut self, client: &Consumer, partitions: Vec<TopicPartition>) -> Vec<Start> {
        self.take_partitions(client, &partitions)
    }

    fn revoked(&mut self, client: &Consumer, partitions: Vec<TopicPartition>, why: Revocation) {
        let slots: Vec<Slot> = partitions
            .iter()
            .filter_map(|at| self.partitions.find(&at.topic, at.partition))
            .collect();
        tracing::info!(route = %self.config.route, partitions = names(&partitions), lost = why == Revocation::Lost,
            "partitions revoked");
        if !slots.is_empty() {
            self.give_up(client, &slots, why);
        }
        self.tell_assignment();
    }
}

// === impl Engine ===

impl Engine {
    /// Takes partitions: where the group stands, a slot for each, the plugin is told, and where to begin.
    pub(super) fn take_partitions(&mut self, client: &Consumer, partitions: &[TopicPartition]) -> Vec<Start> {
        tracing::info!(route = %self.config.route, partitions = names(partitions), "partitions assigned");
        let committed = self.committed_offsets(client, partitions);
        let reset = self.config.reset_to.take_if(|_| !partitions.is_empty());
        let mut starts: Vec<Start> = Vec::with_capacity(partitions.len());
        let mut slots = Vec::with_capacity(partitions.len());
        for (at, group) in partitions.iter().zip(committed) {
            let (offset, leader_epoch) = (group.offset, group.leader_epoch);
            let slot = match self.partitions.find(&at.topic, at.partition) {
                Some(slot) => slot,
                None => {
                    let position = if reset.is_none() { offset } else { None };
                    let slot = self.partitions.assign(&at.topic, at.partition, offset, position);
                    self.partitions
                        .get_mut(slot)
                        .resume(&group.completed, group.beside);
                    self.home.learn(slot, &at.topic, at.partition);
                    slot
                }
            };
            slots.push(slot);
            let start = match (reset, offset) {
                (Some(ResetTo::Beginning), _) => StartOffset::Beginning,
                (Some(ResetTo::End), _) => StartOffset::End,
                (None, Some(offset)) => StartOffset::At(offset),
                (None, None) if self.committer_reads() => StartOffset::Committed,
                (None, None) => self.config.without_offset,
            };
            starts.push(Start {
                partition: at.clone(),
                offset: start,
                leader_epoch,
            });
        }
        self.came_while_held |= self.held_back;
        if self.hears_of_partitions() && !slots.is_empty() {
            self.step_assigned(slots.clone());
            if self.config.keeps_offsets {
                // It says itself where to begin: its answer is needed before anything is read.
                self.recall_all();
                let deadline = Instant::now() + self.config.lifecycle_timeout;
                self.pump_until(deadline, |engine| {
                    engine.steps.is_empty() || engine.plugin == Plugin::Down
                });
            }
        }
        for (slot, offset) in std::mem::take(&mut self.seeks) {
            if let Some(at) = slots.iter().position(|known| *known == slot) {
                starts[at].offset = StartOffset::At(offset);
                starts[at].leader_epoch = None;
                self.restart_at(slot, offset);
            } else {
                self.seeks.push((slot, offset));
            }
        }
        self.tell_assignment();
        starts
    }

    /// Whether the plugin is told which partitions come and go.
    fn hears_of_partitions(&self) -> bool {
        matches!(self.plugin, Plugin::Greeting | Plugin::Up { .. }) && !self.is_leaving()
    }

    /// Whether the group's offsets may be asked for.
    fn committer_reads(&self) -> bool {
        self.config.has_group
    }

    /// What the group has for each partition; unknown where there is no group or no answer (librdkafka asks again).
    fn committed_offsets(&self, client: &Consumer, partitions: &[TopicPartition]) -> Vec<GroupHas> {
        let unknown = vec![GroupHas::default(); partitions.len()];
        if !self.committer_reads() || partitions.is_empty() {
            return unknown;
        }
        match client.committed(partitions, self.config.commit.timeout) {
            Ok(committed) => partitions
                .iter()
                .map(|at| {
                    let entry = committed
                        .iter()
                        .find(|entry| entry.partition == *at && entry.error.is_ok());
                    entry.map_or_else(GroupHas::default, |entry| self.believed(entry))
                })
                .collect(),
            Err(error) => {
                tracing::warn!(route = %self.config.route, %error, "cannot read the group's offsets now; librdkafka asks again");
                unknown
            }
        }
    }

    /// What the group has, less a text beside the offset that is not ours.
    fn believed(&self, entry: &Committed) -> GroupHas {
        let mut group = GroupHas {
            offset: entry.offset,
            leader_epoch: entry.leader_epoch,
            ..GroupHas::default()
        };
        let Some(offset) = entry.offset else { return group };
        let (topic, partition) = (&*entry.partition.topic, entry.partition.partition);
        if self.transaction.is_some() {
            // Transactions carry frontiers only; what is above them was not committed by one.
            return group;
        }
        match completed::decode(offset, &entry.metadata) {
            Ok(completed) => {
                if !completed.is_empty() {
                    tracing::info!(route = %self.config.route, topic, partition, offset, finished = completed.count(),
                        "what is finished beyond the committed offset is passed over");
                }
                group.completed = completed;
                group.beside = String::from_utf8_lossy(&entry.metadata).into_owned();
            }
            Err(error) => {
                let metadata: String = String::from_utf8_lossy(&entry.metadata)
                    .chars()
                    .take(80)
                    .collect();
                tracing::warn!(route = %self.config.route, topic, partition, offset, metadata, %error,
                    "the metadata of the committed offset cannot be used; everything from that offset on is digested");
            }
        }
        group
    }

    /// The plugin named another offset for a partition: what was known of it is forgotten.
    pub(super) fn restart_at(&mut self, slot: Slot, offset: i64) {
        self.drop_queues(slot);
        self.forget_letters(&[slot]);
        self.suspects.forget(slot);
        let partition = self.partitions.get_mut(slot);
        partition.tracker = super::offsets::Tracker::new(Some(offset));
    }

    /// A topic was deleted and made again under the client, which would go on where the old one was: its partitions are
    /// sought from their beginning, and what was read of them until then goes nowhere.
    pub(super) fn made_again(&mut self, topic: &str) {
        tracing::warn!(route = %self.config.route, topic, "the topic was deleted and made again: it is read from its beginning");
        let of_topic = self
            .partitions
            .assigned()
            .filter(|(_, partition)| *partition.topic == *topic);
        let slots: Vec<Slot> = of_topic.map(|(slot, _)| slot).collect();
        self.seeks.extend(slots.into_iter().map(|slot| (slot, 0)));
    }

    /// The partition is to be read from elsewhere.
    pub(super) fn is_sought(&self, slot: Slot) -> bool {
        self.seeks.iter().any(|(sought, _)| *sought == slot)
    }

    /// Seeks where a new instance asked for it.
    pub(super) fn seek(&mut self, client: &Consumer) {
        for (slot, offset) in std::mem::take(&mut self.seeks) {
            let partition = self.partitions.get(slot);
            if !partition.assigned {
                continue;
            }
            // What is in hand of it is dropped: a new slot fences its outcomes.
            let (topic, number, committed) = (
                Arc::clone(&partition.topic),
                partition.number,
                partition.committed,
            );
            let paused = partition.paused;
            self.drop_slot(slot);
            let slot = self.partitions.assign(&topic, number, committed, Some(offset));
            self.home.learn(slot, &topic, number);
            let at = TopicPartition::new(topic, number);
            let start = Start {
                partition: at.clone(),
                offset: StartOffset::At(offset),
                leader_epoch: None,
            };
            let sought = client.seek(&[start], self.config.commit.timeout);
            let resumed = if paused && !self.held_back {
                client.resume(&[at])
            } else {
                Ok(())
            };
            if let Err(error) = sought.and(resumed) {
                tracing::error!(route = %self.config.route, %error, offset,
                    "cannot seek to the plugin's start offset; nothing is read until it can");
                self.seeks.push((slot, offset));
            }
        }
    }

    /// Gives partitions up: nothing new of them is handed out, what is in hand is cut and waited for, what is
    /// finished is committed.
    pub(super) fn give_up(&mut self, client: &Consumer, slots: &[Slot], why: Revocation) {
        /// A lane that is busy with what stays is not waited for longer than this.
        const BUSY: Duration = Duration::from_secs(1);
        let deadline = self.bounded(Instant::now() + self.config.drain_timeout);
        for slot in slots {
            self.partitions.get_mut(*slot).going = true;
            // Tags stay that wait for their letters; nothing of it is taken any more.
            self.queues.leave(*slot);
        }
        self.drop_outgoing(slots);
        if !self.stuck {
            self.drain(slots, deadline);
        }
        if why == Revocation::Ordered {
            self.await_outputs(slots, deadline);
            self.await_letters(slots, deadline);
        }
        if !self.stuck && self.hears_of_partitions() {
            let partitions = self.describe(slots);
            let lost = why == Revocation::Lost;
            self.step("revoked", LifecycleCall::Revoked { partitions, lost }, Vec::new());
            let deadline = self.bounded(Instant::now() + self.config.lifecycle_timeout);
            let soon = Instant::now() + BUSY;
            self.pump_until(deadline, |engine| {
                let busy = !engine.step_is_due() && Instant::now() >= soon;
                engine.steps.is_empty() || engine.plugin == Plugin::Down || busy
            });
        }
        self.give_up_transaction(client, slots);
        if why == Revocation::Ordered {
            self.commit_now(
                client,
                slots,
                self.bounded(Instant::now() + self.config.commit.timeout),
            );
        }
        for slot in slots {
            self.drop_slot(*slot);
        }
    }

    /// Takes back what is not begun and waits until the plugin holds nothing of `slots`. Past the deadline it is ended: no
    /// message may be in two hands.
    pub(super) fn drain(&mut self, slots: &[Slot], deadline: Instant) {
        self.recall_all();
        let empty = |engine: &Self| {
            let held = |slot: &Slot| {
                let partition = engine.partitions.get(*slot);
                partition.in_hand > partition.unwritten
            };
            !engine.is_up() || !slots.iter().any(held)
        };
        let mut in_time;
        loop {
            if self.config.buffers() && self.is_up() && !empty(self) {
                self.flush();
            }
            // A flush that was asked for before does not cover what was digested since.
            let flushing = |engine: &Self| engine.flush_at().is_none();
            let asked = self.config.buffers();
            in_time = self.pump_until(deadline, |engine| empty(engine) || (asked && !flushing(engine)));
            if !in_time || empty(self) {
                break;
            }
        }
        if !in_time {
            let blocked_by = self.blocked_by();
            tracing::error!(route = %self.config.route, blocked_by, "the plugin did not give back its messages in time; it is ended");
            self.home.end(DownCause::Deadline(format!(
                "it did not give back its messages in time: {blocked_by}"
            )));
            let grace = Instant::now() + std::time::Duration::from_secs(5);
            if !self.pump_until(grace, |engine| !engine.is_up()) {
                // A thread cannot be ended: what it has stays with it, fenced by its slots.
                self.stuck = true;
                return;
            }
        }
        if !self.is_up() {
            // Nobody has the rest in hand: it waits in its queues.
            self.take_back();
        }
    }

    /// Waits until the plugin holds nothing at all. Whether it was in time.
    pub(super) fn finish_all(&mut self, deadline: Instant) -> bool {
        loop {
            if self.config.buffers() && self.is_up() && !self.has_given_back() {
                self.flush();
            }
            let asked = self.config.buffers();
            let done = |engine: &Self| engine.has_given_back() || !engine.is_up();
            if !self.pump_until(deadline, |engine| {
                done(engine) || (asked && engine.flush_at().is_some())
            }) {
                return false;
            }
            if done(self) {
                return true;
            }
        }
    }

    /// Takes back from every lane what it has not begun.
    pub(super) fn recall_all(&mut self) {
        self.home.cut();
        for lane in 0..self.lanes.len() {
            self.recall(lane);
        }
    }

    /// A partition, in this assignment, is not ours any more, or begins elsewhere: nothing that is known of it counts.
    pub(super) fn drop_slot(&mut self, slot: Slot) {
        self.drop_outgoing(&[slot]);
        self.drop_queues(slot);
        self.forget_letters(&[slot]);
        self.suspects.forget(slot);
        self.partitions.revoke(slot);
        self.forget_slot(slot);
    }

    /// Forgets a slot, if nothing of it is in hand.
    pub(super) fn forget_slot(&mut self, slot: Slot) {
        if self.partitions.forget(slot) {
            self.home.forget(slot);
        }
    }

    /// What waits of a partition is dropped.
    fn drop_queues(&mut self, slot: Slot) {
        self.forget_originals(slot);
        let mut dropped = Vec::new();
        for held in self.queues.drop_slot(slot, |queued| dropped.push(queued)) {
            if let Some(lane) = held.held_by {
                self.lanes[lane].release_next.push(held.tag);
            }
        }
        for queued in dropped {
            self.drop_body(queued);
        }
        if self.partitions.get(slot).in_hand == 0 {
            self.partitions.get_mut(slot).queue = super::queues::QueueId::NONE;
        }
    }

    /// Calls that are ready and hold messages of `slots` go without them.
    fn drop_outgoing(&mut self, slots: &[Slot]) {
        let mut dropped = Vec::new();
        for outgoing in &mut self.outgoing {
            let keep: Vec<bool> = outgoing
                .items
                .iter()
                .map(|item| !slots.contains(&item.slot))
                .collect();
            dropped.extend(
                outgoing
                    .items
                    .iter()
                    .filter(|item| slots.contains(&item.slot))
                    .copied(),
            );
            let mut kept = keep.iter();
            outgoing.items.retain(|_| kept.next().is_some_and(|keep| *keep));
            let mut kept = keep.iter();
            outgoing
                .handout
                .entries
                .retain(|_| kept.next().is_some_and(|keep| *keep));
        }
        self.outgoing.retain(|outgoing| !outgoing.items.is_empty());
        for item in dropped {
            self.out_of_hand(item);
        }
    }
}

/// What the group has for a partition.
#[derive(Clone, Default)]
struct GroupHas {
    offset: Option<i64>,
    leader_epoch: Option<i32>,
    /// Finished above the offset.
    completed: Completed,
    /// The text that says so; empty where there is none, or another program's.
    beside: String,
}

/// What there is of a simple consumer's topics.
pub(super) struct Found {
    pub partitions: Vec<TopicPartition>,
    /// Topics that cannot be read now, and why.
    pub missing: Vec<(Arc<str>, String)>,
}

/// The simple consumer: all partitions of its topics, found by asking.
pub(super) fn all_partitions(
    client: &Consumer,
    topics: &[String],
    exclude_internal: bool,
) -> Result<Found, crate::kafka::ClientError> {
    // The route's thread waits for it: a broker that is there answers in milliseconds.
    let timeout = std::time::Duration::from_millis(500);
    let (patterns, names): (Vec<&String>, Vec<&String>) =
        topics.iter().partition(|topic| crate::kafka::is_pattern(topic));
    let mut found = Vec::new();
    if !names.is_empty() {
        let names: Vec<String> = names.into_iter().cloned().collect();
        found.extend(client.topics(&names, timeout)?);
    }
    if !patterns.is_empty() {
        let patterns: Vec<crate::kafka::TopicPattern> = patterns
            .iter()
            .filter_map(|pattern| crate::kafka::TopicPattern::new(pattern).ok())
            .collect();
        let all = client.all_topics(timeout)?;
        found.extend(all.into_iter().filter(|topic| {
            !(exclude_internal && crate::kafka::is_internal(&topic.name))
                && patterns.iter().any(|pattern| pattern.matches(&topic.name))
        }));
    }
    let missing = found.iter().filter(|topic| !topic.error.is_ok());
    let missing = missing
        .map(|topic| (Arc::clone(&topic.name), topic.error.text()))
        .collect();
    let mut partitions: Vec<TopicPartition> = found
        .iter()
        .filter(|topic| topic.error.is_ok())
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|number| TopicPartition::new(Arc::clone(&topic.name), *number))
        })
        .collect();
    partitions.sort();
    partitions.dedup();
    Ok(Found { partitions, missing })
}

/// `topic/partition`, for the log; the first twenty.
fn names(partitions: &[TopicPartition]) -> String {
    let mut text: Vec<String> = partitions
        .iter()
        .take(20)
        .map(|at| format!("{}/{}", at.topic, at.partition))
        .collect();
    if partitions.len() > text.len() {
        text.push(format!("and {} more", partitions.len() - text.len()));
    }
    text.join(" ")
}
