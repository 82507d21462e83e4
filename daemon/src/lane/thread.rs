//! A home in a thread of the daemon, for trusted plugins that want the last nanoseconds: no copy, no socket. Panics are
//! contained; a digest that blocks cannot be ended, only named.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::Thread,
    time::Duration,
};

use crossbeam_queue::SegQueue;
use devour_abi::{CallCell, CutNumber, LifecycleCall, Progress};

use super::{
    CallNumber, DownCause, Handout, Home, HomeConfig, HomeEvent, Record, Slot, Source,
    calls::timestamp,
    deadline::Watch,
    in_hand::InHand,
    thread_lane::{self, Order, Shared, ThreadCall, ThreadParts},
};
use crate::os::{EventFd, Interest, Poller, Timer};

mod hear;

/// The home of a route whose plugin is not isolated.
pub struct ThreadHome {
    config: HomeConfig,
    poller: Poller,
    timer: Timer,
    /// For what is found out outside of `pump`.
    wake: EventFd,
    pending: Vec<HomeEvent>,
    calls: VecDeque<Held>,
    in_hand: InHand,
    slots: Vec<(Slot, Arc<str>, i32)>,
    life: Option<Life>,
    last_call: CallNumber,
    steps_answered: u64,
    watch: Watch<Subject>,
    ticking: bool,
    tokens: Vec<u64>,
}

/// One instance.
struct Life {
    shared: Arc<Shared>,
    thread: Thread,
    up: bool,
    /// Why it goes, once it does.
    ending: Option<DownCause>,
    /// It was said that it goes and does not.
    named: bool,
}

/// A call whose bytes the worker may still ask for.
struct Held {
    call: Arc<ThreadCall>,
    handed: bool,
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Nothing,
    Building,
    Step(u64),
    Digest(Progress),
    /// It was told to end.
    Ending,
}

const SAID: u64 = 0;
const TIMER: u64 = 1;
const WAKE: u64 = 2;
/// One at work, two waiting.
const MAX_CALLS: usize = 3;

// === impl ThreadHome ===

impl ThreadHome {
    /// A home without a thread.
    ///
    /// # Errors
    /// When descriptors are missing.
    pub fn new(config: HomeConfig) -> io::Result<Self> {
        let (poller, timer, wake) = (Poller::new()?, Timer::new()?, EventFd::new()?);
        poller.add(&timer, TIMER, Interest::Read)?;
        poller.add(&wake, WAKE, Interest::Read)?;
        let limits = [
            config.lifecycle_timeout,
            config.digest_timeout.unwrap_or(Duration::MAX),
        ];
        Ok(Self {
            watch: Watch::new(limits),
            config,
            poller,
            timer,
            wake,
            pending: Vec::new(),
            calls: VecDeque::new(),
            in_hand: InHand::default(),
            slots: Vec::new(),
            life: None,
            last_call: 0,
            steps_answered: 0,
            ticking: false,
            tokens: Vec::new(),
        })
    }

    fn build(&mut self) -> io::Result<Life> {
        let shared = Arc::new(Shared {
            orders: SegQueue::new(),
            said: SegQueue::new(),
            wake: EventFd::new()?,
            cell: CallCell::new(),
            cut: CutNumber::new(),
            end: false.into(),
            stop_requested: false.into(),
            slots: std::sync::Mutex::default(),
        });
        for (slot, topic, partition) in &self.slots {
            tell_slot(&shared, *slot, topic, *partition);
        }
        let parts = ThreadParts {
            route: self.config.route.clone(),
            library: self.config.library.clone(),
            symbol: self.config.symbol.clone(),
            construct: self.config.construct.clone(),
            hold_on_reject: self.config.hold_on_reject,
            voice: Arc::clone(&self.config.voice),
            shared: Arc::clone(&shared),
        };
        self.poller.add(&shared.wake, SAID, Interest::Read)?;
        let name = format!("lane-{}", self.config.route);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || thread_lane::run(parts));
        match spawned {
            Ok(handle) => Ok(Life {
                shared,
                thread: handle.thread().clone(),
                up: false,
                ending: None,
                named: false,
            }),
            Err(error) => {
                let _ = self.poller.remove(&shared.wake);
                Err(error)
            }
        }
    }

    fn order(&self, order: Order) {
        if let Some(life) = &self.life {
            life.shared.orders.push(order);
            life.thread.unpark();
        }
    }

    fn tick_from_now(&mut self) {
        if !self.ticking {
            self.ticking = true;
            self.timer.every(self.watch.period());
        }
    }

    fn cell(&self) -> Progress {
        self.life
            .as_ref()
            .map_or_else(Progress::default, |life| life.shared.cell.load())
    }

    fn held(&self, call: CallNumber) -> Option<&Held> {
        self.calls.iter().find(|held| held.call.number == call)
    }

    fn is_wanted(&self, call: CallNumber) -> bool {
        self.held(call).is_some_and(|held| !held.abandoned)
    }

    /// The plugin has given a call back. Whether the worker wants to hear of it.
    fn came_back(&mut self, call: CallNumber) -> bool {
        let Some(at) = self.calls.iter().position(|held| held.call.number == call) else {
            return false;
        };
        if self.calls[at].abandoned {
            self.calls.remove(at);
            return false;
        }
        self.calls[at].handed = false;
        true
    }

    fn hand(&mut self, call: ThreadCall) {
        let call = Arc::new(call);
        let runs = self.life.is_some();
        if runs {
            self.in_hand.push_call(call.number, call.entries().len() as u32);
            self.order(Order::Digest(Arc::clone(&call)));
        }
        self.calls.push_back(Held {
            call,
            handed: runs,
            abandoned: false,
        });
        if self.config.digest_timeout.is_some() {
            self.tick_from_now();
        }
    }
}

