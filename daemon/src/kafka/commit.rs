//! Commits, all ours: explicit offset, leader epoch and metadata, the answer on a queue of its own, so that waiting
//! for it serves nothing else.

use std::time::{Duration, Instant};

use rdkafka_sys as sys;

use super::consumer::{Consumer, TopicPartition, millis};
use super::errors::{ClientError, CommitAdvice, ErrorCode, text_of};
use super::native::{List, entries};

/// What to write for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    pub partition: TopicPartition,
    /// The next offset to be read: the last finished one, plus one.
    pub offset: i64,
    /// Of the last finished message.
    pub leader_epoch: Option<i32>,
    /// Free text beside the offset, at most what the broker allows (4,096 bytes by default); empty is none.
    pub metadata: String,
}

/// Names one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitTicket(u64);

/// The broker's answer to one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitResult {
    pub ticket: CommitTicket,
    /// Of the commit as a whole; each partition has its own as well.
    pub error: ErrorCode,
    pub text: String,
    pub partitions: Vec<PartitionCommit>,
}

/// The part of one partition in a [`CommitResult`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCommit {
    pub partition: TopicPartition,
    pub offset: i64,
    pub error: ErrorCode,
}

#[cfg(test)]
impl CommitTicket {
    /// For tests without a client.
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

impl CommitResult {
    /// What to do about it as a whole.
    pub fn advice(&self) -> CommitAdvice {
        self.error.commit_advice()
    }
}

impl PartitionCommit {
    /// What to do about this partition.
    pub fn advice(&self) -> CommitAdvice {
        self.error.commit_advice()
    }
}

impl Consumer {
    /// Sends these offsets; returns at once. The answer comes by [`take_commit_results`](Self::take_commit_results)
    /// or [`wait_commit`](Self::wait_commit). While the coordinator is known to be away the call is refused
    /// (`_WAIT_COORD`, to be retried): librdkafka would keep the commit, and with it a client that is to end, for
    /// the session timeout. If it goes away with a commit under way, the answer takes that long.
    pub fn commit(&self, offsets: &[CommitOffset]) -> Result<CommitTicket, ClientError> {
        if self.handle.context().coordinator_down() {
            return Err(ClientError::call("committing", ErrorCode::WAIT_COORD));
        }
        let mut list = List::new(offsets.len());
        for commit in offsets {
            let mut entry = list.add(&commit.partition.topic, commit.partition.partition)?;
            entry.set_offset(commit.offset);
            entry.set_leader_epoch(commit.leader_epoch);
            entry.set_metadata(&commit.metadata);
        }
        let number = self.next_ticket.get();
        self.next_ticket.set(number + 1);
        // SAFETY: a live client, list and queue; the list is copied. Without a callback the answer becomes an event
        // of our queue; the opaque is only a number.
        let code = unsafe {
            sys::rd_kafka_commit_queue(
                self.handle.rk(),
                list.as_ptr(),
                self.handle.commit_queue(),
                None,
                number as usize as *mut _,
            )
        };
        match ErrorCode::from(code) {
            ErrorCode::NONE => Ok(CommitTicket(number)),
            code => Err(ClientError::call("committing", code)),
        }
    }

    /// The answers that have come; waits for none.
    pub fn take_commit_results(&self) -> Vec<CommitResult> {
        while self.serve_commits(Duration::ZERO) {}
        self.commits.borrow_mut().drain(..).collect()
    }

    /// Waits for the answer to one commit, serving nothing but commits. None: it did not come in time, and will come
    /// by `take_commit_results`. Answers to other commits are kept for that too.
    pub fn wait_commit(&self, ticket: CommitTicket, deadline: Instant) -> Option<CommitResult> {
        loop {
            {
                let mut commits = self.commits.borrow_mut();
                if let Some(at) = commits.iter().position(|result| result.ticket == ticket) {
                    return commits.remove(at);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.serve_commits(left) && Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Takes one answer from the queue; says whether there was one.
    fn serve_commits(&self, timeout: Duration) -> bool {
        // SAFETY: a live queue; the event is ours and destroyed below. Its list lives as long as it does.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.handle.commit_queue(), millis(timeout));
            if event.is_null() {
                return false;
            }
            if sys::rd_kafka_event_type(event) == sys::RD_KAFKA_EVENT_OFFSET_COMMIT {
                let error = ErrorCode::from(sys::rd_kafka_event_error(event));
                let partitions = entries(sys::rd_kafka_event_topic_partition_list(event))
                    .map(|entry| PartitionCommit {
                        partition: TopicPartition {
                            topic: entry.topic().into(),
                            partition: entry.partition(),
                        },
                        offset: entry.offset(),
                        error: if entry.error().is_ok() {
                            error
                        } else {
                            entry.error()
                        },
                    })
                    .collect();
                if error.is_ok() {
                    self.handle
                        .context()
                        .brokers(|brokers| brokers.coordinator_answered());
                }
                self.commits.borrow_mut().push_back(CommitResult {
                    ticket: CommitTicket(sys::rd_kafka_event_opaque(event) as usize as u64),
                    error,
                    text: text_of(sys::rd_kafka_event_error_string(event)),
                    partitions,
                });
            }
            sys::rd_kafka_event_destroy(event);
            true
        }
    }
}
