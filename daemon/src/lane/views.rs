//! The messages of a call as the plugin sees them. The vectors that hold them are used again from call to call.

use std::{ops::Range, sync::Arc};

use abi_stable::std_types::{ROption, RSlice, RStr};
use devour_abi::{HeaderView, MessageView, TimestampType};

use super::layout::{self, Fields, Headers};
use crate::os::SharedView;

/// Topic and partition of each slot, as far as they are known.
#[derive(Default)]
pub(super) struct Names(Vec<Option<(Arc<str>, i32)>>);

/// Why a piece of memory does not hold the messages that it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum ViewError {
    #[error("message {0} of the call does not lie wholly in its place")]
    Broken(u32),
    #[error("message {0} of the call is of a partition that was not told")]
    Unknown(u32),
}

// === impl Names ===

impl Names {
    pub(super) fn learn(&mut self, slot: u32, topic: &str, partition: i32) {
        let slot = slot as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, None);
        }
        self.0[slot] = Some((topic.into(), partition));
    }

    /// The name itself, to keep.
    pub(super) fn topic(&self, slot: u32) -> Option<(Arc<str>, i32)> {
        let (topic, partition) = self.0.get(slot as usize)?.as_ref()?;
        Some((Arc::clone(topic), *partition))
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<(&str, i32)> {
        let (topic, partition) = self.0.get(slot as usize)?.as_ref()?;
        Some((topic, *partition))
    }
}

/// Appends the views of `count` records that lie in `bytes`, and, if they are wanted, their encoded headers.
#[inline]
pub(super) fn of_records<'a>(
    mut bytes: &'a [u8],
    count: u32,
    names: &'a Names,
    views: &mut Vec<MessageView<'a>>,
    headers: Option<&mut Vec<&'a [u8]>>,
) -> Result<(), ViewError> {
    let records = (0..count).map(|_| {
        let (fields, length) = layout::read(bytes)?;
        bytes = &bytes[length..];
        Some(fields)
    });
    of_each(records, names, views, headers)
}

/// The same for records that lie at these places of the stock.
#[inline]
pub(super) fn of_places<'a>(
    memory: &'a SharedView,
    places: impl ExactSizeIterator<Item = u32>,
    names: &'a Names,
    views: &mut Vec<MessageView<'a>>,
    headers: Option<&mut Vec<&'a [u8]>>,
) -> Result<(), ViewError> {
    let records = places.map(|place| at_place(memory, place).map(|(fields, _)| fields));
    of_each(records, names, views, headers)
}

/// The record at a place of the stock, and its length.
#[inline]
pub(super) fn at_place(memory: &SharedView, place: u32) -> Option<(Fields<'_>, usize)> {
    let start = place as usize * 8;
    let head = memory.get(start..start.checked_add(layout::HEAD)?)?;
    layout::read(memory.get(start..start + layout::length(head)?)?)
}

/// Where each of `count` records begins that follow each other in `range`, in units of 8 bytes.
pub(super) fn places(memory: &SharedView, range: Range<usize>, count: u32) -> Vec<u32> {
    let mut start = range.start;
    let next = |_| {
        let place = start;
        let head = memory.get(start..start.checked_add(layout::HEAD)?)?;
        start = start.checked_add(layout::length(head)?)?;
        Some((place / 8) as u32)
    };
    (0..count).map_while(next).collect()
}

#[inline]
fn of_each<'a>(
    records: impl ExactSizeIterator<Item = Option<Fields<'a>>>,
    names: &'a Names,
    views: &mut Vec<MessageView<'a>>,
    mut headers: Option<&mut Vec<&'a [u8]>>,
) -> Result<(), ViewError> {
    views.reserve(records.len());
    // Messages of one partition mostly follow each other.
    let (mut last, mut name) = (None, ("", -1));
    let mut wrong = None;
    // An iterator whose length is known is written without asking at each view whether there is room.
    views.extend(records.enumerate().map(|(index, fields)| {
        let Some(fields) = fields else {
            wrong.get_or_insert(ViewError::Broken(index as u32));
            return view(&Fields::default(), "", -1);
        };
        if last != Some(fields.slot) {
            last = Some(fields.slot);
            name = names.get(fields.slot).unwrap_or_else(|| {
                wrong.get_or_insert(ViewError::Unknown(index as u32));
                ("", -1)
            });
        }
        if let Some(headers) = &mut headers {
            headers.push(fields.headers);
        }
        view(&fields, name.0, name.1)
    }));
    wrong.map_or(Ok(()), Err)
}

#[inline]
pub(super) fn view<'a>(fields: &Fields<'a>, topic: &'a str, partition: i32) -> MessageView<'a> {
    MessageView {
        topic: RStr::from_str(topic),
        key: bytes(fields.key),
        payload: bytes(fields.payload),
        offset: fields.offset,
        timestamp_ms: fields.timestamp_ms,
        order_tag: fields.tag,
        partition,
        attempt: fields.attempt,
        timestamp_type: TimestampType(fields.timestamp_type),
        more: ROption::RNone,
    }
}

#[inline]
pub(super) fn bytes(bytes: Option<&[u8]>) -> ROption<RSlice<'_, u8>> {
    match bytes {
        Some(bytes) => ROption::RSome(RSlice::from_slice(bytes)),
        None => ROption::RNone,
    }
}

/// Encoded headers as the plugin sees them.
pub(super) fn of_headers(encoded: &[u8]) -> Box<[HeaderView<'_>]> {
    Headers::of(encoded)
        .map(|(name, value)| header(name, value))
        .collect()
}

pub(super) fn header<'a>(name: &'a str, value: Option<&'a [u8]>) -> HeaderView<'a> {
    HeaderView {
        name: RStr::from_str(name),
        value: bytes(value),
    }
}

/// The same vector, empty, for views that live elsewhere: collecting in place keeps the allocation.
pub(super) fn recycle<'b>(mut views: Vec<MessageView<'_>>) -> Vec<MessageView<'b>> {
    views.clear();
    views
        .into_iter()
        .map(|_| -> MessageView<'b> { unreachable!("it was cleared") })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_become_views_and_their_vector_is_kept() {
        let mut names = Names::default();
        names.learn(3, "orders", 7);
        let fields = Fields {
            slot: 3,
            attempt: 2,
            offset: 40,
            key: Some(b"k"),
            payload: None,
            ..Fields::default()
        };
        let mut bytes = vec![0; 256];
        let length = layout::write(&mut bytes, &fields);
        let mut views = Vec::with_capacity(100);
        of_records(&bytes, 1, &names, &mut views, None).unwrap();
        let view = views[0];
        assert_eq!(
            (view.topic.as_str(), view.partition, view.offset, view.attempt),
            ("orders", 7, 40, 2)
        );
        assert_eq!(
            (view.key.into_option().unwrap().as_slice(), view.payload),
            (&b"k"[..], ROption::RNone)
        );
        assert!(of_records(&bytes[..length - 1], 1, &names, &mut views, None).is_err());
        let at = views.as_ptr() as usize;
        let kept = recycle(views);
        assert_eq!(
            (kept.as_ptr() as usize, kept.capacity() >= 100, kept.len()),
            (at, true, 0)
        );
    }
}
