//! One Kafka consumer: subscribe or assign, batches of messages, rebalances in the calling thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::c_char;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka_sys as sys;

use super::batch::{Batch, Message, TopicHandle};
use super::broker_watch::Connectivity;
use super::callbacks::{self, Context};
use super::commit::CommitResult;
use super::errors::{ClientError, ClientEvent, ErrorClass, ErrorCode, text_of};
use super::native::{Handle, List, check_error, eventfd};
use super::properties::{ClientProperties, Protocol};
use super::rebalance::{Rebalance, Start};
use super::statistics::Statistics;
use super::topics::InternalTopics;
use crate::settings::RouteName;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { topic, partition }
    }
}

/// What one [`Consumer::batch`] call did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchInfo {
    /// Messages put into the batch.
    pub messages: usize,
    /// librdkafka's queue was found empty: there is nothing more until the wake descriptor fires.
    pub drained: bool,
    /// What someone has to know ([`ErrorClass::Tell`]); already logged.
    pub events: Vec<ClientEvent>,
    /// Partitions whose end was reached; only a [`Reader`](super::Reader)'s properties ask for that.
    pub ended: Vec<TopicPartition>,
}

/// Who this client is in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    pub group: String,
    pub member: String,
    /// -1 before the first join.
    pub generation: i32,
    pub instance: Option<String>,
}

/// How far the end of a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    No,
    /// librdkafka was asked to close and waits for one answer to a rebalance.
    Asked,
    /// It has its answer and wants no other.
    Answered,
}

/// A Kafka client of the consumer type. One thread at a time uses it (`Send`, not `Sync`).
pub struct Consumer {
    pub(super) handle: Arc<Handle>,
    pub(super) protocol: Protocol,
    pub(super) internal: InternalTopics,
    /// A static member: its place in the group outlives this client.
    pub(super) is_static: bool,
    /// It was told to leave its group, a static member too.
    pub(super) leaves: Cell<bool>,
    /// When it closes it leaves, a static member too.
    pub(super) leaves_at_close: Cell<bool>,
    pub(super) farewell: Cell<Farewell>,
    pub(super) is_kip_848: bool,
    pub(super) assignment: RefCell<BTreeSet<TopicPartition>>,
    pub(super) paused: RefCell<BTreeSet<TopicPartition>>,
    names: RefCell<HashMap<TopicHandle, Arc<str>>>,
    last_name: RefCell<Option<(TopicHandle, Arc<str>)>>,
    /// Partitions came by `assign_all`, not from the group.
    pub(super) self_assigned: Cell<bool>,
    pub(super) next_ticket: Cell<u64>,
    pub(super) commits: RefCell<VecDeque<CommitResult>>,
    /// How often what is fetched was changed: by an assignment, a pause, a resume or a seek.
    pub(super) changes: Cell<u64>,
    /// The last of these changes since which the queue was found empty.
    pub(super) settled: Cell<u64>,
    pub(super) statistics: RefCell<Option<Statistics>>,
    /// The group's first answer is due, and librdkafka may not call back for it.
    pub(super) awaits_group: Cell<bool>,
    /// A failure to answer a rebalance, found inside a callback that cannot return it.
    pub(super) failure: RefCell<Option<ClientError>>,
}

// === impl Consumer ===

