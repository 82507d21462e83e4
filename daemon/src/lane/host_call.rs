//! What a shim may ask during a call, in the plugin's process.

use std::{cell::OnceCell, ops::Range, rc::Rc};

use devour_abi::{CallCell, Failure, HeaderView, HostedCall, OwnedMessage};

use super::{channel::FromLane, current::Locate, host_talk::not_yet, layout, views};
use crate::os::{
    SeqPacket, SharedPage, SharedView, process,
    socket::{Sent, Wait},
};

/// One call at work.
pub(super) struct LaneCall<'a> {
    number: u64,
    work: &'a SeqPacket,
    /// Encoded headers of each message; empty if the consumer does not read them.
    headers: &'a [&'a [u8]],
    parsed: Vec<OnceCell<Box<[HeaderView<'a>]>>>,
}

/// Finds the message in hand in the memory that the call lies in.
pub(super) struct Place {
    pub call: u64,
    pub cells: Rc<SharedPage>,
    pub lane: usize,
    pub memory: Rc<SharedView>,
    pub range: Range<usize>,
}

// === impl LaneCall ===

impl<'a> LaneCall<'a> {
    pub(super) fn new(number: u64, work: &'a SeqPacket, headers: &'a [&'a [u8]]) -> Self {
        Self {
            number,
            work,
            headers,
            parsed: vec![OnceCell::new(); headers.len()],
        }
    }
}

impl HostedCall for LaneCall<'_> {
    fn failed(&self, index: u32, failure: Failure) {
        say(
            self.work,
            &FromLane::Failed {
                call: self.number,
                index,
                failure,
            },
        );
    }

    fn not_begun(&self, first: u32, count: u32) {
        say(
            self.work,
            &FromLane::NotBegun {
                call: self.number,
                first,
                count,
            },
        );
    }

    fn headers(&self, index: u32) -> &[HeaderView<'_>] {
        let index = index as usize;
        match (self.parsed.get(index), self.headers.get(index)) {
            (Some(parsed), Some(encoded)) => parsed.get_or_init(|| views::of_headers(encoded)),
            _ => &[],
        }
    }

    fn take(&self, _: u32) -> Result<OwnedMessage, String> {
        Err(not_yet("let a message be taken beyond its call"))
    }
}

/// Sends an outcome. Outcomes wait for room: the daemon always reads. Without a daemon there is nothing left to do.
pub(super) fn say(work: &SeqPacket, said: &FromLane<'_>) {
    let mut frame = Vec::with_capacity(64);
    said.encode(&mut frame);
    if !matches!(work.send(&frame, &[], Wait::Yes), Ok(Sent::Done)) {
        process::exit_now(0);
    }
}

// === impl Place ===

impl Locate for Place {
    fn locate(&self) -> Option<(u32, i64)> {
        let at = CallCell::in_word(self.cells.word(self.lane)).load();
        if at.call != self.call {
            return None;
        }
        let mut bytes = self.memory.get(self.range.clone())?;
        for _ in 0..at.index {
            let (_, _, length) = layout::read_place(bytes)?;
            bytes = &bytes[length..];
        }
        layout::read_place(bytes).map(|(slot, offset, _)| (slot, offset))
    }
}
