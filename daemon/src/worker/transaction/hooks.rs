//! Where transactions meet the engine: what a turn of the loop does for them, what dooms one, and what a revoke or stop
//! waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{LONG, POSITIONS, Phase, SHORT, Transaction};
use crate::{
    kafka::{CommitOffset, Consumer, Remedy, Step, Stepped, TopicPartition, TransactionError},
    lane::Slot,
    settings::Order,
    worker::{RouteStats, engine::Engine},
};

/// A member that is told to go is not waited for longer than this, to abort its transaction.
const ABORT: Duration = Duration::from_secs(2);

// === impl Engine: gates ===

impl Engine {
    /// More may be read, as far as transactions go.
    #[inline]
    pub(in crate::worker) fn transaction_reads(&self) -> bool {
        self.transaction.as_ref().is_none_or(Transaction::may_read)
    }

    /// What was read may be handed out. While one closes, only where messages of a partition have overtaken each other, or
    /// may: what is finished has to be all that was read before it.
    #[inline]
    pub(in crate::worker) fn transaction_hands_out(&mut self) -> bool {
        if self.transaction.is_none() {
            return true;
        }
        self.open_for_what_is_left();
        let Some(txn) = &self.transaction else { return true };
        let may_overtake = || self.config.order != Order::Partition || !self.is_prefix();
        txn.may_read() || (txn.phase() == Phase::Closing && !txn.is_cut && may_overtake())
    }

    /// What an earlier transaction has left belongs to the next one.
    fn open_for_what_is_left(&mut self) {
        let is_left = self.has_unhanded() || self.queues.ready().messages > 0;
        if is_left && self.may_digest() && !self.stopping && self.seeks.is_empty() {
            let straight: usize = self.outgoing.iter().map(|outgoing| outgoing.items.len()).sum();
            let left = self.queues.ready().messages + straight;
            if let Some(txn) = self
                .transaction
                .as_mut()
                .filter(|txn| txn.phase() == Phase::Ready)
            {
                txn.left = left;
                self.transaction_takes(0);
            }
        }
    }

    /// Messages were read, or are handed out: they belong to a transaction.
    pub(in crate::worker) fn transaction_takes(&mut self, messages: usize) {
        let Some(txn) = &mut self.transaction else { return };
        txn.read += messages;
        if let Err(error) = txn.link.open() {
            // They are read again.
            txn.renew |= error.remedy == Remedy::Renew;
            self.doom(&error.to_string(), Duration::ZERO);
        }
    }

    /// What the producer has to say is heard.
    pub(in crate::worker) fn hear_transaction(&self) {
        if let Some(txn) = &self.transaction {
            txn.link.hear();
        }
    }
}

// === impl Engine: a transaction's way ===

impl Engine {
    /// Does what is due for transactions. Whether anything moved.
    pub(in crate::worker) fn mind_transaction(&mut self, client: &Consumer, now: Instant) -> bool {
        let Some(mut txn) = self.transaction.take() else {
            return false;
        };
        let before = txn.phase();
        txn.link.hear();
        for stepped in txn.link.take_steps() {
            self.stepped(&mut txn, client, stepped, now);
        }
        let fatal = || txn.link.with(|producer| producer.fatal_error()).flatten();
        if matches!(
            txn.phase(),
            Phase::Ready | Phase::Open | Phase::Closing | Phase::Flushing
        ) && let Some(error) = fatal()
        {
            txn.renew = true;
            self.doom_this(&mut txn, &error.to_string(), Duration::ZERO);
        }
        loop {
            let phase = txn.phase();
            self.advance(&mut txn, client, now);
            if txn.phase() == phase {
                break;
            }
        }
        let moved = txn.phase() != before;
        self.transaction = Some(txn);
        moved
    }

