//! How a digest, a lifecycle call or a constructor says that it failed.

use std::any::Any;

use abi_stable::{StableAbi, std_types::RString};

/// What the host is asked to do about a failure. A number, not an enum, so that a kind that a newer side knows is
/// still a value for an older one (which treats it as [`FailureKind::RETRY`], the kind that loses nothing).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, StableAbi)]
pub struct FailureKind(pub u32);

impl FailureKind {
    /// Try again after a back-off (of that partition or key alone).
    pub const RETRY: Self = Self(0);
    /// Do not try again: take the route's `then`.
    pub const REJECT: Self = Self(1);
    /// The plugin cannot go on: restart it.
    pub const FATAL: Self = Self(2);
    /// The plugin panicked: its instance is discarded and built again.
    pub const PANIC: Self = Self(3);
    /// The bytes could not be decoded into what the digest takes: a reject that the digest never saw.
    pub const UNDECODABLE: Self = Self(4);

    /// The word used in logs, status and dead letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::REJECT => "reject",
            Self::FATAL => "fatal",
            Self::PANIC => "panic",
            Self::UNDECODABLE => "undecodable",
            _ => "retry",
        }
    }
}

/// One failure: what to do, when, and why.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, StableAbi)]
pub struct Failure {
    /// What the host is asked to do.
    pub kind: FailureKind,
    /// Milliseconds to wait before the next attempt; 0 leaves it to the route's back-off. Read for `RETRY` only.
    pub delay_ms: u64,
    /// What went wrong, for a person.
    pub message: RString,
}

impl Failure {
    /// A failure of `kind` without a delay of its own.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            delay_ms: 0,
            message: RString::from(message.into()),
        }
    }

    /// What a caught panic says, as a failure.
    #[must_use]
    pub fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic whose payload is not text".to_owned());
        // Dropping the payload may panic in turn; it is foreign, so it is leaked rather than trusted.
        std::mem::forget(panic);
        Self::new(FailureKind::PANIC, text)
    }
}
