//! What waits for a person: `resume` tries again what `then: stop` has parked, `skip` passes a message by.

use super::{RouteStats, engine::Engine, queues::Waiting};
use crate::lane::Slot;

// === impl Engine ===

impl Engine {
    /// Tries everything again that is stopped, from its first attempt; names what. `why` is for the log.
    pub(super) fn try_again(&mut self, why: &str) -> Vec<String> {
        let stopped = self
            .queues
            .all_waiting()
            .filter_map(|(tag, slot, waiting)| match waiting {
                Waiting::Stopped { offset, .. } => Some((tag, slot, *offset)),
                _ => None,
            });
        let mut stopped: Vec<(u64, Slot, i64)> = stopped.collect();
        stopped.sort_unstable_by_key(|(_, slot, offset)| (*slot, *offset));
        let mut resumed = Vec::new();
        for (tag, slot, offset) in stopped {
            self.queues.forget_attempts(tag, slot);
            self.suspects.forgive(slot, offset);
            if let Some(emptied) = self.queues.go_on(tag, slot) {
                self.emptied(emptied);
            }
            let partition = self.partitions.get(slot);
            tracing::info!(route = %self.config.route, topic = &*partition.topic, partition = partition.number, offset,
                "resumed, {why}: the message that stopped what follows it in its order is tried again, from attempt 1");
            resumed.push(format!("{}@{offset}", partition.name()));
        }
        resumed
    }

    /// Passes the message by that its partition (or key) waits for.
    ///
    /// # Errors
    /// Where nothing of that partition waits for that message; says what it does wait for.
    pub(super) fn skip(&mut self, topic: &str, number: i32, offset: i64) -> Result<(), String> {
        let name = format!("{topic}/{number}");
        let slot = self
            .partitions
            .find(topic, number)
            .ok_or_else(|| format!("{name} is no partition that this route has now"))?;
        let waiting = self.queues.all_waiting().filter(|(_, at, _)| *at == slot);
        let waiting: Vec<(u64, i64)> = waiting
            .filter_map(|(tag, _, waiting)| match waiting {
                Waiting::Stopped { offset, .. } | Waiting::DeadLetter { offset } => Some((tag, *offset)),
                Waiting::Until(_) => self.queues.first(tag, slot).map(|offset| (tag, offset)),
            })
            .collect();
        let Some((tag, _)) = waiting.iter().find(|(_, waits_at)| *waits_at == offset).copied() else {
            if waiting.is_empty() {
                return Err(format!("{name} does not wait: nothing of it is parked"));
            }
            let mut at: Vec<String> = waiting.iter().map(|(_, offset)| offset.to_string()).collect();
            at.truncate(20);
            return Err(format!(
                "{name} waits at offset {}, not at {offset}",
                at.join(", ")
            ));
        };
        if let Some(letters) = &mut self.letters {
            letters.forget_one(slot, offset);
        }
        if let Some(queued) = self.queues.remove(tag, slot, offset) {
            self.drop_body(queued);
        }
        let partition = self.partitions.get_mut(slot);
        partition.tracker.finish(offset);
        if let Some(transaction) = &mut self.transaction {
            transaction.skip(&partition.topic, number, offset);
        }
        self.clear_suspect(slot, offset);
        self.forget_original(slot, offset);
        if let Some(emptied) = self.queues.go_on(tag, slot) {
            self.emptied(emptied);
        }
        RouteStats::add(&self.stats.skipped, 1);
        tracing::warn!(route = %self.config.route, topic, partition = number, offset,
            "skipped by order: the message is not digested, and counts as finished");
        Ok(())
    }
}
