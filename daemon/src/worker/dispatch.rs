//! From the ready queues, or from what was read, to calls for the lanes; and which partitions are fetched.

use std::{cmp::Reverse, sync::Arc, time::Instant};

use super::{
    calls::{InHand, Item, Standing},
    engine::Engine,
    intake::MAX_QUEUED,
    queues::{Body, Queued, Take, Taken, Waiting},
};
use crate::{
    kafka::Consumer,
    lane::{Handout, Kept, Record, Slot, Source},
    settings::Order,
};

/// A call that is ready to go out.
pub(super) struct Outgoing {
    pub handout: Handout,
    pub items: Vec<Item>,
}

/// Whether librdkafka fetches a partition.
#[derive(Clone, Copy, Debug)]
enum Fetching {
    Paused,
    On,
}

/// Messages of the stock that one call may have.
const MOST_IN_A_CALL: usize = 10_000;

// === impl Engine ===

impl Engine {
    /// Something that was read is not in a queue or with a lane.
    pub(super) fn has_unhanded(&self) -> bool {
        !self.outgoing.is_empty() || !self.pending.is_empty()
    }

    /// Hands out what is ready while a lane has room.
    pub(super) fn hand_out(&mut self, now: Instant) -> bool {
        if !self.transaction_hands_out() {
            return false;
        }
        if !self.config.is_straight() {
            return self.dispatch(now);
        }
        self.hand_out_suspect(now).unwrap_or_else(|| {
            self.queue_parked(now);
            self.hand_out_straight()
        })
    }

    // === one lane, fed straight ===

    /// Oldest first.
    fn hand_out_straight(&mut self) -> bool {
        let mut any = false;
        while self.may_digest() && self.home.room(0) > 0 {
            let Some(mut next) = self.outgoing.pop_front() else {
                break;
            };
            let lane = &mut self.lanes[0];
            next.handout.released.append(&mut lane.release_next);
            next.handout.held.append(&mut lane.hold_next);
            match self.home.hand_out(0, next.handout) {
                Ok(number) => {
                    any = true;
                    self.lanes[0].calls += 1;
                    self.calls.insert(number, InHand::new(number, 0, next.items));
                }
                Err(mut handout) => {
                    // Full: it goes first when a call has been given back.
                    let lane = &mut self.lanes[0];
                    lane.release_next.append(&mut handout.released);
                    lane.hold_next.append(&mut handout.held);
                    self.outgoing.push_front(Outgoing {
                        handout,
                        items: next.items,
                    });
                    break;
                }
            }
        }
        any
    }

    /// Makes calls of the partitions whose wait is over.
    fn queue_parked(&mut self, now: Instant) {
        if !self.may_digest() || self.stopping || !self.queues.any() {
            return;
        }
        self.end_waits(now);
        loop {
            let allowed = self.rate.as_mut().map_or(usize::MAX, |rate| rate.allowed(now));
            if allowed == 0 {
                return;
            }
            let bounds = Take {
                messages: self.config.batch.max_messages.min(allowed),
                bytes: self.config.batch.max_bytes,
                of_a_tag: usize::MAX,
                large: usize::MAX,
            };
            let taken = self.queues.take_one_queue(bounds);
            if taken.is_empty() {
                return;
            }
            if let Some(rate) = &mut self.rate {
                rate.spend(taken.len(), now);
            }
            let (mut records, mut items) = (Vec::new(), Vec::new());
            for Taken {
                queue,
                slot,
                tag,
                message,
                held_by,
            } in taken
            {
                if held_by.is_some() {
                    self.lanes[0].hold_next.retain(|held| *held != tag);
                    self.lanes[0].release_next.push(tag);
                }
                self.partitions.get_mut(slot).in_hand += 1;
                items.push(Item {
                    queue,
                    attempt: message.attempt,
                    ..Item::straight(message.offset, slot)
                });
                // What is fed straight waits in copies only.
                if let Body::Copy(record) = message.body {
                    records.push(*record);
                }
            }
            debug_assert_eq!(records.len(), items.len());
            self.outgoing.push_back(Outgoing {
                handout: of_records(records),
                items,
            });
        }
    }

