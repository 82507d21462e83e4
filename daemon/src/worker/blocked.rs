//! What stands behind messages that take long must not take the room of all others: a partition of which too much waits
//! so is not read on until its digest has returned.

use std::time::{Duration, Instant};

use super::{engine::Engine, intake::MAX_QUEUED};

/// What has not moved for so long stands behind a digest that takes long.
const SLOW: Duration = Duration::from_millis(200);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(25);
/// Bytes that a message takes in the stock beside its own, about.
const HEAD: usize = 64;

/// Where the looking stands.
#[derive(Debug)]
pub(super) struct Blocked {
    next_look: Instant,
    /// There is something to look at again.
    watches: bool,
}

// === impl Blocked ===

impl Blocked {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_look: now,
            watches: false,
        }
    }

    /// When to look again, if nothing happens before.
    pub(super) fn next(&self) -> Option<Instant> {
        self.watches.then_some(self.next_look)
    }
}

// === impl Engine ===

impl Engine {
    /// Finds the partitions of which too much waits behind digests that take long.
    pub(super) fn mind_blocked(&mut self, now: Instant) {
        if self.config.is_straight() || now < self.blocked.next_look {
            return;
        }
        self.blocked.next_look = now + LOOK;
        let (used, size) = self
            .home
            .stock()
            .map_or((0, 0), |stock| (stock.used(), stock.size()));
        let behind = self.queues.len() - self.queues.ready().messages;
        let may_block = behind > MAX_QUEUED / 4 || (behind > 0 && used > size / 4);
        if !may_block && !self.blocked.watches {
            return;
        }
        let standing = self.queues.standing(now, SLOW);
        let messages: usize = standing.values().map(|stands| stands.messages).sum();
        let bytes: usize = standing.values().map(|stands| stands.bytes).sum();
        let bytes = bytes + messages * HEAD;
        let much = messages > MAX_QUEUED / 4 || bytes > size / 4;
        let little = messages < MAX_QUEUED / 8 && bytes < size / 8;
        self.blocked.watches = may_block;
        for slot in self.partitions.assigned_slots() {
            let own = standing.get(&slot).copied().unwrap_or_default();
            let partition = self.partitions.get_mut(slot);
            let most = own.messages * standing.len() >= messages || own.bytes * standing.len() >= bytes;
            let was = partition.blocked;
            partition.blocked = own.messages > 0 && if was { !little } else { much && most };
            // Looked at once more when it is over: then it is read on.
            self.blocked.watches |= partition.blocked;
            self.any_paused |= partition.blocked || was;
        }
    }
}
