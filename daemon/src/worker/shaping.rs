//! Where a route's schema meets the engine. A value is shaped as it is put into the stock, so what a plugin never sees is
//! never copied. What cannot be shaped then waits as it was read, in the queue of its order, and is shaped at its turn:
//! when all before it are with the lane and none of them in hand. Only then it is decided what becomes of it, so that a
//! bad message holds up what follows it in its order and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use devour_abi::{Failure, FailureKind};

use super::{
    RouteStats,
    calls::{Item, Standing},
    engine::Engine,
    intake,
    outcomes::{Bytes, Trouble},
    queues::{Body, Queued, Taken, Waiting},
};
use crate::{
    kafka::Message,
    lane::{Record, Slot},
    schema::{Shaper, Unshaped},
};

/// How often a message looks for its schema that nobody told of it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The shaping of a route's messages.
pub(super) struct Shaping {
    shaper: Shaper,
    /// Who waits for which schema.
    waiting: HashMap<u32, BTreeSet<(u64, Slot, i64)>>,
    /// Values as they were read of messages that are not finished, where a dead letter would have to have them.
    originals: Option<Originals>,
}

/// Values by partition and offset.
#[derive(Default)]
struct Originals {
    by_slot: HashMap<Slot, BTreeMap<i64, Box<[u8]>>>,
    bytes: usize,
}

/// What became of a message that is to be kept.
pub(super) enum Put {
    /// It lies somewhere.
    Kept { body: Body, bytes: usize },
    /// There is no room now.
    Full,
}

// === impl Engine ===

impl Engine {
    /// Keeps a fetched message until a lane takes it, its value shaped if it can be.
    pub(super) fn keep(&mut self, message: &Message<'_>, slot: Slot, tag: u64, bytes: usize) -> Put {
        let Some(stock) = self.home.stock() else {
            return Put::Full;
        };
        let copied = |unshaped| {
            let mut record = intake::copy(message, slot, tag, self.config.home.keeps_headers);
            record.unshaped = unshaped;
            Body::Copy(Box::new(record))
        };
        let (Some(shaping), Some(value)) = (&mut self.shaping, message.payload()) else {
            return match stock.put(message, slot, tag) {
                Some(kept) => Put::Kept {
                    body: Body::Kept(kept),
                    bytes,
                },
                None if !stock.fits(bytes) => Put::Kept {
                    body: copied(false),
                    bytes,
                },
                None => Put::Full,
            };
        };
        let Ok(shaped) = shaping.shaper.shape(value) else {
            return Put::Kept {
                body: copied(true),
                bytes,
            };
        };
        let bytes = bytes - value.len() + shaped.len();
        let body = match stock.put_shaped(message, slot, tag, &shaped) {
            Some(kept) => Body::Kept(kept),
            // It is shaped when it is handed out, in memory of its own.
            None if !stock.fits(bytes) => {
                return Put::Kept {
                    body: copied(true),
                    bytes,
                };
            }
            None => return Put::Full,
        };
        if let Some(originals) = &mut shaping.originals {
            let finished = self.partitions.get(slot).tracker.frontier();
            originals.keep(slot, message.offset(), value, finished);
        }
        Put::Kept { body, bytes }
    }

    /// Shapes a message that waited as it was read ([`Taken::is_unshaped`]). Gives it back if that cannot be: then it is
    /// another's or waits. `is_first`: whether nothing before it in its order is in hand.
    pub(super) fn shape_taken(
        &mut self,
        mut taken: Taken,
        is_first: impl FnOnce() -> bool,
    ) -> Result<Taken, Option<Taken>> {
        let (Body::Copy(record), Some(shaping)) = (&mut taken.message.body, &mut self.shaping) else {
            return Ok(taken);
        };
        let Some(value) = record.payload.take() else {
            record.unshaped = false;
            return Ok(taken);
        };
        let error = match shaping.shaper.shape(&value) {
            Ok(shaped) => {
                record.payload = Some(shaped.to_boxed());
                record.unshaped = false;
                if let Some(originals) = &mut shaping.originals {
                    let finished = self.partitions.get(taken.slot).tracker.frontier();
                    originals.keep(taken.slot, record.offset, &value, finished);
                }
                return Ok(taken);
            }
            Err(error) => error,
        };
        record.payload = Some(value);
        if !is_first() {
            return Err(Some(taken));
        }
        self.cannot_shape(taken, error);
        Err(None)
    }

    /// Decides about a message that cannot be shaped, at its turn.
    fn cannot_shape(&mut self, taken: Taken, error: Unshaped) {
        let Body::Copy(record) = taken.message.body else {
            return;
        };
        if let Some(held_by) = taken.held_by {
            self.lanes[held_by].release_next.push(taken.tag);
        }
        let item = Item {
            offset: taken.message.offset,
            slot: taken.slot,
            attempt: taken.message.attempt,
            queue: taken.queue,
            kept: None,
            standing: Standing::Out,
        };
        // It counts as in hand while it is decided about.
        self.partitions.get_mut(item.slot).in_hand += 1;
        self.in_hand_now += 1;
        match error {
            Unshaped::Waits { id } => {
                if let Some(shaping) = &mut self.shaping {
                    let waits = (taken.tag, item.slot, item.offset);
                    shaping.waiting.entry(id).or_default().insert(waits);
                }
                // No attempt of it: it has not failed. That it came is told by a descriptor; this is for what comes while the
                // partition is with another.
                self.hold_up(&item, Waiting::Until(Instant::now() + LOOK_AGAIN), None);
                self.park(item, *record);
            }
            Unshaped::Rejected(error) => {
                RouteStats::add(&self.stats.failed, 1);
                let failure = Failure::new(FailureKind::UNDECODABLE, error);
                let trouble = Trouble {
                    happened: "the message does not fit the route's schema",
                    kind: failure.kind.name(),
                    error: failure.message.as_str(),
                    delay_ms: 0,
                    attempts: item.attempt,
                };
                let decision = self.last_resort();
                self.carry_out(decision, Bytes::Own(record), item, &trouble, None);
            }
        }
    }

