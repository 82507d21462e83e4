//! The thread of a thread lane: the instance lives here, digests what its queue brings, and answers through another.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use abi_stable::std_types::{ROption, RSlice};
use crossbeam_queue::SegQueue;
use devour_abi::{
    Call, CallCell, CallHost, ConstructRequest, CutNumber, Delivery, Failure, FailureKind, HeaderView, Host,
    HostFailure, HostServices, HostedCall, Instance, LifecycleAnswer, LifecycleCall, LogLevel, MessageId,
    MessageView, OwnedMessage, ProduceRecord,
};

use super::{
    CallNumber, Entry, Slot, Source,
    calls::timestamp,
    current::{self, AtStep, Current, Locate},
    host_call::TAKES_NOTHING,
    host_talk::not_yet,
    layout::Fields,
    produced::{self, Cause, Head, Room, Waiters},
    taken::{self, Sink, Taken},
    views::{self, Names},
    voice::{Durations, PluginLog, PluginVoice, Position},
};
use crate::{
    os::{EventFd, SharedView},
    plugin::Library,
    settings::RouteName,
};

/// What the home and the thread of one instance share.
pub(super) struct Shared {
    /// To the thread; wake it after a push.
    pub orders: SegQueue<Order>,
    /// From the thread; `wake` is signalled after a push.
    pub said: SegQueue<Said>,
    pub wake: EventFd,
    pub cell: CallCell,
    pub cut: CutNumber,
    /// Nothing is begun any more: the thread ends.
    pub end: AtomicBool,
    pub stop_requested: AtomicBool,
    pub slots: Mutex<HashMap<u32, (Arc<str>, i32)>>,
    pub outputs: Arc<OutputsShare>,
    /// Records that are not said: they are before the next outcome.
    pub produced: Mutex<Vec<u8>>,
    pub any_produced: AtomicBool,
    /// `wake` was signalled because of them, and nobody has listened since.
    pub woken: AtomicBool,
}

/// What all lanes of one life share to produce.
#[derive(Default)]
pub(super) struct OutputsShare {
    pub room: Room,
    pub waiters: Waiters,
    /// Records of which nobody knows whose they are: taken before any outcome of any lane is applied that was said behind.
    of_all: Mutex<Vec<u8>>,
}

/// What the thread is to do.
pub(super) enum Order {
    Learn(u32, Arc<str>, i32),
    Digest(Arc<ThreadCall>),
    Step(LifecycleCall),
    /// Look at `end`.
    End,
}

/// What the thread says.
pub(super) enum Said {
    Up,
    NotBuilt(String),
    Failed {
        call: CallNumber,
        index: u32,
        failure: Failure,
    },
    NotBegun {
        call: CallNumber,
        first: u32,
        count: u32,
    },
    Taken {
        call: CallNumber,
        first: u32,
        count: u32,
    },
    Completed {
        call: CallNumber,
        index: u32,
    },
    Returned {
        call: CallNumber,
        finished: u32,
        took: Duration,
        broken: Option<Failure>,
    },
    Lifecycle(Result<LifecycleAnswer, Failure>),
    /// Records, as they are written.
    Produced(Vec<u8>),
    /// Its last word: the instance is dropped.
    Ended,
}

/// One call; the bytes are where they were read to.
pub(super) struct ThreadCall {
    pub number: CallNumber,
    pub source: Source,
    pub entries: Arc<[Entry]>,
    /// Entries before this one belong to a predecessor of the call.
    pub from: u32,
    pub released: Vec<u64>,
    pub held: Vec<u64>,
    /// The stock, if there is one.
    pub view: Option<Arc<SharedView>>,
}

/// What the thread is made of.
pub(super) struct ThreadParts {
    pub route: RouteName,
    pub library: Library,
    pub symbol: String,
    pub construct: ConstructRequest,
    pub hold_on_reject: bool,
    pub takes: bool,
    pub reads_headers: bool,
    pub voice: Arc<dyn PluginVoice>,
    pub shared: Arc<Shared>,
}

struct Lane {
    hold_on_reject: bool,
    takes: bool,
    reads_headers: bool,
    shared: Arc<Shared>,
    names: Names,
    views: Vec<MessageView<'static>>,
    instance: Option<Instance>,
}

