//! What a route's digests produce: which message each record belongs to, so that a message is finished only when the
//! brokers have acknowledged all that it produced, and fails when one of its records does. Pure: the sending is behind
//! [`Outlet`], and time comes as an argument.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use devour_abi::{Delivered, Failure, FailureKind, HostErrorKind, HostFailure};
use foldhash::fast::FixedState;

mod hooks;
mod kafka;

pub(super) use hooks::{OutputsState, RouteOutputs};
pub use kafka::KafkaOutlet;

use crate::{
    kafka::{ErrorCode, Record},
    lane::{Asker, CallNumber, Output},
};

/// The number of a record, in the life of a route's worker; below 2^48.
pub type OutputId = u64;

/// What became of records: each once.
pub type Outcomes = Vec<(OutputId, Result<Delivered, OutputError>)>;

/// Where records are written.
pub trait Outlet {
    /// Hands a copy of a record over without waiting. What becomes of it comes by [`Outlet::outcomes`], unless this is an
    /// error. One that is [full](OutputErrorKind::Full) is handed over again later.
    ///
    /// # Errors
    /// When it cannot be handed over.
    fn send(&mut self, id: OutputId, record: &Record<'_>) -> Result<(), OutputError>;
    /// Appends what became of records that were handed over.
    fn outcomes(&mut self, into: &mut Outcomes);
    /// Readable when there is something to hear; always the same.
    fn wake_fd(&self) -> BorrowedFd<'_>;
}

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputError {
    /// What it means.
    pub kind: OutputErrorKind,
    /// Its topic.
    pub topic: String,
    /// What librdkafka or the broker said.
    pub text: String,
    /// As a number, where there is one.
    pub code: Option<ErrorCode>,
}

/// What it means that a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputErrorKind {
    /// The record is wrong: no second try mends it.
    Refused,
    /// It is not written, or nobody knows whether it is.
    Failed,
    /// The transaction that it belonged to was aborted.
    Aborted,
    /// There is no room for it now.
    Full,
}

/// Whose a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A message's.
    Message(CallNumber, u32),
    /// A call's as a whole: its messages are digested at once.
    Call(CallNumber),
    /// Nobody knows: of all messages that are in hand, whose calls are numbered up to this.
    All(CallNumber),
    /// A message's that is done with.
    Nobody,
}

/// What a digest that has returned means for its message.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It is finished: nothing that it produced is on its way.
    Finished,
    /// It is finished when [`Outputs::serve`] says so.
    Waits,
    /// What it produced was not written.
    Failed(Failure),
}

/// A message that waited for what it produced.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Its call.
    pub call: CallNumber,
    /// Its index.
    pub index: u32,
    /// Whether all was written.
    pub outcome: Result<(), Failure>,
}

/// What [`Outputs::serve`] found.
#[derive(Debug, Default)]
pub struct Served {
    /// Messages that waited and wait no longer.
    pub ended: Vec<Ended>,
    /// What is to be told to those who asked.
    pub answers: Vec<(Asker, Result<Delivered, OutputError>)>,
    /// Records that were acknowledged, and that failed.
    pub acknowledged: usize,
    pub failed: usize,
    /// The first of those.
    pub first_error: Option<OutputError>,
    /// Some were refused.
    pub is_refused: bool,
    /// Messages that waited for records which failed with their transaction.
    pub aborted: Vec<Ended>,
    /// There were such records.
    pub is_aborted: bool,
}

/// The records of a route that are on their way.
pub struct Outputs<O> {
    outlet: O,
    /// Those from the oldest on that is on its way.
    sent: VecDeque<Sent>,
    /// The number of the first of them.
    first: OutputId,
    /// How many of them are on their way.
    open: usize,
    bytes: usize,
    /// What a record takes of that at most.
    most: usize,
    /// Messages with records, by their call.
    calls: HashMap<CallNumber, OfCall, FixedState>,
    /// There were records of which nobody knows whose they are.
    anonymous: bool,
    /// A record that is not written fails its message also where somebody asked about it: no transaction is committed
    /// without it.
    transactional: bool,
    /// Records on their way of which nobody knows whose they are.
    of_all: BTreeSet<OutputId>,
    /// Messages that wait for those up to a number; the numbers ascend.
    behind_all: VecDeque<(OutputId, CallNumber, u32)>,
    /// Calls up to a number were in hand when such a record failed.
    tainted: Vec<(CallNumber, Failure)>,
    /// What the outlet had no room for.
    backlog: VecDeque<(OutputId, OwnedRecord)>,
    outcomes: Outcomes,
}