impl Consumer {
    /// Makes the client. Nothing is contacted yet that this call would wait for; an unreadable certificate, a
    /// refused property or two that do not go together are errors.
    pub fn create(properties: &ClientProperties, route: RouteName) -> Result<Self, ClientError> {
        let config = properties.native_config()?;
        let context = Context::new(route, properties.source_address(), properties.has_group());
        let mut buffer = [0 as c_char; 512];
        // SAFETY: the configuration is live; the client made of it keeps `context` in its `Handle`. On success
        // `rd_kafka_new` owns the configuration, so it is forgotten. On failure it should be ours again, but what it holds
        // of interceptors may be freed already, and where librdkafka's threads did not start in time they go on with
        // both: a few KiB are lost for each failure.
        let rk = unsafe {
            callbacks::install(config.ptr(), &context);
            let rk = sys::rd_kafka_new(
                sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                config.ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
            );
            std::mem::forget(config);
            let Some(rk) = NonNull::new(rk) else {
                std::mem::forget(context);
                return Err(ClientError::Create(text_of(buffer.as_ptr())));
            };
            rk
        };
        let wake = match eventfd() {
            Ok(wake) => wake,
            Err(error) => {
                // SAFETY: just made, and nothing of it is held.
                unsafe {
                    sys::rd_kafka_destroy_flags(rk.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
                };
                return Err(error);
            }
        };
        // SAFETY: a new consumer, whose opaque `install` set to this context.
        let handle = Arc::new(unsafe { Handle::adopt(rk, context, wake) }?);
        // Log lines wait in the queue for this consumer's thread, so that none comes under a broker's lock.
        // SAFETY: a live client; librdkafka takes a reference of its own.
        let code = unsafe { sys::rd_kafka_set_log_queue(handle.rk(), handle.consumer_queue()) };
        let code = ErrorCode::from(code);
        if !code.is_ok() {
            return Err(ClientError::call("sending the log to the client's queue", code));
        }
        Ok(Self {
            handle,
            protocol: properties.protocol(),
            internal: properties.internal_topics(),
            is_static: properties.get("group.instance.id").is_some(),
            leaves: Cell::new(false),
            leaves_at_close: Cell::new(false),
            farewell: Cell::new(Farewell::No),
            is_kip_848: properties.is_kip_848(),
            assignment: RefCell::default(),
            paused: RefCell::default(),
            names: RefCell::default(),
            last_name: RefCell::default(),
            self_assigned: Cell::new(false),
            next_ticket: Cell::new(1),
            commits: RefCell::default(),
            changes: Cell::new(0),
            settled: Cell::new(0),
            statistics: RefCell::default(),
            awaits_group: Cell::new(properties.is_kip_848()),
            failure: RefCell::default(),
        })
    }

    /// Joins the group for these topics (names, or patterns that start with `^`). Replaces an earlier subscription.
    pub fn subscribe(&self, topics: &[String]) -> Result<(), ClientError> {
        let mut list = List::new(topics.len());
        for topic in topics {
            list.add(topic, -1)?;
        }
        self.self_assigned.set(false);
        self.leaves.set(false);
        // SAFETY: a live client and list; the list is copied.
        self.done("subscribing", unsafe {
            sys::rd_kafka_subscribe(self.handle.rk(), list.as_ptr())
        })
    }

    /// When it closes it leaves the group also as a static member, which does not come back.
    pub fn leave_at_close(&self) {
        self.leaves_at_close.set(true);
    }

    /// It asked to join and does not know yet as whom: what it would leave now the group would keep.
    pub fn is_joining(&self) -> bool {
        self.handle.context().joining().is_owed() && !self.is_member()
    }

    /// Leaves the group; also a static member gives its partitions up. They are revoked by the next `batch` calls.
    pub fn unsubscribe(&self) -> Result<(), ClientError> {
        self.leaves.set(true);
        // SAFETY: a live client.
        self.done("unsubscribing", unsafe {
            sys::rd_kafka_unsubscribe(self.handle.rk())
        })
    }

    /// Reads exactly these partitions, without a group (the simple consumer). Replaces what was assigned before;
    /// no handler is called.
    pub fn assign_all(&self, starts: &[Start]) -> Result<(), ClientError> {
        let list = list_of_starts(starts)?;
        self.self_assigned.set(true);
        self.changed();
        self.awaits_group.set(false);
        // SAFETY: a live client and list; the list is copied.
        self.done("assigning partitions", unsafe {
            sys::rd_kafka_assign(self.handle.rk(), list.as_ptr())
        })?;
        *self.assignment.borrow_mut() = starts.iter().map(|start| start.partition.clone()).collect();
        Ok(())
    }

    /// Adds partitions to what `assign_all` assigned; those before go on undisturbed.
    pub fn assign_more(&self, starts: &[Start]) -> Result<(), ClientError> {
        let list = list_of_starts(starts)?;
        self.self_assigned.set(true);
        self.changed();
        // SAFETY: a live client and list; the list is copied, the returned error is ours.
        unsafe {
            check_error(
                "assigning more partitions",
                sys::rd_kafka_incremental_assign(self.handle.rk(), list.as_ptr()),
            )
        }?;
        self.assignment
            .borrow_mut()
            .extend(starts.iter().map(|start| start.partition.clone()));
        Ok(())
    }

    /// Fills `out` with up to `max` messages (what was in it is given back first), waiting at most `timeout` for the
    /// first one. Serves everything else that librdkafka has to say: rebalances by `handler`, log lines, errors.
    /// Counts as life for `max.poll.interval.ms`. Errors: fatal ones, which end this client.
    pub fn batch(
        &self,
        max: usize,
        timeout: Duration,
        handler: &mut dyn Rebalance,
        out: &mut Batch,
    ) -> Result<BatchInfo, ClientError> {
        if callbacks::in_rebalance() {
            return Err(ClientError::InRebalance {
                what: "reading messages",
            });
        }
        out.clear();
        let mut events = Vec::new();
        let (mut asked, mut got) = (max, 0);
        let changes = self.changes.get();
        callbacks::serving(self, handler, || {
            got = out.fill(&self.handle, max, 0, &mut events);
            if got == 0 && !timeout.is_zero() {
                // librdkafka's timeout is for a *full* batch; one message is worth waking up for.
                asked = 1;
                got = out.fill(&self.handle, 1, millis(timeout), &mut events);
                if got == 1 && max > 1 {
                    asked = max;
                    got += out.fill(&self.handle, max - 1, 0, &mut events);
                }
            }
        });
        self.keep_statistics(changes, got < asked);
        self.hear_of_nothing(handler);
        let context = self.handle.context();
        if !out.is_empty() {
            context.answered();
        }
        // Entries of the queue that are errors: logged like those of the error callback, and kept.
        let mut ended = Vec::new();
        for event in events.drain(..) {
            match (event.code, &event.topic, event.partition) {
                (ErrorCode::PARTITION_EOF, Some(topic), Some(partition)) => {
                    ended.push(TopicPartition::new(Arc::clone(topic), partition));
                }
                _ => context.error(event),
            }
        }
        if context.wants_attention() {
            events = context.take_events();
            if let Some(error) = self.fatal_error_of(&events) {
                return Err(error);
            }
        }
        Ok(BatchInfo {
            messages: out.len(),
            drained: got < asked,
            events,
            ended,
        })
    }

    /// Descriptor that becomes readable when librdkafka's queue, or that of the commits, turns from empty to not
    /// empty. It says so once: after waking, [`clear_wake`](Self::clear_wake), then `batch` with no timeout until
    /// it says `drained`.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.handle.wake().as_fd()
    }

