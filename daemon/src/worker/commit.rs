//! Commits: which offsets, when, and what their answers mean. One commit is on its way at a time; what changed
//! meanwhile goes with the next.

use std::time::{Duration, Instant};

use super::{CommitPolicy, RouteStats, engine::Engine};
use crate::{
    kafka::{
        CommitAdvice, CommitOffset, CommitResult, CommitTicket, Consumer, ErrorCode, PartitionCommit,
        TopicPartition,
    },
    lane::Slot,
};

/// When the next commit is due.
pub(super) struct Committer {
    policy: CommitPolicy,
    next: Instant,
    on_its_way: Option<CommitTicket>,
    /// When that is late.
    late_at: Instant,
    /// Tries in a row that did not pass.
    tries: u32,
    told: bool,
    /// What is finished above a frontier goes with it; false where the broker has no room for that.
    carries: bool,
}

/// What became of the commit that a revoke or a stop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Written,
    Again,
    /// A rebalance overtook it: it named the generation before.
    Overtaken,
    GivenUp,
}

/// The pause before a commit that a stop or a revoke waits for is sent again.
const AGAIN: Duration = Duration::from_millis(50);

// === impl Committer ===

impl Committer {
    pub(super) fn new(policy: CommitPolicy, now: Instant) -> Self {
        Self {
            next: now + policy.interval,
            policy,
            on_its_way: None,
            late_at: now,
            tries: 0,
            told: false,
            carries: true,
        }
    }

    /// When something is to be done, if anything ever is.
    pub(super) fn next(&self) -> Option<Instant> {
        let next = if self.on_its_way.is_none() {
            self.next
        } else {
            self.late_at
        };
        self.policy.enabled.then_some(next)
    }

    fn sent(&mut self, ticket: CommitTicket, now: Instant) {
        self.on_its_way = Some(ticket);
        self.late_at = now + self.policy.timeout;
    }

    /// No answer came in time. Another commit is not sent before one does, or it could arrive first; but it counts.
    fn is_late(&mut self, now: Instant) {
        self.late_at = now + self.policy.timeout;
        self.tries = self.tries.saturating_add(1);
    }

    fn passed(&mut self, now: Instant) {
        self.tries = 0;
        self.told = false;
        self.next = now + self.policy.interval;
    }

    /// The wait before the next try: n times the back-off, then the interval again.
    fn failed(&mut self, now: Instant) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let wait = if self.tries <= self.policy.retries {
            self.policy.backoff.saturating_mul(self.tries)
        } else {
            self.policy.interval
        };
        self.next = now + wait;
        wait
    }
}

// === impl Engine ===

impl Engine {
    /// Takes the answers that came, and sends the next commit when it is due.
    pub(super) fn serve_commits(&mut self, client: &Consumer, now: Instant) {
        for result in client.take_commit_results() {
            self.committed(&result);
        }
        if self.committer.next().is_none_or(|next| next > now) {
            return;
        }
        if self.committer.on_its_way.is_some() {
            self.committer.is_late(now);
            let timeout = self.committer.policy.timeout;
            let error = format!("no answer within {timeout:?}");
            self.tell_failed(&error, ErrorCode::TIMED_OUT, "the answer is waited for");
        } else {
            let offsets = self.due_offsets(None);
            if offsets.is_empty() {
                self.committer.next = now + self.committer.policy.interval;
            } else {
                self.send(client, &offsets);
            }
        }
    }

