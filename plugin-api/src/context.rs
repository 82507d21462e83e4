//! What the host does for a consumer, and how code that was not given a context finds it.

use std::{
    cell::RefCell,
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use devour_abi::{ConstructRequest, HeaderView, Host, ProduceRecord};

/// A consumer's way to the daemon, given when it is constructed. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct ConsumerContext {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    route: String,
    lane: u32,
    lanes: u32,
    generation: u64,
    settings: serde_json::Value,
}

/// What the host answered when it could not do what was asked, in its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    message: String,
}

/// A record to produce through the daemon.
///
/// ```
/// use devour::prelude::*;
///
/// let record = Record::to("totals").key("EUR").payload("12.50").header("source", "orders");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp_ms: Option<i64>,
}

thread_local! {
    /// The context of the instance that this thread is in, during a call or a step of its life.
    static CURRENT: RefCell<Option<ConsumerContext>> = const { RefCell::new(None) };
}

/// The last instance that was constructed in this library, for threads that the plugin started itself. Weak: what is
/// only found here must not outlive its instance.
static LAST: RwLock<Weak<Inner>> = RwLock::new(Weak::new());

/// Makes a context the thread's own until it is dropped.
pub(crate) struct Entered {
    outer: Option<ConsumerContext>,
}

/// The context of the consumer that is being called on this thread (or whose runtime the thread belongs to), or of the
/// last one constructed in this library: for consumers that keep none. `None` before the first is constructed and after
/// the last is gone.
///
/// ```
/// if let Some(context) = devour::context() {
///     context.count("cache_misses", 1);
/// }
/// ```
#[must_use]
pub fn context() -> Option<ConsumerContext> {
    let current = CURRENT.try_with(|current| current.try_borrow().ok().and_then(|context| context.clone()));
    current.ok().flatten().or_else(|| {
        let last = LAST.read().unwrap_or_else(PoisonError::into_inner);
        last.upgrade().map(|inner| ConsumerContext { inner })
    })
}

// === impl ConsumerContext ===

impl ConsumerContext {
    pub(crate) fn new(host: Host, request: &ConstructRequest) -> Self {
        let inner = Arc::new(Inner {
            host,
            route: request.route.clone(),
            lane: request.lane,
            lanes: request.lanes.max(1),
            generation: request.generation,
            settings: request.settings.clone(),
        });
        *LAST.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&inner);
        Self { inner }
    }

    pub(crate) fn enter(&self) -> Entered {
        Entered {
            outer: CURRENT.replace(Some(self.clone())),
        }
    }

    /// Makes it this thread's own for good, unless another is entered.
    pub(crate) fn stay(&self) {
        CURRENT.set(Some(self.clone()));
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Name of the route.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.inner.route
    }

    /// Which of the route's lanes this instance is, from 0.
    #[must_use]
    pub fn lane(&self) -> u32 {
        self.inner.lane
    }

    /// How many lanes the route has.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.inner.lanes
    }

    /// Generation of the plugin's code in this route, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// The plugin's settings of the route, as they were given.
    #[must_use]
    pub fn settings(&self) -> &serde_json::Value {
        &self.inner.settings
    }

    /// Whether the route is being stopped: long work does well to ask.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.inner.host.stop_requested()
    }

    /// Adds `by` to the counter `name`.
    pub fn count(&self, name: &str, by: u64) {
        self.inner.host.count(name, by);
    }

    /// Records one duration under `name`.
    pub fn time(&self, name: &str, duration: Duration) {
        self.inner
            .host
            .time(name, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Hands a record to the daemon's producer.
    ///
    /// # Errors
    /// When the host cannot take it, in its words.
    pub fn produce(&self, record: &Record) -> Result<(), HostError> {
        let headers: Vec<HeaderView<'_>> = record
            .headers
            .iter()
            .map(|(name, value)| HeaderView {
                name: name.as_str().into(),
                value: value.as_deref().map(Into::into).into(),
            })
            .collect();
        let produced = self.inner.host.produce(&ProduceRecord {
            topic: record.topic.as_str().into(),
            partition: record.partition.unwrap_or(-1),
            key: record.key.as_deref().map(Into::into).into(),
            payload: record.payload.as_deref().map(Into::into).into(),
            headers: headers.as_slice().into(),
            timestamp_ms: record.timestamp_ms.unwrap_or(-1),
        });
        produced.map_err(HostError::new)
    }

    /// Stops reading a partition until it is resumed.
    ///
    /// # Errors
    /// When the host cannot, in its words.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), HostError> {
        self.inner.host.pause(topic, partition).map_err(HostError::new)
    }

    /// Reads a paused partition again.
    ///
    /// # Errors
    /// When the host cannot, in its words.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), HostError> {
        self.inner.host.resume(topic, partition).map_err(HostError::new)
    }
}

impl fmt::Debug for ConsumerContext {
    // Without the settings: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerContext")
            .field("route", &self.inner.route)
            .field("lane", &self.inner.lane)
            .field("generation", &self.inner.generation)
            .finish_non_exhaustive()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The thread may be ending: then nobody asks any more.
        let _ = CURRENT.try_with(|current| current.replace(self.outer.take()));
    }
}

// === impl HostError ===

impl HostError {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }
}

// === impl Record ===

impl Record {
    /// A record for `topic`, without key and payload: a tombstone until it has one.
    pub fn to(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            payload: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Sets the partition, which else the key decides.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp_ms(mut self, milliseconds: i64) -> Self {
        self.timestamp_ms = Some(milliseconds);
        self
    }
}
