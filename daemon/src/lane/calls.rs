//! The bytes of a route's calls, in the daemon: copied into the arena once, kept until the worker is done with them,
//! whatever happens to the plugin's process in between.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use devour_abi::TimestampType;

use super::{
    CallNumber, Entry, Handout, Intake, Record, Slot, Source,
    arena::Places,
    layout::{self, Fields},
    stock::{Stock, record_of},
};
use crate::{
    kafka::{Batch, Message, Timestamp},
    os::SharedBytes,
};

/// The arena and the calls in it.
pub(super) struct Calls {
    bytes: Bytes,
    calls: HashMap<CallNumber, Stored>,
    /// Calls whose messages lie in memory of their own.
    own: usize,
    headers: EncodedHeaders,
    /// Vectors of finished calls, used again.
    spare: Vec<Vec<u32>>,
    /// Tells one arena of the route from the next, after its memory was given back.
    life: u64,
}

/// Where messages lie before they are digested.
enum Bytes {
    /// A call's messages are copied when it is handed out, in one piece.
    Calls { arena: SharedBytes, places: Places },
    /// Each message was kept before, in a place of its own.
    Stock(Stock),
    /// In the other home of the route, whose arena this is.
    Elsewhere { arena: OwnedFd, bytes: usize },
}

/// One call's bytes.
pub(super) struct Stored {
    place: Place,
    /// Where each record begins, in units of 8 bytes from the start of the place.
    records: Vec<u32>,
    /// Records before this one belong to a predecessor of the call and are done.
    from: u32,
    /// The plugin has it.
    pub handed: bool,
    /// The worker is done with it, the plugin is not.
    pub abandoned: bool,
}

enum Place {
    Arena(Range<usize>),
    /// What is too big for the arena lies in memory of its own; one at a time.
    Own(SharedBytes),
    /// In the stock, each for itself.
    Stock,
}

/// Where the records of a call lie, as its frame says it.
pub(super) enum Span<'a> {
    /// One after the other.
    Piece {
        start: usize,
        bytes: usize,
        count: u32,
        /// The memory, if it is not the arena.
        own: Option<&'a SharedBytes>,
    },
    /// At these places of the stock.
    Places(&'a [u32]),
}

