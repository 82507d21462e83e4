//! Where transactions meet the engine: what a turn of the loop does for them, what dooms one, what is known of a message
//! that comes again, and what a revoke or stop waits for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    LONG, POSITIONS, Phase, SHORT, Transaction,
    notes::{GivenUp, SKIPPED},
};
use crate::{
    kafka::{CommitOffset, Consumer, Message, Remedy, Step, Stepped, TopicPartition, TransactionError},
    lane::{CallNumber, Slot},
    settings::Order,
    worker::{
        RouteStats,
        calls::{InHand, Item},
        engine::Engine,
        intake,
        outcomes::{Decision, Trouble},
        queues::{QueueId, Queued, Taken, Waiting},
        retry::backoff,
        suspects::Held,
    },
};

const STOPS: &str = "the partition stops here, as `on_error.then: stop` says. Mend the plugin and `devourd resume` the route, or \
                     `devourd skip` the message";

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
        txn.sent.clear();
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

// === impl Engine: messages that fail ===

impl Engine {
    /// Whether a failed message, which was settled, is dealt with by aborting its transaction. `of_call`: its call and index, if it has one. `holder`: the lane that holds
    /// its tag because of it.
    pub(in crate::worker) fn fails_transaction(
        &mut self,
        decision: Decision,
        of_call: Option<(CallNumber, usize)>,
        item: Item,
        trouble: &Trouble<'_>,
        holder: Option<usize>,
    ) -> bool {
        let Some(txn) = &mut self.transaction else {
            return false;
        };
        let poison = trouble.kind == "poison";
        let doomed = !matches!(
            txn.phase(),
            Phase::Ready | Phase::Open | Phase::Closing | Phase::Flushing
        );
        let retried = matches!(decision, Decision::Retry);
        // What was in no call has met no plugin.
        let produced = of_call.is_some_and(|(call, index)| self.outputs.has_produced(call, index as u32));
        if !doomed && !retried && !poison && !produced {
            // Nothing has to be undone: it goes its way within the transaction.
            return false;
        }
        let partition = self.partitions.get(item.slot);
        let mut wait = Duration::ZERO;
        // What fails in a transaction that is doomed already may fail because of that; not so a record that brokers refuse.
        let refused = produced && trouble.kind == "reject";
        if refused && txn.is_anybodys() {
            txn.most = 1;
            self.doom(
                "brokers have refused a record of it; whose, is found out one message at a time",
                Duration::ZERO,
            );
            if let Some(txn) = &mut self.transaction {
                txn.most = 1;
            }
        } else if !doomed || poison || refused {
            let note = txn.notes.of(&partition.topic, partition.number, item.offset);
            note.attempts = note.attempts.max(item.attempt);
            if retried {
                let asked = (trouble.delay_ms > 0).then(|| Duration::from_millis(trouble.delay_ms));
                wait = asked.unwrap_or_else(|| backoff(&self.config.on_error.backoff, item.attempt, 0.5));
            } else {
                note.deaths = None;
                note.given_up = Some(GivenUp {
                    kind: trouble.kind,
                    error: trouble.error.to_owned(),
                    attempts: trouble.attempts,
                });
            }
            let why = format!(
                "{} at {} offset {} (attempt {}, {}): {}",
                trouble.happened,
                partition.name(),
                item.offset,
                item.attempt,
                trouble.kind,
                trouble.error
            );
            self.doom(&why, wait);
        }
        if let Some(lane) = holder {
            let tag = self.tag_of(&item);
            self.lanes[lane].release_next.push(tag);
        }
        if poison {
            self.suspects.finished(item.slot, item.offset);
        }
        self.free(item);
        self.out_of_hand(item);
        true
    }

    /// The plugin is gone, or its calls go to another: what it had begun may have produced.
    pub(in crate::worker) fn doom_what_is_in_hand(&mut self, why: &str) {
        if self.transaction.is_some() && self.calls.values().any(InHand::is_with_plugin) {
            self.doom(why, Duration::ZERO);
        }
    }

