//! How a message lies in the arena: a head of fixed size, then key, value and headers; records follow each other.
//!
//! ```text
//!  0 length of the record, a multiple of 8     u32      32 order tag                          u64
//!  4 slot                                      u32      40 length of the key, or null         u32
//!  8 attempt                                   u32      44 length of the value, or null       u32
//! 12 type of the timestamp                     u32      48 length of the headers              u32
//! 16 offset                                    i64      52 leader epoch                       i32
//! 24 timestamp, milliseconds                   i64      56 key, value, headers
//! ```
//!
//! A header is the length of its name, the length of its value or null, both u32, then both. Numbers are of this
//! machine: both sides are the same program.

/// A message as it is written and read. `headers` is encoded: see [`put_header`] and [`Headers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Fields<'a> {
    pub slot: u32,
    pub attempt: u32,
    pub timestamp_type: u32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub tag: u64,
    pub leader_epoch: i32,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    pub headers: &'a [u8],
}

/// Iterates over encoded headers; ends at the first that is broken.
#[derive(Clone, Debug)]
pub(super) struct Headers<'a>(&'a [u8]);

/// Bytes before the key.
pub(super) const HEAD: usize = 56;
const NULL: u32 = u32::MAX;

/// Bytes that a record takes.
#[inline]
pub(super) fn size(key: Option<usize>, payload: Option<usize>, headers: usize) -> usize {
    (HEAD + key.unwrap_or(0) + payload.unwrap_or(0) + headers).next_multiple_of(8)
}

/// Writes a record to the front of `to` and returns its length.
///
/// # Panics
/// When `to` is shorter than [`size`] says.
#[expect(clippy::inline_always, reason = "as `write_with`")]
#[inline(always)]
pub(super) fn write(to: &mut [u8], fields: &Fields<'_>) -> usize {
    let payload = fields.payload;
    write_with(to, fields, payload.map(<[u8]>::len), |to| {
        to.copy_from_slice(payload.unwrap_or(&[]));
    })
}

/// As [`write`], with a value of `payload` bytes that somebody else writes.
#[expect(
    clippy::inline_always,
    reason = "the fields come in registers then: written to the stack one by one and read in pairs, each pair waits"
)]
#[inline(always)]
pub(super) fn write_with(
    to: &mut [u8],
    fields: &Fields<'_>,
    payload: Option<usize>,
    write_payload: impl FnOnce(&mut [u8]),
) -> usize {
    let length = |bytes: Option<usize>| bytes.map_or(NULL, |bytes| bytes as u32);
    let all = size(fields.key.map(<[u8]>::len), payload, fields.headers.len());
    let (head, mut rest) = to[..all].split_at_mut(HEAD);
    head[0..4].copy_from_slice(&(all as u32).to_ne_bytes());
    head[4..8].copy_from_slice(&fields.slot.to_ne_bytes());
    head[8..12].copy_from_slice(&fields.attempt.to_ne_bytes());
    head[12..16].copy_from_slice(&fields.timestamp_type.to_ne_bytes());
    head[16..24].copy_from_slice(&fields.offset.to_ne_bytes());
    head[24..32].copy_from_slice(&fields.timestamp_ms.to_ne_bytes());
    head[32..40].copy_from_slice(&fields.tag.to_ne_bytes());
    head[40..44].copy_from_slice(&length(fields.key.map(<[u8]>::len)).to_ne_bytes());
    head[44..48].copy_from_slice(&length(payload).to_ne_bytes());
    head[48..52].copy_from_slice(&(fields.headers.len() as u32).to_ne_bytes());
    head[52..56].copy_from_slice(&fields.leader_epoch.to_ne_bytes());
    if let Some(key) = fields.key.filter(|key| !key.is_empty()) {
        let (here, after) = rest.split_at_mut(key.len());
        here.copy_from_slice(key);
        rest = after;
    }
    if let Some(payload) = payload.filter(|payload| *payload > 0) {
        let (here, after) = rest.split_at_mut(payload);
        write_payload(here);
        rest = after;
    }
    if !fields.headers.is_empty() {
        rest[..fields.headers.len()].copy_from_slice(fields.headers);
    }
    all
}

