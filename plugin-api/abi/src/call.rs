//! A call: one batch of messages handed to an instance, and what is said about it while it runs.

use std::{
    ffi::c_void,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
    thread::{self, ThreadId},
};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{ROption, RResult, RSlice, RString},
};

use crate::{Failure, HeaderView, MessageView, OwnedMessage, instance::never_unwind};

/// One batch of messages. The numbers of a lane's calls ascend and may leave gaps; calls are digested in that order.
#[repr(C)]
#[derive(StableAbi)]
pub struct Call<'a> {
    /// Number of the call in its lane: at least 1, above that of every earlier call, below 2^44.
    pub number: u64,
    /// The messages, in the order they are to be digested; fewer than 2^20.
    pub messages: RSlice<'a, MessageView<'a>>,
    /// Order tags that the host lets go: what is digested of them from this call on is right again.
    pub released: RSlice<'a, u64>,
    /// Order tags that wait for an earlier failure although this instance has not seen it.
    pub held: RSlice<'a, u64>,
    /// Whether a reject holds its order tag, as a retry does (the route's `then` is `stop`).
    pub hold_on_reject: bool,
    /// Where the shim stores what it is about to digest.
    pub cell: &'a CallCell,
    /// Calls up to this number are to end at the next message.
    pub cut: &'a CutNumber,
    /// How the shim talks to the host during the call.
    pub host: CallHost<'a>,
    /// Room for what a later minor version appends.
    pub more: ROption<CallMoreRef>,
}

/// What later minor versions know about a call; empty in 1.0.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = CallMoreRef)))]
#[sabi(missing_field(option))]
pub struct CallMore {
    /// Nothing yet: a prefix type has at least one field.
    #[sabi(last_prefix_field)]
    pub reserved: usize,
}

/// What a call gives back: how far it came, and what ended it early.
#[repr(C)]
#[derive(Clone, Debug, StableAbi)]
pub struct CallReturn {
    /// Index of the first message that the shim did not begin; the number of messages when it got to all. What lies
    /// below it and was reported neither failed nor not begun nor taken is done (of a buffering consumer: taken, and
    /// done when the next `flush` returns).
    pub finished: u32,
    /// A failure of the instance as a whole (a panic, a fatal error): it must not be called again. The message at
    /// index `finished` was in hand.
    pub broken: ROption<Failure>,
}

/// The place of a call: its number and the index of the message that is about to be digested, in one 64-bit word
/// that the plugin stores (relaxed) and the host reads.
///
/// Before a message is begun, a shim does these three in this order: it stores the message's index here, it keeps the
/// compiler from moving the two accesses ([`compiler_fence`] with `SeqCst`), and it compares the [`CutNumber`]. On a cut
/// it returns with that index as `finished`: the message is in the cell, but not begun. A host that raises the cut, then
/// makes the lane's thread pass a memory barrier (`membarrier`, a signal, its return) and then reads the cell thus
/// knows: no message above the cell's index was begun, and none will be. The barrier is the host's alone, so that the
/// shim pays two plain accesses a message. A message that is passed over (its order tag waits) is not stored.
///
/// [`compiler_fence`]: std::sync::atomic::compiler_fence
#[repr(transparent)]
#[derive(Debug, Default, StableAbi)]
pub struct CallCell(AtomicU64);

/// What a [`CallCell`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Progress {
    /// Number of the call, 0 before the first.
    pub call: u64,
    /// Index of the message in hand; the number of messages after the last.
    pub index: u32,
}

/// "Calls up to n end at the next message": set by the host, compared by the shim before each message, right after the
/// message was stored in the [`CallCell`] (whose docs say what that order is for); never lowered.
#[repr(transparent)]
#[derive(Debug, Default, StableAbi)]
pub struct CutNumber(AtomicU64);

