//! What became of the messages of a call: done, failed, passed over, not reached, taken beyond it.

use std::time::{Duration, Instant};

use devour_abi::{Failure, FailureKind, Progress};

use super::{
    Event, RouteStats,
    calls::{InHand, Item, Standing},
    engine::{Engine, Plugin},
    queues::{AHEAD, Body, Queued, Waiting},
    retry::backoff,
    suspects,
};
use crate::{
    lane::{CallNumber, DownCause, HomeEvent, Record, Slot},
    settings::{Order, Then},
    time::now_ms,
};

/// What a failure leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    Retry,
    Skip,
    DeadLetter,
    Stop,
}

/// What is wrong with a message, for people and for its dead letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble<'a> {
    /// In the log.
    pub happened: &'a str,
    pub kind: &'static str,
    pub error: &'a str,
    /// How long it wants to wait, if it is tried again.
    pub delay_ms: u64,
    /// Attempts made.
    pub attempts: u32,
}

/// Where the bytes of a message are that something is decided about.
pub(super) enum Bytes {
    /// In a call.
    OfCall(CallNumber, usize),
    /// In a copy of its own: it was in no call.
    Own(Box<Record>),
}

// === impl Engine ===

impl Engine {
    /// Applies one thing that the plugin, or its end, said.
    pub(super) fn apply(&mut self, event: HomeEvent) {
        if matches!(event, HomeEvent::Returned { .. } | HomeEvent::Completed { .. }) {
            self.note_last_outcome();
        }
        match event {
            HomeEvent::Up { pid } => self.greet(pid),
            HomeEvent::Failed { call, index, failure } => self.failed(call, index as usize, &failure),
            HomeEvent::NotBegun { call, first, count } => self.not_begun(call, first, count),
            HomeEvent::Taken { call, first, count } => self.taken_beyond(call, first, count),
            HomeEvent::Completed { call, index } => self.completed(call, index as usize),
            HomeEvent::Returned {
                call,
                finished,
                took,
                broken,
            } => self.returned(call, finished as usize, took, broken.as_ref()),
            HomeEvent::Produced(produced) => self.produced(&produced),
            HomeEvent::Lifecycle { lane, answer } => self.answered(lane, answer),
            HomeEvent::Stuck(why) => {
                self.stuck = true;
                self.cannot_be_replaced(&why);
                self.tell(Event::PluginStuck(why));
            }
            HomeEvent::Down {
                cause,
                progress,
                told,
                missed,
            } => self.down(cause, &progress, &told, missed),
        }
    }

    /// Takes a call out of those in hand, to be put back with [`Engine::keep_if_open`].
    fn take_call(&mut self, number: CallNumber) -> Option<InHand> {
        let call = self.calls.remove(&number);
        if call.is_none() {
            // The home checks that a plugin speaks of calls that it has; a bug of ours must not stay silent.
            tracing::error!(route = %self.config.route, call = number, "an outcome of a call that is not in hand");
        }
        call
    }

    /// A call that came back and has nothing open is over: its bytes may be used again.
    pub(super) fn keep_if_open(&mut self, call: InHand) {
        if call.returned && call.open == 0 {
            self.home.finish(call.number);
            self.outputs.forget(call.number);
        } else {
            self.calls.insert(call.number, call);
        }
    }

    /// A message that was settled is not in hand any more.
    pub(super) fn out_of_hand(&mut self, item: Item) {
        if item.standing == Standing::Unwritten {
            self.waits_no_more(&item);
        }
        let partition = self.partitions.get_mut(item.slot);
        partition.in_hand = partition.in_hand.saturating_sub(1);
        let queue = if item.queue == super::queues::QueueId::NONE {
            partition.queue
        } else {
            item.queue
        };
        let gone = partition.in_hand == 0 && !partition.assigned;
        self.in_hand_now = self.in_hand_now.saturating_sub(1);
        if queue != super::queues::QueueId::NONE {
            let emptied = match item.standing {
                Standing::Buffered => self.queues.let_go_buffered(queue),
                // It was taken from there, and noted as one that does not hold up its lane.
                Standing::Unwritten if item.queue != super::queues::QueueId::NONE => {
                    self.queues.let_go_buffered(queue)
                }
                _ => self.queues.let_go(queue),
            };
            if let Some(emptied) = emptied {
                self.emptied(emptied);
            }
        }
        if gone {
            self.forget_slot(item.slot);
        }
    }