    /// Schemas came: what waited for them has its turn again.
    pub(super) fn schemas_came(&mut self) {
        let Some(shaping) = &mut self.shaping else { return };
        let ids = shaping.shaper.take_answers();
        let waited: Vec<(u64, Slot, i64)> = ids
            .iter()
            .filter_map(|id| shaping.waiting.remove(id))
            .flatten()
            .collect();
        for (tag, slot, offset) in waited {
            let waits = matches!(self.queues.waiting(tag, slot), Some(Waiting::Until(_)));
            if waits
                && self.queues.first(tag, slot) == Some(offset)
                && let Some(emptied) = self.queues.go_on(tag, slot)
            {
                self.emptied(emptied);
            }
        }
    }

    /// A message's dead letter is made of what was read.
    pub(super) fn restore(&mut self, record: &mut Record) {
        let originals = self
            .shaping
            .as_mut()
            .and_then(|shaping| shaping.originals.as_mut());
        if let Some(value) = originals.and_then(|originals| originals.remove(record.slot, record.offset)) {
            record.payload = Some(value);
            record.unshaped = true;
        }
    }

    /// A message is finished.
    #[inline]
    pub(super) fn forget_original(&mut self, slot: Slot, offset: i64) {
        if let Some(Shaping {
            originals: Some(originals),
            ..
        }) = &mut self.shaping
        {
            originals.remove(slot, offset);
        }
    }

    /// A partition is gone.
    pub(super) fn forget_originals(&mut self, slot: Slot) {
        if let Some(Shaping {
            originals: Some(originals),
            ..
        }) = &mut self.shaping
        {
            originals.forget(slot);
        }
    }

    /// Bytes that the shaping holds, counted against the route's budget.
    pub(super) fn shaping_bytes(&self) -> usize {
        let originals = self
            .shaping
            .as_ref()
            .and_then(|shaping| shaping.originals.as_ref());
        originals.map_or(0, |originals| originals.bytes)
    }

    /// What waits as it was read was told apart from what is shaped when it was copied.
    pub(super) fn is_shaped(&self) -> bool {
        self.shaping.is_some()
    }

    /// A message that was taken and cannot go out waits in its queue again.
    pub(super) fn give_back(&mut self, taken: Taken) {
        let Taken {
            queue,
            slot,
            tag,
            message,
            ..
        } = taken;
        let again = Queued::again(message.offset, message.attempt, message.bytes, message.body);
        self.return_to_queue(tag, slot, again);
        if let Some(emptied) = self.queues.let_go(queue) {
            self.emptied(emptied);
        }
    }
}

// === impl Shaping ===

impl Shaping {
    /// For a route that has a schema.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub(super) fn of(config: &super::WorkerConfig) -> io::Result<Option<Self>> {
        let Some(schema) = &config.schema else {
            return Ok(None);
        };
        Ok(Some(Self {
            shaper: Shaper::new(schema, &config.route)?,
            waiting: HashMap::new(),
            originals: config.dead_letter.is_some().then(Originals::default),
        }))
    }

    /// Readable when schemas came.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.shaper.wake_fd()
    }
}

// === impl Originals ===

impl Originals {
    /// `finished`: what lies below is finished, however it came to be.
    fn keep(&mut self, slot: Slot, offset: i64, value: &[u8], finished: Option<i64>) {
        let values = self.by_slot.entry(slot).or_default();
        while let (Some(first), Some(finished)) = (values.first_entry(), finished)
            && *first.key() < finished
        {
            self.bytes -= first.remove().len();
        }
        self.bytes += value.len();
        if let Some(before) = values.insert(offset, value.into()) {
            self.bytes -= before.len();
        }
    }

    fn remove(&mut self, slot: Slot, offset: i64) -> Option<Box<[u8]>> {
        let value = self.by_slot.get_mut(&slot)?.remove(&offset)?;
        self.bytes -= value.len();
        Some(value)
    }

    fn forget(&mut self, slot: Slot) {
        let values = self.by_slot.remove(&slot).unwrap_or_default();
        self.bytes -= values.values().map(|value| value.len()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originals_are_kept_until_their_message_is_finished() {
        let mut originals = Originals::default();
        for offset in 0..10 {
            originals.keep(Slot(1), offset, b"abc", None);
        }
        originals.keep(Slot(2), 0, b"other", None);
        assert_eq!(originals.bytes, 35);
        assert_eq!(originals.remove(Slot(1), 3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(originals.remove(Slot(1), 3), None);
        // Kept again, as after a replay; and what is below the frontier is gone.
        originals.keep(Slot(1), 9, b"abcd", Some(8));
        assert_eq!(originals.bytes, 5 + 3 + 4);
        originals.forget(Slot(1));
        assert_eq!(originals.bytes, 5);
        originals.forget(Slot(2));
        assert_eq!(originals.bytes, 0);
    }
}