/// A record that was taken.
struct Sent {
    owner: Owner,
    bytes: usize,
    asker: Option<Asker>,
    at: Instant,
    is_open: bool,
}

/// What the messages of a call have produced.
#[derive(Default)]
struct OfCall {
    /// By index, as far as any has produced or waits.
    messages: Vec<OfMessage>,
    /// Records of the call as a whole.
    open: u32,
    failure: Option<Failure>,
    /// There were any.
    any: bool,
}

#[derive(Default)]
struct OfMessage {
    /// Records on their way, and one for a wait for records of nobody.
    open: u32,
    /// Its digest has returned: it waits.
    waits: bool,
    failure: Option<Box<Failure>>,
    /// It has produced something.
    any: bool,
}

/// A copy of a record.
struct OwnedRecord {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: Option<i64>,
}

/// Records that are not acknowledged for so long hold up digests: it is the brokers that are slow, not they.
const SLOW: Duration = Duration::from_millis(250);

// === impl Outputs ===

impl<O: Outlet> Outputs<O> {
    /// None yet. However large a record is, it counts as `most` bytes at most.
    pub fn new(outlet: O, most: usize) -> Self {
        Self {
            outlet,
            most,
            sent: VecDeque::new(),
            first: 0,
            open: 0,
            bytes: 0,
            calls: HashMap::default(),
            anonymous: false,
            transactional: false,
            of_all: BTreeSet::new(),
            behind_all: VecDeque::new(),
            tainted: Vec::new(),
            backlog: VecDeque::new(),
            outcomes: Vec::new(),
        }
    }

    /// They go into transactions.
    pub fn in_transactions(&mut self) {
        self.transactional = true;
    }

    /// Where they are written.
    pub fn outlet_mut(&mut self) -> &mut O {
        &mut self.outlet
    }

