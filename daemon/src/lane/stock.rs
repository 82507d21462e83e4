//! The bytes of messages that wait for a lane or are with one, each in a place of its own: written once, found by their
//! place, free when their outcome is known.
//!
//! The arena is cut into chunks. Messages are written one after the other into the newest chunk, and a chunk is free when
//! the last message in it is: what was read together mostly ends together, so that places cost a few nanoseconds. A
//! message larger than a chunk has as many of them as it needs.

use std::{collections::HashMap, io, ops::Range};

use super::{
    Record,
    arena::Places,
    layout::{self, Fields, Headers},
};
use crate::{
    kafka::Message,
    lane::Slot,
    os::{SharedBytes, SharedView},
    schema::Shaped,
};

/// Where a message lies in the stock, in units of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kept(pub(super) u32);

/// The messages that a route has read ahead.
pub struct Stock {
    arena: SharedBytes,
    places: Places,
    chunk: usize,
    /// For each chunk: the messages that begin in it.
    live: Vec<u32>,
    /// For the first chunk of a run: how many it has.
    runs: Vec<u32>,
    /// Messages that somebody beyond our reach may still look at; true for those that are not needed any more.
    lent: HashMap<u32, bool>,
    /// The run that is being filled, and where its free part begins.
    filling: Option<(Range<usize>, usize)>,
    keeps_headers: bool,
    headers: Vec<u8>,
}

/// Places are numbers of 32 bits, in units of 8 bytes.
const LARGEST: usize = 32 << 30;

// === impl Stock ===

impl Stock {
    /// An arena of `bytes`. Headers are kept if somebody may want to see them.
    ///
    /// # Errors
    /// When descriptors or address space are missing.
    pub fn new(bytes: usize, keeps_headers: bool) -> io::Result<Self> {
        let bytes = bytes.clamp(64 * 1024, LARGEST);
        let chunk = (bytes / 64).next_power_of_two().clamp(4 * 1024, 64 * 1024);
        let chunks = bytes / chunk;
        Ok(Self {
            arena: SharedBytes::create("devour-arena", chunks * chunk)?,
            places: Places::new(chunks * chunk),
            chunk,
            live: vec![0; chunks],
            runs: vec![0; chunks],
            lent: HashMap::new(),
            filling: None,
            keeps_headers,
            headers: Vec::new(),
        })
    }

    /// The memory itself, to be passed on.
    pub(super) fn arena(&self) -> &SharedBytes {
        &self.arena
    }

    /// The memory as a reader in this process sees it.
    ///
    /// # Errors
    /// When address space is missing.
    pub(super) fn view(&self) -> io::Result<SharedView> {
        use std::os::fd::AsFd;
        SharedView::map(self.arena.as_fd(), self.arena.len()).map_err(io::Error::other)
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.arena.len()
    }

