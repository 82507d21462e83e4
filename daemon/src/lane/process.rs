//! A home in the route's plugin process. The daemon keeps the bytes, hands out where they lie, and believes nothing that
//! it has not checked; a process is dead when it is reaped, and what it said until then counts.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use devour_abi::{CallCell, CutNumber, Delivered, Failure, HostFailure, LifecycleCall, Progress};

use super::{
    Asker, CallNumber, DownCause, Handout, Home, HomeConfig, HomeEvent, Record, Slot, Source, Whose,
    calls::{Calls, Span},
    channel::{CallFrame, MAX_INLINE, PlaceKind, STORED_AT_ONCE, TAGS_AT_ONCE, ToLane, ToTalk},
    deadline::Watch,
    in_hand::{AtWork, InHand},
    next_life,
    plugin_process::{PluginProcess, UNSENT, beside_frame},
    printed::Rate,
    stock::Stock,
};
use crate::os::{
    EventFd, Interest, Poller, SharedPage, Timer, barrier, shared_page::Writer, socket::MAX_FRAME,
};

mod deadlines;
mod hear;

/// The home of a route whose plugin is isolated in a process.
pub struct ProcessHome {
    config: HomeConfig,
    poller: Poller,
    timer: Timer,
    wake: EventFd,
    calls: Calls,
    lanes: Vec<Lane>,
    cuts: SharedPage,
    cuts_fd: OwnedFd,
    slots: HashMap<u32, (Arc<str>, i32)>,
    process: Option<PluginProcess>,
    /// What was found out outside of `pump`.
    pending: Vec<HomeEvent>,
    last_call: CallNumber,
    /// A deadline was missed, and the other lanes have a moment to give back what they have.
    doomed: Option<Doomed>,
    /// The daemon's own ticks, added up.
    clock: Duration,
    process_watch: Watch<Subject>,
    ticking: bool,
    /// No digest misses its deadline now.
    suspended: bool,
    /// The number of the process's life.
    life: u64,
    /// Bytes that the process may produce, or the next one may.
    room: usize,
    rate: Rate,
    metrics: HashSet<Box<str>>,
    frame: Vec<u8>,
    buffer: Vec<u8>,
    tokens: Vec<u64>,
}

/// What this home of a route gives to the next.
pub(super) struct Belongings {
    calls: Calls,
    slots: HashMap<u32, (Arc<str>, i32)>,
    last_call: CallNumber,
}

/// One lane, as the daemon knows it.
struct Lane {
    in_hand: InHand,
    /// Slots that it has not heard of.
    unknown: Vec<u32>,
    /// The last call that was handed to it.
    last_call: CallNumber,
    steps_answered: u64,
    watch: Watch<Subject>,
    /// Runs of messages that were taken, with the time when.
    taken: VecDeque<TakenRun>,
}

struct TakenRun {
    call: CallNumber,
    first: u32,
    count: u32,
    at: Duration,
}

/// What has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Nothing,
    Building,
    Step(u64),
    Digest(Progress),
    /// It closed a socket and is not dead.
    Closed,
    /// Nothing is in hand, and the arena holds memory.
    Idle,
}

struct Doomed {
    cause: DownCause,
    lane: usize,
    missed: Option<Progress>,
    since: Duration,
}

const TIMER: u64 = 5;
const WAKE: u64 = 6;

/// One at work, two waiting.
const MAX_CALLS: usize = 3;
/// A process that closed a socket is reaped before that, or it is ended.
const CLOSED_GRACE: Duration = Duration::from_secs(2);
/// Memory that was not used for so long is given back, if it is worth it.
const IDLE: Duration = Duration::from_secs(5);
const WORTH_IT: usize = 1 << 20;

// === impl ProcessHome ===

impl ProcessHome {
    /// A home without a process.
    ///
    /// # Errors
    /// When descriptors or address space for the arena are missing.
    pub fn new(config: HomeConfig) -> io::Result<Self> {
        let calls = Calls::new(config.arena_bytes, config.intake, config.keeps_headers)?;
        Self::with(config, calls)
    }

