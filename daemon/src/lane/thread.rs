//! A home in a thread of the daemon, for trusted plugins that want the last nanoseconds: no copy, no socket. Panics are
//! contained; a digest that blocks cannot be ended, only named.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::Thread,
    time::Duration,
};

use crossbeam_queue::SegQueue;
use devour_abi::{CallCell, ConstructRequest, CutNumber, Delivered, HostFailure, LifecycleCall, Progress};

use super::{
    Asker, CallNumber, DownCause, Handout, Home, HomeConfig, HomeEvent, Intake, Record, Slot, Source, Whose,
    calls::timestamp,
    deadline::Watch,
    in_hand::{AtWork, InHand},
    next_life,
    stock::{Stock, record_of},
    thread_lane::{self, Order, OutputsShare, Shared, ThreadCall, ThreadParts},
    views,
};
use crate::os::{EventFd, Interest, Poller, SharedView, Timer, barrier};

mod deadlines;
mod ghosts;
mod hear;

/// The home of a route whose plugin is not isolated.
pub struct ThreadHome {
    config: HomeConfig,
    poller: Poller,
    timer: Timer,
    /// For what is found out outside of `pump`.
    wake: EventFd,
    pending: Vec<HomeEvent>,
    calls: HashMap<CallNumber, Held>,
    stock: Option<Stock>,
    /// The stock as the lanes see it.
    view: Option<Arc<SharedView>>,
    slots: HashMap<Slot, (Arc<str>, i32)>,
    lanes: Vec<Lane>,
    life: Option<Life>,
    /// What earlier lives still hold.
    ghosts: Vec<ghosts::Ghost>,
    last_call: CallNumber,
    /// The daemon's own ticks, added up.
    clock: Duration,
    ticking: bool,
    period: Duration,
    idle: Watch<bool>,
    /// No digest misses its deadline now.
    suspended: bool,
    /// Bytes that the plugin may produce, or the next one may.
    room: usize,
    tokens: Vec<u64>,
}

/// What this home of a route gives to the next.
pub(super) struct Belongings {
    calls: HashMap<CallNumber, Held>,
    stock: Option<Stock>,
    view: Option<Arc<SharedView>>,
    slots: HashMap<Slot, (Arc<str>, i32)>,
    ghosts: Vec<ghosts::Ghost>,
    last_call: CallNumber,
}

/// All instances of one life.
struct Life {
    number: u64,
    outputs: Arc<OutputsShare>,
    threads: Vec<LaneThread>,
    /// Why it goes, once it does.
    ending: Option<DownCause>,
    missed: Option<Progress>,
    /// How long it has been told to end.
    ending_since: Duration,
    /// It was said that it goes and does not.
    named: bool,
}

struct LaneThread {
    shared: Arc<Shared>,
    thread: Thread,
    up: bool,
    ended: bool,
}

/// One lane, whichever instance it has.
struct Lane {
    in_hand: InHand,
    last_call: CallNumber,
    steps_answered: u64,
    watch: Watch<Subject>,
    /// Runs of messages that were taken: call, first, count, when.
    taken: VecDeque<(CallNumber, u32, u32, Duration)>,
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
}

const TIMER: u64 = 1;
const WAKE: u64 = 2;
const GHOSTS: u64 = 3;
/// The first lane's; the others follow.
const SAID: u64 = 16;
/// One at work, two waiting.
const MAX_CALLS: usize = 3;

// === impl ThreadHome ===

impl ThreadHome {
    /// A home without threads.
    ///
    /// # Errors
    /// When descriptors, or address space for the stock, are missing.
    pub fn new(config: HomeConfig) -> io::Result<Self> {
        let stock = match config.intake {
            Intake::Calls => None,
            Intake::Stock => Some(Stock::new(config.arena_bytes, config.keeps_headers)?),
        };
        let view = stock
            .as_ref()
            .map(|stock| stock.view().map(Arc::new))
            .transpose()?;
        Self::with(config, stock, view)
    }

