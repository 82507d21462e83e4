//! A message copied out of a fetch buffer or the arena, because it waits: for a retry, or behind one.

use super::{Entry, Slot};

/// A header's name and value; the value may be null.
pub type Header = (Box<str>, Option<Box<[u8]>>);

/// One copied message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub slot: Slot,
    /// Messages of one tag are digested in offset order.
    pub tag: u64,
    /// Attempts made so far plus one.
    pub attempt: u32,
    /// Offset in the partition.
    pub offset: i64,
    /// Leader epoch that came with it, -1 if unknown.
    pub leader_epoch: i32,
    /// Milliseconds since the epoch, -1 where the broker gave none.
    pub timestamp_ms: i64,
    /// Where the timestamp comes from (`devour_abi::TimestampType`).
    pub timestamp_type: u32,
    /// The key.
    pub key: Option<Box<[u8]>>,
    /// The value.
    pub payload: Option<Box<[u8]>>,
    /// The value is as it was read, and the route's schema is still to shape it.
    pub unshaped: bool,
    /// The headers, if the consumer reads them or a dead letter would have them.
    pub headers: Vec<Header>,
}

impl Record {
    /// Bytes that it holds, as counted against the route's budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        size_of::<Self>()
            + length(&self.key)
            + length(&self.payload)
            + self
                .headers
                .iter()
                .map(|(name, value)| name.len() + length(value))
                .sum::<usize>()
    }

    /// Its entry in a handout, where it stands at `index`.
    #[must_use]
    pub fn entry(&self, index: u32) -> Entry {
        Entry {
            index,
            slot: self.slot,
            attempt: self.attempt,
            tag: self.tag,
        }
    }
}