    /// Commits what is finished of `slots` and waits for the answer, within the policy's timeout and `deadline`.
    pub(super) fn commit_now(&mut self, client: &Consumer, slots: &[Slot], deadline: Instant) {
        if !self.committer.policy.enabled {
            return;
        }
        let deadline = deadline.min(Instant::now() + self.committer.policy.timeout);
        // An older commit must not arrive after this one.
        if let Some(ticket) = self.committer.on_its_way {
            self.wait(client, ticket, deadline);
        }
        while Instant::now() < deadline {
            let offsets = self.due_offsets(Some(slots));
            if offsets.is_empty() {
                return;
            }
            let Some(ticket) = self.send(client, &offsets) else {
                break;
            };
            match self.wait(client, ticket, deadline) {
                Waited::Written | Waited::GivenUp => break,
                Waited::Overtaken if client.assignment_lost() => break,
                // Under the cooperative protocol these partitions are ours until we give them up ourselves.
                Waited::Again | Waited::Overtaken => {
                    self.pump_until(deadline.min(Instant::now() + AGAIN), |_| false);
                }
            }
        }
        let left = self.due_offsets(Some(slots));
        if !left.is_empty() {
            let partitions: Vec<String> = left
                .iter()
                .map(|offset| format!("{}@{}", name(&offset.partition), offset.offset))
                .collect();
            tracing::warn!(route = %self.config.route, partitions = partitions.join(" "),
                "not committed in time: these partitions are read again from their last committed offset");
        }
    }

    fn wait(&mut self, client: &Consumer, ticket: CommitTicket, deadline: Instant) -> Waited {
        match client.wait_commit(ticket, deadline) {
            Some(result) => self.committed(&result),
            None => Waited::GivenUp,
        }
    }

    fn due_offsets(&mut self, only: Option<&[Slot]>) -> Vec<CommitOffset> {
        let slots = only.map_or_else(|| self.partitions.assigned_slots(), <[Slot]>::to_vec);
        let mut offsets = Vec::new();
        for slot in slots {
            let partition = self.partitions.get_mut(slot);
            if let Some((offset, metadata)) = partition.to_commit(self.committer.carries) {
                let epoch = partition.epoch_before(offset);
                offsets.push(CommitOffset {
                    partition: TopicPartition::new(std::sync::Arc::clone(&partition.topic), partition.number),
                    offset,
                    leader_epoch: (epoch >= 0).then_some(epoch),
                    metadata,
                });
            }
        }
        offsets
    }

    fn send(&mut self, client: &Consumer, offsets: &[CommitOffset]) -> Option<CommitTicket> {
        match client.commit(offsets) {
            Ok(ticket) => {
                self.committer.sent(ticket, Instant::now());
                for offset in offsets {
                    let at = &offset.partition;
                    if let Some(slot) = self.partitions.find(&at.topic, at.partition) {
                        self.partitions
                            .get_mut(slot)
                            .sent(ticket, offset.metadata.clone());
                    }
                }
                Some(ticket)
            }
            Err(error) => {
                let wait = self.committer.failed(Instant::now());
                if self.committer.told || self.committer.tries <= self.committer.policy.retries {
                    tracing::debug!(route = %self.config.route, %error, "cannot commit now");
                    return None;
                }
                self.committer.told = true;
                tracing::warn!(route = %self.config.route, %error, retry_in_ms = wait.as_millis() as u64, "cannot commit");
                None
            }
        }
    }

    fn committed(&mut self, result: &CommitResult) -> Waited {
        let now = Instant::now();
        if self.committer.on_its_way == Some(result.ticket) {
            self.committer.on_its_way = None;
        }
        for part in &result.partitions {
            // The partition's own answer; where the whole failed, each part says so too.
            if part.advice() == CommitAdvice::Done
                && let Some(slot) = self
                    .partitions
                    .find(&part.partition.topic, part.partition.partition)
            {
                self.partitions.get_mut(slot).written(result.ticket, part.offset);
            }
        }
        if self.refused_metadata(result) {
            self.committer.next = now;
            return Waited::Again;
        }
        let worst = result
            .partitions
            .iter()
            .map(|part| part.advice())
            .chain([result.advice()])
            .max_by_key(severity);
        match worst.unwrap_or(CommitAdvice::Done) {
            CommitAdvice::Done => {
                RouteStats::add(&self.stats.commits, 1);
                self.committer.passed(now);
                Waited::Written
            }
            CommitAdvice::Retry => {
                self.committer.failed(now);
                self.tell_failed_commit(result, "it is tried again");
                Waited::Again
            }
            CommitAdvice::Drop => {
                // A rebalance took the partitions first; whoever has them now begins at what was committed before.
                tracing::info!(route = %self.config.route, error = %result.text, "a commit came too late for its partitions");
                self.committer.passed(now);
                match result.error {
                    ErrorCode::ILLEGAL_GENERATION | ErrorCode::STALE_MEMBER_EPOCH => Waited::Overtaken,
                    _ => Waited::GivenUp,
                }
            }
            CommitAdvice::Tell => {
                self.committer.failed(now);
                self.tell_failed_commit(
                    result,
                    "somebody has to mend that; digesting goes on, nothing is lost",
                );
                Waited::GivenUp
            }
        }
    }