    fn advance(&mut self, txn: &mut Transaction, client: &Consumer, now: Instant) {
        match txn.phase() {
            Phase::Starting => {
                if !txn.link.has_producer() && now >= txn.resume_at {
                    txn.start(now);
                }
            }
            Phase::Ready => self.commit_positions(txn, now),
            Phase::Open => {
                let age = txn.age(now);
                let idle = self.calls.is_empty() && !self.has_unhanded() && self.queues.ready().messages == 0;
                if txn.ends || age >= LONG || txn.read >= txn.most || (idle && age >= SHORT) {
                    txn.link.enter(Phase::Closing);
                }
            }
            Phase::Closing => {
                let age = txn.age(now);
                let letters = self.letters.as_ref().map_or(0, |letters| letters.in_hand());
                if self.calls.is_empty() && letters == 0 && self.is_prefix() {
                    txn.link.enter(Phase::Flushing);
                } else if age >= txn.too_late() || (txn.ends && self.calls.is_empty() && letters == 0) {
                    let why = "what it began with could not be finished in time";
                    self.doom_this(txn, why, Duration::ZERO);
                } else if age >= txn.half() && !txn.is_cut {
                    txn.is_cut = true;
                    self.recall_all();
                }
            }
            Phase::Flushing => {
                if txn.link.in_flight() == 0 {
                    self.commit_transaction(txn, client, now);
                } else if txn.age(now) >= txn.too_late() {
                    self.doom_this(txn, "the brokers did not acknowledge in time", Duration::ZERO);
                }
            }
            Phase::Committing | Phase::Aborting => {}
            Phase::Doomed => self.abort_when_free(txn, now),
            Phase::Waiting => {
                if txn.unsure && !self.ask_group(txn, client, now) {
                    return;
                }
                if now >= txn.resume_at && self.seeks.is_empty() {
                    txn.link.enter(Phase::Ready);
                    txn.begin_anew();
                }
            }
        }
    }

    /// All that is finished lies below the frontiers: nothing would be digested again that is committed.
    fn is_prefix(&self) -> bool {
        self.partitions
            .assigned()
            .all(|(_, partition)| partition.tracker.completed().is_empty())
    }

    /// A position that moved over transaction markers and the like is committed too, now and then.
    fn commit_positions(&mut self, txn: &mut Transaction, now: Instant) {
        if now < txn.positions_at && !txn.ends {
            return;
        }
        txn.positions_at = now + POSITIONS;
        if self.transaction_offsets().is_empty() || !self.seeks.is_empty() {
            return;
        }
        match txn.link.open() {
            Ok(()) => txn.link.enter(Phase::Closing),
            Err(error) => {
                txn.renew = true;
                self.doom_this(txn, &error.to_string(), Duration::ZERO);
            }
        }
    }

    fn transaction_offsets(&mut self) -> Vec<(Slot, CommitOffset)> {
        let mut offsets = Vec::new();
        for slot in self.partitions.assigned_slots() {
            if self.is_sought(slot) {
                continue;
            }
            let partition = self.partitions.get_mut(slot);
            if let Some((offset, metadata)) = partition.to_commit(false) {
                let epoch = partition.epoch_before(offset);
                let commit = CommitOffset {
                    partition: TopicPartition::new(Arc::clone(&partition.topic), partition.number),
                    offset,
                    leader_epoch: (epoch >= 0).then_some(epoch),
                    metadata,
                };
                offsets.push((slot, commit));
            }
        }
        offsets
    }

    fn commit_transaction(&mut self, txn: &mut Transaction, client: &Consumer, now: Instant) {
        // The group takes offsets of nobody in particular; a member that was put out of it must not be nobody.
        let group = client.group_metadata().filter(|group| group.is_member());
        let Some(group) = group.filter(|_| !client.assignment_lost()) else {
            return self.doom_this(
                txn,
                "the route is not a member of its group any more",
                Duration::ZERO,
            );
        };
        let offsets = self.transaction_offsets();
        txn.sent = offsets
            .iter()
            .map(|(slot, commit)| (*slot, commit.offset))
            .collect();
        let until = txn.link.begun().unwrap_or(now) + txn.too_late();
        let offsets = offsets.into_iter().map(|(_, commit)| commit).collect();
        txn.link.with(|producer| producer.commit(offsets, group, until));
        txn.link.enter(Phase::Committing);
    }

    fn stepped(&mut self, txn: &mut Transaction, client: &Consumer, stepped: Stepped, now: Instant) {
        match (stepped.step, stepped.outcome) {
            (Step::Init, Ok(())) => {
                txn.failures = 0;
                txn.link.enter(Phase::Waiting);
            }
            (Step::Init, Err(error)) => txn.failed(&error, now),
            (Step::Commit, Ok(())) => self.transaction_counts(txn, now),
            (Step::Commit, Err(error)) => self.commit_failed(txn, client, &error),
            (Step::Abort, Ok(())) => txn.link.enter(Phase::Waiting),
            (Step::Abort, Err(error)) => {
                tracing::warn!(route = %self.config.route, %error, "a transaction cannot be aborted in order; a new producer aborts it");
                self.renew(txn, now);
            }
        }
    }

