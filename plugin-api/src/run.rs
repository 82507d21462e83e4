//! The loops over a call: message by message, or all at once. What is paid per message stands here: one relaxed store
//! into the cell, a compare with the cut number, decoding and the digest itself.

use std::sync::atomic::{Ordering, compiler_fence};

use abi_stable::std_types::ROption;
use devour_abi::{Call, CallReturn, DumpMode, Failure, FailureKind, LentCallHost, MessageView, abi_stable};

use crate::{
    Batch, DigestError, Message,
    plugin::{BatchHandler, Handler},
};

/// What an instance remembers between calls.
pub struct Lane {
    held: HeldTags,
    dump: DumpMode,
    reject_tombstones: bool,
    tombstones: u64,
}

/// Order tags whose messages wait for an earlier failure. Empty on the normal path, small otherwise; sorted, because
/// a route whose every partition fails may hold thousands.
#[derive(Debug, Default)]
struct HeldTags {
    sorted: Vec<u64>,
}

// === impl Lane ===

impl Lane {
    pub(crate) fn new(dump: DumpMode, reject_tombstones: bool) -> Self {
        Self {
            held: HeldTags::default(),
            dump,
            reject_tombstones,
            tombstones: 0,
        }
    }

    /// Lets go and holds what the call says.
    #[inline]
    pub(crate) fn hold_and_release(&mut self, call: &Call<'_>) {
        for tag in call.released.as_slice() {
            self.held.release(*tag);
        }
        for tag in call.held.as_slice() {
            self.held.hold(*tag);
        }
    }

    /// How messages are decoded.
    pub(crate) fn dump(&self) -> DumpMode {
        self.dump
    }

    /// How many tombstones were passed over since this was last asked.
    #[inline]
    pub(crate) fn take_tombstones(&mut self) -> u64 {
        std::mem::take(&mut self.tombstones)
    }

    /// A tombstone that the digest has no value for: passed over, or a reject.
    #[cold]
    pub(crate) fn tombstone(&mut self, index: u32) -> Option<Failure> {
        if self.reject_tombstones {
            let text = "a tombstone: the digest takes a JSON value, and the route says `tombstones: reject`";
            return Some(Failure::new(FailureKind::REJECT, text));
        }
        self.tombstones += 1;
        crate::testing::note_passed(index);
        None
    }

    /// Reports a failure and holds its tag. A fatal one is given back: the instance must not go on.
    #[cold]
    fn fail(&mut self, call: &Call<'_>, index: u32, tag: u64, failure: Failure) -> Option<Failure> {
        match failure.kind {
            FailureKind::FATAL | FailureKind::PANIC => return Some(failure),
            FailureKind::REJECT | FailureKind::UNDECODABLE if !call.hold_on_reject => {}
            _ => self.held.hold(tag),
        }
        call.host.failed(index, failure);
        None
    }
}

// === impl HeldTags ===

impl HeldTags {
    #[inline]
    fn holds(&self, tag: u64) -> bool {
        !self.sorted.is_empty() && self.find(tag).is_ok()
    }

    #[inline(never)]
    fn find(&self, tag: u64) -> Result<usize, usize> {
        self.sorted.binary_search(&tag)
    }

    fn hold(&mut self, tag: u64) {
        if let Err(place) = self.find(tag) {
            self.sorted.insert(place, tag);
        }
    }

    fn release(&mut self, tag: u64) {
        if let Ok(place) = self.find(tag) {
            self.sorted.remove(place);
        }
    }
}

// === the loops ===

/// Says that message `index` is about to be begun, and whether it may be: the store, the fence and the compare in this
/// order are what the host relies on when it cuts (see [`CallCell`](devour_abi::CallCell)). No message is begun without.
#[inline]
#[must_use]
pub(crate) fn may_begin(call: &Call<'_>, index: u32) -> bool {
    call.cell.store(call.number, index);
    compiler_fence(Ordering::SeqCst);
    !call.cut.cuts(call.number)
}

/// Digests message by message.
pub(crate) fn one_by_one<C, H: Handler<C>>(consumer: &mut C, call: &Call<'_>, lane: &mut Lane) -> CallReturn {
    let messages = call.messages.as_slice();
    let host = LentCallHost::new(call.host);
    // How many messages right before the present one were passed over and not yet reported.
    let mut waiting = 0;
    for (index, view) in (0u32..).zip(messages) {
        // Not in the cell and not cut: passing over is no beginning.
        if lane.held.holds(view.order_tag) {
            waiting += 1;
            continue;
        }
        if waiting != 0 {
            report_waiting(call, index, &mut waiting);
        }
        if !may_begin(call, index) {
            return cut_at(index);
        }
        let message = Message::new(view, &host, index);
        let failure = match H::extract(message, lane.dump) {
            Ok(Some(taken)) => match H::digest(consumer, view.offset, taken) {
                Ok(()) => continue,
                Err(error) => error.into_failure(),
            },
            Ok(None) => match lane.tombstone(index) {
                None => continue,
                Some(failure) => failure,
            },
            Err(undecodable) => undecodable.into_failure(),
        };
        if let Some(broken) = lane.fail(call, index, view.order_tag, failure) {
            return CallReturn {
                finished: index,
                broken: ROption::RSome(broken),
            };
        }
    }
    finish(call, waiting)
}