/// The encoded headers of the call that is being copied.
struct EncodedHeaders {
    wanted: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Where a call's messages come from.
#[derive(Clone, Copy)]
enum From<'a> {
    Fetched(&'a Batch),
    Parked(&'a [Record]),
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(bytes: usize, intake: Intake, keeps_headers: bool) -> io::Result<Self> {
        let bytes = match intake {
            Intake::Calls => {
                let places = Places::new(bytes.max(64 * 1024));
                let arena = SharedBytes::create("devour-arena", places.size())?;
                Bytes::Calls { arena, places }
            }
            Intake::Stock => Bytes::Stock(Stock::new(bytes, keeps_headers)?),
        };
        let headers = EncodedHeaders {
            wanted: keeps_headers,
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        Ok(Self {
            bytes,
            calls: HashMap::new(),
            own: 0,
            headers,
            spare: Vec::new(),
            life: 0,
        })
    }

    /// No calls, and the arena of `other`, for a plugin that is to have its calls later.
    pub(super) fn elsewhere(other: &Self) -> io::Result<Self> {
        let bytes = Bytes::Elsewhere {
            arena: other.arena_fd().try_clone_to_owned()?,
            bytes: other.arena_bytes(),
        };
        Ok(Self {
            bytes,
            calls: HashMap::new(),
            own: 0,
            headers: EncodedHeaders {
                wanted: other.headers.wanted,
                bytes: Vec::new(),
                ends: Vec::new(),
            },
            spare: Vec::new(),
            life: other.life,
        })
    }

    /// Whether both know the same arena.
    pub(super) fn has_the_arena_of(&self, other: &Self) -> bool {
        self.life == other.life
    }

    pub(super) fn stock(&mut self) -> Option<&mut Stock> {
        match &mut self.bytes {
            Bytes::Stock(stock) => Some(stock),
            Bytes::Calls { .. } | Bytes::Elsewhere { .. } => None,
        }
    }

    /// The arena, to be passed on.
    pub(super) fn arena_fd(&self) -> BorrowedFd<'_> {
        match &self.bytes {
            Bytes::Calls { arena, .. } => arena.as_fd(),
            Bytes::Stock(stock) => stock.arena().as_fd(),
            Bytes::Elsewhere { arena, .. } => arena.as_fd(),
        }
    }

    /// The arena's size.
    pub(super) fn arena_bytes(&self) -> usize {
        match &self.bytes {
            Bytes::Calls { arena, .. } => arena.len(),
            Bytes::Stock(stock) => stock.size(),
            Bytes::Elsewhere { bytes, .. } => *bytes,
        }
    }

    /// Nothing lies here.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
            && match &self.bytes {
                Bytes::Calls { .. } => true,
                Bytes::Stock(stock) => stock.is_empty(),
                Bytes::Elsewhere { .. } => false,
            }
    }

    /// Bytes of memory that the arena holds at most.
    pub(super) fn touched(&self) -> usize {
        match &self.bytes {
            Bytes::Calls { places, .. } => places.touched(),
            Bytes::Stock(stock) => stock.touched(),
            Bytes::Elsewhere { .. } => 0,
        }
    }

    /// Gives the arena's memory back to the system and takes fresh one. Holes cannot be punched: the seal that keeps the
    /// plugin from writing forbids it. Only while nothing lies here.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.life += 1;
        match &mut self.bytes {
            Bytes::Calls { arena, places } => {
                debug_assert!(self.calls.is_empty() && places.is_all_free());
                *arena = SharedBytes::create("devour-arena", places.size())?;
                *places = Places::new(places.size());
                Ok(())
            }
            Bytes::Stock(stock) => stock.renew(),
            Bytes::Elsewhere { .. } => Ok(()),
        }
    }

    /// Copies a handout's messages, unless they lie here already; `false` if they do not fit now.
    pub(super) fn store(&mut self, number: CallNumber, handout: &Handout) -> bool {
        let from = match &handout.source {
            Source::Fetched(batch) => From::Fetched(batch),
            Source::Parked(records) => From::Parked(records),
            Source::Stored(kept) => {
                let mut records = self.spare.pop().unwrap_or_default();
                records.extend(kept.iter().map(|kept| kept.0));
                self.keep(number, Place::Stock, records);
                return true;
            }
        };
        let (bytes, largest) = self.measure(from, &handout.entries);
        let Some(mut place) = self.place(bytes, largest) else {
            return false;
        };
        let mut records = self.spare.pop().unwrap_or_default();
        records.reserve(handout.entries.len());
        let to = match (&mut place, &mut self.bytes) {
            (Place::Arena(range), Bytes::Calls { arena, .. }) => {
                arena.get_mut(range.start..range.start + bytes)
            }
            (Place::Own(memory), _) => memory.get_mut(0..bytes),
            _ => return false,
        };
        match from {
            From::Fetched(batch) => copy(to, &handout.entries, &mut records, &self.headers, |index| {
                batch.get(index).map(|message| of_message(&message))
            }),
            From::Parked(parked) => {
                copy(to, &handout.entries, &mut records, &self.headers, |index| {
                    parked.get(index).map(of_record)
                });
            }
        }
        self.keep(number, place, records);
        true
    }

    fn keep(&mut self, number: CallNumber, place: Place, records: Vec<u32>) {
        self.own += usize::from(matches!(place, Place::Own(_)));
        let stored = Stored {
            place,
            records,
            from: 0,
            handed: true,
            abandoned: false,
        };
        self.calls.insert(number, stored);
    }

