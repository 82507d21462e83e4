//! Tests of a plugin without a broker: messages go to a consumer through the very shim and boundary that the daemon
//! uses, and what becomes of each is returned.
//!
//! ```
//! use devour::{prelude::*, testing::{Outcome, TestMessage, Tester}};
//!
//! #[derive(Default)]
//! pub struct Doubler;
//!
//! #[consumer(topic = "numbers")]
//! impl Doubler {
//!     fn digest(&mut self, _offset: i64, number: u64) -> Result<(), DigestError> {
//!         number.checked_mul(2).ok_or_else(|| DigestError::reject("too large"))?;
//!         Ok(())
//!     }
//! }
//!
//! let mut tester = Tester::<Doubler>::new().expect("it needs no settings");
//! let report = tester.feed([
//!     TestMessage::json(r#"{"number": 4}"#),
//!     TestMessage::json(r#"{"number": 18446744073709551615}"#),
//! ]);
//! assert_eq!(report.outcomes[0], Outcome::Done);
//! assert!(matches!(&report.outcomes[1], Outcome::Rejected { message } if message == "too large"));
//! ```
//!
//! Messages of an async consumer end later: [`Tester::settle`] waits for them. Those of a buffering one end with
//! [`Tester::flush`]. A test of an async consumer is a plain `#[test]`: the consumer has its own runtime, which cannot be
//! waited for inside another.