    /// A settled message is digested, or passed over for good.
    #[inline]
    pub(super) fn done(&mut self, item: Item) {
        self.partitions.get_mut(item.slot).tracker.finish(item.offset);
        self.clear_suspect(item.slot, item.offset);
        self.forget_original(item.slot, item.offset);
        self.free(item);
        self.out_of_hand(item);
    }

    /// Its place in the stock may be used again.
    pub(super) fn free(&mut self, item: Item) {
        if let Some(kept) = item.kept
            && let Some(stock) = self.home.stock()
        {
            stock.free(kept);
        }
    }

    pub(super) fn tag_of(&self, item: &Item) -> u64 {
        if item.queue == super::queues::QueueId::NONE {
            u64::from(item.slot.0)
        } else {
            self.queues.tag(item.queue)
        }
    }

    /// What stands in a queue that is made now is in hand already, where messages go straight to the lane.
    pub(super) fn in_hand_of(&self, slot: Slot) -> u32 {
        if self.config.is_straight() {
            self.partitions.get(slot).in_hand
        } else {
            0
        }
    }

    pub(super) fn note_queue(&mut self, tag: u64, slot: Slot) {
        if self.config.is_straight()
            && let Some(queue) = self.queues.find(tag, slot)
        {
            self.partitions.get_mut(slot).queue = queue;
        }
    }

    // === failures ===

    fn failed(&mut self, number: CallNumber, index: usize, failure: &Failure) {
        let Some(mut call) = self.take_call(number) else {
            return;
        };
        // What was taken beyond its call is with nobody's tags: the daemon alone keeps its order.
        let was_taken = call
            .items
            .get(index)
            .is_some_and(|item| item.standing == Standing::Taken);
        let holder = (!was_taken && !self.config.asynchronous).then_some(call.lane);
        if let Some(item) = call.settle(index) {
            RouteStats::add(&self.stats.failed, 1);
            self.take_failure(number, index, item, failure, holder);
        }
        self.keep_if_open(call);
    }

    /// Decides about a failed message, which was settled. `holder`: the lane that holds its tag because of it.
    fn take_failure(
        &mut self,
        call: CallNumber,
        index: usize,
        item: Item,
        failure: &Failure,
        holder: Option<usize>,
    ) {
        let trouble = Trouble {
            happened: "digest failed",
            kind: failure.kind.name(),
            error: failure.message.as_str(),
            delay_ms: failure.delay_ms,
            attempts: item.attempt,
        };
        // After a retry the plugin holds what follows: it is to be let go.
        let lane = holder.filter(|_| !self.lets_go(failure));
        let decision = self.decide(item, failure);
        let holder = if matches!(decision, Decision::Skip) {
            lane
        } else {
            holder
        };
        self.carry_out(decision, Bytes::OfCall(call, index), item, &trouble, holder);
    }

