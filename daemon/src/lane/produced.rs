//! Records that a plugin produces, on their way to the daemon: how they lie one behind the other, and on the plugin's side
//! the room that they have and who waits to hear of them. What comes from a plugin's process is checked before it is used.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use devour_abi::{Delivered, Delivery, HostErrorKind, HostFailure, MessageId, ProduceRecord};

use super::layout::{Headers, put_header};

/// Records that a plugin produced, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    bytes: Vec<u8>,
    life: u64,
}

/// One record that a plugin produced.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// What it belongs to.
    pub cause: Cause,
    /// Who waits to hear what becomes of it.
    pub asker: Option<Asker>,
    /// What it takes of the room that its plugin has.
    pub bytes: usize,
    /// The topic's name.
    pub topic: &'a str,
    /// The partition, if the plugin chose one.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp_ms: Option<i64>,
    headers: &'a [u8],
}

/// What a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A message in hand.
    Message(MessageId),
    /// Nobody knows: all that is in hand.
    All,
}

/// Who waits to hear what becomes of a record: a life of a plugin, and a number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Numbers of lives differ in all homes of the daemon.
    pub life: u64,
    /// The plugin's own number.
    pub number: u64,
}

/// What a record says of itself before its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub cause: Cause,
    /// The number under which somebody waits to hear what becomes of it; 0 for nobody.
    pub asker: u64,
    /// The number under which somebody waits to hear that it came; 0 for nobody.
    pub receipt: u64,
}

/// Why records were not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a produced record that cannot be read")]
pub(super) struct Unreadable;

/// The room that a plugin has for records that the brokers have not acknowledged, in bytes. Whoever needs more than there
/// is waits for their turn.
#[derive(Debug, Default)]
pub(super) struct Room {
    state: Mutex<RoomState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RoomState {
    free: u64,
    /// What a record takes at most, however large it is.
    most: u64,
    /// Turns given to those who wait, and the one that is served.
    given: u64,
    served: u64,
    closed: bool,
}

/// Those who wait to hear of a record.
#[derive(Default)]
pub(super) struct Waiters {
    state: Mutex<WaitersState>,
}

#[derive(Default)]
struct WaitersState {
    last: u64,
    deliveries: HashMap<u64, Delivery>,
    closed: bool,
}

/// What librdkafka and this daemon keep of a record beside its bytes, about.
const OVERHEAD: usize = 200;
const HEAD: usize = 64;
const NULL: u32 = u32::MAX;
/// No record is larger than this, with all that belongs to it: brokers take requests of up to 100 MiB, unless they are told
/// otherwise.
pub(super) const MAX_RECORD: usize = 128 << 20;

// === impl Produced ===

impl Produced {
    /// Records that lie in `bytes`, which were checked; the plugin's life is `life`.
    pub(super) fn of(bytes: Vec<u8>, life: u64) -> Self {
        Self { bytes, life }
    }

    /// One record.
    #[cfg(test)]
    pub(crate) fn one(cause: Cause, asker: u64, life: u64, record: &ProduceRecord<'_>) -> Self {
        let mut bytes = Vec::new();
        let head = Head {
            cause,
            asker,
            receipt: 0,
        };
        write(&mut bytes, &head, record);
        Self { bytes, life }
    }

    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = Output<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, output, length) = read(rest)?;
            rest = &rest[length..];
            let asker = (head.asker != 0).then_some(Asker {
                life: self.life,
                number: head.asker,
            });
            Some(Output { asker, ..output })
        })
    }
}

impl<'a> Output<'a> {
    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        Headers::of(self.headers)
    }
}