    /// Nothing is on its way and nothing waits: all that is digested is finished.
    #[inline]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.calls.is_empty() && self.of_all.is_empty() && self.tainted.is_empty()
    }

    /// Records on their way.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// What they take of the room of their plugins.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The brokers have not acknowledged the oldest for a while.
    #[must_use]
    pub fn are_slow(&self, now: Instant) -> bool {
        self.oldest()
            .is_some_and(|at| now.saturating_duration_since(at) >= SLOW)
    }

    /// Since when the oldest is on its way.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.at)
    }

    /// Takes a record.
    pub fn take(&mut self, owner: Owner, output: &Output<'_>, now: Instant) {
        let id = self.first + self.sent.len() as u64;
        let headers: Vec<(&str, Option<&[u8]>)> = output.headers().collect();
        let record = Record {
            topic: output.topic,
            partition: output.partition,
            key: output.key,
            payload: output.payload,
            headers: &headers,
            timestamp: output.timestamp_ms,
        };
        let bytes = output.bytes.min(self.most);
        self.sent.push_back(Sent {
            owner,
            bytes,
            asker: output.asker,
            at: now,
            is_open: true,
        });
        self.open += 1;
        self.bytes += bytes;
        match owner {
            Owner::Message(call, index) => {
                let message = self.message(call, index);
                message.open += 1;
                message.any = true;
            }
            Owner::Call(call) => {
                let of_call = self.calls.entry(call).or_default();
                of_call.open += 1;
                of_call.any = true;
            }
            Owner::All(_) => {
                self.anonymous = true;
                self.of_all.insert(id);
            }
            Owner::Nobody => {}
        }
        // What waits for room goes first.
        if !self.backlog.is_empty() {
            return self.backlog.push_back((id, OwnedRecord::of(&record)));
        }
        match self.outlet.send(id, &record) {
            Ok(()) => {}
            Err(error) if error.kind == OutputErrorKind::Full => {
                self.backlog.push_back((id, OwnedRecord::of(&record)));
            }
            // Heard with the others.
            Err(error) => self.outcomes.push((id, Err(error))),
        }
    }

    fn message(&mut self, call: CallNumber, index: u32) -> &mut OfMessage {
        let of_call = self.calls.entry(call).or_default();
        let index = index as usize;
        if of_call.messages.len() <= index {
            of_call.messages.resize_with(index + 1, OfMessage::default);
        }
        &mut of_call.messages[index]
    }

    /// A digest has returned, or its message was completed: whether that finishes it.
    pub fn digested(&mut self, call: CallNumber, index: u32) -> Standing {
        if self.is_quiet() {
            return Standing::Finished;
        }
        if let Some((_, failure)) = self.tainted.iter().find(|(up_to, _)| call <= *up_to) {
            return Standing::Failed(failure.clone());
        }
        let mut waits = false;
        if let Some(of_call) = self.calls.get_mut(&call) {
            if let Some(failure) = &of_call.failure {
                return Standing::Failed(failure.clone());
            }
            waits |= of_call.open > 0;
            if let Some(message) = of_call.messages.get_mut(index as usize) {
                if let Some(failure) = message.failure.take() {
                    return Standing::Failed(*failure);
                }
                waits |= message.open > 0;
            }
        }
        if let Some(last) = self.of_all.last().copied() {
            self.message(call, index).open += 1;
            self.behind_all.push_back((last, call, index));
            waits = true;
        }
        if !waits {
            return Standing::Finished;
        }
        self.message(call, index).waits = true;
        Standing::Waits
    }

    /// Whether a message that is not settled has produced anything, as far as is known.
    #[must_use]
    pub fn has_produced(&self, call: CallNumber, index: u32) -> bool {
        let Some(of_call) = self.calls.get(&call) else {
            return self.anonymous;
        };
        let of_message = of_call.messages.get(index as usize);
        self.anonymous || of_call.any || of_message.is_some_and(|message| message.any)
    }

    /// The transaction of all that is on its way is aborted: nothing of it is written.
    pub fn abort(&mut self) {
        self.backlog.clear();
        self.anonymous = false;
        for (id, _) in (self.first..).zip(&self.sent).filter(|(_, sent)| sent.is_open) {
            let error = OutputError {
                kind: OutputErrorKind::Aborted,
                topic: String::from("a topic"),
                text: String::from("its transaction is aborted"),
                code: None,
            };
            self.outcomes.push((id, Err(error)));
        }
    }

    /// Nothing is to be known of a call any more.
    pub fn forget(&mut self, call: CallNumber) {
        if !self.calls.is_empty() {
            self.calls.remove(&call);
        }
    }

    /// Calls up to a number were over before any that is in hand: who failed with them is known.
    pub fn none_before(&mut self, oldest: Option<CallNumber>) {
        if !self.tainted.is_empty() {
            self.tainted
                .retain(|(up_to, _)| oldest.is_some_and(|oldest| oldest <= *up_to));
        }
    }

    /// Hears what became of records.
    pub fn serve(&mut self) -> Served {
        let mut served = Served::default();
        if self.open == 0 {
            return served;
        }
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.outlet.outcomes(&mut outcomes);
        for (id, outcome) in outcomes.drain(..) {
            self.hear(id, outcome, &mut served);
        }
        self.outcomes = outcomes;
        self.pass_all(&mut served);
        self.send_backlog();
        served
    }

    fn hear(&mut self, id: OutputId, outcome: Result<Delivered, OutputError>, served: &mut Served) {
        let at = id.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(sent) = at
            .and_then(|at| self.sent.get_mut(at))
            .filter(|sent| sent.is_open)
        else {
            return;
        };
        sent.is_open = false;
        let (owner, asker) = (sent.owner, sent.asker);
        self.open -= 1;
        self.bytes -= sent.bytes;
        while self.sent.front().is_some_and(|sent| !sent.is_open) {
            self.sent.pop_front();
            self.first += 1;
        }
        let mut failure = None;
        match &outcome {
            Ok(_) => served.acknowledged += 1,
            Err(error) => {
                served.failed += 1;
                served.is_refused |= error.kind == OutputErrorKind::Refused;
                served.first_error.get_or_insert_with(|| error.clone());
                // Who asked deals with it.
                failure = (asker.is_none() || self.transactional).then(|| error.to_failure());
            }
        }
        let (is_aborted, before) = (is_aborted(&outcome), served.ended.len());
        match owner {
            Owner::Message(call, index) => self.heard_of_message(call, index, failure, served),
            Owner::Call(call) => self.heard_of_call(call, failure, served),
            Owner::All(up_to) => {
                self.of_all.remove(&id);
                if let Some(failure) = failure {
                    self.fail_all(id, up_to, failure, served);
                }
            }
            Owner::Nobody => {}
        }
        if is_aborted {
            served.is_aborted = true;
            served.aborted.extend(served.ended.drain(before..));
        }
        if let Some(asker) = asker {
            served.answers.push((asker, outcome));
        }
    }

    fn heard_of_message(
        &mut self,
        call: CallNumber,
        index: u32,
        failure: Option<Failure>,
        served: &mut Served,
    ) {
        let Some(of_call) = self.calls.get_mut(&call) else {
            return;
        };
        let call_open = of_call.open;
        let Some(message) = of_call.messages.get_mut(index as usize) else {
            return;
        };
        message.open = message.open.saturating_sub(1);
        if let Some(failure) = failure {
            message.failure.get_or_insert_with(|| Box::new(failure));
        }
        message.end(call_open, |outcome| {
            served.ended.push(Ended { call, index, outcome })
        });
    }

    fn heard_of_call(&mut self, call: CallNumber, failure: Option<Failure>, served: &mut Served) {
        let Some(of_call) = self.calls.get_mut(&call) else {
            return;
        };
        of_call.open = of_call.open.saturating_sub(1);
        if let Some(failure) = failure {
            of_call.failure.get_or_insert(failure);
        }
        for (index, message) in (0..).zip(&mut of_call.messages) {
            if message.waits && message.failure.is_none() {
                message.failure = of_call.failure.clone().map(Box::new);
            }
            message.end(of_call.open, |outcome| {
                served.ended.push(Ended { call, index, outcome })
            });
        }
    }

    /// A record failed of which nobody knows whose it is: all fail that were in hand with it. None is given up for that.
    fn fail_all(&mut self, id: OutputId, up_to: CallNumber, mut failure: Failure, served: &mut Served) {
        failure.kind = FailureKind::RETRY;
        // Their numbers ascend.
        let from = self.behind_all.partition_point(|(behind, _, _)| *behind < id);
        for (_, call, index) in self.behind_all.split_off(from) {
            if let Some(of_call) = self.calls.get_mut(&call)
                && let Some(message) = of_call.messages.get_mut(index as usize)
            {
                message.open = message.open.saturating_sub(1);
                message.failure.get_or_insert_with(|| Box::new(failure.clone()));
                message.end(of_call.open, |outcome| {
                    served.ended.push(Ended { call, index, outcome })
                });
            }
        }
        self.tainted.push((up_to, failure));
    }

    /// Messages that waited for records of nobody, all of which are written.
    fn pass_all(&mut self, served: &mut Served) {
        let first = self.of_all.first().copied().unwrap_or(OutputId::MAX);
        while let Some((behind, call, index)) = self.behind_all.front().copied() {
            if behind >= first {
                return;
            }
            self.behind_all.pop_front();
            self.heard_of_message(call, index, None, served);
        }
    }

    fn send_backlog(&mut self) {
        while let Some((id, record)) = self.backlog.front() {
            let sent = record.lend(|record| self.outlet.send(*id, record));
            match sent {
                Err(error) if error.kind == OutputErrorKind::Full => return,
                Err(error) => self.outcomes.push((*id, Err(error))),
                Ok(()) => {}
            }
            self.backlog.pop_front();
        }
    }

    /// There is something to hear that no descriptor tells of.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        !self.outcomes.is_empty()
    }
}