/// The functions that a shim may use during a call, bound to that call.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct CallHost<'a> {
    data: *const c_void,
    vtable: CallHostVtableRef,
    call: PhantomData<&'a ()>,
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = CallHostVtableRef)))]
#[sabi(missing_field(option))]
struct CallHostVtable {
    failed: unsafe extern "C" fn(data: *const c_void, index: u32, failure: Failure),
    not_begun: unsafe extern "C" fn(data: *const c_void, first: u32, count: u32),
    headers: unsafe extern "C" fn(data: *const c_void, index: u32) -> RSlice<'static, HeaderView<'static>>,
    #[sabi(last_prefix_field)]
    take: unsafe extern "C" fn(data: *const c_void, index: u32) -> RResult<OwnedMessage, RString>,
}

/// The functions of a call as its messages carry them. A message may be lent to other threads while its digest runs, but
/// the host is spoken to on the thread of the call alone: elsewhere it is not there.
pub struct LentCallHost<'a> {
    host: CallHost<'a>,
    thread: ThreadId,
}

/// The host's side of a call. Used from the thread that digests, while it digests.
pub trait HostedCall {
    /// Message `index` failed. Said when it happens, before the cell moves on.
    fn failed(&self, index: u32, failure: Failure);
    /// Messages `first .. first + count` were passed over because an earlier one of their tag waits. Said before the
    /// cell moves past them.
    fn not_begun(&self, first: u32, count: u32);
    /// The headers of message `index`.
    fn headers(&self, index: u32) -> &[HeaderView<'_>];
    /// Takes message `index` beyond the call.
    ///
    /// # Errors
    /// In words, when this host cannot give it.
    fn take(&self, index: u32) -> Result<OwnedMessage, String>;
}

const INDEX_BITS: u32 = 20;

/// A call holds fewer messages than this.
pub const MAX_CALL_MESSAGES: usize = (1 << INDEX_BITS) - 1;

// === impl CallCell ===

impl CallCell {
    /// A cell that no call has used.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Says that `call` is about to digest message `index`.
    #[inline]
    pub fn store(&self, call: u64, index: u32) {
        self.0
            .store((call << INDEX_BITS) | u64::from(index), Ordering::Relaxed);
    }

    /// Where the lane is.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Progress {
        let word = self.0.load(Ordering::Relaxed);
        Progress {
            call: word >> INDEX_BITS,
            index: (word & ((1 << INDEX_BITS) - 1)) as u32,
        }
    }

    /// The cell that lives in `word`, for a page shared between processes.
    #[must_use]
    pub fn in_word(word: &AtomicU64) -> &Self {
        // SAFETY: `CallCell` is a transparent wrapper of `AtomicU64`.
        unsafe { &*std::ptr::from_ref(word).cast::<Self>() }
    }
}

// === impl CutNumber ===

impl CutNumber {
    /// Nothing is cut.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Cuts calls up to `call`.
    pub fn raise(&self, call: u64) {
        self.0.fetch_max(call, Ordering::Relaxed);
    }

    /// Whether `call` is to end at its next message.
    #[inline]
    #[must_use]
    pub fn cuts(&self, call: u64) -> bool {
        self.0.load(Ordering::Relaxed) >= call
    }

    /// The cut number that lives in `word`, for a page shared between processes.
    #[must_use]
    pub fn in_word(word: &AtomicU64) -> &Self {
        // SAFETY: `CutNumber` is a transparent wrapper of `AtomicU64`.
        unsafe { &*std::ptr::from_ref(word).cast::<Self>() }
    }
}

// === impl CallHost ===

impl<'a> CallHost<'a> {
    /// The plugin's view of `call`.
    pub fn new<C: HostedCall>(call: &'a C) -> Self {
        Self {
            data: std::ptr::from_ref(call).cast(),
            vtable: call_host_vtable::<C>(),
            call: PhantomData,
        }
    }

