//! The child's side of the talk socket. Logs and metrics never wait: what the socket does not take waits in a bounded
//! queue, what the queue does not take is dropped and counted. Metrics are added up and told five times a second. What is
//! produced goes the way of the outcomes, as soon as there is room; what became of it is heard here.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use devour_abi::{
    Delivered, Delivery, HostErrorKind, HostFailure, HostServices, LogLevel, MessageId, ProduceRecord,
};

use super::{
    channel::{FromTalk, ToTalk},
    current,
    frame::cut,
    host_call::{Outcomes, Sending},
    produced::{self, Cause, Head, Room, Waiters},
    voice::Durations,
};
use crate::os::{
    EventFd, Interest, Poller, SeqPacket, Timer,
    socket::{MAX_FRAME, Received, Sent, Wait},
};

/// The socket and what waits for it. Used from every thread of the process.
pub(super) struct Talk {
    socket: SeqPacket,
    state: Mutex<State>,
    /// Wakes the thread that serves the socket: something waits.
    wake: EventFd,
    stop_requested: AtomicBool,
    /// What may be produced.
    room: Room,
    /// Who waits to hear of what was produced.
    waiters: Waiters,
    /// The lanes' ways to the daemon.
    lanes: Mutex<Vec<Arc<Outcomes>>>,
    /// One of them has records that nobody may send soon.
    has_records: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    lost_logs: u64,
    lost_metrics: u64,
    counts: HashMap<Box<str>, u64>,
    times: HashMap<Box<str>, Durations>,
    /// Metrics were added since they were told.
    fresh: bool,
    frame: Vec<u8>,
}

/// What the plugin may ask of its host.
pub(super) struct Services {
    pub talk: Arc<Talk>,
    /// Of its lane.
    pub outcomes: Arc<Outcomes>,
    pub level: LogLevel,
    pub settings: String,
}

const MAX_WAITING: usize = 256 * 1024;
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Records that no outcome follows are sent after this.
const SEND_AFTER: Duration = Duration::from_millis(1);
const MAX_METRICS: usize = 1000;
const MAX_METRIC_NAME: usize = 200;

// === impl Talk ===

impl Talk {
    pub(super) fn new(socket: SeqPacket) -> io::Result<Self> {
        Ok(Self {
            socket,
            state: Mutex::default(),
            wake: EventFd::new()?,
            stop_requested: AtomicBool::new(false),
            room: Room::default(),
            waiters: Waiters::default(),
            lanes: Mutex::default(),
            has_records: AtomicBool::new(false),
        })
    }

    /// Sends what this lane has produced, if no outcome does.
    pub(super) fn serves(&self, outcomes: &Arc<Outcomes>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.push(Arc::clone(outcomes));
    }

    /// A lane has records.
    fn send_soon(&self) {
        if !self.has_records.swap(true, Ordering::AcqRel) {
            self.wake.signal();
        }
    }

    fn send_records(&self) {
        self.has_records.store(false, Ordering::Release);
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lanes.iter().for_each(|outcomes| outcomes.flush());
    }

    fn hear(&self, said: ToTalk) {
        match said {
            ToTalk::Stop => self.stop_requested.store(true, Ordering::Relaxed),
            ToTalk::Room { bytes, most } => self.room.grant(bytes, most),
            ToTalk::Received { number } => {
                let nowhere = Delivered {
                    partition: -1,
                    offset: -1,
                };
                self.waiters.tell(number, Ok(nowhere));
            }
            ToTalk::Delivered { number, delivered } => self.waiters.tell(number, Ok(delivered)),
            ToTalk::NotDelivered { number, failure } => self.waiters.tell(number, Err(failure)),
        }
    }