/// What a shim may ask during a call.
struct Hosted<'a> {
    shared: &'a Arc<Shared>,
    call: &'a ThreadCall,
    /// Topics and partitions, if messages can be taken.
    names: Option<&'a Names>,
    reads_headers: bool,
    /// Messages that were taken and not said to be, as runs.
    taken: RefCell<Vec<(u32, u32)>>,
    parsed: OnceCell<Vec<OnceCell<Box<[HeaderView<'a>]>>>>,
}

struct Services {
    route: RouteName,
    voice: Arc<dyn PluginVoice>,
    shared: Arc<Shared>,
    settings: String,
}

/// Finds the message in hand.
struct Place {
    shared: Arc<Shared>,
    call: Arc<ThreadCall>,
}

/// Says that the thread is over, however it ends.
struct SaysEnded(Arc<Shared>);

impl Drop for SaysEnded {
    fn drop(&mut self) {
        self.0.say(Said::Ended);
    }
}

/// The body of the thread.
pub(super) fn run(parts: ThreadParts) {
    let _ended = SaysEnded(Arc::clone(&parts.shared));
    let Some(mut lane) = Lane::build(parts) else {
        return;
    };
    let mut broken = false;
    while !broken && !lane.shared.end.load(Ordering::Acquire) {
        let goes_on = match lane.shared.orders.pop() {
            None => {
                std::thread::park();
                true
            }
            Some(Order::End) => true,
            Some(Order::Learn(slot, topic, partition)) => {
                lane.names.learn(slot, &topic, partition);
                true
            }
            Some(Order::Digest(call)) => lane.digest(call),
            Some(Order::Step(step)) => lane.step(&step),
        };
        broken = !goes_on;
    }
    // The end of another lane ends this one: that it is to be told `stopped` holds all the same.
    while !broken && let Some(order) = lane.shared.orders.pop() {
        if matches!(order, Order::Step(LifecycleCall::Stopped)) {
            lane.step(&LifecycleCall::Stopped);
            broken = true;
        }
    }
    // A panic in there is caught on the plugin's side; nobody is left who could be told.
    let _ = lane.instance.take().map(Instance::end);
}

// === impl Shared ===

impl Shared {
    pub(super) fn say(&self, said: Said) {
        if self.any_produced.load(Ordering::Acquire) {
            self.say_produced(&mut lock(&self.produced));
        }
        self.said.push(said);
        self.wake.signal();
    }

    /// While the records are locked: what others produce meanwhile comes behind.
    fn say_produced(&self, records: &mut Vec<u8>) {
        if !records.is_empty() {
            self.said.push(Said::Produced(std::mem::take(records)));
        }
        self.any_produced.store(false, Ordering::Release);
    }

    /// What is not said yet.
    pub(super) fn take_produced(&self) -> Vec<u8> {
        if !self.any_produced.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut records = lock(&self.produced);
        // What was said is before it.
        if !self.said.is_empty() {
            return Vec::new();
        }
        self.any_produced.store(false, Ordering::Release);
        std::mem::take(&mut *records)
    }

    fn produce(&self, head: &Head, record: &ProduceRecord<'_>) {
        /// Then they are said, so that no piece grows too large.
        const MOST: usize = 64 * 1024;
        if head.cause == Cause::All {
            produced::write(&mut lock(&self.outputs.of_all), head, record);
        } else {
            let mut records = lock(&self.produced);
            self.any_produced.store(true, Ordering::Release);
            produced::write(&mut records, head, record);
            if records.len() >= MOST {
                self.say_produced(&mut records);
            }
        }
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wake.signal();
        }
    }
}

// === impl OutputsShare ===

impl OutputsShare {
    pub(super) fn take_of_all(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.of_all))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Lane ===

impl Lane {
    fn build(parts: ThreadParts) -> Option<Self> {
        let ThreadParts {
            route,
            library,
            symbol,
            construct,
            hold_on_reject,
            takes,
            reads_headers,
            voice,
            shared,
        } = parts;
        let services = Services {
            route,
            voice,
            shared: Arc::clone(&shared),
            settings: construct.settings.to_string(),
        };
        let built = crate::plugin::open_copy(&library, &symbol)
            .map_err(|error| error.to_string())
            .and_then(|module| {
                let host = Host::new(Arc::new(services));
                module
                    .construct_instance(&construct, host)
                    .map_err(|failure| match failure.kind {
                        FailureKind::PANIC => format!("its constructor panicked: {}", failure.message),
                        _ => format!("its constructor failed: {}", failure.message),
                    })
            });
        match built {
            Ok(instance) => {
                shared.say(Said::Up);
                let instance = Some(instance);
                Some(Self {
                    hold_on_reject,
                    takes,
                    reads_headers,
                    shared,
                    names: Names::default(),
                    views: Vec::new(),
                    instance,
                })
            }
            Err(why) => {
                shared.say(Said::NotBuilt(why));
                None
            }
        }
    }