    fn with(config: HomeConfig, calls: Calls) -> io::Result<Self> {
        let poller = Poller::new()?;
        let timer = Timer::new()?;
        let wake = EventFd::new()?;
        poller.add(&timer, TIMER, Interest::Read)?;
        poller.add(&wake, WAKE, Interest::Read)?;
        let (cuts, cuts_fd) = SharedPage::create("devour-cuts", Writer::Maker)?;
        let watch = || {
            Watch::new([
                config.lifecycle_timeout,
                config.digest_timeout.unwrap_or(Duration::MAX),
                CLOSED_GRACE,
            ])
        };
        let lane = |_| Lane {
            in_hand: InHand::default(),
            unknown: Vec::new(),
            last_call: 0,
            steps_answered: 0,
            watch: watch(),
            taken: VecDeque::new(),
        };
        // Without it the daemon cannot take back what a lane has not begun.
        let _ = barrier::register();
        Ok(Self {
            calls,
            lanes: (0..config.construct.lanes.max(1)).map(lane).collect(),
            process_watch: watch(),
            config,
            poller,
            timer,
            wake,
            cuts,
            cuts_fd,
            slots: HashMap::new(),
            process: None,
            pending: Vec::new(),
            last_call: 0,
            doomed: None,
            clock: Duration::ZERO,
            ticking: false,
            suspended: false,
            life: 0,
            room: 0,
            rate: Rate::new(),
            metrics: HashSet::new(),
            frame: Vec::new(),
            buffer: vec![0; MAX_FRAME],
            tokens: Vec::new(),
        })
    }

    /// Nothing, where failures may have gone unheard: what is below the cell would count as done.
    fn cell(&self, lane: usize) -> Progress {
        match &self.process {
            Some(process) if !process.deaf => CallCell::in_word(process.cells.word(lane)).load(),
            _ => Progress::default(),
        }
    }

    /// Lets the timer run while something has a deadline.
    fn tick_from_now(&mut self) {
        if !self.ticking {
            self.ticking = true;
            self.timer.every(self.process_watch.period());
        }
    }

    fn send_call(
        &mut self,
        lane: usize,
        number: CallNumber,
        released: &[u64],
        held: &[u64],
    ) -> io::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(call) = self.calls.get(number) else {
            return Ok(());
        };
        let (poller, frame, work) = (&self.poller, &mut self.frame, &mut process.works[lane]);
        let state = &mut self.lanes[lane];
        for some in state.unknown.chunks(100) {
            let names = some.iter().filter_map(|slot| {
                self.slots
                    .get(slot)
                    .map(|(topic, partition)| (*slot, *partition, &**topic))
            });
            ToLane::learn(frame, names);
            work.send(poller, frame, None)?;
        }
        state.unknown.clear();
        for some in released.chunks(TAGS_AT_ONCE) {
            ToLane::released(frame, some);
            work.send(poller, frame, None)?;
        }
        for some in held.chunks(TAGS_AT_ONCE) {
            ToLane::held(frame, some);
            work.send(poller, frame, None)?;
        }
        let count = match self.calls.span(call) {
            Span::Places(places) => {
                ToLane::stored(frame, number, places);
                work.send(poller, frame, None)?;
                places.len() as u32
            }
            Span::Piece {
                start,
                bytes,
                count,
                own,
            } => {
                let place = if own.is_some() {
                    PlaceKind::Beside
                } else {
                    PlaceKind::Arena
                };
                ToLane::call(
                    frame,
                    &CallFrame {
                        number,
                        start: start as u64,
                        bytes: bytes as u64,
                        count,
                        place,
                    },
                );
                work.send(poller, frame, own.map(AsFd::as_fd))?;
                count
            }
        };
        state.in_hand.push_call(number, count);
        state.last_call = number;
        Ok(())
    }

    fn send_step(&mut self, lane: usize, step: &LifecycleCall) -> io::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let work = &mut process.works[lane];
        let json = serde_json::to_string(step)?;
        if json.len() > MAX_INLINE {
            ToLane::lifecycle(&mut self.frame, "");
            let memory = beside_frame(json.as_bytes())?;
            work.send(&self.poller, &self.frame, Some(memory.as_fd()))?;
        } else {
            ToLane::lifecycle(&mut self.frame, &json);
            work.send(&self.poller, &self.frame, None)?;
        }
        self.lanes[lane].in_hand.push_step();
        Ok(())
    }

    /// The process cannot be spoken to (no descriptor or memory left): it is ended.
    fn check_sent(&mut self, sent: io::Result<()>) {
        if let (Err(error), Some(process)) = (sent, &mut self.process) {
            process.kill(DownCause::NotBuilt(format!(
                "its process cannot be spoken to: {error}"
            )));
        }
    }

    /// Says something over the talk socket.
    fn say(&mut self, said: &ToTalk) {
        /// Answers that a plugin does not read.
        const MOST: usize = 100_000;
        let Some(process) = &mut self.process else { return };
        if process.talk.waiting() > MOST {
            return process.distrust("it does not read what becomes of the records that it asks about");
        }
        said.encode(&mut self.frame);
        let sent = process.talk.send(&self.poller, &self.frame, None);
        self.check_sent(sent);
    }

    fn tell_room(&mut self, bytes: usize) {
        if bytes > 0 {
            let most = self.config.output_bytes as u64;
            self.say(&ToTalk::Room {
                bytes: bytes as u64,
                most,
            });
        }
    }

    fn all_progress(&self) -> Vec<Progress> {
        (0..self.lanes.len()).map(|lane| self.progress(lane)).collect()
    }
}