    /// Does what was decided about a message, which was settled. `holder`: the lane that holds its tag because of it.
    pub(super) fn carry_out(
        &mut self,
        decision: Decision,
        bytes: Bytes,
        item: Item,
        trouble: &Trouble<'_>,
        holder: Option<usize>,
    ) {
        let partition = self.partitions.get(item.slot);
        if !partition.assigned {
            self.free(item);
            self.out_of_hand(item);
            return;
        }
        let of_call = match &bytes {
            Bytes::OfCall(call, index) => Some((*call, *index)),
            Bytes::Own(_) => None,
        };
        if self.fails_transaction(decision, of_call, item, trouble, holder) {
            return;
        }
        let partition = self.partitions.get(item.slot);
        let what = match self.config.order {
            Order::Partition => "partition",
            Order::Key => "key",
            Order::None => "message",
        };
        let route = self.config.route.clone();
        let (topic, number, offset) = (
            std::sync::Arc::clone(&partition.topic),
            partition.number,
            item.offset,
        );
        let topic = &*topic;
        let &Trouble {
            happened,
            kind,
            error,
            ..
        } = trouble;
        let attempt = item.attempt;
        match decision {
            Decision::Retry => {
                let asked = (trouble.delay_ms > 0).then(|| Duration::from_millis(trouble.delay_ms));
                let chance = chance(item);
                let wait = asked.unwrap_or_else(|| backoff(&self.config.on_error.backoff, attempt, chance));
                let wait_ms = wait.as_millis() as u64;
                tracing::warn!(%route, topic, partition = number, offset, attempt, kind, error, wait_ms,
                    "{happened}; this {what} waits and tries again");
                let record = self.record_of(bytes, item, attempt.saturating_add(1));
                let tag = self.tag_of(&item);
                self.hold_up(&item, Waiting::Until(Instant::now() + wait), holder);
                self.queues.first_failure(tag, item.slot, offset, now_ms());
                self.park(item, record);
            }
            Decision::Skip => {
                tracing::warn!(%route, topic, partition = number, offset, attempt, kind, error,
                    "{happened}; the message is skipped, as `on_error.then: skip` says");
                RouteStats::add(&self.stats.skipped, 1);
                if let Some(lane) = holder {
                    let (tag, in_hand) = (self.tag_of(&item), self.in_hand_of(item.slot));
                    self.queues.hold(tag, item.slot, lane, in_hand);
                    self.note_queue(tag, item.slot);
                }
                self.done(item);
            }
            Decision::Stop => {
                tracing::error!(%route, topic, partition = number, offset, attempt, kind, error,
                    "{happened}; this {what} stops here, as `on_error.then: stop` says. The others go on. Mend the plugin and \
                     `devourd resume` the route, or `devourd skip` the message");
                let record = self.record_of(bytes, item, attempt.saturating_add(1));
                let error = error.to_owned();
                self.hold_up(&item, Waiting::Stopped { offset, error }, holder);
                self.park(item, record);
            }
            Decision::DeadLetter => {
                tracing::warn!(%route, topic, partition = number, offset, attempt, kind, error,
                    "{happened}; the message becomes a dead letter, as `on_error.then: dead_letter` says");
                let mut record = self.record_of(bytes, item, attempt);
                self.restore(&mut record);
                self.hold_up(&item, Waiting::DeadLetter { offset }, holder);
                self.dead_letter(record, trouble.attempts, kind, error);
                self.clear_suspect(item.slot, offset);
                self.free(item);
                self.out_of_hand(item);
            }
        }
    }

    fn record_of(&mut self, bytes: Bytes, item: Item, attempt: u32) -> Record {
        match bytes {
            Bytes::OfCall(call, index) => self.copy_of(call, index, item, attempt),
            Bytes::Own(mut record) => {
                record.attempt = attempt;
                *record
            }
        }
    }

    fn copy_of(&mut self, call: CallNumber, index: usize, item: Item, attempt: u32) -> Record {
        let mut record = match (item.kept, self.home.stock()) {
            (Some(kept), Some(stock)) => stock.copy_out(kept),
            _ => self.home.copy_out(call, index as u32),
        };
        record.attempt = attempt;
        record
    }

    /// What follows a message in its order waits: in copies, so that others have the room.
    pub(super) fn hold_up(&mut self, item: &Item, waiting: Waiting, holder: Option<usize>) {
        let (tag, in_hand) = (self.tag_of(item), self.in_hand_of(item.slot));
        self.queues.wait(tag, item.slot, waiting, holder, in_hand);
        self.note_queue(tag, item.slot);
        self.move_out(tag, item.slot);
    }

    /// A message that was not digested waits in its queue again, as a copy.
    pub(super) fn wait_again(&mut self, item: Item, record: Record) {
        let (tag, in_hand) = (self.tag_of(&item), self.in_hand_of(item.slot));
        let queued = Queued::of_record(record);
        if let Some(double) = self.queues.put_back(tag, item.slot, in_hand, queued) {
            self.drop_body(double);
        }
        self.note_queue(tag, item.slot);
        self.free(item);
        self.out_of_hand(item);
    }

    /// The message itself waits, first of those that it holds up.
    pub(super) fn park(&mut self, item: Item, record: Record) {
        let (tag, in_hand) = (self.tag_of(&item), self.in_hand_of(item.slot));
        self.queues
            .put_back(tag, item.slot, in_hand, Queued::of_record(record));
        self.free(item);
        self.out_of_hand(item);
    }

    /// What a waiting tag has in the stock is copied out.
    pub(super) fn move_out(&mut self, tag: u64, slot: Slot) {
        let Some(stock) = self.home.stock() else { return };
        self.queues.move_out(tag, slot, |kept, attempt| {
            let mut record = stock.copy_out(kept);
            record.attempt = attempt;
            stock.free(kept);
            record
        });
    }

    pub(super) fn decide(&self, item: Item, failure: &Failure) -> Decision {
        let spent = self
            .config
            .on_error
            .attempts
            .is_some_and(|attempts| item.attempt >= attempts);
        let reject = matches!(failure.kind, FailureKind::REJECT | FailureKind::UNDECODABLE);
        if reject || spent {
            self.last_resort()
        } else {
            Decision::Retry
        }
    }

