//! A home in the route's plugin process. The daemon keeps the bytes, hands out where they lie, and believes nothing that
//! it has not checked; a process is dead when it is reaped, and what it said until then counts.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use devour_abi::{CallCell, CutNumber, Failure, LifecycleCall, Progress};

use super::{
    CallNumber, DownCause, Handout, Home, HomeConfig, HomeEvent, Record, Slot,
    calls::Calls,
    channel::{CallFrame, MAX_INLINE, PlaceKind, TAGS_AT_ONCE, ToLane, ToTalk},
    deadline::Watch,
    in_hand::{AtWork, InHand},
    plugin_process::{PluginProcess, Stage, beside_frame},
    printed::{Ear, Rate},
};
use crate::os::{EventFd, Interest, Poller, SharedPage, Timer, shared_page::Writer, socket::MAX_FRAME};

mod hear;

/// The home of a route whose plugin is isolated in a process.
pub struct ProcessHome {
    config: HomeConfig,
    poller: Poller,
    timer: Timer,
    wake: EventFd,
    calls: Calls,
    in_hand: InHand,
    cuts: SharedPage,
    cuts_fd: OwnedFd,
    slots: HashMap<u32, (Arc<str>, i32)>,
    /// Slots that the process has not heard of.
    unknown: Vec<u32>,
    process: Option<PluginProcess>,
    /// What was found out outside of `pump`.
    pending: Vec<HomeEvent>,
    last_call: CallNumber,
    steps_answered: u64,
    watch: Watch<Subject>,
    ticking: bool,
    rate: Rate,
    metrics: HashSet<Box<str>>,
    frame: Vec<u8>,
    buffer: Vec<u8>,
    tokens: Vec<u64>,
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
        let poller = Poller::new()?;
        let timer = Timer::new()?;
        let wake = EventFd::new()?;
        poller.add(&timer, TIMER, Interest::Read)?;
        poller.add(&wake, WAKE, Interest::Read)?;
        let (cuts, cuts_fd) = SharedPage::create("devour-cuts", Writer::Maker)?;
        let limits = [
            config.lifecycle_timeout,
            config.digest_timeout.unwrap_or(Duration::MAX),
            CLOSED_GRACE,
        ];
        Ok(Self {
            calls: Calls::new(config.arena_bytes, config.digest.reads_headers)?,
            watch: Watch::new(limits),
            config,
            poller,
            timer,
            wake,
            in_hand: InHand::default(),
            cuts,
            cuts_fd,
            slots: HashMap::new(),
            unknown: Vec::new(),
            process: None,
            pending: Vec::new(),
            last_call: 0,
            steps_answered: 0,
            ticking: false,
            rate: Rate::new(),
            metrics: HashSet::new(),
            frame: Vec::new(),
            buffer: vec![0; MAX_FRAME],
            tokens: Vec::new(),
        })
    }

    fn lane(&self) -> usize {
        self.config.construct.lane as usize % SharedPage::WORDS
    }

    fn cell(&self) -> Progress {
        self.process.as_ref().map_or_else(Progress::default, |process| {
            CallCell::in_word(process.cells.word(self.lane())).load()
        })
    }

    /// Lets the timer run while something has a deadline.
    fn tick_from_now(&mut self) {
        if !self.ticking {
            self.ticking = true;
            self.timer.every(self.watch.period());
        }
    }

    fn send_call(&mut self, number: CallNumber, released: &[u64], held: &[u64]) -> io::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(call) = self.calls.get(number) else {
            return Ok(());
        };
        let (poller, frame) = (&self.poller, &mut self.frame);
        for some in self.unknown.chunks(100) {
            let names = some.iter().filter_map(|slot| {
                self.slots
                    .get(slot)
                    .map(|(topic, partition)| (*slot, *partition, &**topic))
            });
            ToLane::learn(frame, names);
            process.work.send(poller, frame, None)?;
        }
        self.unknown.clear();
        for some in released.chunks(TAGS_AT_ONCE) {
            ToLane::released(frame, some);
            process.work.send(poller, frame, None)?;
        }
        for some in held.chunks(TAGS_AT_ONCE) {
            ToLane::held(frame, some);
            process.work.send(poller, frame, None)?;
        }
        let span = self.calls.span(call);
        let place = if span.own.is_some() {
            PlaceKind::Beside
        } else {
            PlaceKind::Arena
        };
        ToLane::call(
            frame,
            &CallFrame {
                number,
                start: span.start as u64,
                bytes: span.bytes as u64,
                count: span.count,
                place,
            },
        );
        process.work.send(poller, frame, span.own.map(AsFd::as_fd))?;
        self.in_hand.push_call(number, span.count);
        Ok(())
    }

    fn send_step(&mut self, step: &LifecycleCall) -> io::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let json = serde_json::to_string(step)?;
        if json.len() > MAX_INLINE {
            ToLane::lifecycle(&mut self.frame, "");
            let memory = beside_frame(json.as_bytes())?;
            process
                .work
                .send(&self.poller, &self.frame, Some(memory.as_fd()))?;
        } else {
            ToLane::lifecycle(&mut self.frame, &json);
            process.work.send(&self.poller, &self.frame, None)?;
        }
        self.in_hand.push_step();
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

    /// What has a deadline now.
    fn subject(&self) -> Subject {
        let Some(process) = &self.process else {
            return Subject::Nothing;
        };
        if process.killed.is_some() {
            return Subject::Nothing;
        }
        if process.closed {
            return Subject::Closed;
        }
        match (process.stage, self.in_hand.at_work()) {
            (Stage::Building, _) => Subject::Building,
            (Stage::Up, AtWork::Step) => Subject::Step(self.steps_answered),
            (Stage::Up, AtWork::Call(_)) if self.config.digest_timeout.is_some() => {
                Subject::Digest(self.in_hand.progress(self.cell()))
            }
            (Stage::Up, AtWork::Idle) if self.calls.is_empty() && self.calls.touched() > WORTH_IT => {
                Subject::Idle
            }
            _ => Subject::Nothing,
        }
    }

    fn tick(&mut self) {
        let times = self.timer.drain();
        if self.rate.owes() {
            Ear {
                route: &self.config.route,
                voice: &*self.config.voice,
                rate: &mut self.rate,
            }
            .settle();
        }
        let subject = self.subject();
        if subject == Subject::Nothing {
            self.timer.stop();
            self.ticking = false;
            self.watch.stop();
            return;
        }
        let waited = self.watch.tick(subject, times);
        let (lifecycle, digest) = (self.config.lifecycle_timeout, self.config.digest_timeout);
        let missed = match subject {
            Subject::Building if waited >= lifecycle => DownCause::Deadline(format!(
                "its constructor did not return within {lifecycle:?}; it was ended"
            )),
            Subject::Step(_) if waited >= lifecycle => DownCause::Deadline(format!(
                "a lifecycle call did not return within {lifecycle:?}; it was ended"
            )),
            Subject::Digest(at) if digest.is_some_and(|limit| waited >= limit) => {
                let limit = digest.unwrap_or_default();
                let message = self.describe(at);
                DownCause::Deadline(format!(
                    "the digest of {message} did not return within {limit:?}; it was ended"
                ))
            }
            Subject::Closed if waited >= CLOSED_GRACE => {
                DownCause::Protocol("it closed its sockets and lived on".into())
            }
            Subject::Idle if waited >= IDLE => return self.give_back_memory(),
            _ => return,
        };
        if let Some(process) = &mut self.process {
            process.kill(missed);
        }
    }

    fn describe(&self, at: Progress) -> String {
        let known = self.calls.position(at.call, at.index).and_then(|(slot, offset)| {
            let (topic, partition) = self.slots.get(&slot.0)?;
            Some(format!("{topic}/{partition} at offset {offset}"))
        });
        known.unwrap_or_else(|| format!("call {}", at.call))
    }

    fn give_back_memory(&mut self) {
        if let Err(error) = self.calls.renew() {
            tracing::warn!(route = %self.config.route, %error, "unused memory cannot be given back");
            return;
        }
        let Some(process) = &mut self.process else { return };
        let arena = self.calls.arena();
        ToLane::arena(&mut self.frame, arena.len() as u64);
        let sent = process.work.send(&self.poller, &self.frame, Some(arena.as_fd()));
        self.check_sent(sent);
    }
}

