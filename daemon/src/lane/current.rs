//! Which message the calling thread is digesting, so that a line it logs can say so, and a record that it produces belongs to
//! it. Costs nothing per message: the message is looked up, through the call's cell, when that happens.

use std::{cell::RefCell, rc::Rc};

use devour_abi::MessageId;

use super::produced::Cause;

/// A call at work.
pub(super) trait Locate {
    /// Slot and offset of the message in hand.
    fn locate(&self) -> Option<(u32, i64)>;
    /// Its call and its index.
    fn message(&self) -> Option<MessageId>;
}

/// A step of the lifecycle: no message is in hand.
pub(super) struct AtStep;

impl Locate for AtStep {
    fn locate(&self) -> Option<(u32, i64)> {
        None
    }

    fn message(&self) -> Option<MessageId> {
        None
    }
}

/// The call is the thread's current one until this is dropped.
pub(super) struct Current(());

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn Locate>>> = const { RefCell::new(None) };
}

/// Slot and offset of the message that the calling thread is digesting.
pub(super) fn position() -> Option<(u32, i64)> {
    // A plugin may log from a destructor of its own thread-local values, after this one is gone.
    let call = CURRENT.try_with(|current| current.borrow().clone()).ok()??;
    call.locate()
}

/// What a record belongs to that the calling thread produces; `None` on a thread that digests nothing.
pub(super) fn cause() -> Option<Cause> {
    let call = CURRENT.try_with(|current| current.borrow().clone()).ok()??;
    Some(call.message().map_or(Cause::All, Cause::Message))
}

// === impl Current ===

impl Current {
    pub(super) fn enter(call: Rc<dyn Locate>) -> Self {
        CURRENT.with(|current| *current.borrow_mut() = Some(call));
        Self(())
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.borrow_mut().take());
    }
}
