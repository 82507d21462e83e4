//! What is with the plugin: the calls that were handed out, and where each of their messages stands.

use std::time::Instant;

use super::queues::QueueId;
use crate::lane::{CallNumber, Kept, Slot};

/// A call with messages whose outcome is not known.
pub(super) struct InHand {
    pub number: CallNumber,
    pub lane: usize,
    /// First item that a successor of a gone instance has to get, where messages go straight to the lane.
    pub from: usize,
    pub handed: Instant,
    pub items: Vec<Item>,
    /// Items that are not settled.
    pub open: usize,
    /// Items that are digested and wait for what they produced.
    pub unwritten: usize,
    /// It came back; what is open of it was taken beyond it, or waits for what it produced.
    pub returned: bool,
}

/// One message of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub offset: i64,
    pub slot: Slot,
    pub attempt: u32,
    /// The queue that it was taken from.
    pub queue: QueueId,
    /// Its place in the stock, if it has one.
    pub kept: Option<Kept>,
    pub standing: Standing,
}

/// Where a message of a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// With the lane.
    Out,
    /// Taken beyond its call: it is completed, or fails, later.
    Taken,
    /// Digested by a consumer that buffers: done when it has flushed.
    Buffered,
    /// Digested: done when the brokers have acknowledged what it produced.
    Unwritten,
    /// Its outcome is known, or it waits in its queue again.
    Settled,
}

// === impl InHand ===

impl InHand {
    pub(super) fn new(number: CallNumber, lane: usize, items: Vec<Item>) -> Self {
        Self {
            number,
            lane,
            from: 0,
            handed: Instant::now(),
            open: items.len(),
            items,
            unwritten: 0,
            returned: false,
        }
    }

    /// Drops what lies before `from`: the successor counts from there.
    pub(super) fn forget_done(&mut self) {
        self.items.drain(..self.from);
        self.from = 0;
        self.returned = false;
        self.handed = Instant::now();
    }

    /// The message at `index`, if its outcome is not known: it is from now on.
    pub(super) fn settle(&mut self, index: usize) -> Option<Item> {
        let item = self.items.get_mut(index)?;
        if item.standing == Standing::Settled {
            return None;
        }
        let was = *item;
        item.standing = Standing::Settled;
        self.open -= 1;
        self.unwritten -= usize::from(was.standing == Standing::Unwritten);
        Some(was)
    }

    /// The message at `index`, which is not settled, is digested and waits for what it produced.
    pub(super) fn await_outputs(&mut self, index: usize) {
        self.items[index].standing = Standing::Unwritten;
        self.unwritten += 1;
    }

    /// The plugin has some of it.
    pub(super) fn is_with_plugin(&self) -> bool {
        !self.returned || self.open > self.unwritten
    }
}

impl Item {
    pub(super) fn straight(offset: i64, slot: Slot) -> Self {
        Self {
            offset,
            slot,
            attempt: 1,
            queue: QueueId::NONE,
            kept: None,
            standing: Standing::Out,
        }
    }
}
