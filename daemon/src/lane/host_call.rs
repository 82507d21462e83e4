//! What a shim may ask during a call, in the plugin's process.

use std::{
    cell::{OnceCell, RefCell},
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use devour_abi::{CallCell, Failure, HeaderView, HostedCall, MessageId, OwnedMessage, ProduceRecord};

use super::{
    channel::{COMPLETED_AT_ONCE, Completed, FromLane, MAX_PRODUCED},
    current::Locate,
    layout,
    plugin_process::{UNSENT, beside_frame},
    produced::{self, Cause, Head},
    taken::{self, Sink, Taken},
    views::{self, Names},
};
use crate::os::{
    SeqPacket, SharedPage, SharedView, process,
    socket::{Sent, Wait},
};

/// One call at work.
pub(super) struct LaneCall<'a> {
    pub number: u64,
    pub outcomes: &'a Arc<Outcomes>,
    /// Encoded headers of each message; empty if the consumer does not read them.
    pub headers: &'a [&'a [u8]],
    parsed: Vec<OnceCell<Box<[HeaderView<'a>]>>>,
    /// What is needed to let messages be taken; `None` if they cannot be.
    pub stored: Option<StoredCall<'a>>,
    /// Messages that were taken and not said to be, as runs.
    taken: RefCell<Vec<(u32, u32)>>,
}

/// Where a call's messages lie, each for itself.
#[derive(Clone, Copy)]
pub(super) struct StoredCall<'a> {
    pub memory: &'a Arc<SharedView>,
    pub places: &'a [u32],
    pub names: &'a Names,
    pub reads_headers: bool,
}

/// The way of outcomes to the daemon, shared by the lane's thread and whoever completes what was taken; and of what is
/// produced, which is sent before any outcome that is told behind it.
pub(super) struct Outcomes {
    work: Arc<SeqPacket>,
    wire: Mutex<Wire>,
    completed: Mutex<CompletedQueue>,
    /// Some are there, and the thread that sends them sleeps.
    some: Condvar,
    produced: Mutex<ProducedBuffer>,
    /// Something is in that buffer, or being sent.
    any_produced: AtomicBool,
    /// Where the daemon reads which message produced the first record that is not sent. (What lies below the cell counts
    /// as done when the process is killed: not where this says otherwise.)
    unsent: Option<(SharedPage, usize)>,
}

#[derive(Default)]
struct ProducedBuffer {
    records: Vec<u8>,
    frame: Vec<u8>,
}

/// When a record goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// With others, before the next outcome.
    Soon,
    /// Somebody waits for it.
    Now,
}

/// Outcomes go out in the order in which they were said: who holds this has sent what was completed before.
#[derive(Default)]
struct Wire {
    completed: Vec<(u64, u32)>,
    frame: Vec<u8>,
}

#[derive(Default)]
struct CompletedQueue {
    waiting: Vec<(u64, u32)>,
    sleeps: bool,
}

/// Finds the message in hand in the memory that the call lies in.
pub(super) struct Place {
    pub call: u64,
    pub cells: Rc<SharedPage>,
    pub lane: usize,
    pub memory: Arc<SharedView>,
    pub lies: Lies,
}

/// How the messages of a call lie.
#[derive(Clone)]
pub(super) enum Lies {
    /// One after the other.
    Piece(Range<usize>),
    /// At places of the stock.
    Places(Vec<u32>),
}

/// What a consumer hears that takes a message without having said that it would.
pub(super) const TAKES_NOTHING: &str =
    "only a consumer whose attributes say `asynchronous` can take messages beyond their call";

// === impl LaneCall ===

impl<'a> LaneCall<'a> {
    pub(super) fn new(
        number: u64,
        outcomes: &'a Arc<Outcomes>,
        headers: &'a [&'a [u8]],
        stored: Option<StoredCall<'a>>,
    ) -> Self {
        Self {
            number,
            outcomes,
            headers,
            parsed: vec![OnceCell::new(); headers.len()],
            stored,
            taken: RefCell::default(),
        }
    }

    /// Says what was taken: before the call returns.
    pub(super) fn tell_taken(&self) {
        for (first, count) in self.taken.take() {
            let call = self.number;
            self.outcomes.say(&FromLane::Taken { call, first, count });
        }
    }
}