    /// The route's `then`.
    pub(super) fn last_resort(&self) -> Decision {
        match self.config.on_error.then {
            Then::Skip => Decision::Skip,
            // The two go together by the settings' own check.
            Then::DeadLetter if self.letters.is_some() => Decision::DeadLetter,
            Then::Stop | Then::DeadLetter => Decision::Stop,
        }
    }

    /// Whether the plugin goes on with the tag of a message that failed so: a reject under `then: skip`.
    fn lets_go(&self, failure: &Failure) -> bool {
        matches!(failure.kind, FailureKind::REJECT | FailureKind::UNDECODABLE)
            && self.config.on_error.then == Then::Skip
    }

    // === what was not begun ===

    fn not_begun(&mut self, number: CallNumber, first: u32, count: u32) {
        let Some(mut call) = self.take_call(number) else {
            return;
        };
        // The last first: each then stands before all that were put back.
        for index in (first..first.saturating_add(count)).rev() {
            self.put_back(&mut call, index as usize);
        }
        self.keep_if_open(call);
    }

    /// A message that was not digested waits in its queue again.
    pub(super) fn put_back(&mut self, call: &mut InHand, index: usize) {
        let Some(item) = call.settle(index) else { return };
        let partition = self.partitions.get(item.slot);
        if partition.assigned && !partition.going {
            let (tag, in_hand) = (self.tag_of(&item), self.in_hand_of(item.slot));
            let waits = self.queues.waiting(tag, item.slot).is_some();
            let queued = match item.kept.filter(|_| !waits) {
                Some(kept) => {
                    let body = Body::Kept(kept);
                    let bytes = self.body_bytes(&body) as u32;
                    Queued::again(item.offset, item.attempt, bytes, body)
                }
                None => {
                    let record = self.copy_of(call.number, index, item, item.attempt);
                    return self.wait_again(item, record);
                }
            };
            if let Some(double) = self.queues.put_back(tag, item.slot, in_hand, queued) {
                self.drop_body(double);
            }
            self.note_queue(tag, item.slot);
        } else {
            self.free(item);
        }
        self.out_of_hand(item);
    }

    /// A message that was taken for a call, and the call was not made, waits in its queue again.
    pub(super) fn return_to_queue(&mut self, tag: u64, slot: Slot, queued: Queued) {
        if let Some(double) = self.queues.put_back(tag, slot, 0, queued) {
            self.drop_body(double);
        }
    }

    pub(super) fn drop_body(&mut self, queued: Queued) {
        if let Body::Kept(kept) = queued.body
            && let Some(stock) = self.home.stock()
        {
            stock.free(kept);
        }
    }

    // === what was taken beyond its call ===