/// Whether records can be read, and what they take together; calls `receipt` for each number under which somebody waits to
/// hear that a record came.
pub(super) fn check(bytes: &[u8], mut receipt: impl FnMut(u64)) -> Result<usize, Unreadable> {
    let (mut rest, mut sum) = (bytes, 0);
    while !rest.is_empty() {
        let (head, output, length) = read(rest).ok_or(Unreadable)?;
        // The plugin's side writes nothing else.
        let whole: usize = output
            .headers()
            .map(|(name, value)| 8 + name.len() + value.map_or(0, <[u8]>::len))
            .sum();
        if whole != output.headers.len() || output.topic.is_empty() {
            return Err(Unreadable);
        }
        if head.receipt != 0 {
            receipt(head.receipt);
        }
        sum += output.bytes;
        rest = &rest[length..];
    }
    Ok(sum)
}

/// Bytes that a record takes where it lies.
pub(super) fn length(record: &ProduceRecord<'_>) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| 8 + header.name.len() + header.value.as_ref().map_or(0, |value| value.len()))
        .sum();
    HEAD + record.topic.len()
        + record.key.as_ref().map_or(0, |key| key.len())
        + record.payload.as_ref().map_or(0, |payload| payload.len())
        + headers
}

/// What a record of this length takes of its plugin's room.
pub(super) fn cost(length: usize) -> usize {
    length + OVERHEAD
}

/// Why a record is refused before anybody is asked.
pub(super) fn refuse(record: &ProduceRecord<'_>, length: usize) -> Option<HostFailure> {
    let topic = record.topic.as_str();
    let text = if length > MAX_RECORD {
        format!("a record of {length} bytes for `{topic}`: devourd takes up to {MAX_RECORD}")
    } else if topic.is_empty() || topic.len() > 249 || topic.contains('\0') {
        format!(
            "`{}` is not the name of a topic: it has 1 to 249 characters",
            topic.escape_default()
        )
    } else if record.partition < -1 {
        format!(
            "a record for partition {} of `{topic}`: partitions count from 0",
            record.partition
        )
    } else if record.headers.iter().any(|header| header.name.contains('\0')) {
        format!("a record for `{topic}` has a header whose name holds a NUL byte")
    } else {
        return None;
    };
    Some(HostFailure::new(HostErrorKind::REFUSED, text))
}

/// Appends a record.
pub(super) fn write(to: &mut Vec<u8>, head: &Head, record: &ProduceRecord<'_>) {
    let start = to.len();
    let key = record.key.into_option().map(|key| key.as_slice());
    let payload = record.payload.into_option().map(|payload| payload.as_slice());
    let length = |bytes: Option<&[u8]>| bytes.map_or(NULL, |bytes| bytes.len() as u32);
    let (of_message, call, index) = match head.cause {
        Cause::Message(id) => (1u32, id.call, id.index),
        Cause::All => (0, 0, 0),
    };
    let mut fixed = [0u8; HEAD];
    // 0: its length, put in last.
    fixed[4..8].copy_from_slice(&of_message.to_ne_bytes());
    fixed[8..16].copy_from_slice(&call.to_ne_bytes());
    fixed[16..20].copy_from_slice(&index.to_ne_bytes());
    fixed[20..24].copy_from_slice(&record.partition.to_ne_bytes());
    fixed[24..32].copy_from_slice(&record.timestamp_ms.to_ne_bytes());
    fixed[32..40].copy_from_slice(&head.asker.to_ne_bytes());
    fixed[40..48].copy_from_slice(&head.receipt.to_ne_bytes());
    fixed[48..52].copy_from_slice(&(record.topic.len() as u32).to_ne_bytes());
    fixed[52..56].copy_from_slice(&length(key).to_ne_bytes());
    fixed[56..60].copy_from_slice(&length(payload).to_ne_bytes());
    to.extend_from_slice(&fixed);
    to.extend_from_slice(record.topic.as_str().as_bytes());
    to.extend_from_slice(key.unwrap_or(&[]));
    to.extend_from_slice(payload.unwrap_or(&[]));
    let headers = to.len();
    for header in record.headers {
        let value = header.value.into_option().map(|value| value.as_slice());
        put_header(to, header.name.as_str(), value);
    }
    let (headers, whole) = ((to.len() - headers) as u32, (to.len() - start) as u32);
    to[start + 60..start + 64].copy_from_slice(&headers.to_ne_bytes());
    to[start..start + 4].copy_from_slice(&whole.to_ne_bytes());
}