    /// Hands what a gone instance had in hand to its successor: the same bytes, in their order.
    pub(super) fn hand_again(&mut self) {
        let with_plugin = |_: &u64, call: &mut InHand| call.is_with_plugin();
        let mut calls: Vec<InHand> = self.calls.extract_if(with_plugin).map(|(_, call)| call).collect();
        calls.sort_unstable_by_key(|call| call.number);
        for mut call in calls {
            let settled = |item: &Item| item.standing == Standing::Settled;
            while call.items.get(call.from).is_some_and(settled) {
                call.from += 1;
            }
            if call.from >= call.items.len() || call.open == 0 {
                self.home.finish(call.number);
                self.outputs.forget(call.number);
                continue;
            }
            self.outputs.forget(call.number);
            let held = std::mem::take(&mut self.lanes[0].hold_next);
            call.number = self.home.hand_again(call.number, call.from as u32, held);
            call.forget_done();
            self.lanes[0].calls += 1;
            self.calls.insert(call.number, call);
        }
    }

    // === lanes that are fed from the queues ===

    /// Gives lanes with room what is ready, the oldest first.
    pub(super) fn dispatch(&mut self, now: Instant) -> bool {
        // Where the plugin begins elsewhere, what is here of the partition is not its any more.
        if !self.may_digest() || self.stopping || !self.seeks.is_empty() || !self.transaction_hands_out() {
            return false;
        }
        self.end_waits(now);
        let mut any = self.store_pending();
        if self.queues.ready().messages == 0 {
            self.filling = None;
        }
        if let Some(handed) = self.hand_out_suspect(now) {
            return any | handed;
        }
        while let Some((lane, free)) = self.free_lane() {
            let Some(bounds) = self.bounds(lane, free, now) else {
                break;
            };
            let mut taken = std::mem::take(&mut self.taken);
            self.queues.take(lane, bounds, &mut taken);
            if self.park_known(&mut taken) && taken.is_empty() {
                self.taken = taken;
                any = true;
                continue;
            }
            let handed = !taken.is_empty() && self.hand_to(lane, &mut taken);
            taken.clear();
            self.taken = taken;
            if !handed {
                break;
            }
            any = true;
            self.filling = (self.queues.ready().messages > 0).then_some(now);
        }
        any
    }

    /// The lane with the fewest calls that may have another (of several the one for which most is ready), and how many may.
    fn free_lane(&self) -> Option<(usize, usize)> {
        // A digest that is slow is not put behind another: any lane that comes free may take it.
        let depth = if self.pace.size() <= 4 { 1 } else { 2 };
        let mut best: Option<(usize, (usize, Reverse<usize>))> = None;
        let mut free = 0;
        for (at, lane) in self.lanes.iter().enumerate() {
            // Nothing is put behind a message that takes long.
            let slow = lane.recalled && lane.calls > 0;
            if lane.calls < depth && !slow && self.home.room(at) > 0 {
                free += 1;
                let (any, own) = self.queues.ready_for(at);
                let rank = (lane.calls, Reverse(own.messages));
                if any.messages + own.messages > 0 && best.is_none_or(|(_, best)| rank < best) {
                    best = Some((at, rank));
                }
            }
        }
        best.map(|(lane, _)| (lane, free))
    }

    /// No lane may have another call, and digests are so fast and so much is ready that each has its next one here: what
    /// is read beyond it only grows cold.
    pub(super) fn has_plenty(&self) -> bool {
        let size = self.pace.size();
        !self.config.asynchronous
            && !self.config.buffers()
            && size >= self.config.batch.max_messages
            && self.queues.ready().messages >= size.saturating_mul(self.lanes.len())
            && self.free_lane().is_none()
    }

    /// Messages that lanes are at: not those that only wait for what they produced.
    fn going(&self) -> usize {
        self.in_hand_now.saturating_sub(self.outputs_state.unwritten)
    }