    fn with(config: HomeConfig, stock: Option<Stock>, view: Option<Arc<SharedView>>) -> io::Result<Self> {
        let (poller, timer, wake) = (Poller::new()?, Timer::new()?, EventFd::new()?);
        poller.add(&timer, TIMER, Interest::Read)?;
        poller.add(&wake, WAKE, Interest::Read)?;
        let limits = [
            config.lifecycle_timeout,
            config.digest_timeout.unwrap_or(Duration::MAX),
        ];
        let lane = |_| Lane {
            in_hand: InHand::default(),
            last_call: 0,
            steps_answered: 0,
            watch: Watch::new(limits),
            taken: VecDeque::new(),
        };
        // Without it the daemon cannot take back what a lane has not begun.
        let _ = barrier::register();
        Ok(Self {
            lanes: (0..config.construct.lanes.max(1)).map(lane).collect(),
            period: Watch::<Subject>::new(limits).period(),
            idle: Watch::new(limits),
            config,
            poller,
            timer,
            wake,
            pending: Vec::new(),
            calls: HashMap::new(),
            stock,
            view,
            slots: HashMap::new(),
            life: None,
            ghosts: Vec::new(),
            last_call: 0,
            clock: Duration::ZERO,
            ticking: false,
            suspended: false,
            room: 0,
            tokens: Vec::new(),
        })
    }

    fn build(&mut self) -> io::Result<Life> {
        let outputs = Arc::new(OutputsShare::default());
        outputs
            .room
            .grant(self.room as u64, self.config.output_bytes as u64);
        let mut life = Life {
            number: next_life(),
            outputs: Arc::clone(&outputs),
            threads: Vec::new(),
            ending: None,
            missed: None,
            ending_since: Duration::ZERO,
            named: false,
        };
        for lane in 0..self.lanes.len() {
            match self.build_lane(lane, &outputs) {
                Ok(thread) => life.threads.push(thread),
                Err(error) => {
                    for thread in &life.threads {
                        thread.shared.end.store(true, Ordering::Release);
                        thread.thread.unpark();
                        let _ = self.poller.remove(&thread.shared.wake);
                    }
                    return Err(error);
                }
            }
        }
        Ok(life)
    }

    fn build_lane(&self, lane: usize, outputs: &Arc<OutputsShare>) -> io::Result<LaneThread> {
        let shared = Arc::new(Shared {
            orders: SegQueue::new(),
            said: SegQueue::new(),
            wake: EventFd::new()?,
            cell: CallCell::new(),
            cut: CutNumber::new(),
            end: false.into(),
            stop_requested: false.into(),
            slots: std::sync::Mutex::default(),
            outputs: Arc::clone(outputs),
            produced: std::sync::Mutex::default(),
            any_produced: false.into(),
            woken: false.into(),
        });
        for (slot, (topic, partition)) in &self.slots {
            tell_slot(&shared, *slot, topic, *partition);
        }
        let construct = ConstructRequest {
            lane: lane as u32,
            ..self.config.construct.clone()
        };
        let parts = ThreadParts {
            route: self.config.route.clone(),
            library: self.config.library.clone(),
            symbol: self.config.symbol.clone(),
            construct,
            hold_on_reject: self.config.hold_on_reject,
            takes: self.config.takes,
            reads_headers: self.config.digest.reads_headers,
            voice: Arc::clone(&self.config.voice),
            shared: Arc::clone(&shared),
        };
        self.poller
            .add(&shared.wake, SAID + lane as u64, Interest::Read)?;
        let name = format!("lane-{}", self.config.route);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || thread_lane::run(parts));
        match spawned {
            Ok(handle) => Ok(LaneThread {
                shared,
                thread: handle.thread().clone(),
                up: false,
                ended: false,
            }),
            Err(error) => {
                let _ = self.poller.remove(&shared.wake);
                Err(error)
            }
        }
    }

    fn order(&self, lane: usize, order: Order) {
        if let Some(life) = &self.life {
            let thread = &life.threads[lane];
            thread.shared.orders.push(order);
            thread.thread.unpark();
        }
    }

    fn tick_from_now(&mut self) {
        if !self.ticking {
            self.ticking = true;
            self.timer.every(self.period);
        }
    }

    fn cell(&self, lane: usize) -> Progress {
        self.life
            .as_ref()
            .map_or_else(Progress::default, |life| life.threads[lane].shared.cell.load())
    }

    fn all_progress(&self) -> Vec<Progress> {
        (0..self.lanes.len()).map(|lane| self.progress(lane)).collect()
    }

    fn is_wanted(&self, call: CallNumber) -> bool {
        self.calls.get(&call).is_some_and(|held| !held.abandoned)
    }

    /// The plugin has given a call back. Whether the worker wants to hear of it.
    fn came_back(&mut self, call: CallNumber) -> bool {
        let Some(held) = self.calls.get_mut(&call) else {
            return false;
        };
        if held.abandoned {
            self.calls.remove(&call);
            return false;
        }
        held.handed = false;
        true
    }

    fn hand(&mut self, lane: usize, call: ThreadCall) {
        let call = Arc::new(call);
        let runs = self.life.is_some();
        if runs {
            self.lanes[lane].in_hand.push_call(call.number, call.len() as u32);
            self.lanes[lane].last_call = call.number;
            self.order(lane, Order::Digest(Arc::clone(&call)));
        }
        let held = Held {
            handed: runs,
            abandoned: false,
            call,
        };
        self.calls.insert(held.call.number, held);
        if self.config.digest_timeout.is_some() {
            self.tick_from_now();
        }
    }

    fn is_up(&self) -> bool {
        let up = |life: &Life| life.ending.is_none() && life.threads.iter().all(|thread| thread.up);
        self.life.as_ref().is_some_and(up)
    }
}