    fn transaction_counts(&mut self, txn: &mut Transaction, now: Instant) {
        txn.adapt(txn.age(now));
        RouteStats::add(&self.stats.commits, 1);
        for (slot, offset) in std::mem::take(&mut txn.sent) {
            let partition = self.partitions.get_mut(slot);
            if partition.assigned {
                partition.is_committed(offset);
                txn.notes.committed(&partition.topic, partition.number, offset);
            }
        }
        txn.positions_at = now + POSITIONS;
        txn.begin_anew();
        txn.link.enter(Phase::Ready);
    }

    fn commit_failed(&mut self, txn: &mut Transaction, client: &Consumer, error: &TransactionError) {
        txn.in_doubt = std::mem::take(&mut txn.sent);
        // The answer may have been lost behind a commit that counts.
        txn.unsure = true;
        txn.renew |= error.remedy == Remedy::Renew;
        let fenced = !client.group_metadata().is_some_and(|group| group.is_member());
        let wait = Duration::from_millis(if fenced { 0 } else { 100 });
        self.doom_this(txn, &error.to_string(), wait);
    }

    /// A transaction will be aborted: nothing more of it is handed out, and what is produced in it is told so.
    pub(in crate::worker) fn doom(&mut self, why: &str, wait: Duration) {
        if let Some(mut txn) = self.transaction.take() {
            self.doom_this(&mut txn, why, wait);
            self.transaction = Some(txn);
        }
    }

    fn doom_this(&mut self, txn: &mut Transaction, why: &str, wait: Duration) {
        let now = Instant::now();
        match txn.phase() {
            Phase::Ready if !txn.renew => return,
            Phase::Ready | Phase::Open | Phase::Closing | Phase::Flushing => {}
            // Its own answer decides.
            Phase::Committing if !txn.sent.is_empty() || !txn.unsure => return,
            Phase::Committing => {}
            Phase::Doomed => {
                txn.resume_at = txn.resume_at.max(now + wait);
                return;
            }
            Phase::Starting | Phase::Aborting | Phase::Waiting => return,
        }
        // What became of one that is in doubt, the group says.
        if txn.link.begun().is_some() && txn.in_doubt.is_empty() {
            RouteStats::add(&self.stats.aborts, 1);
        }
        let (wait_ms, messages) = (wait.as_millis() as u64, txn.read);
        tracing::warn!(route = %self.config.route, why, messages, wait_ms,
            "the transaction is aborted: nothing of it is visible, and its messages are digested again");
        txn.resume_at = now + wait;
        txn.is_cut = false;
        txn.shrink();
        txn.link.enter(Phase::Doomed);
        self.outputs.abort();
    }

    /// Once nobody holds anything of it, it is aborted and its messages are sought.
    fn abort_when_free(&mut self, txn: &mut Transaction, now: Instant) {
        if !txn.is_cut {
            txn.is_cut = true;
            self.return_outgoing();
            self.recall_all();
        }
        if !self.calls.is_empty() {
            return;
        }
        self.roll_back(txn);
        if txn.renew {
            return self.renew(txn, now);
        }
        txn.link.enter(Phase::Aborting);
        txn.link.with(|producer| producer.abort());
    }

    /// Another producer takes the id, which ends whatever this one had begun.
    fn renew(&mut self, txn: &mut Transaction, now: Instant) {
        txn.renew = false;
        txn.link.end_producer();
        txn.link.enter(Phase::Starting);
        txn.resume_at = txn.resume_at.max(now);
    }

    /// What was read and is not committed is read again.
    fn roll_back(&mut self, txn: &mut Transaction) {
        for (held, deaths) in self.suspects.all() {
            let partition = self.partitions.get(held.slot);
            if partition.assigned {
                let note = txn.notes.of(&partition.topic, partition.number, held.offset);
                note.deaths = Some(deaths);
            }
        }
        for slot in self.partitions.assigned_slots() {
            let partition = self.partitions.get(slot);
            if let Some(start) = partition.uncommitted_from
                && partition.tracker.position() != Some(start)
                && !self.is_sought(slot)
            {
                self.seeks.push((slot, start));
            }
        }
        self.pending.clear();
    }