    /// As many messages as are worth waking a lane for.
    fn worth_waking(&self) -> usize {
        // What these take of a call says nothing: they go on with their messages when it is over.
        if self.config.asynchronous || self.config.buffers() {
            1
        } else {
            self.pace.worth()
        }
    }

    /// How much the next call may have; `None` for nothing now.
    fn bounds(&mut self, lane: usize, free: usize, now: Instant) -> Option<Take> {
        let (any, own) = self.queues.ready_for(lane);
        let ready = any + own;
        let batch = self.config.batch;
        let since = *self.filling.get_or_insert(now);
        let is_full = ready.messages >= batch.max_messages || ready.bytes >= batch.max_bytes;
        if !is_full && since + batch.max_wait > now {
            return None;
        }
        let mut messages = self.pace.size().min(MOST_IN_A_CALL);
        if self.config.asynchronous {
            messages = messages.min(self.config.in_flight.saturating_sub(self.going()));
        }
        if let Some(rate) = &mut self.rate {
            messages = messages.min(rate.allowed(now));
        }
        // A flush comes behind the calls that a lane has: they are not to hold many times what it is asked for at.
        if let Some(flush) = self.config.flush {
            messages = messages.min(flush.max_messages);
        }
        // Shared out among the lanes that are free, as far as that is worth it, unless a full call was waited for.
        if batch.max_wait.is_zero() {
            let share = any.messages.div_ceil(free.max(1)).max(self.worth_waking());
            messages = messages.min(own.messages + share);
        }
        if messages == 0 {
            return None;
        }
        let one_of_a_tag = self.config.asynchronous && self.config.order != Order::None;
        Some(Take {
            messages,
            bytes: batch.max_bytes,
            of_a_tag: if one_of_a_tag { 1 } else { messages },
            large: self.home.stock().map_or(0, |stock| stock.largest() - 1024),
        })
    }

    /// When a call that waits to become full goes out anyway, if a lane could have it.
    pub(super) fn full_at(&self) -> Option<Instant> {
        let wait = self.config.batch.max_wait;
        self.free_lane()?;
        self.filling.filter(|_| !wait.is_zero()).map(|since| since + wait)
    }

