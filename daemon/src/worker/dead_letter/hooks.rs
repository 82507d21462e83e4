//! Where dead letters meet the engine: a message becomes one, its partition waits for it, and a revoke or stop waits
//! for those on their way.

use std::time::{Duration, Instant};

use super::{KafkaPost, Letter, Letters, Notice};
use crate::{
    lane::{Record, Slot},
    os::wait_readable,
    time::now_ms,
    worker::{RouteStats, WorkerConfig, engine::Engine, queues::Waiting},
};

/// A transaction with a letter that was not written is begun again after this.
const LETTER_AGAIN: Duration = Duration::from_secs(1);

impl Letters {
    /// Those of a route, if it has any.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn of(config: &WorkerConfig) -> std::io::Result<Option<Self>> {
        let post = config.dead_letter.clone().map(KafkaPost::new).transpose()?;
        Ok(post.map(Self::new))
    }
}

// === impl Engine ===

impl Engine {
    /// Gives a message up; what follows it in its order waits until the brokers have its dead letter.
    pub(in crate::worker) fn dead_letter(
        &mut self,
        record: Record,
        attempts: u32,
        kind: &'static str,
        error: &str,
    ) {
        let (slot, offset, now_ms) = (record.slot, record.offset, now_ms());
        let first_failure_ms = self.queues.first_failure(record.tag, slot, offset, now_ms);
        let partition = self.partitions.get(slot);
        if let Some(letters) = &mut self.letters {
            letters.send(Letter {
                topic: std::sync::Arc::clone(&partition.topic),
                partition: partition.number,
                record,
                attempts,
                first_failure_ms,
                last_failure_ms: now_ms,
                kind,
                error: error.to_owned(),
            });
        }
    }

    /// The producer has something to say.
    pub(in crate::worker) fn letters_came(&mut self) {
        if let Some(letters) = &mut self.letters {
            letters.post_mut().clear_wake();
            self.letters_woke = true;
        }
    }

    /// Sends what is due, and finishes the messages whose letters are written.
    pub(in crate::worker) fn serve_letters(&mut self, now: Instant) {
        let Some(letters) = &mut self.letters else { return };
        if letters.in_hand() == 0 && !std::mem::take(&mut self.letters_woke) {
            return;
        }
        let served = letters.serve(now);
        for written in served.written {
            let (tag, slot, offset) = (written.tag, written.slot, written.offset);
            let partition = self.partitions.get_mut(slot);
            let waits = self.queues.waiting(tag, slot) == Some(&Waiting::DeadLetter { offset });
            // In a transaction nothing has to wait for it but the end of that.
            if partition.assigned && (waits || self.transaction.is_some()) {
                partition.tracker.finish(offset);
                RouteStats::add(&self.stats.dead_lettered, 1);
                if waits && let Some(emptied) = self.queues.go_on(tag, slot) {
                    self.emptied(emptied);
                }
            }
        }
        if let Some(notice) = served.notice {
            self.tell_letters(&notice);
        }
        if served.failed {
            // With a record that is not written no transaction can be committed.
            self.doom("a dead letter cannot be written", LETTER_AGAIN);
        }
    }

    fn tell_letters(&mut self, notice: &Notice) {
        let Some(letters) = &mut self.letters else { return };
        let (route, dead_letter_topic) = (&self.config.route, letters.post_mut().topic());
        match notice {
            Notice::Failing {
                topic,
                partition,
                offset,
                error,
                waiting,
            } => {
                tracing::error!(%route, topic = &**topic, partition, offset, dead_letter_topic, %error, waiting,
                todo = error.advice(), "a dead letter cannot be written; its partition waits, the others go on, and it \
                is tried again until it is written")
            }
            Notice::Working => {
                tracing::info!(%route, dead_letter_topic, "dead letters are written again");
            }
        }
    }

    /// Waits for the letters of `slots` that are on their way, until `deadline`.
    pub(in crate::worker) fn await_letters(&mut self, slots: &[Slot], deadline: Instant) {
        loop {
            let now = Instant::now();
            self.serve_letters(now);
            let Some(letters) = &mut self.letters else { return };
            if !letters.are_on_their_way(slots) {
                return;
            }
            if now >= deadline {
                let left = letters.in_hand();
                tracing::warn!(route = %self.config.route, left,
                    "dead letters were not acknowledged in time; their messages are digested again");
                return;
            }
            let until = letters.next_due(now).map_or(deadline, |due| due.min(deadline));
            let post = letters.post_mut();
            // A failed wait only means another turn of a loop that has a deadline.
            let _ = wait_readable(post.wake_fd(), Some(until));
            post.clear_wake();
        }
    }

    /// The messages of these partitions are another's, or are read again: so are their letters.
    pub(in crate::worker) fn forget_letters(&mut self, slots: &[Slot]) {
        if let Some(letters) = self.letters.as_mut().filter(|letters| letters.in_hand() > 0) {
            slots.iter().for_each(|slot| letters.forget(*slot));
        }
    }

    /// Ends the producer.
    pub(in crate::worker) fn close_letters(&mut self, deadline: Instant) {
        if let Some(letters) = &mut self.letters {
            letters.post_mut().close(deadline);
        }
    }
}