impl Home for ProcessHome {
    fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.in_hand.clear();
        self.unknown = self.slots.keys().copied().collect();
        match PluginProcess::start(
            &self.config,
            self.calls.arena(),
            self.cuts_fd.as_fd(),
            &self.poller,
        ) {
            Ok(process) => {
                self.process = Some(process);
                self.tick_from_now();
            }
            Err(error) => {
                let cause = DownCause::NotBuilt(format!("its process cannot be started: {error}"));
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
        self.slots.insert(slot.0, (Arc::clone(topic), partition));
        self.unknown.push(slot.0);
    }

    fn room(&self) -> usize {
        match &self.process {
            Some(process) if process.is_up() => MAX_CALLS.saturating_sub(self.in_hand.calls()),
            _ => 0,
        }
    }

    fn hand_out(&mut self, handout: Handout) -> Result<CallNumber, Handout> {
        let number = self.last_call + 1;
        if self.room() == 0 || !self.calls.store(number, &handout) {
            return Err(handout);
        }
        self.last_call = number;
        let sent = self.send_call(number, &handout.released, &handout.held);
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
                let sent = self.send_call(number, &[], &held);
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
        if self.calls.is_empty() && self.calls.touched() > WORTH_IT {
            self.tick_from_now();
        }
    }

    fn lifecycle(&mut self, step: &LifecycleCall) {
        let sent = self.send_step(step);
        self.check_sent(sent);
        self.tick_from_now();
    }

    fn cut(&mut self) {
        CutNumber::in_word(self.cuts.word(self.lane())).raise(self.last_call);
    }

    fn progress(&self) -> Progress {
        self.in_hand.progress(self.cell())
    }

    fn request_stop(&mut self) {
        let Some(process) = &mut self.process else { return };
        ToTalk::Stop.encode(&mut self.frame);
        let sent = process.talk.send(&self.poller, &self.frame, None);
        self.check_sent(sent);
    }

    fn end(&mut self, cause: DownCause) {
        if let Some(process) = &mut self.process {
            process.kill(cause);
        }
    }

    fn pump(&mut self, events: &mut Vec<HomeEvent>) {
        self.hear(events);
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