    /// Serves the socket until the daemon closes it.
    pub(super) fn serve(&self) -> io::Result<()> {
        const TALK: u64 = 0;
        const WAKE: u64 = 1;
        const TIMER: u64 = 2;
        const RECORDS: u64 = 3;
        let (poller, timer, records) = (Poller::new()?, Timer::new()?, Timer::new()?);
        poller.add(&records, RECORDS, Interest::Read)?;
        poller.add(&self.socket, TALK, Interest::Read)?;
        poller.add(&self.wake, WAKE, Interest::Read)?;
        poller.add(&timer, TIMER, Interest::Read)?;
        let (mut tokens, mut buffer, mut writes) = (Vec::new(), vec![0; MAX_FRAME], false);
        loop {
            poller.wait(&mut tokens, None)?;
            if tokens.contains(&TALK) {
                loop {
                    match self.socket.receive(&mut buffer, Wait::No)? {
                        Received::Frame(bytes) => match ToTalk::decode(&buffer[..bytes]) {
                            Ok(said) => self.hear(said),
                            Err(error) => return Err(io::Error::other(error)),
                        },
                        Received::Nothing => break,
                        Received::Reset | Received::Closed => return Ok(()),
                    }
                }
            }
            if tokens.contains(&WAKE) {
                self.wake.drain();
                if self.lock().fresh {
                    timer.once(TELL_EVERY);
                }
                if self.has_records.load(Ordering::Acquire) {
                    records.once(SEND_AFTER);
                }
            }
            if tokens.contains(&RECORDS) {
                records.drain();
                self.send_records();
            }
            let mut state = self.lock();
            if tokens.contains(&TIMER) {
                timer.drain();
                self.tell_metrics(&mut state);
            }
            let waits = !self.flush(&mut state);
            drop(state);
            if waits != writes {
                writes = waits;
                let interest = if writes {
                    Interest::ReadWrite
                } else {
                    Interest::Read
                };
                poller.change(&self.socket, TALK, interest)?;
            }
        }
    }

