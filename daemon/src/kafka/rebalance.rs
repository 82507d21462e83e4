//! Partitions come and go: what the owner of a consumer decides, and how librdkafka gets its answer.

use std::sync::Arc;

use rdkafka_sys as sys;

use super::consumer::{Consumer, Farewell, TopicPartition, list_of};
use super::errors::{ClientError, ClientEvent, ErrorCode};
use super::native::{List, check_error};
use super::properties::Protocol;
use super::topics::{InternalTopics, is_internal};

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOffset {
    /// This offset is the first to be read.
    At(i64),
    Beginning,
    End,
    /// The group's committed offset; where there is none, what `auto.offset.reset` says. Needs a group.
    Committed,
}

/// A partition and where to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub partition: TopicPartition,
    pub offset: StartOffset,
    /// Lets the broker find out that the log was truncated below the offset.
    pub leader_epoch: Option<i32>,
}

/// Why partitions are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Still ours until the handler returns: what is finished can be committed.
    Ordered,
    /// Already someone else's: a commit would be refused.
    Lost,
}

/// What the owner of a consumer does when its partitions change. Called inside [`Consumer::batch`] and
/// [`Consumer::close`], by their thread; the consumer answers librdkafka when the call returns. A panic ends the
/// client (every later `batch` fails with a fatal error).
pub trait Rebalance {
    /// These partitions come; the list may be empty. The answer says where to start; a partition that it leaves out
    /// starts at [`StartOffset::Committed`].
    fn assigned(&mut self, consumer: &Consumer, partitions: Vec<TopicPartition>) -> Vec<Start>;
    /// These partitions go. It must return in well below `max.poll.interval.ms`.
    fn revoked(&mut self, consumer: &Consumer, partitions: Vec<TopicPartition>, why: Revocation);
}

// === impl StartOffset ===

impl StartOffset {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::At(offset) => offset,
            Self::Beginning => sys::RD_KAFKA_OFFSET_BEGINNING.into(),
            Self::End => sys::RD_KAFKA_OFFSET_END.into(),
            Self::Committed => sys::RD_KAFKA_OFFSET_STORED.into(),
        }
    }
}

// === impl Consumer: the rebalance callback ===

impl Consumer {
    /// Serves the rebalance callback: asks the handler, then answers librdkafka.
    pub(super) fn rebalance(
        &self,
        code: ErrorCode,
        partitions: Vec<(String, i32)>,
        handler: &mut dyn Rebalance,
    ) {
        self.changed();
        self.awaits_group.set(false);
        if self.farewell.get() != Farewell::No {
            return self.say_farewell(handler);
        }
        let mut ours = Vec::with_capacity(partitions.len());
        let mut names: Vec<Arc<str>> = Vec::new();
        for (topic, partition) in partitions {
            // Kafka's own topics that only a pattern caught: left unread, and nobody hears of them.
            if self.internal == InternalTopics::Exclude && is_internal(&topic) {
                continue;
            }
            let topic = match names.iter().find(|name| ***name == *topic) {
                Some(name) => Arc::clone(name),
                None => {
                    names.push(topic.into());
                    Arc::clone(&names[names.len() - 1])
                }
            };
            ours.push(TopicPartition { topic, partition });
        }
        let answered = match code {
            ErrorCode::ASSIGN_PARTITIONS => self.take_assignment(ours, handler),
            ErrorCode::REVOKE_PARTITIONS => self.give_assignment(ours, handler),
            other => {
                let event = ClientEvent {
                    class: other.class(),
                    code: other,
                    text: format!("a rebalance failed: {}", other.text()),
                    topic: None,
                    partition: None,
                };
                self.handle.context().error(event);
                let all = self.assignment();
                self.give_assignment(all, handler)
            }
        };
        self.settle(answered);
    }

    /// While it closes, librdkafka takes its first answer, whatever to, for "everything goes", and a later one it loses: who
    /// called waits for ever. There are two events to answer where a partition was on its way when the client was closed.
    fn say_farewell(&self, handler: &mut dyn Rebalance) {
        if self.farewell.replace(Farewell::Answered) == Farewell::Asked {
            self.settle(self.give_assignment(self.assignment(), handler));
        }
    }