    /// A message was read; what is known of it from a transaction that was aborted. Whether that settles it.
    pub(in crate::worker) fn is_known(&mut self, slot: Slot, message: &Message<'_>, tag: u64) -> bool {
        let offset = message.offset();
        self.partitions.get_mut(slot).begins_at(offset);
        let Some(txn) = self.transaction.as_ref().filter(|txn| !txn.notes.is_empty()) else {
            return false;
        };
        let partition = self.partitions.get(slot);
        let Some(note) = txn
            .notes
            .find(&partition.topic, partition.number, offset)
            .cloned()
        else {
            return false;
        };
        if let Some(deaths) = note.deaths {
            self.suspects.suspect_again(Held { slot, offset, tag }, deaths);
        }
        let Some(given_up) = note.given_up else {
            return false;
        };
        if given_up.kind == SKIPPED {
            self.partitions.get_mut(slot).tracker.finish(offset);
            return true;
        }
        if matches!(self.last_resort(), Decision::Stop) && !self.config.is_straight() {
            // It waits once it is the first of its order: see `park_known`.
            return false;
        }
        let (topic, number) = (Arc::clone(&partition.topic), partition.number);
        let (route, topic, error) = (self.config.route.clone(), &*topic, &given_up.error);
        let mut record = intake::copy(message, slot, tag, self.config.home.keeps_headers);
        record.attempt = given_up.attempts;
        match self.last_resort() {
            Decision::Skip | Decision::Retry => {
                tracing::warn!(%route, topic, partition = number, offset, kind = given_up.kind, error,
                    "the message is skipped, as `on_error.then: skip` says");
                RouteStats::add(&self.stats.skipped, 1);
                self.partitions.get_mut(slot).tracker.finish(offset);
            }
            Decision::DeadLetter => {
                tracing::warn!(%route, topic, partition = number, offset, kind = given_up.kind, error,
                    "the message becomes a dead letter, as `on_error.then: dead_letter` says");
                self.dead_letter(record, given_up.attempts, given_up.kind, error);
            }
            Decision::Stop => {
                tracing::error!(%route, topic, partition = number, offset, kind = given_up.kind, error,
                    "{STOPS}");
                let in_hand = self.in_hand_of(slot);
                let waiting = Waiting::Stopped {
                    offset,
                    error: given_up.error.clone(),
                };
                self.queues.wait(tag, slot, waiting, None, in_hand);
                self.queues
                    .put_back(tag, slot, in_hand, Queued::of_record(record));
                self.note_queue(tag, slot);
            }
        }
        true
    }

    /// Of what was taken from the queues for a call: messages that are given up, where `then` says stop, go back with all
    /// that follows them, and wait when they are first of their order. Whether any does.
    pub(in crate::worker) fn park_known(&mut self, taken: &mut Vec<Taken>) -> bool {
        let Some(txn) = self.transaction.as_ref().filter(|txn| !txn.notes.is_empty()) else {
            return false;
        };
        if !matches!(self.last_resort(), Decision::Stop) {
            return false;
        }
        let (mut kept, mut back, mut stops) = (Vec::with_capacity(taken.len()), Vec::new(), Vec::new());
        for one in taken.drain(..) {
            let same = |queue: QueueId| queue == one.queue;
            if back.iter().any(|one: &Taken| same(one.queue)) {
                back.push(one);
                continue;
            }
            let partition = self.partitions.get(one.slot);
            let note = txn
                .notes
                .find(&partition.topic, partition.number, one.message.offset);
            match note.and_then(|note| note.given_up.clone()) {
                None => kept.push(one),
                Some(given_up) => {
                    if !kept.iter().any(|one: &Taken| same(one.queue)) {
                        stops.push((one.tag, one.slot, one.message.offset, given_up));
                    }
                    back.push(one);
                }
            }
        }
        *taken = kept;
        back.into_iter().rev().for_each(|one| self.give_back(one));
        let any = !stops.is_empty();
        for (tag, slot, offset, given_up) in stops {
            let partition = self.partitions.get(slot);
            tracing::error!(route = %self.config.route, topic = &*partition.topic, partition = partition.number, offset,
                kind = given_up.kind, error = given_up.error, "{STOPS}");
            let error = given_up.error;
            self.queues
                .wait(tag, slot, Waiting::Stopped { offset, error }, None, 0);
            self.move_out(tag, slot);
        }
        any
    }

    /// Which attempt the next one of a message is.
    #[inline]
    pub(in crate::worker) fn attempt_of(&self, slot: Slot, offset: i64) -> u32 {
        let Some(txn) = self.transaction.as_ref().filter(|txn| !txn.notes.is_empty()) else {
            return 1;
        };
        let partition = self.partitions.get(slot);
        let note = txn.notes.find(&partition.topic, partition.number, offset);
        note.map_or(1, |note| note.attempts.saturating_add(1))
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

    /// The route stops: what is finished is committed, if it can be by `deadline`; else it is aborted.
    pub(in crate::worker) fn end_transaction(&mut self, client: &Consumer, deadline: Instant) {
        let Some(txn) = &mut self.transaction else { return };
        txn.ends = true;
        let over = |phase| matches!(phase, Phase::Ready | Phase::Starting | Phase::Waiting);
        if !self.turn_until(client, deadline, over) {
            tracing::error!(route = %self.config.route,
                "the last transaction was not ended in time; it is aborted by whoever takes its id next, or by the brokers");
        }
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