    /// The broker has less room beside an offset than Kafka's default: better the offsets alone than nothing.
    fn refused_metadata(&mut self, result: &CommitResult) -> bool {
        let too_large = |part: &PartitionCommit| part.error == ErrorCode::OFFSET_METADATA_TOO_LARGE;
        let Some(part) = result.partitions.iter().find(|part| too_large(part)) else {
            return false;
        };
        if !std::mem::take(&mut self.committer.carries) {
            return false;
        }
        tracing::warn!(route = %self.config.route, topic = &*part.partition.topic, partition = part.partition.partition,
            offset = part.offset, "the broker refuses the list of what is finished beyond the committed offset: from now \
            on it is not carried, and after a crash that work is done again. Set the broker's \
            `offset.metadata.max.bytes` to its default of 4096");
        true
    }

    fn tell_failed_commit(&mut self, result: &CommitResult, then: &str) {
        self.tell_failed(&result.text, result.error, then);
    }

    /// One line when the tries are spent, not one for each.
    fn tell_failed(&mut self, error: &str, code: ErrorCode, then: &str) {
        let committer = &mut self.committer;
        if !committer.told && committer.tries > committer.policy.retries {
            committer.told = true;
            tracing::error!(route = %self.config.route, error, %code, tries = committer.tries,
                "commits fail: {then}");
        } else {
            tracing::debug!(route = %self.config.route, error, %code, tries = committer.tries,
                "a commit failed");
        }
    }
}

fn severity(advice: &CommitAdvice) -> u8 {
    match advice {
        CommitAdvice::Done => 0,
        CommitAdvice::Drop => 1,
        CommitAdvice::Retry => 2,
        CommitAdvice::Tell => 3,
    }
}

fn name(partition: &TopicPartition) -> String {
    format!("{}/{}", partition.topic, partition.partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn committer(start: Instant) -> Committer {
        let policy = CommitPolicy {
            enabled: true,
            interval: 5000 * MS,
            timeout: 700 * MS,
            retries: 3,
            backoff: 100 * MS,
        };
        Committer::new(policy, start)
    }

    #[test]
    fn the_wait_before_a_retry_grows_by_the_back_off_and_after_the_last_it_is_the_interval() {
        let start = Instant::now();
        let mut committer = committer(start);
        assert_eq!(committer.next(), Some(start + 5000 * MS));
        let waits: Vec<Duration> = (0..5).map(|_| committer.failed(start)).collect();
        assert_eq!(waits, [100 * MS, 200 * MS, 300 * MS, 5000 * MS, 5000 * MS]);
        committer.passed(start);
        assert_eq!(committer.failed(start), 100 * MS, "it begins anew");
    }

    #[test]
    fn a_commit_without_an_answer_counts_as_a_try_each_time_that_its_deadline_passes() {
        let start = Instant::now();
        let mut committer = committer(start);
        committer.sent(CommitTicket::numbered(1), start);
        assert_eq!(committer.next(), Some(start + 700 * MS));
        committer.is_late(start + 700 * MS);
        assert_eq!((committer.tries, committer.next()), (1, Some(start + 1400 * MS)));
    }
}
