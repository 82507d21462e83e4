//! What becomes of a record that a plugin produces, and how the host tells.

use std::ffi::c_void;

use abi_stable::{
    StableAbi,
    std_types::{RResult, RString},
};

use crate::instance::never_unwind;

/// Where the broker has put a record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// What kind of refusal a host's is. A number, not an enum: one that a newer host knows is still a value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, StableAbi)]
pub struct HostErrorKind(pub u32);

impl HostErrorKind {
    /// It cannot do what was asked.
    pub const OTHER: Self = Self(0);
    /// The record is wrong: larger than the broker takes, for a partition that is not there. Trying again cannot help.
    pub const REFUSED: Self = Self(1);
    /// The record is not written, or nobody knows whether it is.
    pub const FAILED: Self = Self(2);
    /// The transaction that it belonged to was aborted.
    pub const ABORTED: Self = Self(3);

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::REFUSED => "refused",
            Self::FAILED => "failed",
            Self::ABORTED => "aborted",
            _ => "other",
        }
    }
}

/// Why a host did not do what was asked.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, StableAbi)]
pub struct HostFailure {
    /// Of what kind.
    pub kind: HostErrorKind,
    /// For a person.
    pub message: RString,
}

/// Hears what became of a record: once, from any thread. Dropped unheard, it hears that the host has given it up.
#[repr(C)]
#[derive(StableAbi)]
pub struct Delivery {
    data: *mut c_void,
    tell: unsafe extern "C" fn(data: *mut c_void, outcome: RResult<Delivered, HostFailure>),
}

type Hear = Box<dyn FnOnce(Result<Delivered, HostFailure>) + Send>;

// === impl HostFailure ===

impl HostFailure {
    /// One of this kind.
    pub fn new(kind: HostErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: RString::from(message.into()),
        }
    }

    /// Of a record whose host is gone.
    #[must_use]
    pub fn given_up() -> Self {
        let text = "the host gave the record up before it knew what became of it";
        Self::new(HostErrorKind::FAILED, text)
    }
}

// === impl Delivery ===

impl Delivery {
    /// Calls `hear` with what became of the record.
    pub fn new(hear: impl FnOnce(Result<Delivered, HostFailure>) + Send + 'static) -> Self {
        unsafe extern "C" fn tell(data: *mut c_void, outcome: RResult<Delivered, HostFailure>) {
            // SAFETY: `data` is the box that `new` leaked, and `tell` and `drop` together pass it once.
            let hear = unsafe { Box::from_raw(data.cast::<Hear>()) };
            never_unwind(|| hear(outcome.into_result()));
        }
        let hear: Hear = Box::new(hear);
        Self {
            data: Box::into_raw(Box::new(hear)).cast(),
            tell,
        }
    }

    /// Says what became of the record.
    pub fn tell(self, outcome: Result<Delivered, HostFailure>) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `data` came from `new` with this function; `self` is consumed and not dropped.
        unsafe { (this.tell)(this.data, outcome.into()) }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // SAFETY: `tell` takes `self` by value without dropping it, so `data` was not consumed before.
        unsafe { (self.tell)(self.data, RResult::RErr(HostFailure::given_up())) }
    }
}

// SAFETY: what stands behind `data` is Send, and is used once.
unsafe impl Send for Delivery {}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_delivery_is_told_once_and_one_that_is_dropped_hears_that_it_was_given_up() {
        let (told, heard) = channel();
        let delivered = Delivered {
            partition: 3,
            offset: 7,
        };
        let again = told.clone();
        Delivery::new(move |outcome| drop(told.send(outcome))).tell(Ok(delivered));
        assert_eq!(heard.try_recv(), Ok(Ok(delivered)));
        drop(Delivery::new(move |outcome| drop(again.send(outcome))));
        assert_eq!(heard.try_recv(), Ok(Err(HostFailure::given_up())));
        assert!(heard.try_recv().is_err(), "nothing more is said");
    }
}