    /// Whether the instance may be used again.
    fn digest(&mut self, call: Arc<ThreadCall>) -> bool {
        let Some(instance) = &mut self.instance else {
            return false;
        };
        let began = Instant::now();
        let mut views = views::recycle(std::mem::take(&mut self.views));
        call.views(&self.names, &mut views);
        let hosted = Hosted {
            shared: &self.shared,
            call: &call,
            names: self.takes.then_some(&self.names),
            reads_headers: self.reads_headers,
            taken: RefCell::default(),
            parsed: OnceCell::new(),
        };
        let batch = Call {
            number: call.number,
            messages: RSlice::from_slice(&views),
            released: RSlice::from_slice(&call.released),
            held: RSlice::from_slice(&call.held),
            hold_on_reject: self.hold_on_reject,
            cell: &self.shared.cell,
            cut: &self.shared.cut,
            host: CallHost::new(&hosted),
            more: ROption::RNone,
        };
        let place = Place {
            shared: Arc::clone(&self.shared),
            call: Arc::clone(&call),
        };
        let current = Current::enter(Rc::new(place));
        let returned = instance.digest(&batch);
        drop(current);
        hosted.tell_taken();
        drop(hosted);
        self.views = views::recycle(views);
        let number = call.number;
        // Given up before it is said: the messages go back to librdkafka on the thread that fetched them.
        drop(call);
        let broken = returned.broken.into_option();
        let goes_on = broken.is_none();
        self.shared.say(Said::Returned {
            call: number,
            finished: returned.finished,
            took: began.elapsed(),
            broken,
        });
        goes_on
    }

    fn step(&mut self, step: &LifecycleCall) -> bool {
        let Some(instance) = &mut self.instance else {
            return false;
        };
        let current = Current::enter(Rc::new(AtStep));
        let mut answer = instance.lifecycle(step);
        drop(current);
        if *step == LifecycleCall::Stopped {
            let ended = self.instance.take().map_or(Ok(()), Instance::end);
            answer = answer.and_then(|answer| ended.map(|()| answer));
        }
        let broken = answer
            .as_ref()
            .is_err_and(|failure| matches!(failure.kind, FailureKind::PANIC | FailureKind::FATAL));
        self.shared.say(Said::Lifecycle(answer));
        !broken && self.instance.is_some()
    }
}

// === impl ThreadCall ===