impl Home for ThreadHome {
    fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        for lane in &mut self.lanes {
            lane.in_hand.clear();
            lane.taken.clear();
        }
        match self.build() {
            Ok(life) => {
                self.life = Some(life);
                self.tick_from_now();
            }
            Err(error) => {
                let cause = DownCause::NotBuilt(format!("its thread cannot be started: {error}"));
                let progress = self.all_progress();
                self.pending.push(HomeEvent::Down {
                    cause,
                    told: progress.clone(),
                    progress,
                    missed: None,
                });
                self.wake.signal();
            }
        }
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    fn learn(&mut self, slot: Slot, topic: &Arc<str>, partition: i32) {
        self.slots.insert(slot, (Arc::clone(topic), partition));
        for thread in self.life.iter().flat_map(|life| &life.threads) {
            tell_slot(&thread.shared, slot, topic, partition);
        }
    }

    fn forget(&mut self, slot: Slot) {
        self.slots.remove(&slot);
        for thread in self.life.iter().flat_map(|life| &life.threads) {
            let slots = thread.shared.slots.lock();
            slots.unwrap_or_else(PoisonError::into_inner).remove(&slot.0);
        }
    }

    fn stock(&mut self) -> Option<&mut Stock> {
        self.stock.as_mut()
    }

    fn room(&self, lane: usize) -> usize {
        if self.is_up() {
            MAX_CALLS.saturating_sub(self.lanes[lane].in_hand.calls())
        } else {
            0
        }
    }

    fn hand_out(&mut self, lane: usize, handout: Handout) -> Result<CallNumber, Handout> {
        if self.room(lane) == 0 {
            return Err(handout);
        }
        self.last_call += 1;
        let Handout {
            source,
            entries,
            released,
            held,
        } = handout;
        let call = ThreadCall {
            number: self.last_call,
            source,
            entries: entries.into(),
            from: 0,
            released,
            held,
            view: self.view.clone(),
        };
        self.hand(lane, call);
        Ok(self.last_call)
    }

    fn hand_again(&mut self, call: CallNumber, from: u32, held: Vec<u64>) -> CallNumber {
        self.last_call += 1;
        let number = self.last_call;
        if let Some(old) = self.calls.remove(&call) {
            let old = old.call;
            let call = ThreadCall {
                number,
                source: old.source.clone(),
                entries: Arc::clone(&old.entries),
                from: old.from + from,
                released: Vec::new(),
                held,
                view: old.view.clone(),
            };
            self.hand(0, call);
        }
        number
    }

    fn copy_out(&self, call: CallNumber, index: u32) -> Record {
        let record = self
            .calls
            .get(&call)
            .and_then(|held| copy(&held.call, index, self.config.keeps_headers));
        record.expect("the worker asks for messages of calls that it has not finished")
    }

    fn finish(&mut self, call: CallNumber) {
        match self.calls.get_mut(&call) {
            Some(held) if held.handed => held.abandoned = true,
            Some(_) => {
                self.calls.remove(&call);
            }
            None => {}
        }
        if self.is_idle() {
            self.tick_from_now();
        }
    }

    fn lifecycle(&mut self, lane: usize, step: &LifecycleCall) {
        if self.life.is_some() {
            self.lanes[lane].in_hand.push_step();
            self.order(lane, Order::Step(step.clone()));
            self.tick_from_now();
        }
    }

    fn cut(&mut self) {
        for thread in self.life.iter().flat_map(|life| &life.threads) {
            thread.shared.cut.raise(self.last_call);
        }
    }