    /// Not answered means not consumed, in silence: a new client is the way out.
    fn settle(&self, answered: Result<(), ClientError>) {
        if let Err(error) = answered
            && self.handle.fatal_error().is_none()
        {
            let code = error.code().unwrap_or(ErrorCode::FAIL);
            *self.failure.borrow_mut() = Some(ClientError::Fatal {
                code,
                text: error.to_string(),
            });
            self.handle.context().call_attention();
        }
    }

    fn take_assignment(
        &self,
        partitions: Vec<TopicPartition>,
        handler: &mut dyn Rebalance,
    ) -> Result<(), ClientError> {
        self.handle
            .context()
            .brokers(|brokers| brokers.coordinator_answered());
        let starts = handler.assigned(self, partitions.clone());
        let mut list = List::new(partitions.len());
        for partition in &partitions {
            let mut entry = list.add(&partition.topic, partition.partition)?;
            if let Some(start) = starts.iter().find(|start| start.partition == *partition) {
                entry.set_offset(start.offset.number());
                entry.set_leader_epoch(start.leader_epoch);
            }
        }
        // SAFETY: a live client and list; the list is copied, a returned error is ours.
        unsafe {
            match self.protocol {
                Protocol::Cooperative => check_error(
                    "taking partitions",
                    sys::rd_kafka_incremental_assign(self.handle.rk(), list.as_ptr()),
                )?,
                Protocol::Eager => {
                    self.done(
                        "taking partitions",
                        sys::rd_kafka_assign(self.handle.rk(), list.as_ptr()),
                    )?;
                }
            }
        }
        // librdkafka remembers a pause beyond the loss of the partition.
        let stale: Vec<_> = partitions
            .iter()
            .filter(|p| self.paused.borrow().contains(p))
            .cloned()
            .collect();
        if !stale.is_empty() {
            self.resume(&stale)?;
        }
        self.assignment.borrow_mut().extend(partitions);
        Ok(())
    }

    fn give_assignment(
        &self,
        partitions: Vec<TopicPartition>,
        handler: &mut dyn Rebalance,
    ) -> Result<(), ClientError> {
        let why = if self.assignment_lost() {
            Revocation::Lost
        } else {
            Revocation::Ordered
        };
        // A group that was left before it was joined revokes what nobody was told of.
        let known: Vec<_> = partitions
            .iter()
            .filter(|p| self.assignment.borrow().contains(p))
            .cloned()
            .collect();
        handler.revoked(self, known.clone(), why);
        // SAFETY: a live client; the list is live and copied, a returned error is ours; null means "none".
        unsafe {
            match self.protocol {
                Protocol::Cooperative => {
                    let list = list_of(&known)?;
                    check_error(
                        "giving partitions up",
                        sys::rd_kafka_incremental_unassign(self.handle.rk(), list.as_ptr()),
                    )?;
                }
                Protocol::Eager => {
                    self.done(
                        "giving partitions up",
                        sys::rd_kafka_assign(self.handle.rk(), std::ptr::null()),
                    )?;
                }
            }
        }
        let mut assignment = self.assignment.borrow_mut();
        known.iter().for_each(|partition| {
            assignment.remove(partition);
        });
        Ok(())
    }

    /// Under KIP-848 librdkafka is silent where the group's first answer is "no partition for you": the handler hears of
    /// it all the same, as it does under the classic protocol. Asked once for each batch until there is an answer.
    pub(super) fn hear_of_nothing(&self, handler: &mut dyn Rebalance) {
        if self.awaits_group.get() && self.group_member().is_some_and(|member| member.generation > 0) {
            self.awaits_group.set(false);
            handler.assigned(self, Vec::new());
        }
    }

    /// Tells the handler that whatever is still assigned goes; for a close that librdkafka does not tell of.
    pub(super) fn revoke_rest(&self, handler: &mut dyn Rebalance, why: Revocation) {
        let rest: Vec<_> = std::mem::take(&mut *self.assignment.borrow_mut())
            .into_iter()
            .collect();
        if !rest.is_empty() {
            handler.revoked(self, rest, why);
        }
    }
}
