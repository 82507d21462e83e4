//! What the host does for a plugin: one table of functions, handed to the constructor, usable from any thread.

use std::{ffi::c_void, marker::PhantomData, sync::Arc};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{ROption, RResult, RSlice, RStr, RString},
};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::{Delivered, Delivery, HostErrorKind, HostFailure},
    instance::never_unwind,
    message::MessageId,
};

/// How much a log line matters.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, StableAbi, Serialize, Deserialize)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// What went wrong.
    pub const ERROR: Self = Self(1);
    /// What may go wrong.
    pub const WARN: Self = Self(2);
    /// What happens.
    pub const INFO: Self = Self(3);
    /// For who looks closely.
    pub const DEBUG: Self = Self(4);
    /// Everything.
    pub const TRACE: Self = Self(5);
}

/// A record that a digest produces.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ProduceRecord<'a> {
    /// The topic's name.
    pub topic: RStr<'a>,
    /// The partition, or -1 to let the key decide.
    pub partition: i32,
    /// The key's bytes, or null.
    pub key: ROption<RSlice<'a, u8>>,
    /// The value's bytes; null is a tombstone.
    pub payload: ROption<RSlice<'a, u8>>,
    /// The headers, in order.
    pub headers: RSlice<'a, crate::HeaderView<'a>>,
    /// Milliseconds since the epoch, -1 for now.
    pub timestamp_ms: i64,
}