/// Digests all messages at once: all of them are in hand until the digest returns.
pub(crate) fn all_at_once<C, H: BatchHandler<C>>(
    consumer: &mut C,
    call: &Call<'_>,
    lane: &mut Lane,
) -> CallReturn {
    if !may_begin(call, 0) {
        return cut_at(0);
    }
    let messages = call.messages.as_slice();
    let host = LentCallHost::new(call.host);
    let mut batch = Batch::new(messages.len());
    let mut places: Vec<(u32, u64)> = Vec::with_capacity(messages.len());
    let mut waiting = 0;
    for (index, view) in (0u32..).zip(messages) {
        if lane.held.holds(view.order_tag) {
            waiting += 1;
            continue;
        }
        report_waiting(call, index, &mut waiting);
        let failure = match H::extract(Message::new(view, &host, index), lane.dump) {
            Ok(Some(taken)) => {
                batch.push(view.offset, taken);
                places.push((index, view.order_tag));
                continue;
            }
            Ok(None) => match lane.tombstone(index) {
                None => continue,
                Some(failure) => failure,
            },
            Err(undecodable) => undecodable.into_failure(),
        };
        // Neither of these is fatal, so there is nothing to give back.
        let _ = lane.fail(call, index, view.order_tag, failure);
    }
    report_waiting(call, count(messages), &mut waiting);
    if places.is_empty() {
        return finish(call, 0);
    }
    let whole = H::digest(consumer, &mut batch).err();
    match settle(call, lane, &places, batch.into_failures(), whole) {
        // Nothing of a batch is done if it breaks the instance.
        Some(broken) => CallReturn {
            finished: 0,
            broken: ROption::RSome(broken),
        },
        None => finish(call, 0),
    }
}

/// Reports what a batch digest said of its messages. What follows a failed message in its order was in the same
/// hand, but is digested again after it: order is kept.
fn settle(
    call: &Call<'_>,
    lane: &mut Lane,
    places: &[(u32, u64)],
    failures: Vec<(usize, DigestError)>,
    whole: Option<DigestError>,
) -> Option<Failure> {
    let is_fatal = |error: &&DigestError| error.kind() == FailureKind::FATAL;
    let fatal = whole
        .iter()
        .chain(failures.iter().map(|(_, error)| error))
        .find(is_fatal);
    if let Some(error) = fatal {
        return Some(error.clone().into_failure());
    }
    if whole.is_none() && failures.is_empty() {
        return None;
    }
    let mut failures = failures.into_iter().peekable();
    for (place, (index, tag)) in places.iter().enumerate() {
        let own = failures
            .next_if(|(failed, _)| *failed == place)
            .map(|(_, error)| error);
        if lane.held.holds(*tag) {
            call.host.not_begun(*index, 1);
        } else if let Some(error) = own.or_else(|| whole.clone()) {
            let _ = lane.fail(call, *index, *tag, error.into_failure());
        }
    }
    None
}

/// All messages were gone through.
#[inline]
pub(crate) fn finish(call: &Call<'_>, mut waiting: u32) -> CallReturn {
    let len = count(call.messages.as_slice());
    report_waiting(call, len, &mut waiting);
    call.cell.store(call.number, len);
    CallReturn {
        finished: len,
        broken: ROption::RNone,
    }
}

/// The host cut the call before message `index`, which stands in the cell: what lies below is done, and a death that
/// follows does not have it digested again.
#[cold]
pub(crate) fn cut_at(index: u32) -> CallReturn {
    CallReturn {
        finished: index,
        broken: ROption::RNone,
    }
}

/// Reports the `waiting` messages right before `end` as not begun.
#[inline]
fn report_waiting(call: &Call<'_>, end: u32, waiting: &mut u32) {
    if *waiting != 0 {
        call.host.not_begun(end - *waiting, *waiting);
        *waiting = 0;
    }
}

#[inline]
fn count(messages: &[MessageView<'_>]) -> u32 {
    u32::try_from(messages.len()).expect("a call holds fewer than 2^20 messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_tags_are_a_set() {
        let mut held = HeldTags::default();
        assert!(!held.holds(7));
        held.hold(7);
        held.hold(3);
        held.hold(7);
        assert!(held.holds(7) && held.holds(3) && !held.holds(5));
        held.release(7);
        held.release(9);
        assert!(!held.holds(7) && held.holds(3));
    }
}