    /// The largest message that has a place here; larger ones travel alone, in memory of their own.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.arena.len() / 4
    }

    /// Nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let filling = self.filling.as_ref().map_or(0, |(run, _)| run.len());
        self.places.taken() == filling
            && self
                .filling
                .as_ref()
                .is_none_or(|(run, _)| self.live[run.start / self.chunk] == 0)
    }

    /// Bytes in chunks that are not free.
    #[must_use]
    pub fn used(&self) -> usize {
        self.places.taken()
    }

    /// Bytes of memory that the arena holds at most.
    pub(super) fn touched(&self) -> usize {
        self.places.touched()
    }

    /// Gives the arena's memory back to the system and takes fresh one; only while nothing is kept.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        if let Some((run, _)) = self.filling.take() {
            debug_assert_eq!(self.live[run.start / self.chunk], 0);
            self.places.give_back(run);
        }
        debug_assert!(self.places.is_all_free());
        self.arena = SharedBytes::create("devour-arena", self.arena.len())?;
        self.places = Places::new(self.arena.len());
        Ok(())
    }

    /// Keeps a fetched message. `None` if it has no place now; whether it ever has, [`Stock::fits`] says.
    #[inline]
    pub fn put(&mut self, message: &Message<'_>, slot: Slot, tag: u64) -> Option<Kept> {
        self.put_with(message, slot, tag, |stock, fields| stock.write(fields))
    }

    /// Keeps a fetched message with this value in place of its own.
    pub fn put_shaped(
        &mut self,
        message: &Message<'_>,
        slot: Slot,
        tag: u64,
        shaped: &Shaped<'_>,
    ) -> Option<Kept> {
        self.put_with(message, slot, tag, |stock, fields| {
            stock.write_with(fields, Some(shaped.len()), |to| shaped.write(to))
        })
    }

    #[inline]
    fn put_with(
        &mut self,
        message: &Message<'_>,
        slot: Slot,
        tag: u64,
        write: impl FnOnce(&mut Self, &Fields<'_>) -> Option<Kept>,
    ) -> Option<Kept> {
        if !self.keeps_headers {
            return write(self, &Self::fields_of(message, slot, tag, &[]));
        }
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        for (name, value) in message.headers() {
            layout::put_header(&mut headers, name, value);
        }
        let kept = write(self, &Self::fields_of(message, slot, tag, &headers));
        self.headers = headers;
        kept
    }

    #[inline]
    fn fields_of<'m>(message: &Message<'m>, slot: Slot, tag: u64, headers: &'m [u8]) -> Fields<'m> {
        let (timestamp_ms, timestamp_type) = super::calls::timestamp(message);
        Fields {
            slot: slot.0,
            attempt: 1,
            tag,
            timestamp_type: timestamp_type.0,
            offset: message.offset(),
            timestamp_ms,
            leader_epoch: message.leader_epoch().unwrap_or(-1),
            key: message.key(),
            payload: message.payload(),
            headers,
        }
    }

    /// Keeps a message that waited elsewhere.
    pub fn put_record(&mut self, record: &Record) -> Option<Kept> {
        let mut headers = Vec::new();
        for (name, value) in &record.headers {
            layout::put_header(&mut headers, name, value.as_deref());
        }
        self.write(&Fields {
            slot: record.slot.0,
            attempt: record.attempt,
            tag: record.tag,
            timestamp_type: record.timestamp_type,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            leader_epoch: record.leader_epoch,
            key: record.key.as_deref(),
            payload: record.payload.as_deref(),
            headers: &headers,
        })
    }

    /// Whether a message with so many bytes of key, value and headers has a place here at all.
    #[must_use]
    pub fn fits(&self, bytes: usize) -> bool {
        layout::size(Some(bytes), None, 0) <= self.largest()
    }

    #[expect(clippy::inline_always, reason = "as `layout::write`")]
    #[inline(always)]
    fn write(&mut self, fields: &Fields<'_>) -> Option<Kept> {
        let bytes = layout::size(
            fields.key.map(<[u8]>::len),
            fields.payload.map(<[u8]>::len),
            fields.headers.len(),
        );
        let start = self.place(bytes)?;
        layout::write(self.arena.get_mut(start..start + bytes), fields);
        self.live[start / self.chunk] += 1;
        Some(Kept((start / 8) as u32))
    }

    fn write_with(
        &mut self,
        fields: &Fields<'_>,
        payload: Option<usize>,
        write_payload: impl FnOnce(&mut [u8]),
    ) -> Option<Kept> {
        let bytes = layout::size(fields.key.map(<[u8]>::len), payload, fields.headers.len());
        let start = self.place(bytes)?;
        let to = self.arena.get_mut(start..start + bytes);
        layout::write_with(to, fields, payload, write_payload);
        self.live[start / self.chunk] += 1;
        Some(Kept((start / 8) as u32))
    }

    #[inline]
    fn place(&mut self, bytes: usize) -> Option<usize> {
        if let Some((run, free)) = &mut self.filling
            && run.end - *free >= bytes
        {
            let start = *free;
            *free += bytes;
            return Some(start);
        }
        self.place_in_a_new_run(bytes)
    }

    #[cold]
    fn place_in_a_new_run(&mut self, bytes: usize) -> Option<usize> {
        if bytes > self.largest() {
            return None;
        }
        let run = self.places.take(bytes.next_multiple_of(self.chunk))?;
        let first = run.start / self.chunk;
        self.runs[first] = (run.len() / self.chunk) as u32;
        let (start, large) = (run.start, bytes > self.chunk);
        // What is larger than a chunk has its run for itself; the other is filled on.
        if !large && let Some((old, _)) = self.filling.replace((run, start + bytes)) {
            self.free_if_empty(old.start / self.chunk);
        }
        Some(start)
    }

    /// The message is not needed any more.
    #[inline]
    pub fn free(&mut self, kept: Kept) {
        if !self.lent.is_empty()
            && let Some(is_owed) = self.lent.get_mut(&kept.0)
        {
            *is_owed = true;
            return;
        }
        let chunk = kept.0 as usize * 8 / self.chunk;
        self.live[chunk] -= 1;
        if self.live[chunk] == 0 {
            self.free_if_empty(chunk);
        }
    }

    /// Somebody beyond our reach may still look at the message: its place is not used again until it is given back.
    pub(super) fn lend(&mut self, kept: Kept) {
        self.lent.insert(kept.0, false);
    }

    /// Nobody else looks at it any more.
    pub(super) fn given_back(&mut self, kept: Kept) {
        if self.lent.remove(&kept.0) == Some(true) {
            self.free(kept);
        }
    }

    fn free_if_empty(&mut self, chunk: usize) {
        if self.live[chunk] > 0 {
            return;
        }
        let start = chunk * self.chunk;
        match &mut self.filling {
            // Used again from its beginning: what was touched last is touched first.
            Some((run, free)) if run.start == start => *free = start,
            _ => {
                let chunks = std::mem::take(&mut self.runs[chunk]) as usize;
                self.places.give_back(start..start + chunks * self.chunk);
            }
        }
    }

    /// What the digest is told about its attempt.
    pub fn set_attempt(&mut self, kept: Kept, attempt: u32) {
        let start = kept.0 as usize * 8;
        // Nothing is written where nothing changes: it may be lent.
        if self.fields(kept).is_some_and(|fields| fields.attempt == attempt) {
            return;
        }
        layout::set_attempt(self.arena.get_mut(start..start + layout::HEAD), attempt);
    }

    /// Bytes of a message's key, value and headers.
    #[must_use]
    pub fn bytes(&self, kept: Kept) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        self.fields(kept).map_or(0, |fields| {
            length(fields.key) + length(fields.payload) + fields.headers.len()
        })
    }

    pub(super) fn fields(&self, kept: Kept) -> Option<Fields<'_>> {
        let start = kept.0 as usize * 8;
        layout::read(self.arena.get(start..self.arena.len())).map(|(fields, _)| fields)
    }

    /// A copy of the message.
    ///
    /// # Panics
    /// When the message was freed.
    #[must_use]
    pub fn copy_out(&self, kept: Kept) -> Record {
        let fields = self.fields(kept);
        record_of(&fields.expect("what is kept is a whole message until it is freed"))
    }
}