/// The record at the front of `from`, and its length.
fn read(from: &[u8]) -> Option<(Head, Output<'_>, usize)> {
    let head: &[u8; HEAD] = from.first_chunk()?;
    let u32_at = |at: usize| u32::from_ne_bytes(array(head, at));
    let u64_at = |at: usize| u64::from_ne_bytes(array(head, at));
    let whole = u32_at(0) as usize;
    let body = from.get(HEAD..whole)?;
    let mut rest = body;
    let mut take = |length: u32| -> Option<Option<&[u8]>> {
        if length == NULL {
            return Some(None);
        }
        let (here, after) = rest.split_at_checked(length as usize)?;
        rest = after;
        Some(Some(here))
    };
    let topic = std::str::from_utf8(take(u32_at(48))??).ok()?;
    let (key, payload) = (take(u32_at(52))?, take(u32_at(56))?);
    let headers = take(u32_at(60))??;
    if !rest.is_empty() || topic.contains('\0') {
        return None;
    }
    let cause = match u32_at(4) {
        0 => Cause::All,
        _ => Cause::Message(MessageId {
            call: u64_at(8),
            index: u32_at(16),
        }),
    };
    let (partition, timestamp_ms) = (u32_at(20).cast_signed(), u64_at(24).cast_signed());
    let output = Output {
        cause,
        asker: None,
        bytes: cost(whole),
        topic,
        partition: (partition >= 0).then_some(partition),
        key,
        payload,
        timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
        headers,
    };
    let head = Head {
        cause,
        asker: u64_at(32),
        receipt: u64_at(40),
    };
    Some((head, output, whole))
}

fn array<const N: usize>(head: &[u8; HEAD], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    bytes
}

// === impl Room ===

impl Room {
    /// There is more room. No record takes more than `most`, however large it is.
    pub(super) fn grant(&self, bytes: u64, most: u64) {
        let mut state = lock(&self.state);
        state.free = state.free.saturating_add(bytes);
        state.most = most;
        drop(state);
        self.changed.notify_all();
    }

    /// Nobody waits any more: the plugin is to end.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Takes room for a record; `before_waiting` is called where there is none now.
    pub(super) fn take(&self, bytes: usize, before_waiting: impl FnOnce()) -> Result<(), HostFailure> {
        let bytes = bytes as u64;
        let mut state = lock(&self.state);
        if state.given == state.served && state.has(bytes) {
            state.take(bytes);
            return Ok(());
        }
        let turn = state.given;
        state.given += 1;
        drop(state);
        before_waiting();
        state = lock(&self.state);
        while !state.closed && (state.served != turn || !state.has(bytes)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(HostFailure::given_up());
        }
        state.served += 1;
        state.take(bytes);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }
}

impl RoomState {
    /// Before anything was granted there is no bound to go by, and no room.
    fn has(&self, bytes: u64) -> bool {
        self.most > 0 && self.free >= bytes.min(self.most)
    }

    fn take(&mut self, bytes: u64) {
        self.free -= bytes.min(self.most);
    }
}

// === impl Waiters ===

impl Waiters {
    /// Keeps one who waits; the number under which it is told.
    pub(super) fn add(&self, delivery: Delivery) -> u64 {
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        if state.closed {
            drop(state);
            drop(delivery);
        } else {
            state.deliveries.insert(number, delivery);
        }
        number
    }

    /// Tells one who waits.
    pub(super) fn tell(&self, number: u64, outcome: Result<Delivered, HostFailure>) {
        let delivery = lock(&self.state).deliveries.remove(&number);
        if let Some(delivery) = delivery {
            delivery.tell(outcome);
        }
    }

    /// All hear that their records are given up.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let left = std::mem::take(&mut state.deliveries);
        drop(state);
        drop(left);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "produced_tests.rs"]
mod tests;