fn is_aborted(outcome: &Result<Delivered, OutputError>) -> bool {
    let aborted = |error: &OutputError| error.kind == OutputErrorKind::Aborted;
    outcome.as_ref().is_err_and(aborted)
}

// === impl OfMessage ===

impl OfMessage {
    /// Ends a message that waits, if it waits for nothing more; `call_open`: records of its call as a whole.
    fn end(&mut self, call_open: u32, tell: impl FnOnce(Result<(), Failure>)) {
        if !self.waits {
            return;
        }
        if let Some(failure) = self.failure.take() {
            self.waits = false;
            tell(Err(*failure));
        } else if self.open == 0 && call_open == 0 {
            self.waits = false;
            tell(Ok(()));
        }
    }
}

// === impl OwnedRecord ===

impl OwnedRecord {
    fn of(record: &Record<'_>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            payload: record.payload.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
            timestamp: record.timestamp,
        }
    }

    fn lend<T>(&self, to: impl FnOnce(&Record<'_>) -> T) -> T {
        let headers: Vec<(&str, Option<&[u8]>)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        to(&Record {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            payload: self.payload.as_deref(),
            headers: &headers,
            timestamp: self.timestamp,
        })
    }
}

// === impl OutputError ===

impl OutputError {
    /// What librdkafka or a broker said of a record for `topic`.
    #[must_use]
    pub fn of_code(topic: &str, code: ErrorCode, text: String) -> Self {
        let kind = match code {
            ErrorCode::MSG_SIZE_TOO_LARGE
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::INVALID_RECORD
            | ErrorCode::INVALID_TIMESTAMP
            | ErrorCode::INVALID_TOPIC
            | ErrorCode::INVALID_ARG
            | ErrorCode::UNKNOWN_PARTITION => OutputErrorKind::Refused,
            ErrorCode::QUEUE_FULL => OutputErrorKind::Full,
            _ => OutputErrorKind::Failed,
        };
        Self {
            kind,
            topic: topic.to_owned(),
            text,
            code: Some(code),
        }
    }