    /// See [`HostedCall::failed`].
    pub fn failed(&self, index: u32, failure: Failure) {
        // SAFETY: `data` is the `&'a C` that `new` took, and the vtable is of the same `C`.
        unsafe { self.vtable.failed()(self.data, index, failure) }
    }

    /// See [`HostedCall::not_begun`].
    pub fn not_begun(&self, first: u32, count: u32) {
        // SAFETY: as in `failed`.
        unsafe { self.vtable.not_begun()(self.data, first, count) }
    }

    /// See [`HostedCall::headers`].
    #[must_use]
    pub fn headers(&self, index: u32) -> &'a [HeaderView<'a>] {
        // SAFETY: as in `failed`; the headers live as long as the hosted call, `'a`.
        unsafe { self.vtable.headers()(self.data, index) }.as_slice()
    }

    /// See [`HostedCall::take`].
    ///
    /// # Errors
    /// In words, when this host cannot give it.
    pub fn take(&self, index: u32) -> Result<OwnedMessage, String> {
        // SAFETY: as in `failed`.
        unsafe { self.vtable.take()(self.data, index) }
            .into_result()
            .map_err(RString::into_string)
    }
}

// === impl LentCallHost ===

impl<'a> LentCallHost<'a> {
    /// Lends `host`, whose call is on this thread.
    #[must_use]
    pub fn new(host: CallHost<'a>) -> Self {
        Self {
            host,
            thread: thread::current().id(),
        }
    }

    /// The functions, on the thread of the call.
    #[must_use]
    pub fn on_its_thread(&self) -> Option<CallHost<'a>> {
        (thread::current().id() == self.thread).then_some(self.host)
    }
}

// SAFETY: what must stay on its thread is the `CallHost`, and `on_its_thread` copies it out on that thread only. It needs
// no drop.
unsafe impl Send for LentCallHost<'_> {}
// SAFETY: as above.
unsafe impl Sync for LentCallHost<'_> {}

fn call_host_vtable<C: HostedCall>() -> CallHostVtableRef {
    // Each function's SAFETY: `data` is the `&C` that `CallHost::new::<C>` took, alive for the call.
    unsafe extern "C" fn failed<C: HostedCall>(data: *const c_void, index: u32, failure: Failure) {
        // SAFETY: see above.
        let call = unsafe { &*data.cast::<C>() };
        never_unwind(|| call.failed(index, failure));
    }
    unsafe extern "C" fn not_begun<C: HostedCall>(data: *const c_void, first: u32, count: u32) {
        // SAFETY: see above.
        let call = unsafe { &*data.cast::<C>() };
        never_unwind(|| call.not_begun(first, count));
    }
    unsafe extern "C" fn headers<C: HostedCall>(
        data: *const c_void,
        index: u32,
    ) -> RSlice<'static, HeaderView<'static>> {
        // SAFETY: see above; `CallHost::headers` shortens the lifetime to the call's again.
        let call = unsafe { &*data.cast::<C>() };
        let headers = never_unwind(|| call.headers(index));
        // SAFETY: only the lifetime changes, and only until `CallHost::headers` returns.
        RSlice::from_slice(unsafe {
            std::mem::transmute::<&[HeaderView<'_>], &'static [HeaderView<'static>]>(headers)
        })
    }
    unsafe extern "C" fn take<C: HostedCall>(
        data: *const c_void,
        index: u32,
    ) -> RResult<OwnedMessage, RString> {
        // SAFETY: see above.
        let call = unsafe { &*data.cast::<C>() };
        never_unwind(|| call.take(index)).map_err(RString::from).into()
    }
    struct Table<C>(PhantomData<C>);
    impl<C: HostedCall> Table<C> {
        const VALUE: &'static WithMetadata<CallHostVtable> = &WithMetadata::new(CallHostVtable {
            failed: failed::<C>,
            not_begun: not_begun::<C>,
            headers: headers::<C>,
            take: take::<C>,
        });
    }
    CallHostVtableRef(Table::<C>::VALUE.static_as_prefix())
}