impl Home for ThreadHome {
    fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        self.in_hand.clear();
        match self.build() {
            Ok(life) => {
                self.life = Some(life);
                self.tick_from_now();
            }
            Err(error) => {
                let cause = DownCause::NotBuilt(format!("its thread cannot be started: {error}"));
                let progress = self.in_hand.progress(Progress::default());
                self.pending.push(HomeEvent::Down { cause, progress });
                self.wake.signal();
            }
        }
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    fn learn(&mut self, slot: Slot, topic: &Arc<str>, partition: i32) {
        self.slots.push((slot, Arc::clone(topic), partition));
        if let Some(life) = &self.life {
            tell_slot(&life.shared, slot, topic, partition);
        }
    }

    fn room(&self) -> usize {
        match &self.life {
            Some(life) if life.up && life.ending.is_none() => MAX_CALLS.saturating_sub(self.in_hand.calls()),
            _ => 0,
        }
    }

    fn hand_out(&mut self, handout: Handout) -> Result<CallNumber, Handout> {
        if self.room() == 0 {
            return Err(handout);
        }
        self.last_call += 1;
        let Handout {
            source,
            entries,
            released,
            held,
        } = handout;
        self.hand(ThreadCall {
            number: self.last_call,
            source,
            entries: entries.into(),
            from: 0,
            released,
            held,
        });
        Ok(self.last_call)
    }

    fn hand_again(&mut self, call: CallNumber, from: u32, held: Vec<u64>) -> CallNumber {
        self.last_call += 1;
        let number = self.last_call;
        if let Some(at) = self.calls.iter().position(|held| held.call.number == call)
            && let Some(old) = self.calls.remove(at)
        {
            let old = old.call;
            let (source, entries) = (old.source.clone(), Arc::clone(&old.entries));
            self.hand(ThreadCall {
                number,
                source,
                entries,
                from: old.from + from,
                released: Vec::new(),
                held,
            });
        }
        number
    }

    fn copy_out(&self, call: CallNumber, index: u32) -> Record {
        let record = self
            .held(call)
            .and_then(|held| copy(&held.call, index, self.config.digest.reads_headers));
        record.expect("the worker asks for messages of calls that it has not finished")
    }

    fn finish(&mut self, call: CallNumber) {
        let Some(at) = self.calls.iter().position(|held| held.call.number == call) else {
            return;
        };
        if self.calls[at].handed {
            self.calls[at].abandoned = true;
        } else {
            self.calls.remove(at);
        }
    }

    fn lifecycle(&mut self, step: &LifecycleCall) {
        if self.life.is_some() {
            self.in_hand.push_step();
            self.order(Order::Step(step.clone()));
            self.tick_from_now();
        }
    }

    fn cut(&mut self) {
        if let Some(life) = &self.life {
            life.shared.cut.raise(self.last_call);
        }
    }

    fn progress(&self) -> Progress {
        self.in_hand.progress(self.cell())
    }

    fn request_stop(&mut self) {
        if let Some(life) = &self.life {
            life.shared.stop_requested.store(true, Ordering::Relaxed);
        }
    }

    fn end(&mut self, cause: DownCause) {
        self.cut();
        let Some(life) = &mut self.life else { return };
        if life.ending.is_none() {
            life.ending = Some(cause);
            life.shared.end.store(true, Ordering::Release);
            self.order(Order::End);
            self.tick_from_now();
        }
    }

    fn pump(&mut self, events: &mut Vec<HomeEvent>) {
        self.hear(events);
    }
}

impl Drop for ThreadHome {
    fn drop(&mut self) {
        if self.in_hand.calls() > 0 {
            let at = self.describe(self.progress());
            tracing::error!(route = %self.config.route, calls = self.in_hand.calls(), at,
                "the plugin's thread is left behind with what it has in hand; only a restart of the daemon frees it");
        }
        self.end(DownCause::Ordered);
    }
}

fn tell_slot(shared: &Shared, slot: Slot, topic: &Arc<str>, partition: i32) {
    let mut slots = shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
    slots.insert(slot.0, (Arc::clone(topic), partition));
    shared
        .orders
        .push(Order::Learn(slot.0, Arc::clone(topic), partition));
}

/// A copy of a message where it was read to.
fn copy(call: &ThreadCall, index: u32, reads_headers: bool) -> Option<Record> {
    let entry = call.entries().get(index as usize)?;
    match &call.source {
        Source::Parked(records) => {
            let record = records.get(entry.index as usize)?;
            Some(Record {
                slot: entry.slot,
                tag: entry.tag,
                attempt: entry.attempt,
                ..record.clone()
            })
        }
        Source::Fetched(batch) => {
            let message = batch.get(entry.index as usize)?;
            let (timestamp_ms, timestamp_type) = timestamp(&message);
            let headers = if reads_headers {
                message.headers()
            } else {
                Vec::new()
            };
            Some(Record {
                slot: entry.slot,
                tag: entry.tag,
                attempt: entry.attempt,
                offset: message.offset(),
                leader_epoch: message.leader_epoch().unwrap_or(-1),
                timestamp_ms,
                timestamp_type: timestamp_type.0,
                key: message.key().map(Box::from),
                payload: message.payload().map(Box::from),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.map(Box::from)))
                    .collect(),
            })
        }
    }
}