impl ThreadCall {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries[(self.from as usize).min(self.entries.len())..]
    }

    /// How many messages it has.
    pub(super) fn len(&self) -> usize {
        match &self.source {
            Source::Stored(kept) => kept.len(),
            _ => self.entries().len(),
        }
    }

    fn stored(&self, index: usize) -> Option<Fields<'_>> {
        let Source::Stored(kept) = &self.source else {
            return None;
        };
        views::at_place(self.view.as_ref()?, kept.get(index)?.0).map(|(fields, _)| fields)
    }

    /// Slot and offset of a message.
    pub(super) fn position(&self, index: u32) -> Option<(Slot, i64)> {
        if let Source::Stored(_) = &self.source {
            return self
                .stored(index as usize)
                .map(|fields| (Slot(fields.slot), fields.offset));
        }
        let entry = self.entries().get(index as usize)?;
        Some((entry.slot, self.fields(entry)?.offset))
    }

    /// Appends a view of each message.
    fn views<'a>(&'a self, names: &'a Names, views: &mut Vec<MessageView<'a>>) {
        if let (Source::Stored(kept), Some(view)) = (&self.source, &self.view) {
            let places = kept.iter().map(|kept| kept.0);
            // What was taken back may lie elsewhere by now: then the call is cut, and no view is looked at.
            let _ = views::of_places(view, places, names, views, None);
            return;
        }
        let entries = self.entries();
        views.reserve(entries.len());
        let mut last = None;
        for entry in entries {
            let (topic, partition) = match last {
                Some((slot, name)) if slot == entry.slot => name,
                _ => {
                    let name = names.get(entry.slot.0).unwrap_or(("", -1));
                    last = Some((entry.slot, name));
                    name
                }
            };
            let fields = self.fields(entry).unwrap_or_default();
            views.push(views::view(&fields, topic, partition));
        }
    }

    #[inline]
    fn fields(&self, entry: &Entry) -> Option<Fields<'_>> {
        let (slot, attempt, tag) = (entry.slot.0, entry.attempt, entry.tag);
        Some(match &self.source {
            Source::Stored(_) => return None,
            Source::Fetched(batch) => {
                let message = batch.get(entry.index as usize)?;
                let (timestamp_ms, timestamp_type) = timestamp(&message);
                Fields {
                    slot,
                    attempt,
                    tag,
                    timestamp_type: timestamp_type.0,
                    offset: message.offset(),
                    timestamp_ms,
                    // A plugin does not see it.
                    leader_epoch: -1,
                    key: message.key(),
                    payload: message.payload(),
                    headers: &[],
                }
            }
            Source::Parked(records) => {
                let record = records.get(entry.index as usize)?;
                Fields {
                    slot,
                    attempt,
                    tag,
                    timestamp_type: record.timestamp_type,
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    leader_epoch: record.leader_epoch,
                    key: record.key.as_deref(),
                    payload: record.payload.as_deref(),
                    headers: &[],
                }
            }
        })
    }

    fn headers(&self, index: usize) -> Box<[HeaderView<'_>]> {
        if let Source::Stored(_) = &self.source {
            let fields = self.stored(index);
            return fields.map_or_else(Box::default, |fields| views::of_headers(fields.headers));
        }
        let Some(entry) = self.entries().get(index) else {
            return Box::default();
        };
        match &self.source {
            Source::Stored(_) => Box::default(),
            Source::Fetched(batch) => {
                let headers = batch.get(entry.index as usize).map(|message| message.headers());
                headers
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, value)| views::header(name, value))
                    .collect()
            }
            Source::Parked(records) => {
                let headers = records
                    .get(entry.index as usize)
                    .map_or(&[][..], |record| &record.headers);
                headers
                    .iter()
                    .map(|(name, value)| views::header(name, value.as_deref()))
                    .collect()
            }
        }
    }
}

// === impl Hosted ===

impl HostedCall for Hosted<'_> {
    fn failed(&self, index: u32, failure: Failure) {
        self.shared.say(Said::Failed {
            call: self.call.number,
            index,
            failure,
        });
    }

    fn not_begun(&self, first: u32, count: u32) {
        self.shared.say(Said::NotBegun {
            call: self.call.number,
            first,
            count,
        });
    }

    fn headers(&self, index: u32) -> &[HeaderView<'_>] {
        let index = index as usize;
        let parsed = self.parsed.get_or_init(|| vec![OnceCell::new(); self.call.len()]);
        parsed
            .get(index)
            .map_or(&[], |parsed| parsed.get_or_init(|| self.call.headers(index)))
    }

    fn take(&self, index: u32) -> Result<OwnedMessage, String> {
        let gone = || format!("message {index} is none of this call");
        let names = self.names.ok_or_else(|| TAKES_NOTHING.to_owned())?;
        let at = index as usize;
        let (slot, lies) = match &self.call.source {
            Source::Stored(kept) => {
                let (view, kept) = self.call.view.as_ref().zip(kept.get(at)).ok_or_else(gone)?;
                let (fields, length) = views::at_place(view, kept.0).ok_or_else(gone)?;
                let start = kept.0 as usize * 8;
                (
                    fields.slot,
                    taken::Lies::Memory(Arc::clone(view), start..start + length),
                )
            }
            Source::Parked(records) => {
                let entry = self.call.entries().get(at).ok_or_else(gone)?;
                let lies = taken::Lies::Copy(Arc::clone(records), entry.index as usize);
                (entry.slot.0, lies)
            }
            Source::Fetched(_) => return Err(TAKES_NOTHING.to_owned()),
        };
        let (topic, partition) = names.topic(slot).ok_or_else(gone)?;
        let mut taken = self.taken.borrow_mut();
        match taken.last_mut() {
            Some((first, count)) if *first + *count == index => *count += 1,
            _ => taken.push((index, 1)),
        }
        Ok(OwnedMessage::new(Taken {
            lies,
            topic,
            partition,
            reads_headers: self.reads_headers,
            call: self.call.number,
            index,
            sink: Arc::clone(self.shared),
        }))
    }
}