impl HostedCall for LaneCall<'_> {
    fn failed(&self, index: u32, failure: Failure) {
        self.outcomes.say(&FromLane::Failed {
            call: self.number,
            index,
            failure,
        });
    }

    fn not_begun(&self, first: u32, count: u32) {
        self.outcomes.say(&FromLane::NotBegun {
            call: self.number,
            first,
            count,
        });
    }

    fn headers(&self, index: u32) -> &[HeaderView<'_>] {
        let index = index as usize;
        match (self.parsed.get(index), self.headers.get(index)) {
            (Some(parsed), Some(encoded)) => parsed.get_or_init(|| views::of_headers(encoded)),
            _ => &[],
        }
    }

    fn take(&self, index: u32) -> Result<OwnedMessage, String> {
        let Some(stored) = self.stored else {
            return Err(TAKES_NOTHING.to_owned());
        };
        let gone = || format!("message {index} is none of this call");
        let place = *stored.places.get(index as usize).ok_or_else(gone)?;
        let (fields, length) = views::at_place(stored.memory, place).ok_or_else(gone)?;
        let (topic, partition) = stored.names.topic(fields.slot).ok_or_else(gone)?;
        let mut taken = self.taken.borrow_mut();
        match taken.last_mut() {
            Some((first, count)) if *first + *count == index => *count += 1,
            _ => taken.push((index, 1)),
        }
        let start = place as usize * 8;
        Ok(OwnedMessage::new(Taken {
            lies: taken::Lies::Memory(Arc::clone(stored.memory), start..start + length),
            topic,
            partition,
            reads_headers: stored.reads_headers,
            call: self.number,
            index,
            sink: Arc::clone(self.outcomes),
        }))
    }
}

// === impl Outcomes ===

impl Outcomes {
    pub(super) fn new(work: Arc<SeqPacket>) -> Self {
        Self {
            work,
            wire: Mutex::default(),
            completed: Mutex::default(),
            some: Condvar::new(),
            produced: Mutex::default(),
            any_produced: AtomicBool::new(false),
            unsent: None,
        }
    }

    /// As [`Outcomes::new`], for a lane that may produce.
    pub(super) fn of_lane(work: Arc<SeqPacket>, cells: SharedPage, lane: usize) -> Self {
        Self {
            unsent: Some((cells, UNSENT + lane)),
            ..Self::new(work)
        }
    }

    /// Takes a record. Whether somebody has to [flush](Self::flush) soon, if no outcome does.
    pub(super) fn produce(
        &self,
        head: &Head,
        record: &ProduceRecord<'_>,
        sending: Sending,
    ) -> std::io::Result<bool> {
        let length = produced::length(record);
        let mut buffer = self.produced.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.records.len() + length > MAX_PRODUCED {
            self.send_produced(&mut buffer);
        }
        if length > MAX_PRODUCED {
            let mut bytes = Vec::with_capacity(length);
            produced::write(&mut bytes, head, record);
            let memory = beside_frame(&bytes)?;
            FromLane::ProducedBeside.encode(&mut buffer.frame);
            self.send_frame(&buffer.frame, &[memory.as_fd()]);
            return Ok(false);
        }
        let is_first = buffer.records.is_empty();
        if is_first {
            self.any_produced.store(true, Ordering::Release);
            if let (Cause::Message(id), Some((page, word))) = (head.cause, &self.unsent) {
                CallCell::in_word(page.word(*word)).store(id.call, id.index);
            }
        }
        produced::write(&mut buffer.records, head, record);
        if sending == Sending::Now {
            self.send_produced(&mut buffer);
        }
        Ok(is_first && sending == Sending::Soon)
    }