/// A copy of what lies in an arena.
pub(super) fn record_of(fields: &Fields<'_>) -> Record {
    Record {
        slot: Slot(fields.slot),
        tag: fields.tag,
        attempt: fields.attempt,
        offset: fields.offset,
        leader_epoch: fields.leader_epoch,
        timestamp_ms: fields.timestamp_ms,
        timestamp_type: fields.timestamp_type,
        key: fields.key.map(Box::from),
        payload: fields.payload.map(Box::from),
        unshaped: false,
        headers: Headers::of(fields.headers)
            .map(|(name, value)| (name.into(), value.map(Box::from)))
            .collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(offset: i64, length: usize) -> Record {
        Record {
            slot: Slot(1),
            tag: 7,
            attempt: 2,
            offset,
            leader_epoch: 3,
            timestamp_ms: 4,
            timestamp_type: 1,
            key: Some(Box::from(offset.to_ne_bytes())),
            payload: (length > 0).then(|| vec![offset as u8; length].into()),
            unshaped: false,
            headers: vec![("h".into(), None)],
        }
    }

    proptest! {
        /// Whatever is kept and freed in whatever order: no message changes another, and all the room comes back.
        #[test]
        fn what_is_kept_stays_as_it_was(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..40_000, any::<usize>()), 1..300),
        ) {
            let mut stock = Stock::new(256 * 1024, true).unwrap();
            let mut kept: Vec<(Kept, i64, usize)> = Vec::new();
            let mut offset = 0;
            for (put, length, pick) in steps {
                if put {
                    offset += 1;
                    match stock.put_record(&record(offset, length)) {
                        Some(place) => kept.push((place, offset, length)),
                        None => prop_assert!(stock.used() > 0, "an empty stock takes what fits"),
                    }
                } else if !kept.is_empty() {
                    let (place, offset, length) = kept.swap_remove(pick % kept.len());
                    prop_assert_eq!(stock.copy_out(place), record(offset, length));
                    stock.free(place);
                }
            }
            let places: HashMap<u32, i64> = kept.iter().map(|(kept, offset, _)| (kept.0, *offset)).collect();
            prop_assert_eq!(places.len(), kept.len());
            for (place, offset, length) in kept {
                prop_assert_eq!(stock.copy_out(place), record(offset, length));
                stock.free(place);
            }
            stock.renew().unwrap();
            prop_assert_eq!(stock.used(), 0);
        }
    }

    #[test]
    fn a_message_that_is_too_large_has_no_place_and_the_attempt_can_be_told() {
        let mut stock = Stock::new(64 * 1024, false).unwrap();
        assert!(!stock.fits(17_000) && stock.fits(10_000));
        assert!(stock.put_record(&record(1, 17_000)).is_none());
        let kept = stock.put_record(&record(1, 10)).unwrap();
        stock.set_attempt(kept, 9);
        assert_eq!(stock.copy_out(kept).attempt, 9);
    }

    #[test]
    fn the_place_of_a_message_that_is_lent_is_used_again_when_it_is_given_back_and_not_before() {
        let mut stock = Stock::new(64 * 1024, false).unwrap();
        let lent = stock.put_record(&record(1, 1000)).unwrap();
        stock.lend(lent);
        stock.free(lent);
        let mut others = Vec::new();
        while let Some(kept) = stock.put_record(&record(2, 1000)) {
            assert_ne!(kept, lent);
            others.push(kept);
        }
        assert_eq!(stock.copy_out(lent), record(1, 1000));
        stock.given_back(lent);
        for kept in others {
            stock.free(kept);
        }
        assert!(stock.is_empty());
        // Given back before it is free, too.
        let lent = stock.put_record(&record(3, 1000)).unwrap();
        stock.lend(lent);
        stock.given_back(lent);
        stock.free(lent);
        assert!(stock.is_empty());
    }

    #[test]
    fn one_slow_message_holds_its_chunk_only() {
        let mut stock = Stock::new(1 << 20, false).unwrap();
        let slow = stock.put_record(&record(0, 100)).unwrap();
        for offset in 1..100_000 {
            let kept = stock.put_record(&record(offset, 100)).unwrap();
            stock.free(kept);
        }
        assert!(stock.used() <= 2 * stock.chunk);
        stock.free(slow);
        assert!(stock.used() <= stock.chunk);
    }
}