/// The host of one instance.
#[repr(C)]
#[derive(StableAbi)]
pub struct Host {
    data: *const c_void,
    vtable: HostVtableRef,
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostVtableRef)))]
#[sabi(missing_field(option))]
struct HostVtable {
    clone: unsafe extern "C" fn(data: *const c_void),
    drop: unsafe extern "C" fn(data: *const c_void),
    log: unsafe extern "C" fn(
        data: *const c_void,
        LogLevel,
        target: RStr<'_>,
        message: RStr<'_>,
        fields: RStr<'_>,
    ),
    log_enabled: unsafe extern "C" fn(data: *const c_void, LogLevel) -> bool,
    count: unsafe extern "C" fn(data: *const c_void, name: RStr<'_>, by: u64),
    time: unsafe extern "C" fn(data: *const c_void, name: RStr<'_>, nanoseconds: u64),
    settings: unsafe extern "C" fn(data: *const c_void) -> RString,
    stop_requested: unsafe extern "C" fn(data: *const c_void) -> bool,
    produce: unsafe extern "C" fn(data: *const c_void, record: &ProduceRecord<'_>) -> RResult<(), RString>,
    pause: unsafe extern "C" fn(data: *const c_void, topic: RStr<'_>, partition: i32) -> RResult<(), RString>,
    #[sabi(last_prefix_field)]
    resume:
        unsafe extern "C" fn(data: *const c_void, topic: RStr<'_>, partition: i32) -> RResult<(), RString>,
    produce_for: unsafe extern "C" fn(
        data: *const c_void,
        record: &ProduceRecord<'_>,
        cause: MessageId,
    ) -> RResult<(), HostFailure>,
    produce_then: unsafe extern "C" fn(
        data: *const c_void,
        record: &ProduceRecord<'_>,
        cause: MessageId,
        delivery: Delivery,
    ),
}

/// The host's side: what it does when a plugin asks. Called from any thread of the plugin.
pub trait HostServices: Send + Sync + 'static {
    /// A log line; `fields` is a JSON object. The host adds route, topic, partition and offset.
    fn log(&self, level: LogLevel, target: &str, message: &str, fields: &str);
    /// Whether a line of this level would be kept.
    fn log_enabled(&self, level: LogLevel) -> bool;
    /// Adds `by` to the counter `name`.
    fn count(&self, name: &str, by: u64);
    /// Records one duration under `name`.
    fn time(&self, name: &str, nanoseconds: u64);
    /// The plugin's settings, as JSON text.
    fn settings(&self) -> String;
    /// Whether the route is being stopped.
    fn stop_requested(&self) -> bool;
    /// Hands a record to the daemon's producer: a copy is taken. It waits for room, never for the broker. The message whose
    /// digest the calling thread is in is finished only once the broker has acknowledged the record, and fails with it.
    ///
    /// # Errors
    /// In words, when the host cannot take it.
    fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), String>;
    /// As [`HostServices::produce`], for the message `cause` that was taken beyond its call; for the one that the calling
    /// thread digests, if that is [`MessageId::NONE`].
    ///
    /// # Errors
    /// When the host cannot take it.
    fn produce_for(&self, record: &ProduceRecord<'_>, cause: MessageId) -> Result<(), HostFailure> {
        let _ = cause;
        self.produce(record)
            .map_err(|message| HostFailure::new(HostErrorKind::OTHER, message))
    }
    /// As [`HostServices::produce_for`], and `delivery` is told what became of the record, once, from any thread, before
    /// this returns or later. What fails so does not fail the message: that is for the plugin to say.
    fn produce_then(&self, record: &ProduceRecord<'_>, cause: MessageId, delivery: Delivery) {
        let _ = (record, cause);
        let unable = "this host does not say what becomes of a record";
        delivery.tell(Err(HostFailure::new(HostErrorKind::OTHER, unable)));
    }
    /// Stops reading a partition until it is resumed.
    ///
    /// # Errors
    /// In words, when the host cannot.
    fn pause(&self, topic: &str, partition: i32) -> Result<(), String>;
    /// Reads a paused partition again.
    ///
    /// # Errors
    /// In words, when the host cannot.
    fn resume(&self, topic: &str, partition: i32) -> Result<(), String>;
}

// === impl Host ===

impl Host {
    /// The plugin's view of `services`.
    pub fn new<S: HostServices>(services: Arc<S>) -> Self {
        Self {
            data: Arc::into_raw(services).cast(),
            vtable: host_vtable::<S>(),
        }
    }

    /// See [`HostServices::log`].
    pub fn log(&self, level: LogLevel, target: &str, message: &str, fields: &str) {
        // SAFETY: `data` is the Arc's pointer that `new` took, held until drop, and the vtable is of the same type.
        unsafe { self.vtable.log()(self.data, level, target.into(), message.into(), fields.into()) }
    }

    /// See [`HostServices::log_enabled`].
    #[must_use]
    pub fn log_enabled(&self, level: LogLevel) -> bool {
        // SAFETY: as in `log`.
        unsafe { self.vtable.log_enabled()(self.data, level) }
    }

    /// See [`HostServices::count`].
    pub fn count(&self, name: &str, by: u64) {
        // SAFETY: as in `log`.
        unsafe { self.vtable.count()(self.data, name.into(), by) }
    }

    /// See [`HostServices::time`].
    pub fn time(&self, name: &str, nanoseconds: u64) {
        // SAFETY: as in `log`.
        unsafe { self.vtable.time()(self.data, name.into(), nanoseconds) }
    }

    /// See [`HostServices::settings`].
    #[must_use]
    pub fn settings(&self) -> String {
        // SAFETY: as in `log`.
        unsafe { self.vtable.settings()(self.data) }.into_string()
    }

    /// See [`HostServices::stop_requested`].
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        // SAFETY: as in `log`.
        unsafe { self.vtable.stop_requested()(self.data) }
    }

    /// See [`HostServices::produce`].
    ///
    /// # Errors
    /// In words, when the host cannot take it.
    pub fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), String> {
        // SAFETY: as in `log`.
        unsafe { self.vtable.produce()(self.data, record) }
            .into_result()
            .map_err(RString::into_string)
    }

    /// See [`HostServices::produce_for`]. A host of an older version knows the message of the calling thread only.
    ///
    /// # Errors
    /// When the host cannot take it.
    pub fn produce_for(&self, record: &ProduceRecord<'_>, cause: MessageId) -> Result<(), HostFailure> {
        match self.vtable.produce_for() {
            // SAFETY: as in `log`.
            Some(produce) => unsafe { produce(self.data, record, cause) }.into_result(),
            None => self
                .produce(record)
                .map_err(|message| HostFailure::new(HostErrorKind::OTHER, message)),
        }
    }

    /// See [`HostServices::produce_then`].
    pub fn produce_then(&self, record: &ProduceRecord<'_>, cause: MessageId, delivery: Delivery) {
        match self.vtable.produce_then() {
            // SAFETY: as in `log`.
            Some(produce) => unsafe { produce(self.data, record, cause, delivery) },
            None => {
                let unable = "the host is too old: it does not say what becomes of a record (`produce_then`)";
                delivery.tell(Err(HostFailure::new(HostErrorKind::OTHER, unable)));
            }
        }
    }

    /// Produces a record and waits until the broker has acknowledged it.
    ///
    /// # Errors
    /// When it is not written, or nobody knows whether it is.
    pub fn produce_sync(
        &self,
        record: &ProduceRecord<'_>,
        cause: MessageId,
    ) -> Result<Delivered, HostFailure> {
        let (told, outcome) = std::sync::mpsc::sync_channel(1);
        let delivery = Delivery::new(move |outcome| {
            // Whoever waited is there: it waits without end.
            let _ = told.send(outcome);
        });
        self.produce_then(record, cause, delivery);
        outcome.recv().unwrap_or_else(|_| Err(HostFailure::given_up()))
    }

    /// See [`HostServices::pause`].
    ///
    /// # Errors
    /// In words, when the host cannot.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), String> {
        // SAFETY: as in `log`.
        unsafe { self.vtable.pause()(self.data, topic.into(), partition) }
            .into_result()
            .map_err(RString::into_string)
    }

