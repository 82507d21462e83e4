//! A message as a plugin sees it: borrowed for the length of a call, or owned until it is completed.

use std::{ffi::c_void, marker::PhantomData};

use abi_stable::{
    StableAbi,
    std_types::{ROption, RSlice, RStr},
};

use crate::Failure;

/// Where a message's timestamp comes from.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct TimestampType(pub u32);

impl TimestampType {
    /// The broker gave none; `timestamp_ms` is -1.
    pub const NOT_AVAILABLE: Self = Self(0);
    /// Set by the producer.
    pub const CREATE_TIME: Self = Self(1);
    /// Set by the broker when it appended the message.
    pub const LOG_APPEND_TIME: Self = Self(2);
}

/// One message. The bytes are borrowed from the host (librdkafka's fetch buffer, or the route's arena).
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct MessageView<'a> {
    /// The topic's name.
    pub topic: RStr<'a>,
    /// The key's bytes; `RNone` is Kafka's null key.
    pub key: ROption<RSlice<'a, u8>>,
    /// The value's bytes; `RNone` is a tombstone.
    pub payload: ROption<RSlice<'a, u8>>,
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch, -1 where the broker gave none.
    pub timestamp_ms: i64,
    /// A number for the message's partition or key: messages of one tag are digested in offset order.
    pub order_tag: u64,
    /// Partition of the topic.
    pub partition: i32,
    /// 1 at the first delivery, one more for every failed attempt before this one.
    pub attempt: u32,
    /// Where `timestamp_ms` comes from.
    pub timestamp_type: TimestampType,
    /// Room for what a later minor version appends.
    pub more: ROption<MessageMoreRef>,
}

/// What later minor versions know about a message; empty in 1.0.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = MessageMoreRef)))]
#[sabi(missing_field(option))]
pub struct MessageMore {
    /// Nothing yet: a prefix type has at least one field.
    #[sabi(last_prefix_field)]
    pub reserved: usize,
}

impl std::fmt::Debug for MessageMoreRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageMore")
    }
}

/// One header of a message. Names may repeat; a value may be null.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct HeaderView<'a> {
    /// The header's name.
    pub name: RStr<'a>,
    /// The header's bytes; `RNone` is null.
    pub value: ROption<RSlice<'a, u8>>,
}

/// A message taken beyond the call that brought it. Its view stays valid until it is completed or dropped; dropping
/// it uncompleted asks for a retry.
#[repr(C)]
#[derive(StableAbi)]
pub struct OwnedMessage {
    view: MessageView<'static>,
    headers: RSlice<'static, HeaderView<'static>>,
    data: *const c_void,
    vtable: OwnedVtableRef,
}

/// How the host knows a message that was taken beyond its call.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, StableAbi)]
pub struct MessageId {
    /// Number of its call.
    pub call: u64,
    /// Its index among the call's messages.
    pub index: u32,
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = OwnedVtableRef)))]
#[sabi(missing_field(option))]
struct OwnedVtable {
    /// Consumes `data`.
    #[sabi(last_prefix_field)]
    complete: unsafe extern "C" fn(data: *const c_void, outcome: ROption<Failure>),
    id: unsafe extern "C" fn(data: *const c_void) -> MessageId,
}

/// The host's side of an owned message: keeps its bytes alive and hears how it ended. Called from any thread.
pub trait OwnedCompletion: Sized + Send + Sync + 'static {
    /// The message.
    fn view(&self) -> MessageView<'_>;
    /// Its headers, if the consumer asked for them. Asked once.
    fn headers(&self) -> Vec<HeaderView<'_>>;
    /// How the host knows it.
    fn id(&self) -> MessageId {
        MessageId::NONE
    }
    /// Called once: digested (`None`) or failed.
    fn complete(self, outcome: Option<Failure>);
}

/// What stands behind an owned message: the headers borrow from the completion, and go before it.
struct Held<C> {
    headers: Vec<HeaderView<'static>>,
    completion: C,
}

// === impl MessageId ===

impl MessageId {
    /// No message: calls count from 1.
    pub const NONE: Self = Self { call: 0, index: 0 };
}