    /// Tells everything that waits, if the daemon reads it soon. For the end of an instance.
    pub(super) fn finish(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut state = self.lock();
        self.tell_metrics(&mut state);
        let poller = Poller::new();
        while !self.flush(&mut state) && Instant::now() < deadline {
            // The socket tells when it has room; were there no epoll to ask, the rest is lost with the process.
            let Ok(poller) = &poller else { return };
            let _ = poller.add(&self.socket, 0, Interest::ReadWrite);
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = poller.wait(&mut Vec::new(), Some(left));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends now or later; `false` if there is no room for it.
    fn say(&self, state: &mut State, said: &FromTalk<'_>) -> bool {
        let mut frame = std::mem::take(&mut state.frame);
        said.encode(&mut frame);
        let taken = self.send(state, &frame);
        state.frame = frame;
        taken
    }

    fn send(&self, state: &mut State, frame: &[u8]) -> bool {
        if self.flush(state)
            && matches!(
                self.socket.send(frame, &[], Wait::No),
                Ok(Sent::Done | Sent::Closed)
            )
        {
            return true;
        }
        if state.waiting_bytes + frame.len() > MAX_WAITING {
            return false;
        }
        state.waiting_bytes += frame.len();
        state.waiting.push_back(frame.to_vec());
        self.wake.signal();
        true
    }

    /// Sends what waits; whether nothing does any more.
    fn flush(&self, state: &mut State) -> bool {
        while let Some(frame) = state.waiting.front() {
            if !matches!(
                self.socket.send(frame, &[], Wait::No),
                Ok(Sent::Done | Sent::Closed)
            ) {
                return false;
            }
            state.waiting_bytes -= frame.len();
            state.waiting.pop_front();
        }
        if state.lost_logs > 0 || state.lost_metrics > 0 {
            let mut frame = Vec::new();
            FromTalk::Lost {
                logs: state.lost_logs,
                metrics: state.lost_metrics,
            }
            .encode(&mut frame);
            if matches!(
                self.socket.send(&frame, &[], Wait::No),
                Ok(Sent::Done | Sent::Closed)
            ) {
                (state.lost_logs, state.lost_metrics) = (0, 0);
            }
        }
        true
    }

    fn tell_metrics(&self, state: &mut State) {
        state.fresh = false;
        for (name, by) in std::mem::take(&mut state.counts) {
            if !self.say(state, &FromTalk::Count { name: &name, by }) {
                state.lost_metrics += 1;
            }
        }
        for (name, durations) in std::mem::take(&mut state.times) {
            if !self.say(
                state,
                &FromTalk::Time {
                    name: &name,
                    durations,
                },
            ) {
                state.lost_metrics += 1;
            }
        }
    }

    fn add<V>(
        &self,
        map: impl Fn(&mut State) -> &mut HashMap<Box<str>, V>,
        name: &str,
        add: impl Fn(Option<&mut V>) -> V,
    ) where
        V: Copy,
    {
        let name = cut(name, MAX_METRIC_NAME);
        let mut state = self.lock();
        let known = map(&mut state);
        let full = known.len() >= MAX_METRICS;
        match known.get_mut(name) {
            Some(value) => *value = add(Some(value)),
            None if full => {
                state.lost_metrics += 1;
                return;
            }
            None => {
                known.insert(name.into(), add(None));
            }
        }
        if !state.fresh {
            state.fresh = true;
            self.wake.signal();
        }
    }
}

// === impl Services ===

impl Services {
    /// Takes a record, if there is room; where nobody knows whose it is, only when the daemon has it: then it is there before
    /// any outcome that is told behind it, on whatever way.
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
        let room = self
            .talk
            .room
            .take(produced::cost(length), || self.outcomes.flush());
        if let Err(failure) = room {
            return Err((failure, delivery));
        }
        let known = (cause != MessageId::NONE)
            .then_some(Cause::Message(cause))
            .or_else(current::cause);
        let mut received = None;
        let receipt = match known {
            Some(_) => 0,
            None => {
                let (tell, told) = mpsc::sync_channel(1);
                received = Some(told);
                let delivery = Delivery::new(move |outcome| {
                    // Whoever waited is there.
                    let _ = tell.send(outcome);
                });
                self.talk.waiters.add(delivery)
            }
        };
        let sending = if receipt != 0 || delivery.is_some() {
            Sending::Now
        } else {
            Sending::Soon
        };
        let head = Head {
            cause: known.unwrap_or(Cause::All),
            asker: delivery.map_or(0, |delivery| self.talk.waiters.add(delivery)),
            receipt,
        };
        match self.outcomes.produce(&head, record, sending) {
            Ok(true) => self.talk.send_soon(),
            Ok(false) => {}
            Err(error) => {
                let text = format!("there is no memory to pass the record on in: {error}");
                let failure = HostFailure::new(HostErrorKind::FAILED, text);
                self.talk.waiters.tell(head.asker, Err(failure.clone()));
                self.talk.waiters.tell(head.receipt, Err(failure.clone()));
                return Err((failure, None));
            }
        }
        if let Some(received) = received {
            // An end means that the process is at its own.
            let _ = received.recv();
        }
        Ok(())
    }
}

impl HostServices for Services {
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &str) {
        let level = level.clamp(LogLevel::ERROR, LogLevel::TRACE);
        if level > self.level {
            return;
        }
        let at = current::position();
        let mut state = self.talk.lock();
        if !self.talk.say(
            &mut state,
            &FromTalk::Log {
                level,
                at,
                target,
                message,
                fields,
            },
        ) {
            state.lost_logs += 1;
        }
    }

    fn log_enabled(&self, level: LogLevel) -> bool {
        level <= self.level
    }

    fn count(&self, name: &str, by: u64) {
        self.talk.add(
            |state| &mut state.counts,
            name,
            |known| known.map_or(0, |known| *known).saturating_add(by),
        );
    }

    fn time(&self, name: &str, nanoseconds: u64) {
        self.talk.add(
            |state| &mut state.times,
            name,
            |known| {
                let mut sum = Durations::one(nanoseconds);
                if let Some(known) = known {
                    sum.add(*known);
                }
                sum
            },
        );
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn stop_requested(&self) -> bool {
        self.talk.stop_requested.load(Ordering::Relaxed)
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

impl AsFd for Talk {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a host answers that cannot do something.
pub(super) fn not_yet(what: &str) -> String {
    format!(
        "not available yet: this version of devourd (ABI {}) cannot {what} for a plugin",
        devour_abi::ABI_VERSION
    )
}