    /// Makes the descriptor unreadable again.
    pub fn clear_wake(&self) {
        // An empty eventfd answers EAGAIN, which is as good.
        let _ = rustix::io::read(self.handle.wake(), &mut [0u8; 8]);
    }

    /// The name of a message's topic. From the first call on the handle is safe to keep: librdkafka will not use its
    /// address for another topic.
    pub fn topic_name(&self, message: &Message<'_>) -> Arc<str> {
        let handle = message.topic_handle();
        if let Some((last, name)) = &*self.last_name.borrow()
            && *last == handle
        {
            return Arc::clone(name);
        }
        let name = Arc::clone(self.names.borrow_mut().entry(handle).or_insert_with(|| {
            let name = message.topic();
            if let Ok(c_name) = std::ffi::CString::new(name) {
                self.handle.pin(&c_name);
            }
            name.into()
        }));
        *self.last_name.borrow_mut() = Some((handle, Arc::clone(&name)));
        name
    }

    /// Stops fetching these partitions, and drops what was fetched of them; stays in the group.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let list = list_of(partitions)?;
        self.changed();
        // SAFETY: a live client and list.
        self.done("pausing", unsafe {
            sys::rd_kafka_pause_partitions(self.handle.rk(), list.as_ptr())
        })?;
        self.paused.borrow_mut().extend(partitions.iter().cloned());
        Ok(())
    }

    /// Fetches these partitions again, from where `batch` left off.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let list = list_of(partitions)?;
        self.changed();
        // SAFETY: a live client and list.
        self.done("resuming", unsafe {
            sys::rd_kafka_resume_partitions(self.handle.rk(), list.as_ptr())
        })?;
        let mut paused = self.paused.borrow_mut();
        partitions.iter().for_each(|partition| {
            paused.remove(partition);
        });
        Ok(())
    }

    /// Reads these partitions, which must be assigned, from elsewhere. Waits up to `timeout` for librdkafka's own
    /// thread, not for a broker. What `batch` gives afterwards is from the new offset on.
    pub fn seek(&self, starts: &[Start], timeout: Duration) -> Result<(), ClientError> {
        let mut list = list_of_starts(starts)?;
        self.changed();
        // SAFETY: a live client and list; the returned error is ours.
        unsafe {
            check_error(
                "seeking",
                sys::rd_kafka_seek_partitions(self.handle.rk(), list.as_ptr(), millis(timeout).max(1)),
            )
        }?;
        match list
            .entries()
            .map(|entry| entry.error())
            .find(|code| !code.is_ok())
        {
            Some(code) => Err(ClientError::call("seeking", code)),
            None => Ok(()),
        }
    }

    /// The partitions that this client has now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.assignment.borrow().iter().cloned().collect()
    }

    /// The partitions were taken by the group before they could be given up.
    pub fn assignment_lost(&self) -> bool {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_assignment_lost(self.handle.rk()) != 0 }
    }

    /// The member id that the group's coordinator gave; none before the first join.
    pub fn member_id(&self) -> Option<String> {
        // SAFETY: a live client; the text is ours and freed by librdkafka's own free.
        unsafe {
            let raw = sys::rd_kafka_memberid(self.handle.rk());
            let text = text_of(raw);
            if !raw.is_null() {
                sys::rd_kafka_mem_free(self.handle.rk(), raw.cast());
            }
            (!text.is_empty()).then_some(text)
        }
    }

    /// Group, member, generation and instance at this moment. Asks librdkafka's main thread, so not for every batch.
    pub fn group_member(&self) -> Option<GroupMember> {
        // SAFETY: a live client; the returned object is ours, its texts live as long as it does.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata(self.handle.rk());
            if metadata.is_null() {
                return None;
            }
            let instance = sys::rd_kafka_consumer_group_metadata_group_instance_id(metadata);
            let member = GroupMember {
                group: text_of(sys::rd_kafka_consumer_group_metadata_group_id(metadata)),
                member: text_of(sys::rd_kafka_consumer_group_metadata_member_id(metadata)),
                generation: sys::rd_kafka_consumer_group_metadata_generation_id(metadata),
                instance: (!instance.is_null()).then(|| text_of(instance)),
            };
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            Some(member)
        }
    }

    /// Whether this client reaches its brokers.
    pub fn connectivity(&self) -> Connectivity {
        self.handle.context().connectivity()
    }

    /// What has ended this client, if anything has.
    pub fn fatal_error(&self) -> Option<ClientError> {
        self.fatal_error_of(&[])
    }

    fn fatal_error_of(&self, events: &[ClientEvent]) -> Option<ClientError> {
        if let Some(text) = self.handle.context().panicked() {
            return Some(ClientError::Fatal {
                code: ErrorCode::FAIL,
                text: format!("the rebalance handler panicked: {text}"),
            });
        }
        if let Some(error) = self.failure.borrow().clone() {
            return Some(error);
        }
        if let Some((code, text)) = self.handle.fatal_error() {
            return Some(ClientError::Fatal { code, text });
        }
        let event = events.iter().find(|event| event.class == ErrorClass::Recreate)?;
        Some(ClientError::Fatal {
            code: event.code,
            text: event.text.clone(),
        })
    }

    pub(super) fn done(&self, what: &'static str, code: sys::rd_kafka_resp_err_t) -> Result<(), ClientError> {
        match ErrorCode::from(code) {
            ErrorCode::NONE => Ok(()),
            ErrorCode::FATAL => {
                let (code, text) = self
                    .handle
                    .fatal_error()
                    .unwrap_or((ErrorCode::FATAL, String::new()));
                Err(ClientError::Fatal { code, text })
            }
            code => Err(ClientError::call(what, code)),
        }
    }
}

/// librdkafka's timeouts: whole milliseconds, where a part of one is not nothing.
pub(super) fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

pub(super) fn list_of(partitions: &[TopicPartition]) -> Result<List, ClientError> {
    let mut list = List::new(partitions.len());
    for partition in partitions {
        list.add(&partition.topic, partition.partition)?;
    }
    Ok(list)
}

fn list_of_starts(starts: &[Start]) -> Result<List, ClientError> {
    let mut list = List::new(starts.len());
    for start in starts {
        let mut entry = list.add(&start.partition.topic, start.partition.partition)?;
        entry.set_offset(start.offset.number());
        entry.set_leader_epoch(start.leader_epoch);
    }
    Ok(list)
}