    /// Sends what was produced.
    pub(super) fn flush(&self) {
        if self.any_produced.load(Ordering::Acquire) {
            let mut buffer = self.produced.lock().unwrap_or_else(PoisonError::into_inner);
            self.send_produced(&mut buffer);
        }
    }

    /// While the buffer is locked: what others produce meanwhile comes behind.
    fn send_produced(&self, buffer: &mut ProducedBuffer) {
        if buffer.records.is_empty() {
            return;
        }
        FromLane::Produced(&buffer.records).encode(&mut buffer.frame);
        self.send_frame(&buffer.frame, &[]);
        buffer.records.clear();
        if let Some((page, word)) = &self.unsent {
            CallCell::in_word(page.word(*word)).store(0, 0);
        }
        self.any_produced.store(false, Ordering::Release);
    }

    /// Starts the thread that tells of completed messages: what is completed while it sends goes in its next frame. Whoever
    /// completes hundreds in a row, as a runtime does at a tick of its timers, so makes a few frames of them.
    ///
    /// # Errors
    /// When the process has no thread left.
    pub(super) fn tell_completed(self: &Arc<Self>, lane: u32) -> io::Result<()> {
        let outcomes = Arc::clone(self);
        std::thread::Builder::new()
            .name(format!("outcomes-{lane}"))
            .spawn(move || {
                loop {
                    outcomes.wait_for_completed();
                    drop(outcomes.wire());
                }
            })?;
        Ok(())
    }

    fn wait_for_completed(&self) {
        let mut queue = self.queue();
        while queue.waiting.is_empty() {
            queue.sleeps = true;
            queue = self.some.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.sleeps = false;
    }

    fn queue(&self) -> MutexGuard<'_, CompletedQueue> {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wire, with all on it that was completed, and what that produced before it.
    fn wire(&self) -> MutexGuard<'_, Wire> {
        let mut guard = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let wire = &mut *guard;
        std::mem::swap(&mut self.queue().waiting, &mut wire.completed);
        self.flush();
        for some in wire.completed.chunks(COMPLETED_AT_ONCE) {
            Completed::encode(&mut wire.frame, some);
            self.send_frame(&wire.frame, &[]);
        }
        wire.completed.clear();
        guard
    }

    /// Sends an outcome, after those of what was completed before.
    pub(super) fn say(&self, said: &FromLane<'_>) {
        let mut wire = self.wire();
        said.encode(&mut wire.frame);
        self.send_frame(&wire.frame, &[]);
    }

    /// Frames wait for room: the daemon always reads. Without a daemon there is nothing left to do.
    fn send_frame(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) {
        if !matches!(self.work.send(frame, fds, Wait::Yes), Ok(Sent::Done)) {
            process::exit_now(0);
        }
    }
}

impl Sink for Outcomes {
    fn completed(&self, call: u64, index: u32) {
        let mut queue = self.queue();
        queue.waiting.push((call, index));
        if std::mem::take(&mut queue.sleeps) {
            drop(queue);
            self.some.notify_one();
        }
    }

    fn failed(&self, call: u64, index: u32, failure: Failure) {
        self.say(&FromLane::Failed { call, index, failure });
    }
}

// === impl Place ===

impl Locate for Place {
    fn message(&self) -> Option<MessageId> {
        let at = CallCell::in_word(self.cells.word(self.lane)).load();
        (at.call == self.call).then_some(MessageId {
            call: at.call,
            index: at.index,
        })
    }

    fn locate(&self) -> Option<(u32, i64)> {
        let at = CallCell::in_word(self.cells.word(self.lane)).load();
        if at.call != self.call {
            return None;
        }
        let mut bytes = match &self.lies {
            Lies::Places(places) => {
                let (fields, _) = views::at_place(&self.memory, *places.get(at.index as usize)?)?;
                return Some((fields.slot, fields.offset));
            }
            Lies::Piece(range) => self.memory.get(range.clone())?,
        };
        for _ in 0..at.index {
            let (_, _, length) = layout::read_place(bytes)?;
            bytes = &bytes[length..];
        }
        layout::read_place(bytes).map(|(slot, offset, _)| (slot, offset))
    }
}