    fn recall(&mut self, lane: usize) -> Option<(CallNumber, u32)> {
        let life = self.life.as_ref()?;
        let state = &self.lanes[lane];
        life.threads[lane].shared.cut.raise(state.last_call);
        barrier::barrier().ok()?;
        let at = self.cell(lane);
        Some(match state.in_hand.at_work() {
            // It has not stored its first message yet, and will see the cut when it has.
            AtWork::Call(number) if at.call < number => (number, 0),
            _ => (at.call, at.index + 1),
        })
    }

    fn progress(&self, lane: usize) -> Progress {
        self.lanes[lane].in_hand.progress(self.cell(lane))
    }

    fn grant(&mut self, bytes: usize) {
        self.room += bytes;
        if let Some(life) = &self.life {
            let most = self.config.output_bytes as u64;
            life.outputs.room.grant(bytes as u64, most);
        }
    }

    fn granted(&self) -> usize {
        self.room
    }

    fn answer(&mut self, asker: Asker, outcome: Result<Delivered, HostFailure>) {
        if let Some(life) = self.life.as_ref().filter(|life| life.number == asker.life) {
            life.outputs.waiters.tell(asker.number, outcome);
        }
    }

    fn suspend_deadlines(&mut self, suspended: bool) {
        self.suspended = suspended;
    }

    fn told(&self, lane: usize) -> Progress {
        // What is produced is here before the cell moves on.
        self.progress(lane)
    }

    fn request_stop(&mut self) {
        for thread in self.life.iter().flat_map(|life| &life.threads) {
            thread.shared.stop_requested.store(true, Ordering::Relaxed);
        }
    }

    fn end(&mut self, cause: DownCause) {
        self.cut();
        let Some(life) = &mut self.life else { return };
        if life.ending.is_none() {
            life.ending = Some(cause);
            life.ending_since = self.clock;
            // Nobody waits in there for brokers any more.
            life.outputs.room.close();
            life.outputs.waiters.close();
            for lane in 0..self.lanes.len() {
                if let Some(life) = &self.life {
                    life.threads[lane].shared.end.store(true, Ordering::Release);
                }
                self.order(lane, Order::End);
            }
            self.tick_from_now();
        }
    }

    fn has_deadline(&self) -> bool {
        self.ticking
    }

    fn pump(&mut self, events: &mut Vec<HomeEvent>) {
        self.hear(events);
    }

    fn successor(&self, config: HomeConfig) -> io::Result<Box<dyn Home>> {
        Ok(Box::new(Self::with(config, None, None)?))
    }

    fn hand_over(&mut self) -> io::Result<super::Belongings> {
        Ok(super::Belongings(Whose::Thread(Belongings {
            calls: std::mem::take(&mut self.calls),
            stock: self.stock.take(),
            view: self.view.take(),
            slots: std::mem::take(&mut self.slots),
            ghosts: self.give_ghosts(),
            last_call: self.last_call,
        })))
    }

    fn take_over(&mut self, belongings: super::Belongings) {
        let Whose::Thread(belongings) = belongings.0 else {
            return;
        };
        self.calls = belongings.calls;
        self.stock = belongings.stock;
        self.view = belongings.view;
        self.adopt_ghosts(belongings.ghosts);
        self.last_call = self.last_call.max(belongings.last_call);
        for (slot, (topic, partition)) in belongings.slots {
            self.learn(slot, &topic, partition);
        }
    }
}

impl Drop for ThreadHome {
    fn drop(&mut self) {
        let left: usize = self.lanes.iter().map(|lane| lane.in_hand.calls()).sum();
        if left > 0 {
            let at = self.describe_all();
            tracing::error!(route = %self.config.route, calls = left, at,
                "the plugin's threads are left behind with what they have in hand; only a restart of the daemon frees it");
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
fn copy(call: &ThreadCall, index: u32, keeps_headers: bool) -> Option<Record> {
    if let Source::Stored(kept) = &call.source {
        let (fields, _) = views::at_place(call.view.as_ref()?, kept.get(index as usize)?.0)?;
        return Some(record_of(&fields));
    }
    let entry = call.entries().get(index as usize)?;
    match &call.source {
        Source::Stored(_) => None,
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
            let headers = if keeps_headers {
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
                unshaped: false,
                headers: headers
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.map(Box::from)))
                    .collect(),
            })
        }
    }
}