    /// How many bytes the records take, together and the largest. Encodes the headers on the way, if they are kept.
    fn measure(&mut self, from: From<'_>, entries: &[Entry]) -> (usize, usize) {
        self.headers.bytes.clear();
        self.headers.ends.clear();
        let (mut all, mut largest) = (0, 0);
        for entry in entries {
            let index = entry.index as usize;
            let (key, payload) = match from {
                From::Fetched(batch) => batch.get(index).map_or((None, None), |message| {
                    (message.key().map(<[u8]>::len), message.payload().map(<[u8]>::len))
                }),
                From::Parked(records) => records.get(index).map_or((None, None), |record| {
                    (
                        record.key.as_ref().map(|key| key.len()),
                        record.payload.as_ref().map(|payload| payload.len()),
                    )
                }),
            };
            let bytes = layout::size(key, payload, self.headers.encode(from, index));
            all += bytes;
            largest = largest.max(bytes);
        }
        (all, largest)
    }

    /// A message above a quarter of the arena, and what is larger than the arena as a whole, gets memory of its own.
    fn place(&mut self, bytes: usize, largest: usize) -> Option<Place> {
        if let Bytes::Calls { places, .. } = &mut self.bytes
            && largest <= places.size() / 4
            && bytes <= places.size()
        {
            return places.take(bytes).map(Place::Arena);
        }
        if self.own > 0 {
            return None;
        }
        match SharedBytes::create("devour-message", bytes) {
            Ok(memory) => Some(Place::Own(memory)),
            Err(error) => {
                tracing::warn!(bytes, %error, "no memory for a large message now; it waits");
                None
            }
        }
    }

    pub(super) fn get(&self, number: CallNumber) -> Option<&Stored> {
        self.calls.get(&number)
    }

    /// Gives what is left of a call a new number.
    pub(super) fn renumber(&mut self, number: CallNumber, from: u32, new: CallNumber) -> bool {
        let Some(mut call) = self.calls.remove(&number) else {
            return false;
        };
        call.from = (call.from + from).min(call.records.len() as u32);
        call.handed = true;
        self.calls.insert(new, call);
        true
    }

    /// The worker is done with it: its bytes are free, once the plugin is done too.
    pub(super) fn finish(&mut self, number: CallNumber) {
        match self.calls.get_mut(&number) {
            Some(call) if call.handed => call.abandoned = true,
            Some(_) => self.free(number),
            None => {}
        }
    }

    /// The plugin is done with it. Whether the worker still wants to hear of it.
    pub(super) fn came_back(&mut self, number: CallNumber) -> bool {
        match self.calls.get_mut(&number) {
            Some(call) if call.abandoned => {
                self.free(number);
                false
            }
            Some(call) => {
                call.handed = false;
                true
            }
            None => false,
        }
    }

    /// The plugin is gone: it is done with all of them.
    pub(super) fn all_came_back(&mut self) {
        let numbers: Vec<CallNumber> = self.calls.keys().copied().collect();
        for number in numbers {
            self.came_back(number);
        }
    }

    fn free(&mut self, number: CallNumber) {
        let Some(mut call) = self.calls.remove(&number) else {
            return;
        };
        match (call.place, &mut self.bytes) {
            (Place::Arena(range), Bytes::Calls { places, .. }) => places.give_back(range),
            (Place::Own(_), _) => self.own -= 1,
            _ => {}
        }
        call.records.clear();
        if self.spare.len() < 16 {
            self.spare.push(call.records);
        }
    }

