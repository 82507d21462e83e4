//! One ready queue. There may be ten thousand of them at a time, each touched several times for a message: it is small,
//! its first message lies in it, and what few queues need lies elsewhere.

use std::{collections::VecDeque, time::Instant};

use crate::lane::{Kept, Record, Slot};

/// A message that waits for its turn.
#[derive(Debug)]
pub struct Queued {
    /// Its offset.
    pub offset: i64,
    /// 1 at the first delivery.
    pub attempt: u32,
    /// Bytes of key, value and headers.
    pub bytes: u32,
    /// Where it lies.
    pub body: Body,
    /// When it came, as a number.
    pub(super) arrival: u64,
}

/// Where a waiting message lies.
#[derive(Debug)]
pub enum Body {
    /// In the home's stock.
    Kept(Kept),
    /// In a copy of its own, counted.
    Copy(Box<Record>),
}

/// What a tag waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    /// For its back-off.
    Until(Instant),
    /// For its dead letter to be acknowledged.
    DeadLetter {
        /// The message.
        offset: i64,
    },
    /// For a person: the route's `then` is `stop`.
    Stopped {
        /// The message that stopped it.
        offset: i64,
        /// Why.
        error: String,
    },
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub tag: u64,
    pub slot: Slot,
    /// Tells an entry of this life of the queue from one of an earlier.
    pub life: u32,
    pub messages: Line,
    /// Bytes of its messages.
    pub bytes: usize,
    pub in_hand: u32,
    /// Those in hand that their lane has digested and not flushed.
    pub buffered: u32,
    /// That lane.
    pub lane: u32,
    pub listed: bool,
    rare: Option<Box<Rare>>,
}

/// What few queues have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub waiting: Option<Waiting>,
    /// Its first message when it was last looked at behind one in hand, and since when that is the first.
    pub stands: Option<(i64, Instant)>,
    /// Offset of the message that failed last, and when it failed first (milliseconds since the epoch).
    pub failing: Option<(i64, i64)>,
    /// The lane whose instance passes over the tag until it is let go.
    pub held_by: Option<usize>,
}

/// The messages of a queue, by their offsets. Most tags have one at a time.
#[derive(Debug, Default)]
pub(super) struct Line {
    first: Option<Queued>,
    /// Empty where there is no first.
    #[expect(
        clippy::box_collection,
        reason = "a quarter of the size, in ten thousand queues of which few have more than one message"
    )]
    rest: Option<Box<VecDeque<Queued>>>,
}

// === impl Queued ===

impl Queued {
    /// A message that comes now.
    #[must_use]
    pub fn new(offset: i64, bytes: usize, body: Body) -> Self {
        Self {
            offset,
            attempt: 1,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            body,
            arrival: 0,
        }
    }

    /// A message that comes back.
    #[must_use]
    pub fn again(offset: i64, attempt: u32, bytes: u32, body: Body) -> Self {
        Self {
            offset,
            attempt,
            bytes,
            body,
            arrival: 0,
        }
    }

    /// A copy that comes back.
    #[must_use]
    pub fn of_record(record: Record) -> Self {
        Self {
            offset: record.offset,
            attempt: record.attempt,
            bytes: u32::try_from(record.bytes()).unwrap_or(u32::MAX),
            body: Body::Copy(Box::new(record)),
            arrival: 0,
        }
    }

    pub(super) fn copied(&self) -> usize {
        match &self.body {
            Body::Kept(_) => 0,
            Body::Copy(record) => record.bytes(),
        }
    }
}

// === impl Queue ===

impl Queue {
    /// A lane may take of it: none digests any of it now, and it waits for nothing.
    pub(super) fn is_free(&self) -> bool {
        self.in_hand == self.buffered && self.waiting().is_none()
    }

    /// The lane that alone may take of it.
    pub(super) fn bound_to(&self) -> Option<usize> {
        (self.buffered > 0).then_some(self.lane as usize)
    }

    pub(super) fn waiting(&self) -> Option<&Waiting> {
        self.rare.as_ref()?.waiting.as_ref()
    }

    pub(super) fn held_by(&self) -> Option<usize> {
        self.rare.as_ref()?.held_by
    }

    /// What it has of what few have.
    pub(super) fn rare(&mut self) -> Option<&mut Rare> {
        self.rare.as_deref_mut()
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The lane to let its tag go, once.
    pub(super) fn take_held_by(&mut self) -> Option<usize> {
        self.rare.as_mut()?.held_by.take()
    }

    /// A tag has left it: it may be another's. The lane to let that tag go.
    pub(super) fn end_life(&mut self) -> Option<usize> {
        self.life = self.life.wrapping_add(1);
        self.listed = false;
        self.bytes = 0;
        self.messages.shrink();
        self.rare.take().and_then(|rare| rare.held_by)
    }
}

// === impl Line ===

impl Line {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.first.as_ref()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Queued> {
        self.first.as_mut()
    }

    #[inline]
    pub(super) fn push_back(&mut self, message: Queued) {
        if self.first.is_none() {
            self.first = Some(message);
        } else {
            self.push_behind(message);
        }
    }

    #[inline(never)]
    fn push_behind(&mut self, message: Queued) {
        self.rest.get_or_insert_default().push_back(message);
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Queued> {
        let first = self.first.take();
        if let Some(rest) = &mut self.rest {
            self.first = rest.pop_front();
        }
        first
    }

    /// Where the message at `offset` stands, or would.
    pub(super) fn find(&self, offset: i64) -> Result<usize, usize> {
        match &self.first {
            None => Err(0),
            Some(first) if offset == first.offset => Ok(0),
            Some(first) if offset < first.offset => Err(0),
            Some(_) => {
                let rest = self.rest.as_deref();
                let found = rest.map_or(Err(0), |rest| {
                    rest.binary_search_by_key(&offset, |there| there.offset)
                });
                found.map(|at| at + 1).map_err(|at| at + 1)
            }
        }
    }

    pub(super) fn insert(&mut self, at: usize, message: Queued) {
        if at > 0 {
            self.rest.get_or_insert_default().insert(at - 1, message);
        } else if let Some(first) = self.first.replace(message) {
            self.rest.get_or_insert_default().push_front(first);
        }
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<Queued> {
        if at == 0 {
            return self.pop_front();
        }
        self.rest.as_mut()?.remove(at - 1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.first
            .iter()
            .chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        let rest = self.rest.iter_mut().flat_map(|rest| rest.iter_mut());
        self.first.iter_mut().chain(rest)
    }

    /// All of them, which leave it.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Queued> + use<> {
        let rest = self.rest.take().map(|rest| *rest).unwrap_or_default();
        self.first.take().into_iter().chain(rest)
    }

    /// What had much keeps no room for it.
    fn shrink(&mut self) {
        self.rest.take_if(|rest| rest.capacity() > 64);
    }
}