impl Home for ProcessHome {
    fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.doomed = None;
        for lane in &mut self.lanes {
            lane.in_hand.clear();
            lane.taken.clear();
            lane.unknown = self.slots.keys().copied().collect();
        }
        match PluginProcess::start(
            &self.config,
            (self.calls.arena_fd(), self.calls.arena_bytes()),
            self.cuts_fd.as_fd(),
            &self.poller,
        ) {
            Ok(process) => {
                self.process = Some(process);
                self.life = next_life();
                self.tell_room(self.room);
                self.tick_from_now();
            }
            Err(error) => {
                let cause = DownCause::NotBuilt(format!("its process cannot be started: {error}"));
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
        self.slots.insert(slot.0, (Arc::clone(topic), partition));
        for lane in &mut self.lanes {
            lane.unknown.push(slot.0);
        }
    }

    fn forget(&mut self, slot: Slot) {
        self.slots.remove(&slot.0);
    }

    fn stock(&mut self) -> Option<&mut Stock> {
        self.calls.stock()
    }

    fn room(&self, lane: usize) -> usize {
        match &self.process {
            Some(process) if process.is_up() && self.doomed.is_none() => {
                MAX_CALLS.saturating_sub(self.lanes[lane].in_hand.calls())
            }
            _ => 0,
        }
    }

    fn hand_out(&mut self, lane: usize, handout: Handout) -> Result<CallNumber, Handout> {
        let number = self.last_call + 1;
        debug_assert!(
            !matches!(&handout.source, Source::Stored(kept) if kept.len() > STORED_AT_ONCE),
            "more messages than a frame holds"
        );
        if self.room(lane) == 0 || !self.calls.store(number, &handout) {
            return Err(handout);
        }
        self.last_call = number;
        let sent = self.send_call(lane, number, &handout.released, &handout.held);
        self.check_sent(sent);
        if self.config.digest_timeout.is_some() {
            self.tick_from_now();
        }
        Ok(number)
    }

    fn hand_again(&mut self, call: CallNumber, from: u32, held: Vec<u64>) -> CallNumber {
        self.last_call += 1;
        let number = self.last_call;
        if self.calls.renumber(call, from, number) {
            if self.process.is_some() {
                let sent = self.send_call(0, number, &[], &held);
                self.check_sent(sent);
            } else {
                self.calls.came_back(number);
            }
        }
        if self.config.digest_timeout.is_some() {
            self.tick_from_now();
        }
        number
    }

    fn copy_out(&self, call: CallNumber, index: u32) -> Record {
        self.calls
            .copy_out(call, index)
            .expect("the worker asks for messages of calls that it has not finished")
    }

    fn finish(&mut self, call: CallNumber) {
        self.calls.finish(call);
        if self.calls.touched() > WORTH_IT && self.calls.is_empty() {
            self.tick_from_now();
        }
    }

    fn lifecycle(&mut self, lane: usize, step: &LifecycleCall) {
        let sent = self.send_step(lane, step);
        self.check_sent(sent);
        self.tick_from_now();
    }

    fn cut(&mut self) {
        for lane in 0..self.lanes.len() {
            CutNumber::in_word(self.cuts.word(lane)).raise(self.last_call);
        }
    }

    fn recall(&mut self, lane: usize) -> Option<(CallNumber, u32)> {
        let state = &self.lanes[lane];
        CutNumber::in_word(self.cuts.word(lane)).raise(state.last_call);
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
        self.tell_room(bytes);
    }

    fn granted(&self) -> usize {
        self.room
    }

    fn answer(&mut self, asker: Asker, outcome: Result<Delivered, HostFailure>) {
        if asker.life == self.life {
            let number = asker.number;
            self.say(&match outcome {
                Ok(delivered) => ToTalk::Delivered { number, delivered },
                Err(failure) => ToTalk::NotDelivered { number, failure },
            });
        }
    }

    fn suspend_deadlines(&mut self, suspended: bool) {
        self.suspended = suspended;
    }

    fn told(&self, lane: usize) -> Progress {
        // In this order: what was sent meanwhile is heard after this.
        let progress = self.progress(lane);
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        match &self.process {
            Some(process) => {
                let unsent = CallCell::in_word(process.cells.word(UNSENT + lane)).load();
                if unsent.call == 0 {
                    progress
                } else {
                    progress.min(unsent)
                }
            }
            None => progress,
        }
    }

    fn request_stop(&mut self) {
        self.say(&ToTalk::Stop);
    }

    fn end(&mut self, cause: DownCause) {
        if let Some(process) = &mut self.process {
            process.kill(cause);
        }
    }

    fn has_deadline(&self) -> bool {
        self.ticking
    }

    fn pump(&mut self, events: &mut Vec<HomeEvent>) {
        self.hear(events);
    }

    fn successor(&self, config: HomeConfig) -> io::Result<Box<dyn Home>> {
        let calls = Calls::elsewhere(&self.calls)?;
        Ok(Box::new(Self::with(config, calls)?))
    }

    fn hand_over(&mut self) -> io::Result<super::Belongings> {
        let elsewhere = Calls::elsewhere(&self.calls)?;
        Ok(super::Belongings(Whose::Process(Belongings {
            calls: std::mem::replace(&mut self.calls, elsewhere),
            slots: std::mem::take(&mut self.slots),
            last_call: self.last_call,
        })))
    }

    fn take_over(&mut self, belongings: super::Belongings) {
        let Whose::Process(Belongings {
            calls,
            slots,
            last_call,
        }) = belongings.0
        else {
            return;
        };
        let known = self.calls.has_the_arena_of(&calls);
        self.calls = calls;
        self.slots = slots;
        self.last_call = self.last_call.max(last_call);
        for lane in &mut self.lanes {
            lane.unknown = self.slots.keys().copied().collect();
        }
        if !known {
            self.send_arena();
        }
    }
}

impl Drop for ProcessHome {
    fn drop(&mut self) {
        self.end(DownCause::Ordered);
    }
}

/// Whether a failure says that the instance must not be used again.
fn breaks(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        devour_abi::FailureKind::PANIC | devour_abi::FailureKind::FATAL
    )
}