use std::{
    collections::{BTreeSet, HashMap},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use abi_stable::std_types::ROption;
use devour_abi::{
    AssignedPartition, Call, CallCell, CallHost, ConstructRequest, ConsumerModuleRef, CutNumber,
    DescribeRequest, Descriptor, Failure, FailureKind, Host, Instance, LifecycleAnswer, LifecycleCall,
    MessageView, StartOffset, abi_stable,
};
use serde_json::Value;

use crate::plugin::Exported;

mod builder;
mod call;
mod hand;
mod host;
mod message;
mod outcome;

pub use builder::TesterBuilder;
pub(crate) use call::note_passed;
pub use host::{LogLine, ProducedRecord};
pub use message::TestMessage;
pub use outcome::{Outcome, Report};

use call::TestCall;
use hand::Hand;
use host::TestHost;

/// A consumer under test, in the place of a lane.
pub struct Tester<C> {
    instance: Option<Instance>,
    host: Arc<TestHost>,
    request: ConstructRequest,
    hand: Hand,
    cell: CallCell,
    cut: CutNumber,
    calls: u64,
    hold_on_reject: bool,
    tags: HashMap<(String, i32), u64>,
    next_offsets: HashMap<(String, i32), i64>,
    /// What waits for `feed_again`.
    parked: Vec<TestMessage>,
    /// The order tags that wait with it although the instance may not know.
    held: BTreeSet<u64>,
    /// What a buffering consumer took and did not flush.
    buffered: Vec<TestMessage>,
    /// The order tags of which an async consumer has a message.
    in_flight: BTreeSet<u64>,
    /// What is not yet handed out because its order tag is in flight.
    waiting: Vec<TestMessage>,
    consumer: PhantomData<fn() -> C>,
}

/// Why a consumer could not be made, or failed in a step of its life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.name())]
pub struct TestError {
    /// What the host is asked to do about it.
    pub kind: FailureKind,
    /// Why.
    pub message: String,
}

// === impl Tester ===

impl<C: Exported> Tester<C> {
    /// The consumer with empty settings.
    ///
    /// # Errors
    /// What the constructor says, or why it was not called.
    pub fn new() -> Result<Self, TestError> {
        Self::builder().build()
    }

    /// The consumer, set up.
    #[must_use]
    pub fn builder() -> TesterBuilder<C> {
        let request = ConstructRequest {
            route: "test".to_owned(),
            lanes: 1,
            generation: 1,
            ..ConstructRequest::default()
        };
        TesterBuilder {
            request,
            hold_on_reject: false,
            consumer: PhantomData,
        }
    }

    /// What the consumer says of itself under these settings.
    ///
    /// # Errors
    /// What failed.
    pub fn descriptor(settings: Value) -> Result<Descriptor, TestError> {
        let module = ConsumerModuleRef::of::<C::Shim>();
        Ok(module.describe_consumer(&DescribeRequest { settings })?)
    }

    /// What is wrong with these settings, one text each.
    ///
    /// # Errors
    /// If the check panicked.
    pub fn check(settings: &Value) -> Result<Vec<String>, TestError> {
        Ok(ConsumerModuleRef::of::<C::Shim>().check_settings(settings)?)
    }

    /// Hands messages to the consumer, in one call. A message without an offset of its own gets the next one of its
    /// partition. After a failure the partition waits, until [`feed_again`](Self::feed_again).
    ///
    /// What an async consumer took, and a buffering one keeps, is [`Outcome::Taken`]: it ends later, see
    /// [`settle`](Self::settle) and [`flush`](Self::flush). Of a partition an async consumer has one message at a time:
    /// the next is [`Outcome::NotBegun`] and handed out by `settle`.
    ///
    /// # Panics
    /// If the consumer is gone: after a fatal error or a panic the daemon would have built a new one, as
    /// [`restart`](Self::restart) does.
    pub fn feed(&mut self, messages: impl IntoIterator<Item = TestMessage>) -> Report {
        let messages = messages.into_iter().collect();
        self.hand_in(messages, &[])
    }

    /// Hands in again what failed with a retry and what waited behind it, as the daemon does after the back-off; after
    /// [`restart`](Self::restart) also what was in hand when the consumer ended.
    ///
    /// # Panics
    /// As [`feed`](Self::feed).
    pub fn feed_again(&mut self) -> Report {
        let messages = std::mem::take(&mut self.parked);
        let mut released = std::mem::take(&mut self.held);
        released.extend(messages.iter().map(|message| self.tag(message)));
        let released: Vec<u64> = released.into_iter().collect();
        self.hand_in(messages, &released)
    }

    /// Ends the consumer, if it is not gone, and makes it anew, as the daemon does after a fatal error, a panic or a
    /// failed flush. What was in hand comes with [`feed_again`](Self::feed_again).
    ///
    /// # Errors
    /// What the constructor says, or why it was not called.
    pub fn restart(&mut self) -> Result<(), TestError> {
        self.lose();
        let host = Host::new(Arc::clone(&self.host));
        let instance = ConsumerModuleRef::of::<C::Shim>().construct_instance(&self.request, host)?;
        self.instance = Some(instance);
        Ok(())
    }

    /// Calls `started`.
    ///
    /// # Errors
    /// What it says.
    pub fn started(&mut self) -> Result<(), TestError> {
        self.step(&LifecycleCall::Started).map(drop)
    }

    /// Calls `assigned` with these partitions of topics; returns the start offsets that it answers.
    ///
    /// # Errors
    /// What it says.
    pub fn assigned(&mut self, partitions: &[(&str, i32)]) -> Result<Vec<StartOffset>, TestError> {
        let call = LifecycleCall::Assigned {
            partitions: named(partitions),
            ask_start_offsets: true,
        };
        self.step(&call).map(|answer| answer.start_offsets)
    }

    /// Calls `revoked`.
    ///
    /// # Errors
    /// What it says.
    pub fn revoked(&mut self, partitions: &[(&str, i32)]) -> Result<(), TestError> {
        self.step(&LifecycleCall::Revoked {
            partitions: named(partitions),
            lost: false,
        })
        .map(drop)
    }

    /// Calls `flush`. What a buffering consumer took is then done, see [`completed`](Self::completed); if it fails, the
    /// consumer is gone and [`restart`](Self::restart) and [`feed_again`](Self::feed_again) hand it in again.
    ///
    /// # Errors
    /// What it says.
    pub fn flush(&mut self) -> Result<(), TestError> {
        let flushed = self.step(&LifecycleCall::Flush);
        if self.hand == Hand::Buffer {
            self.flushed(flushed.is_ok());
        }
        flushed.map(drop)
    }

    /// Calls `stopped`, after which [`ConsumerContext::stop_requested`](crate::ConsumerContext::stop_requested) is true.
    ///
    /// # Errors
    /// What it says.
    pub fn stopped(&mut self) -> Result<(), TestError> {
        self.host.request_stop();
        self.step(&LifecycleCall::Stopped).map(drop)
    }

    /// Cuts the next call before its first message, as a revoke or a stop may.
    pub fn cut_next(&mut self) {
        self.cut.raise(self.calls + 1);
    }

    /// What was logged so far.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        self.host.logs()
    }

    /// The value of a counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.host.counter(name)
    }

    /// The durations recorded under a name.
    #[must_use]
    pub fn timings(&self, name: &str) -> Vec<Duration> {
        self.host.timings(name)
    }

    /// The records produced so far.
    #[must_use]
    pub fn produced(&self) -> Vec<ProducedRecord> {
        self.host.produced()
    }

    /// How messages ended that were taken beyond their call, or by a buffering consumer: partition, offset and outcome,
    /// in the order they ended.
    #[must_use]
    pub fn completed(&self) -> Vec<(i32, i64, Outcome)> {
        self.host.completed()
    }

    /// The partitions that the consumer paused and did not resume.
    #[must_use]
    pub fn paused(&self) -> Vec<(String, i32)> {
        self.host.paused()
    }

    fn step(&mut self, call: &LifecycleCall) -> Result<LifecycleAnswer, TestError> {
        let instance = self
            .instance
            .as_mut()
            .expect("the consumer is gone: it panicked or failed fatally");
        let answered = instance.lifecycle(call);
        if matches!(&answered, Err(failure) if failure.kind == FailureKind::PANIC) {
            self.lose();
        }
        Ok(answered?)
    }

    /// One call with these messages: an outcome each.
    fn call(&mut self, messages: &[TestMessage], released: &[u64]) -> Vec<Outcome> {
        let tags: Vec<u64> = messages.iter().map(|message| self.tag(message)).collect();
        let views: Vec<MessageView<'_>> = messages
            .iter()
            .zip(&tags)
            .map(|(message, tag)| message.view(*tag))
            .collect();
        let held: Vec<u64> = self.held.iter().copied().collect();
        let instance = self
            .instance
            .as_mut()
            .expect("the consumer is gone: it panicked or failed fatally");
        self.calls += 1;
        let hosted = TestCall::new(messages, Arc::clone(&self.host));
        let returned = instance.digest(&Call {
            number: self.calls,
            messages: views.as_slice().into(),
            released: released.into(),
            held: held.as_slice().into(),
            hold_on_reject: self.hold_on_reject,
            cell: &self.cell,
            cut: &self.cut,
            host: CallHost::new(&hosted),
            more: ROption::RNone,
        });
        hosted.into_outcomes(returned.finished as usize, returned.broken.into_option())
    }

    fn tag(&mut self, message: &TestMessage) -> u64 {
        let next = self.tags.len() as u64;
        *self.tags.entry(message.place()).or_insert(next)
    }
}

fn named(partitions: &[(&str, i32)]) -> Vec<AssignedPartition> {
    partitions
        .iter()
        .map(|(topic, partition)| AssignedPartition {
            topic: (*topic).to_owned(),
            partition: *partition,
            committed: None,
        })
        .collect()
}

// === impl TestError ===

impl From<Failure> for TestError {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind,
            message: failure.message.into_string(),
        }
    }
}