    /// Hands messages to a lane as one call; `false` if it could not take them, and they wait again. What cannot be shaped
    /// for the plugin is decided about here.
    pub(super) fn hand_to(&mut self, lane: usize, taken: &mut Vec<Taken>) -> bool {
        let mut kept: Vec<Kept> = Vec::with_capacity(taken.len());
        let mut items: Vec<Item> = Vec::with_capacity(taken.len());
        let (mut alone, mut skipped, mut decided) = (None, Vec::new(), false);
        for taken in taken.drain(..) {
            let taken = if !taken.is_unshaped() || alone.is_some() || skipped.contains(&taken.tag) {
                taken
            } else {
                let (tag, queue) = (taken.tag, taken.queue);
                // Of one queue nothing is in hand but what was taken here before it.
                let is_first = || !items.iter().any(|item| item.queue == queue);
                match self.shape_taken(taken, is_first) {
                    Ok(taken) => taken,
                    Err(waits) => {
                        // What follows it in its order may have to wait too.
                        skipped.push(tag);
                        decided |= waits.is_none();
                        if let Some(taken) = waits {
                            self.give_back(taken);
                        }
                        continue;
                    }
                }
            };
            if let Some(held_by) = taken.held_by {
                self.lanes[held_by].release_next.push(taken.tag);
            }
            let message = taken.message;
            let place = match &message.body {
                _ if alone.is_some() || skipped.contains(&taken.tag) => None,
                Body::Kept(kept) => Some(*kept),
                Body::Copy(record) => self.home.stock().and_then(|stock| stock.put_record(record)),
            };
            let item = Item {
                offset: message.offset,
                slot: taken.slot,
                attempt: message.attempt,
                queue: taken.queue,
                kept: place,
                standing: Standing::Out,
            };
            match (place, message.body) {
                (Some(place), _) => {
                    if message.attempt > 1
                        && let Some(stock) = self.home.stock()
                    {
                        stock.set_attempt(place, message.attempt);
                    }
                    kept.push(place);
                    items.push(item);
                }
                // It has no place now, or never: it travels in memory of its own.
                (None, Body::Copy(record)) if items.is_empty() && !skipped.contains(&taken.tag) => {
                    items.push(item);
                    alone = Some(*record);
                }
                // It waits on, and so does what follows it in its order: that is not handed out while it is first.
                (None, body) => {
                    let again = Queued::again(message.offset, message.attempt, message.bytes, body);
                    self.return_to_queue(taken.tag, taken.slot, again);
                    if let Some(emptied) = self.queues.let_go(taken.queue) {
                        self.emptied(emptied);
                    }
                    skipped.push(taken.tag);
                }
            }
        }
        if items.is_empty() {
            return decided;
        }
        let mut handout = match alone {
            Some(record) => of_records(vec![record]),
            None => Handout {
                source: Source::Stored(kept.into()),
                entries: Vec::new(),
                released: Vec::new(),
                held: Vec::new(),
            },
        };
        handout.released.append(&mut self.lanes[lane].release_next);
        let messages = items.len();
        match self.home.hand_out(lane, handout) {
            Ok(number) => {
                for item in &items {
                    self.partitions.get_mut(item.slot).in_hand += 1;
                }
                self.in_hand_now += messages;
                if let Some(rate) = &mut self.rate {
                    rate.spend(messages, Instant::now());
                }
                self.lanes[lane].calls += 1;
                self.calls.insert(number, InHand::new(number, lane, items));
                true
            }
            Err(mut handout) => {
                self.lanes[lane].release_next.append(&mut handout.released);
                if self.config.buffers() {
                    // What fills the room is done when it has flushed.
                    self.flush();
                }
                for (index, item) in items.into_iter().enumerate().rev() {
                    let body = match (item.kept, &handout.source) {
                        (Some(kept), _) => Body::Kept(kept),
                        (None, Source::Parked(records)) => Body::Copy(Box::new(records[index].clone())),
                        (None, _) => continue,
                    };
                    let bytes = self.body_bytes(&body) as u32;
                    let again = Queued::again(item.offset, item.attempt, bytes, body);
                    let tag = self.queues.tag(item.queue);
                    self.return_to_queue(tag, item.slot, again);
                    if let Some(emptied) = self.queues.let_go(item.queue) {
                        self.emptied(emptied);
                    }
                }
                false
            }
        }
    }

    pub(super) fn body_bytes(&mut self, body: &Body) -> usize {
        match body {
            Body::Copy(record) => record.bytes(),
            Body::Kept(kept) => {
                let kept = *kept;
                self.home.stock().map_or(0, |stock| stock.bytes(kept))
            }
        }
    }

    /// Ends back-offs that are over.
    pub(super) fn end_waits(&mut self, now: Instant) {
        for emptied in self.queues.end_waits(now) {
            self.emptied(emptied);
        }
    }

    // === what is fetched ===

    /// Stops and starts fetching of waiting partitions, so that what waits stays within the route's budget.
    pub(super) fn bound_parked(&mut self, client: &Consumer) {
        let bounded = self.config.queued_max_messages.is_some();
        if self.held_back || (!bounded && !self.queues.any_copies() && !self.any_paused) {
            return;
        }
        let full = self.queues.copied_bytes() > self.config.memory / 4 || self.queues.len() > MAX_QUEUED / 4;
        let stops = self.config.order == Order::Partition;
        let stopped = |(_, slot, waiting): (u64, Slot, &Waiting)| {
            (stops && matches!(waiting, Waiting::Stopped { .. })).then_some(slot)
        };
        let stopped: std::collections::HashSet<Slot> =
            self.queues.all_waiting().filter_map(stopped).collect();
        let copies = self.queues.slots_with_copies();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for slot in self.partitions.assigned_slots() {
            let stopped = stopped.contains(&slot);
            let waits = copies.contains(&slot);
            let bound = self.is_at_its_bound(slot);
            let partition = self.partitions.get_mut(slot);
            if !partition.paused && (stopped || (waits && full) || bound) {
                partition.paused = true;
                pause.push(slot);
            } else if partition.paused && !stopped && !waits && !bound {
                partition.paused = false;
                resume.push(slot);
            }
        }
        self.any_paused = self.partitions.assigned().any(|(_, partition)| partition.paused);
        self.fetch(client, &pause, Fetching::Paused);
        self.fetch(client, &resume, Fetching::On);
    }