    /// What the group has counts where the answer to a commit is not known. Whether it said so.
    fn ask_group(&mut self, txn: &mut Transaction, client: &Consumer, now: Instant) -> bool {
        /// Between questions.
        const AGAIN: Duration = Duration::from_millis(500);
        if now < txn.resume_at {
            return false;
        }
        let slots = self.partitions.assigned_slots();
        let names = self.partitions.names(&slots);
        let timeout = self.config.commit.timeout.min(Duration::from_secs(3));
        let answer = client.committed(&names, timeout);
        let known = answer
            .ok()
            .filter(|found| found.iter().all(|entry| entry.error.is_ok()));
        let Some(known) = known else {
            txn.resume_at = now + AGAIN;
            return false;
        };
        txn.unsure = false;
        let in_doubt = std::mem::take(&mut txn.in_doubt);
        let has = |(slot, offset): &(Slot, i64)| {
            let name = slots.iter().position(|known| known == slot).map(|at| &names[at]);
            let entry = known.iter().find(|entry| Some(&entry.partition) == name);
            entry.and_then(|entry| entry.offset) == Some(*offset)
        };
        if in_doubt.is_empty() {
            // It was counted when it failed.
        } else if in_doubt.iter().all(has) {
            tracing::info!(route = %self.config.route, "the transaction counts: it was committed, and the answer was lost");
            RouteStats::add(&self.stats.commits, 1);
        } else {
            RouteStats::add(&self.stats.aborts, 1);
        }
        for (slot, at) in slots.into_iter().zip(&names) {
            let entry = known.iter().find(|entry| entry.partition == *at);
            let Some(offset) = entry.and_then(|entry| entry.offset) else {
                continue;
            };
            let partition = self.partitions.get_mut(slot);
            if partition.committed != Some(offset) {
                partition.is_committed(offset);
                self.seeks.retain(|(sought, _)| *sought != slot);
                self.seeks.push((slot, offset));
            }
        }
        true
    }
}

// === impl Engine: a revoke, a stop ===

impl Engine {
    /// Partitions go: what is open is aborted before they are given up, so that whoever gets them begins where it began.
    pub(in crate::worker) fn give_up_transaction(&mut self, client: &Consumer, slots: &[Slot]) {
        let Some(txn) = &self.transaction else { return };
        let deadline = self.bounded(Instant::now() + ABORT);
        if txn.phase() == Phase::Committing {
            self.turn_until(client, deadline, |phase| phase != Phase::Committing);
        }
        let touched = |slot: &Slot| self.partitions.get(*slot).is_uncommitted();
        if slots.iter().any(touched) {
            self.doom("partitions are taken away", Duration::ZERO);
            let over = |phase| !matches!(phase, Phase::Doomed | Phase::Aborting);
            self.turn_until(client, deadline, over);
        }
        if let Some(txn) = &mut self.transaction {
            for slot in slots {
                let partition = self.partitions.get(*slot);
                txn.notes.forget(&partition.topic, partition.number);
            }
        }
    }

    /// The route stops: what is finished is committed, if it can be by `deadline`; else it is aborted. How many messages
    /// are of a transaction that was not ended.
    pub(in crate::worker) fn end_transaction(&mut self, client: &Consumer, deadline: Instant) -> usize {
        let Some(txn) = &mut self.transaction else {
            return 0;
        };
        txn.ends = true;
        let over = |phase| matches!(phase, Phase::Ready | Phase::Starting | Phase::Waiting);
        if self.turn_until(client, deadline, over) {
            return 0;
        }
        let messages = self.transaction.as_ref().map_or(0, |txn| txn.read + txn.left);
        tracing::error!(route = %self.config.route, messages,
            "the last transaction was not ended in time; it is aborted by whoever takes its id next, or by the brokers");
        messages
    }

    fn turn_until(&mut self, client: &Consumer, deadline: Instant, over: impl Fn(Phase) -> bool) -> bool {
        /// What is heard by no descriptor of the plugin's is looked for so often.
        const LOOK: Duration = Duration::from_millis(5);
        loop {
            let now = Instant::now();
            self.serve_letters(now);
            self.mind_transaction(client, now);
            if self.transaction.as_ref().is_none_or(|txn| over(txn.phase())) {
                return true;
            }
            if now >= deadline {
                return false;
            }
            self.pump_until(deadline.min(now + LOOK), |_| false);
        }
    }
}
