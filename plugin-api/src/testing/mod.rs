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

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use abi_stable::std_types::ROption;
use devour_abi::{
    AssignedPartition, Call, CallCell, CallHost, ConstructRequest, ConsumerModuleRef, CutNumber,
    DescribeRequest, Descriptor, DumpMode, Failure, FailureKind, Host, Instance, LifecycleAnswer,
    LifecycleCall, MessageView, StartOffset, abi_stable,
};
use serde_json::Value;

use crate::plugin::Exported;

mod call;
mod host;
mod message;
mod outcome;

pub(crate) use call::note_passed;
pub use host::{LogLine, ProducedRecord};
pub use message::TestMessage;
pub use outcome::{Outcome, Report};

use call::TestCall;
use host::TestHost;

/// A consumer under test, in the place of a lane.
pub struct Tester<C> {
    instance: Option<Instance>,
    host: Arc<TestHost>,
    cell: CallCell,
    cut: CutNumber,
    calls: u64,
    hold_on_reject: bool,
    tags: HashMap<(String, i32), u64>,
    next_offsets: HashMap<(String, i32), i64>,
    parked: Vec<TestMessage>,
    consumer: PhantomData<fn() -> C>,
}

/// How a [`Tester`] is set up.
pub struct TesterBuilder<C> {
    request: ConstructRequest,
    hold_on_reject: bool,
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

// === impl TesterBuilder ===

impl<C: Exported> TesterBuilder<C> {
    /// The plugin's settings of the route.
    #[must_use]
    pub fn settings(mut self, settings: Value) -> Self {
        self.request.settings = settings;
        self
    }

    /// Which of several digests.
    #[must_use]
    pub fn digest_name(mut self, name: impl Into<String>) -> Self {
        self.request.digest_name = Some(name.into());
        self
    }

    /// The dump mode that the route sets.
    #[must_use]
    pub fn dump(mut self, dump: DumpMode) -> Self {
        self.request.dump = Some(dump);
        self
    }

    /// Tombstones are rejects, as with the route's `tombstones: reject`.
    #[must_use]
    pub fn reject_tombstones(mut self) -> Self {
        self.request.reject_tombstones = true;
        self
    }

    /// A reject holds its partition, as with the route's `then: stop`.
    #[must_use]
    pub fn stop_on_reject(mut self) -> Self {
        self.hold_on_reject = true;
        self
    }

    /// Which lane of how many the instance is.
    #[must_use]
    pub fn lane(mut self, lane: u32, of: u32) -> Self {
        self.request.lane = lane;
        self.request.lanes = of;
        self
    }

    /// Makes the consumer.
    ///
    /// # Errors
    /// What the constructor says, or why it was not called.
    pub fn build(self) -> Result<Tester<C>, TestError> {
        let host = Arc::new(TestHost::new(&self.request.settings));
        let module = ConsumerModuleRef::of::<C::Shim>();
        let instance = module.construct_instance(&self.request, Host::new(Arc::clone(&host)))?;
        Ok(Tester {
            instance: Some(instance),
            host,
            cell: CallCell::new(),
            cut: CutNumber::new(),
            calls: 0,
            hold_on_reject: self.hold_on_reject,
            tags: HashMap::new(),
            next_offsets: HashMap::new(),
            parked: Vec::new(),
            consumer: PhantomData,
        })
    }
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
    /// # Panics
    /// If the consumer is gone: after a fatal error or a panic the daemon would have built a new one.
    pub fn feed(&mut self, messages: impl IntoIterator<Item = TestMessage>) -> Report {
        let messages = messages.into_iter().collect();
        self.call(messages, &[])
    }

    /// Hands in again what failed with a retry and what waited behind it, as the daemon does after the back-off.
    ///
    /// # Panics
    /// As [`feed`](Self::feed).
    pub fn feed_again(&mut self) -> Report {
        let messages = std::mem::take(&mut self.parked);
        let mut released: Vec<u64> = messages.iter().map(|message| self.tag(message)).collect();
        released.sort_unstable();
        released.dedup();
        self.call(messages, &released)
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

    /// Calls `flush`.
    ///
    /// # Errors
    /// What it says.
    pub fn flush(&mut self) -> Result<(), TestError> {
        self.step(&LifecycleCall::Flush).map(drop)
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

    /// How messages ended that were taken beyond their call: partition, offset and outcome, in the order they ended.
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
            self.instance = None;
        }
        Ok(answered?)
    }

    fn call(&mut self, mut messages: Vec<TestMessage>, released: &[u64]) -> Report {
        for message in &mut messages {
            let next = self.next_offsets.entry(message.place()).or_insert(0);
            let offset = *message.offset.get_or_insert(*next);
            *next = (*next).max(offset + 1);
        }
        let tags: Vec<u64> = messages.iter().map(|message| self.tag(message)).collect();
        let views: Vec<MessageView<'_>> = messages
            .iter()
            .zip(&tags)
            .map(|(message, tag)| message.view(*tag))
            .collect();
        let instance = self
            .instance
            .as_mut()
            .expect("the consumer is gone: it panicked or failed fatally");
        self.calls += 1;
        let hosted = TestCall::new(&messages, Arc::clone(&self.host));
        let returned = instance.digest(&Call {
            number: self.calls,
            messages: views.as_slice().into(),
            released: released.into(),
            held: [].as_slice().into(),
            hold_on_reject: self.hold_on_reject,
            cell: &self.cell,
            cut: &self.cut,
            host: CallHost::new(&hosted),
            more: ROption::RNone,
        });
        let broken = returned.broken.into_option();
        if broken.is_some() {
            self.instance = None;
        }
        let outcomes = hosted.into_outcomes(returned.finished as usize, broken);
        for (message, outcome) in messages.into_iter().zip(&outcomes) {
            match outcome {
                Outcome::Retry { .. } => self.parked.push(message.again()),
                Outcome::NotBegun | Outcome::NotReached => self.parked.push(message),
                _ => {}
            }
        }
        Report { outcomes }
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