    /// What it means for the message that produced the record.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let kind = match self.kind {
            OutputErrorKind::Refused => FailureKind::REJECT,
            _ => FailureKind::RETRY,
        };
        Failure::new(kind, self.to_string())
    }

    /// What whoever waits for the record hears.
    #[must_use]
    pub fn to_host_failure(&self) -> HostFailure {
        let kind = match self.kind {
            OutputErrorKind::Refused => HostErrorKind::REFUSED,
            OutputErrorKind::Aborted => HostErrorKind::ABORTED,
            OutputErrorKind::Failed | OutputErrorKind::Full => HostErrorKind::FAILED,
        };
        HostFailure::new(kind, self.to_string())
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.code {
            Some(ErrorCode::UNKNOWN_TOPIC | ErrorCode::UNKNOWN_TOPIC_OR_PART) => {
                "create the topic: it does not exist, and these brokers do not create one that is asked for"
            }
            Some(ErrorCode::UNKNOWN_PARTITION) => "the topic has no such partition",
            Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED) => {
                "give the daemon's user the right to write it (operation Write on the topic)"
            }
            Some(ErrorCode::MSG_SIZE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE) => {
                "produce smaller records, or raise the topic's `max.message.bytes`"
            }
            Some(ErrorCode::INVALID_TIMESTAMP) => {
                "the topic's `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` do not allow it"
            }
            Some(ErrorCode::INVALID_RECORD) => "a compacted topic takes no record without a key",
            _ => "mend what the brokers name",
        }
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record for `{}` was not written: {}", self.topic, self.text)?;
        if let Some(code) = self.code {
            write!(f, " ({code}); {}", self.advice())?;
        }
        Ok(())
    }
}

impl std::error::Error for OutputError {}

#[cfg(test)]
mod tests;