    /// Nothing new begins of a partition whose finished offsets nearly fill the room beside the commit; what waits for a
    /// retry goes on, and lets the frontier move.
    pub(super) fn mind_crowded(&mut self, now: Instant) {
        /// How often they are looked at.
        const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
        if self.config.is_straight() || now < self.next_crowd_look {
            return;
        }
        self.next_crowd_look = now + LOOK;
        self.any_crowded = false;
        for slot in self.partitions.assigned_slots() {
            let partition = self.partitions.get_mut(slot);
            let crowded = partition.is_crowded();
            if crowded || partition.crowded {
                partition.crowded = crowded;
                let frontier = partition.tracker.frontier().filter(|_| crowded);
                self.any_paused |= crowded;
                self.any_crowded |= crowded;
                self.queues.hold_back(slot, frontier);
            }
        }
    }

    /// Whether it is not to be read on: because of what is finished of it or waits behind a slow digest, or because as many of its messages are begun as
    /// `queued_max_messages` allows (paused, it waits for half of them).
    fn is_at_its_bound(&self, slot: Slot) -> bool {
        let partition = self.partitions.get(slot);
        if partition.crowded || partition.blocked {
            return true;
        }
        let Some(most) = self.config.queued_max_messages else {
            return false;
        };
        let begun = partition.tracker.unfinished();
        if partition.paused {
            begun > most / 2
        } else {
            begun >= most
        }
    }

    /// While the lanes take nothing the client must still be asked, or it loses its place in the group: everything is
    /// paused, so that asking brings no messages.
    pub(super) fn hold_back(&mut self, client: &Consumer) {
        if !self.held_back {
            self.held_back = true;
            self.fetch(client, &self.partitions.assigned_slots(), Fetching::Paused);
        }
    }

    /// Pauses what came while everything is paused. After the assignment: before it, librdkafka knows them not.
    pub(super) fn hold_back_what_came(&mut self, client: &Consumer) {
        if std::mem::take(&mut self.came_while_held) && self.held_back {
            self.fetch(client, &self.partitions.assigned_slots(), Fetching::Paused);
        }
    }

    /// The lanes take messages again.
    pub(super) fn go_on(&mut self, client: &Consumer) {
        if self.held_back {
            self.held_back = false;
            let mut slots = self.partitions.assigned_slots();
            slots.retain(|slot| !self.partitions.get(*slot).paused);
            self.fetch(client, &slots, Fetching::On);
        }
    }

    fn fetch(&self, client: &Consumer, slots: &[Slot], fetching: Fetching) {
        if slots.is_empty() {
            return;
        }
        let names = self.partitions.names(slots);
        let done = match fetching {
            Fetching::Paused => client.pause(&names),
            Fetching::On => client.resume(&names),
        };
        if let Err(error) = done {
            tracing::warn!(route = %self.config.route, %error, ?fetching, "cannot change what is fetched");
        }
    }
}

/// A call of messages that waited in copies.
fn of_records(records: Vec<Record>) -> Handout {
    let entries = (0..)
        .zip(&records)
        .map(|(index, record)| record.entry(index))
        .collect();
    Handout {
        source: Source::Parked(Arc::from(records)),
        entries,
        released: Vec::new(),
        held: Vec::new(),
    }
}