// === impl OwnedMessage ===

impl OwnedMessage {
    /// Hands `completion` to the plugin.
    pub fn new<C: OwnedCompletion>(completion: C) -> Self {
        let mut boxed = Box::new(Held {
            headers: Vec::new(),
            completion,
        });
        // SAFETY: the view and the headers borrow from the boxed completion, which does not move and lives until
        // `complete` consumes it; this type hands them out only with a lifetime bound to `&self`.
        let (view, headers) = unsafe {
            (
                std::mem::transmute::<MessageView<'_>, MessageView<'static>>(boxed.completion.view()),
                std::mem::transmute::<Vec<HeaderView<'_>>, Vec<HeaderView<'static>>>(
                    boxed.completion.headers(),
                ),
            )
        };
        boxed.headers = headers;
        // SAFETY: as above: the vector lives in the same box and is not changed any more.
        let headers = unsafe {
            std::mem::transmute::<&[HeaderView<'static>], &'static [HeaderView<'static>]>(&boxed.headers)
        };
        Self {
            view,
            headers: RSlice::from_slice(headers),
            data: Box::into_raw(boxed).cast(),
            vtable: owned_vtable::<C>(),
        }
    }

    /// The message, valid while this handle is held.
    #[must_use]
    pub fn view(&self) -> MessageView<'_> {
        self.view
    }

    /// The headers, empty unless the descriptor says that the consumer reads them.
    #[must_use]
    pub fn headers(&self) -> &[HeaderView<'_>] {
        self.headers.as_slice()
    }

    /// How the host knows it; [`MessageId::NONE`] where it is too old to say.
    #[must_use]
    pub fn id(&self) -> MessageId {
        // SAFETY: `data` came from `new` with this vtable, and is consumed only with `self`.
        self.vtable
            .id()
            .map_or(MessageId::NONE, |id| unsafe { id(self.data) })
    }

    /// Ends the message: digested (`None`) or failed.
    pub fn complete(self, outcome: Option<Failure>) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `data` came from `new` with this vtable; `self` is consumed and not dropped, so this is the only call.
        unsafe { this.vtable.complete()(this.data, outcome.into()) }
    }
}

impl Drop for OwnedMessage {
    fn drop(&mut self) {
        let failure = Failure::new(
            crate::FailureKind::RETRY,
            "the message was dropped without being completed",
        );
        // SAFETY: `complete` takes `self` by value without dropping it, so `data` was not consumed before.
        unsafe { self.vtable.complete()(self.data, ROption::RSome(failure)) }
    }
}

// SAFETY: the completion behind `data` is Send and Sync, and the views borrow from it alone.
unsafe impl Send for OwnedMessage {}
// SAFETY: as above; `&OwnedMessage` gives only shared views.
unsafe impl Sync for OwnedMessage {}

fn owned_vtable<C: OwnedCompletion>() -> OwnedVtableRef {
    unsafe extern "C" fn complete<C: OwnedCompletion>(data: *const c_void, outcome: ROption<Failure>) {
        // SAFETY: `data` is the box that `OwnedMessage::new::<C>` leaked, and the caller passes it once.
        let held = unsafe { Box::from_raw(data.cast_mut().cast::<Held<C>>()) };
        let Held { headers, completion } = *held;
        drop(headers);
        crate::instance::never_unwind(|| completion.complete(outcome.into()));
    }
    unsafe extern "C" fn id<C: OwnedCompletion>(data: *const c_void) -> MessageId {
        // SAFETY: `data` is the box that `OwnedMessage::new::<C>` leaked; it is shared until `complete` takes it.
        let held = unsafe { &*data.cast::<Held<C>>() };
        crate::instance::never_unwind(|| held.completion.id())
    }
    struct Table<C>(PhantomData<C>);
    impl<C: OwnedCompletion> Table<C> {
        const VALUE: &'static abi_stable::prefix_type::WithMetadata<OwnedVtable> =
            &abi_stable::prefix_type::WithMetadata::new(OwnedVtable {
                complete: complete::<C>,
                id: id::<C>,
            });
    }
    OwnedVtableRef(Table::<C>::VALUE.static_as_prefix())
}