    /// Where a call lies.
    pub(super) fn span<'a>(&self, call: &'a Stored) -> Span<'a> {
        let offset = |record: usize| call.records.get(record).map(|at| *at as usize * 8);
        let count = call.records.len() as u32 - call.from;
        let skipped = offset(call.from as usize);
        match &call.place {
            Place::Arena(range) => {
                let start = range.start + skipped.unwrap_or(range.len());
                Span::Piece {
                    start,
                    bytes: range.end - start,
                    count,
                    own: None,
                }
            }
            Place::Own(memory) => {
                let start = skipped.unwrap_or(memory.len());
                Span::Piece {
                    start,
                    bytes: memory.len() - start,
                    count,
                    own: Some(memory),
                }
            }
            Place::Stock => Span::Places(&call.records[call.from as usize..]),
        }
    }

    fn fields(&self, number: CallNumber, index: u32) -> Option<Fields<'_>> {
        let call = self.get(number)?;
        let at = *call.records.get((call.from + index) as usize)? as usize * 8;
        let bytes = match (&call.place, &self.bytes) {
            (Place::Arena(range), Bytes::Calls { arena, .. }) => arena.get(range.start + at..range.end),
            (Place::Own(memory), _) => memory.get(at..memory.len()),
            (Place::Stock, Bytes::Stock(stock)) => stock.arena().get(at..stock.size()),
            _ => return None,
        };
        layout::read(bytes).map(|(fields, _)| fields)
    }

    /// Slot and offset of a message.
    pub(super) fn position(&self, number: CallNumber, index: u32) -> Option<(Slot, i64)> {
        self.fields(number, index)
            .map(|fields| (Slot(fields.slot), fields.offset))
    }

    /// A copy of a message.
    pub(super) fn copy_out(&self, number: CallNumber, index: u32) -> Option<Record> {
        self.fields(number, index).map(|fields| record_of(&fields))
    }
}

/// Writes the records one after the other; the entry says slot, attempt and tag, the source the rest.
#[inline]
fn copy<'a>(
    mut to: &mut [u8],
    entries: &[Entry],
    records: &mut Vec<u32>,
    headers: &EncodedHeaders,
    get: impl Fn(usize) -> Option<Fields<'a>>,
) {
    let mut at = 0;
    for (nth, entry) in entries.iter().enumerate() {
        let fields = get(entry.index as usize).unwrap_or_default();
        let fields = Fields {
            slot: entry.slot.0,
            attempt: entry.attempt,
            tag: entry.tag,
            headers: headers.of(nth),
            ..fields
        };
        let bytes = layout::write(to, &fields);
        records.push((at / 8) as u32);
        at += bytes;
        to = &mut to[bytes..];
    }
}

#[inline]
fn of_message<'a>(message: &Message<'a>) -> Fields<'a> {
    let (timestamp_ms, timestamp_type) = timestamp(message);
    Fields {
        timestamp_type: timestamp_type.0,
        offset: message.offset(),
        timestamp_ms,
        leader_epoch: message.leader_epoch().unwrap_or(-1),
        key: message.key(),
        payload: message.payload(),
        ..Fields::default()
    }
}

pub(super) fn of_record(record: &Record) -> Fields<'_> {
    Fields {
        slot: record.slot.0,
        attempt: record.attempt,
        tag: record.tag,
        timestamp_type: record.timestamp_type,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        leader_epoch: record.leader_epoch,
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        ..Fields::default()
    }
}

/// When a message was made or stored, as plugins see it.
#[inline]
pub(super) fn timestamp(message: &Message<'_>) -> (i64, TimestampType) {
    match message.timestamp() {
        Timestamp::None => (-1, TimestampType::NOT_AVAILABLE),
        Timestamp::Created(at) => (at, TimestampType::CREATE_TIME),
        Timestamp::Appended(at) => (at, TimestampType::LOG_APPEND_TIME),
    }
}

// === impl EncodedHeaders ===

impl EncodedHeaders {
    /// Encodes the headers of the next message; how many bytes they take.
    #[inline]
    fn encode(&mut self, from: From<'_>, index: usize) -> usize {
        if !self.wanted {
            return 0;
        }
        let before = self.bytes.len();
        match from {
            From::Fetched(batch) => {
                for (name, value) in batch
                    .get(index)
                    .map(|message| message.headers())
                    .unwrap_or_default()
                {
                    layout::put_header(&mut self.bytes, name, value);
                }
            }
            From::Parked(records) => {
                for (name, value) in records.get(index).map_or(&[][..], |record| &record.headers) {
                    layout::put_header(&mut self.bytes, name, value.as_deref());
                }
            }
        }
        self.ends.push(self.bytes.len());
        self.bytes.len() - before
    }

    #[inline]
    fn of(&self, nth: usize) -> &[u8] {
        if !self.wanted {
            return &[];
        }
        let start = if nth == 0 { 0 } else { self.ends[nth - 1] };
        &self.bytes[start..self.ends[nth]]
    }
}