    /// See [`HostServices::resume`].
    ///
    /// # Errors
    /// In words, when the host cannot.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), String> {
        // SAFETY: as in `log`.
        unsafe { self.vtable.resume()(self.data, topic.into(), partition) }
            .into_result()
            .map_err(RString::into_string)
    }
}

impl Clone for Host {
    fn clone(&self) -> Self {
        // SAFETY: as in `log`; the count that `clone` adds is given back by this value's drop.
        unsafe { self.vtable.clone()(self.data) }
        Self {
            data: self.data,
            vtable: self.vtable,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: gives back the one count that this value holds.
        unsafe { self.vtable.drop()(self.data) }
    }
}

// SAFETY: the services behind `data` are Send and Sync.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

fn host_vtable<S: HostServices>() -> HostVtableRef {
    // Each function's SAFETY: `data` is the pointer of an `Arc<S>` of which the calling `Host` holds a count.
    unsafe extern "C" fn clone<S: HostServices>(data: *const c_void) {
        // SAFETY: see above.
        unsafe { Arc::increment_strong_count(data.cast::<S>()) }
    }
    unsafe extern "C" fn drop<S: HostServices>(data: *const c_void) {
        // SAFETY: see above; this is the count that the dropped `Host` held.
        never_unwind(|| unsafe { Arc::decrement_strong_count(data.cast::<S>()) });
    }
    unsafe extern "C" fn log<S: HostServices>(
        data: *const c_void,
        level: LogLevel,
        target: RStr<'_>,
        message: RStr<'_>,
        fields: RStr<'_>,
    ) {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.log(level, target.as_str(), message.as_str(), fields.as_str()));
    }
    unsafe extern "C" fn log_enabled<S: HostServices>(data: *const c_void, level: LogLevel) -> bool {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.log_enabled(level))
    }
    unsafe extern "C" fn count<S: HostServices>(data: *const c_void, name: RStr<'_>, by: u64) {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.count(name.as_str(), by));
    }
    unsafe extern "C" fn time<S: HostServices>(data: *const c_void, name: RStr<'_>, nanoseconds: u64) {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.time(name.as_str(), nanoseconds));
    }
    unsafe extern "C" fn settings<S: HostServices>(data: *const c_void) -> RString {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.settings()).into()
    }
    unsafe extern "C" fn stop_requested<S: HostServices>(data: *const c_void) -> bool {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.stop_requested())
    }
    unsafe extern "C" fn produce<S: HostServices>(
        data: *const c_void,
        record: &ProduceRecord<'_>,
    ) -> RResult<(), RString> {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.produce(record))
            .map_err(RString::from)
            .into()
    }
    unsafe extern "C" fn produce_for<S: HostServices>(
        data: *const c_void,
        record: &ProduceRecord<'_>,
        cause: MessageId,
    ) -> RResult<(), HostFailure> {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.produce_for(record, cause)).into()
    }
    unsafe extern "C" fn produce_then<S: HostServices>(
        data: *const c_void,
        record: &ProduceRecord<'_>,
        cause: MessageId,
        delivery: Delivery,
    ) {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.produce_then(record, cause, delivery));
    }
    unsafe extern "C" fn pause<S: HostServices>(
        data: *const c_void,
        topic: RStr<'_>,
        partition: i32,
    ) -> RResult<(), RString> {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.pause(topic.as_str(), partition))
            .map_err(RString::from)
            .into()
    }
    unsafe extern "C" fn resume<S: HostServices>(
        data: *const c_void,
        topic: RStr<'_>,
        partition: i32,
    ) -> RResult<(), RString> {
        // SAFETY: see above.
        let services = unsafe { &*data.cast::<S>() };
        never_unwind(|| services.resume(topic.as_str(), partition))
            .map_err(RString::from)
            .into()
    }
    struct Table<S>(PhantomData<S>);
    impl<S: HostServices> Table<S> {
        const VALUE: &'static WithMetadata<HostVtable> = &WithMetadata::new(HostVtable {
            clone: clone::<S>,
            drop: drop::<S>,
            log: log::<S>,
            log_enabled: log_enabled::<S>,
            count: count::<S>,
            time: time::<S>,
            settings: settings::<S>,
            stop_requested: stop_requested::<S>,
            produce: produce::<S>,
            pause: pause::<S>,
            resume: resume::<S>,
            produce_for: produce_for::<S>,
            produce_then: produce_then::<S>,
        });
    }
    HostVtableRef(Table::<S>::VALUE.static_as_prefix())
}