    fn taken_beyond(&mut self, number: CallNumber, first: u32, count: u32) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        let end = (first.saturating_add(count) as usize).min(call.items.len());
        for item in &mut call.items[(first as usize).min(end)..end] {
            if item.standing == Standing::Out {
                item.standing = Standing::Taken;
            }
        }
    }

    fn completed(&mut self, number: CallNumber, index: usize) {
        let Some(mut call) = self.take_call(number) else {
            return;
        };
        if self.is_written(&mut call, index)
            && let Some(item) = call.settle(index)
        {
            RouteStats::add(&self.stats.digested, 1);
            self.done(item);
        }
        self.keep_if_open(call);
    }

    // === calls that came back ===

    fn returned(&mut self, number: CallNumber, finished: usize, took: Duration, broken: Option<&Failure>) {
        let Some(mut call) = self.take_call(number) else {
            return;
        };
        let now = Instant::now();
        let lane = &mut self.lanes[call.lane];
        lane.last_return = now;
        lane.calls = lane.calls.saturating_sub(1);
        lane.recalled = false;
        // Its own clock does not count how long it waited for its turn, or to be looked at. It may say anything, though: not
        // more than there was time for.
        self.pace
            .measured(finished, took.min(now.saturating_duration_since(call.handed)));
        call.returned = true;
        let finished = finished.min(call.items.len());
        self.finish_below(&mut call, finished, now);
        match broken {
            Some(failure) => self.returned_broken(&mut call, finished, failure),
            None => self.returned_cut(&mut call, finished),
        }
        if self.config.is_straight() && broken.is_some() && call.open > 0 {
            // Its rest goes to the next instance as it lies.
            self.calls.insert(number, call);
        } else {
            self.keep_if_open(call);
        }
    }

    /// Marks the messages below `end` done, but for those whose outcome is another.
    fn finish_below(&mut self, call: &mut InHand, end: usize, now: Instant) {
        let (mut done, mut buffered) = (0, 0);
        let quiet = self.is_quiet();
        for index in call.from..end {
            if let Some(soon) = call.items.get(index + AHEAD) {
                self.queues.fetch(soon.queue);
            }
            if call.items[index].standing != Standing::Out {
                continue;
            }
            if self.config.buffers() {
                call.items[index].standing = Standing::Buffered;
                self.queues.buffer(call.items[index].queue, call.lane);
                buffered += 1;
            } else if (quiet || self.is_written(call, index))
                && let Some(item) = call.settle(index)
            {
                self.done(item);
                done += 1;
            }
        }
        call.from = call.from.max(end);
        if buffered > 0 {
            self.lanes[call.lane].buffered.push(call.number);
            self.note_buffered(buffered, now);
        }
        RouteStats::add(&self.stats.digested, done + buffered);
    }

    /// The instance is broken: the message that broke it has failed, what follows it goes to the next instance.
    fn returned_broken(&mut self, call: &mut InHand, finished: usize, failure: &Failure) {
        if self.suspect_call(call, &failure.message) {
            return self.home.end(DownCause::Broken(failure.clone()));
        }
        let in_hand = call
            .items
            .get(finished)
            .is_some_and(|item| item.standing == Standing::Out);
        if in_hand && let Some(item) = call.settle(finished) {
            RouteStats::add(&self.stats.failed, 1);
            self.take_failure(call.number, finished, item, failure, None);
        }
        call.from = call.from.max((finished + 1).min(call.items.len()));
        self.home.end(DownCause::Broken(failure.clone()));
    }

    /// What a call did not reach is tried again, unless the route is going.
    fn returned_cut(&mut self, call: &mut InHand, finished: usize) {
        let straight = self.config.is_straight();
        for index in (finished..call.items.len()).rev() {
            if call.items[index].standing != Standing::Out {
                continue;
            }
            if self.stopping {
                if let Some(item) = call.settle(index) {
                    self.free(item);
                    self.out_of_hand(item);
                }
                continue;
            }
            let slot = call.items[index].slot;
            self.put_back(call, index);
            if straight {
                self.hold_straight(slot);
            }
        }
    }

    /// What is ready to go out straight behind a message that waits again must not overtake it.
    pub(super) fn hold_straight(&mut self, slot: Slot) {
        let (tag, in_hand) = (u64::from(slot.0), self.in_hand_of(slot));
        if self.queues.find(tag, slot).is_none() || self.lanes[0].hold_next.contains(&tag) {
            return;
        }
        self.lanes[0].hold_next.push(tag);
        self.queues.hold(tag, slot, 0, in_hand);
    }

    /// Nobody has in hand what is left of the calls: it waits in its queue, or is read again after a stop.
    pub(super) fn take_back(&mut self) {
        let mut numbers: Vec<CallNumber> = self.calls.keys().copied().collect();
        // The last first, as within a call.
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        for number in numbers {
            let Some(mut call) = self.calls.remove(&number) else {
                continue;
            };
            call.returned = true;
            for index in (0..call.items.len()).rev() {
                if call.items[index].standing == Standing::Unwritten && !self.stopping {
                    // Nobody has it any more: it only waits.
                    continue;
                }
                if self.stopping {
                    if let Some(item) = call.settle(index) {
                        self.free(item);
                        self.out_of_hand(item);
                    }
                } else {
                    let slot = call.items[index].slot;
                    self.put_back(&mut call, index);
                    if self.config.is_straight() {
                        self.hold_straight(slot);
                    }
                }
            }
            self.keep_if_open(call);
        }
    }

    /// What the plugin is at, for who waits for it.
    pub(super) fn blocked_by(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for (lane, state) in self.lanes.iter().enumerate() {
            let progress = self.home.progress(lane);
            let call = self.calls.get(&progress.call).filter(|call| !call.returned);
            if let Some(item) = call.and_then(|call| call.items.get(progress.index as usize)) {
                texts.push(format!(
                    "the digest of {} at offset {}, at work for {:.1} s",
                    self.partitions.get(item.slot).name(),
                    item.offset,
                    state.last_return.elapsed().as_secs_f64()
                ));
            }
        }
        let taken = self
            .calls
            .values()
            .flat_map(|call| &call.items)
            .filter(|item| matches!(item.standing, Standing::Taken | Standing::Buffered));
        if let Some(first) = taken.clone().min_by_key(|item| (item.slot, item.offset)) {
            let (name, offset) = (self.partitions.get(first.slot).name(), first.offset);
            let count = taken.count();
            texts.push(format!(
                "{count} messages that it has taken, the first {name} at offset {offset}"
            ));
        }
        if self.outputs_state.unwritten > 0 {
            texts.push(format!(
                "the brokers, which have not acknowledged what {} messages produced",
                self.outputs_state.unwritten
            ));
        }
        if texts.is_empty() {
            match self.steps.front() {
                Some(step) => texts.push(format!("its `{}`", step.name)),
                None => texts.push(format!(
                    "{} messages in {} calls",
                    self.in_hand(),
                    self.calls.len()
                )),
            }
        }
        texts.truncate(8);
        texts.join("; ")
    }

    // === the plugin's end ===

    /// The plugin is gone and its last word is applied: what the cells say is done is done, the rest stays in hand
    /// for its successor. The message that missed its deadline has failed.
    fn down(&mut self, cause: DownCause, progress: &[Progress], told: &[Progress], missed: Option<Progress>) {
        for (lane, told) in told.iter().enumerate() {
            self.finish_to(lane, *told);
        }
        if let (DownCause::Deadline(error), Some(missed)) = (&cause, missed)
            && let Some(mut call) = self.calls.remove(&missed.call)
        {
            let index = missed.index as usize;
            let failure = Failure::new(FailureKind::RETRY, error.clone());
            if !self.suspect_call(&call, error)
                && call
                    .items
                    .get(index)
                    .is_some_and(|item| item.standing != Standing::Buffered)
                && let Some(item) = call.settle(index)
            {
                RouteStats::add(&self.stats.failed, 1);
                self.take_failure(call.number, index, item, &failure, None);
                call.from = call.from.max(index + 1);
            }
            self.calls.insert(call.number, call);
        }
        self.judge_death(&cause, progress);
        // What waits in the stock is handed to whichever lane comes first; what went straight, in its calls, unless some of
        // it goes alone.
        let alone = suspects::counts(&cause) || !self.suspects.is_empty();
        let unwritten = self.outputs_state.unwritten > 0 || self.transaction.is_some();
        self.doom_what_is_in_hand("the plugin is gone, and what it had begun may have produced");
        if std::mem::take(&mut self.stuck) || !self.config.is_straight() || alone || unwritten {
            self.take_back();
            self.return_outgoing();
        }
        self.plugin_down(cause);
    }

    /// Takes what a plugin that still lives has finished of its calls. The cells are read first: a failure is told before
    /// the cell moves on, so what is told by then is known when the cell is applied.
    pub(super) fn take_progress(&mut self) {
        let progress: Vec<Progress> = (0..self.lanes.len()).map(|lane| self.home.told(lane)).collect();
        // One look hears some lanes only, where there are many.
        for _ in 0..2 + self.lanes.len() / 8 {
            self.pump();
        }
        for (lane, progress) in progress.into_iter().enumerate() {
            self.finish_to(lane, progress);
        }
    }

    /// A cell says nothing of what is taken or buffered: only what was told is known.
    fn finish_to(&mut self, lane: usize, progress: Progress) {
        if self.config.asynchronous || self.config.buffers() {
            return;
        }
        let passed = |call: &&InHand| call.lane == lane && !call.returned && call.number <= progress.call;
        let numbers: Vec<CallNumber> = self
            .calls
            .values()
            .filter(passed)
            .map(|call| call.number)
            .collect();
        for number in numbers {
            let Some(mut call) = self.calls.remove(&number) else {
                continue;
            };
            let end = call.items.len();
            let reached = if number == progress.call {
                (progress.index as usize).min(end)
            } else {
                end
            };
            self.finish_below(&mut call, reached, Instant::now());
            self.calls.insert(number, call);
        }
    }

    /// The listener's word for how many partitions there are.
    pub(super) fn tell_assignment(&self) {
        self.tell(Event::Assigned(self.partitions.assigned().count()));
    }

    /// Whether the plugin holds nothing that is not settled, as far as it can be waited for.
    pub(super) fn has_given_back(&self) -> bool {
        self.plugin == Plugin::Down || !self.calls.values().any(InHand::is_with_plugin)
    }
}

/// A number between 0 and 1 that differs from message to message: enough to spread retries, and needs no generator.
fn chance(item: Item) -> f64 {
    let mixed = (item.offset as u64 ^ (u64::from(item.slot.0) << 40) ^ u64::from(item.attempt))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