/// Reads the record at the front of `from`: the message, and the length of the record. `None` if it does not lie
/// wholly inside.
#[inline]
pub(super) fn read(from: &[u8]) -> Option<(Fields<'_>, usize)> {
    let head: &[u8; HEAD] = from.first_chunk()?;
    let u32_at = |at: usize| u32::from_ne_bytes(array(head, at));
    let u64_at = |at: usize| u64::from_ne_bytes(array(head, at));
    let all = u32_at(0) as usize;
    let body = from.get(HEAD..all)?;
    // One check for the three parts: sums of three u32 fit into 64 bits.
    let (key, payload, headers) = (u32_at(40), u32_at(44), u32_at(48));
    let length = |length: u32| if length == NULL { 0 } else { length as usize };
    let (key_end, payload_end) = (length(key), length(key) + length(payload));
    let end = payload_end + length(headers);
    if end > body.len() {
        return None;
    }
    let fields = Fields {
        slot: u32_at(4),
        attempt: u32_at(8),
        timestamp_type: u32_at(12),
        offset: u64_at(16).cast_signed(),
        timestamp_ms: u64_at(24).cast_signed(),
        tag: u64_at(32),
        leader_epoch: u32_at(52).cast_signed(),
        key: (key != NULL).then(|| &body[..key_end]),
        payload: (payload != NULL).then(|| &body[key_end..payload_end]),
        headers: &body[payload_end..end],
    };
    Some((fields, all))
}

#[inline]
fn array<const N: usize>(head: &[u8; HEAD], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    bytes
}

/// How long the record with this head is.
#[inline]
pub(super) fn length(head: &[u8]) -> Option<usize> {
    let length: &[u8; 4] = head.first_chunk()?;
    Some(u32::from_ne_bytes(*length) as usize)
}

/// Changes the attempt in a record's head.
pub(super) fn set_attempt(head: &mut [u8], attempt: u32) {
    head[8..12].copy_from_slice(&attempt.to_ne_bytes());
}

/// The offset and slot of the record at the front of `from`, and its length.
pub(super) fn read_place(from: &[u8]) -> Option<(u32, i64, usize)> {
    let (fields, all) = read(from)?;
    Some((fields.slot, fields.offset, all))
}

/// Appends an encoded header.
pub(super) fn put_header(to: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    to.extend_from_slice(&(name.len() as u32).to_ne_bytes());
    to.extend_from_slice(&value.map_or(NULL, |value| value.len() as u32).to_ne_bytes());
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(value.unwrap_or(&[]));
}

// === impl Headers ===

impl<'a> Headers<'a> {
    pub(super) fn of(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_ne_bytes(*name) as usize)?;
        let (value, rest) = match u32::from_ne_bytes(*value) {
            NULL => (None, rest),
            length => rest
                .split_at_checked(length as usize)
                .map(|(value, rest)| (Some(value), rest))?,
        };
        self.0 = rest;
        Some((std::str::from_utf8(name).unwrap_or(""), value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in any::<(u32, u32, u32, i64, i64, u64, i32)>(),
            key in bytes(),
            payload in bytes(),
            headers in proptest::collection::vec(("[a-z]{0,9}", bytes()), 0..4),
        ) {
            let mut encoded = Vec::new();
            for (name, value) in &headers {
                put_header(&mut encoded, name, value.as_deref());
            }
            let (slot, attempt, timestamp_type, offset, timestamp_ms, tag, leader_epoch) = numbers;
            let (key, payload) = (key.as_deref(), payload.as_deref());
            let fields = Fields {
                slot, attempt, timestamp_type, offset, timestamp_ms, tag, leader_epoch, key, payload, headers: &encoded,
            };
            let all = size(key.map(<[u8]>::len), payload.map(<[u8]>::len), encoded.len());
            let mut place = vec![0xaa; all + 3];
            prop_assert_eq!(write(&mut place, &fields), all);
            let (read, length) = read(&place).unwrap();
            prop_assert_eq!(length, all);
            prop_assert_eq!(read, fields);
            let read: Vec<_> = Headers::of(read.headers).collect();
            let wrote: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            prop_assert_eq!(read, wrote);
        }

        #[test]
        fn noise_is_read_without_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some((fields, length)) = read(&noise) {
                prop_assert!(length <= noise.len());
                let _ = Headers::of(fields.headers).count();
            }
        }
    }
}