impl Hosted<'_> {
    /// Says what was taken: before the call returns.
    fn tell_taken(&self) {
        for (first, count) in self.taken.take() {
            let call = self.call.number;
            self.shared.say(Said::Taken { call, first, count });
        }
    }
}

impl Sink for Shared {
    fn completed(&self, call: CallNumber, index: u32) {
        self.say(Said::Completed { call, index });
    }

    fn failed(&self, call: CallNumber, index: u32, failure: Failure) {
        self.say(Said::Failed { call, index, failure });
    }
}

// === impl Place ===

impl Locate for Place {
    fn message(&self) -> Option<MessageId> {
        let at = self.shared.cell.load();
        (at.call == self.call.number).then_some(MessageId {
            call: at.call,
            index: at.index,
        })
    }

    fn locate(&self) -> Option<(u32, i64)> {
        let at = self.shared.cell.load();
        if at.call != self.call.number {
            return None;
        }
        let (slot, offset) = self.call.position(at.index)?;
        Some((slot.0, offset))
    }
}

// === impl Services ===

impl Services {
    fn take(
        &self,
        record: &ProduceRecord<'_>,
        cause: MessageId,
        delivery: Option<Delivery>,
    ) -> Result<(), (HostFailure, Option<Delivery>)> {
        let length = produced::length(record);
        if let Some(refused) = produced::refuse(record, length) {
            return Err((refused, delivery));
        }
        let outputs = &self.shared.outputs;
        // What it has produced so far is heard without its help.
        if let Err(failure) = outputs.room.take(produced::cost(length), || {}) {
            return Err((failure, delivery));
        }
        let known = (cause != MessageId::NONE)
            .then_some(Cause::Message(cause))
            .or_else(current::cause);
        let head = Head {
            cause: known.unwrap_or(Cause::All),
            asker: delivery.map_or(0, |delivery| outputs.waiters.add(delivery)),
            receipt: 0,
        };
        self.shared.produce(&head, record);
        Ok(())
    }
}

impl HostServices for Services {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &str) {
        let level = level.clamp(LogLevel::ERROR, LogLevel::TRACE);
        if level > self.voice.level() {
            return;
        }
        let known = current::position().and_then(|(slot, offset)| {
            let slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots
                .get(&slot)
                .map(|(topic, partition)| (Arc::clone(topic), *partition, offset))
        });
        let at = known.as_ref().map(|(topic, partition, offset)| Position {
            topic,
            partition: *partition,
            offset: *offset,
        });
        self.voice.log(
            &self.route,
            &PluginLog {
                level,
                target,
                message,
                fields,
                at,
            },
        );
    }

    fn log_enabled(&self, level: LogLevel) -> bool {
        level <= self.voice.level()
    }

    fn count(&self, name: &str, by: u64) {
        self.voice.count(&self.route, name, by);
    }

    fn time(&self, name: &str, nanoseconds: u64) {
        self.voice.time(&self.route, name, Durations::one(nanoseconds));
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn stop_requested(&self) -> bool {
        self.shared.stop_requested.load(Ordering::Relaxed)
    }

    fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), String> {
        self.produce_for(record, MessageId::NONE)
            .map_err(|failure| failure.message.into_string())
    }

    fn produce_for(&self, record: &ProduceRecord<'_>, cause: MessageId) -> Result<(), HostFailure> {
        self.take(record, cause, None).map_err(|(failure, _)| failure)
    }

    fn produce_then(&self, record: &ProduceRecord<'_>, cause: MessageId, delivery: Delivery) {
        if let Err((failure, Some(delivery))) = self.take(record, cause, Some(delivery)) {
            delivery.tell(Err(failure));
        }
    }

    fn pause(&self, _: &str, _: i32) -> Result<(), String> {
        Err(not_yet("pause partitions"))
    }

    fn resume(&self, _: &str, _: i32) -> Result<(), String> {
        Err(not_yet("resume partitions"))
    }
}
