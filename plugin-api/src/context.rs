//! What the host does for a consumer, and how code that was not given a context finds it.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use devour_abi::{
    ConstructRequest, Delivered, Delivery, HeaderView, Host, HostErrorKind, HostFailure, MessageId,
    ProduceRecord,
};

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

/// What the host answered when it could not do what was asked, in its words. Through `?` in a digest, a record that was
/// refused becomes a reject (trying again cannot help), anything else a retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    kind: HostErrorKind,
    message: String,
}

/// The source of an error of the host that no second try mends: known by its type where the error's own type is not.
#[derive(Debug)]
pub(crate) struct Refused;

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

/// What a [`Record`] is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordParts {
    /// The topic's name.
    pub topic: String,
    /// The partition; `None` leaves it to the key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp_ms: Option<i64>,
}

thread_local! {
    /// The context of the instance that this thread is in, during a call or a step of its life.
    static CURRENT: RefCell<Option<ConsumerContext>> = const { RefCell::new(None) };
    /// The message whose task this thread runs.
    static CAUSE: Cell<MessageId> = const { Cell::new(MessageId::NONE) };
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

    /// Hands a record to the daemon's producer, which takes a copy; waits for room, never for the broker. The message that
    /// is being digested is finished, and its offset committed, only once the broker has acknowledged the record; if it
    /// is not written, the message fails. May be called from any thread; on one that the plugin started itself the
    /// record belongs to all that is in hand.
    ///
    /// # Errors
    /// When the host cannot take it: [refused](HostErrorKind::REFUSED), or [aborted](HostErrorKind::ABORTED).
    pub fn produce(&self, record: &Record) -> Result<(), HostError> {
        let headers = record.header_views();
        let produced = self
            .inner
            .host
            .produce_for(&record.view(&headers), current_cause());
        produced.map_err(HostError::from)
    }

    /// Produces a record and waits until the broker has acknowledged it. In an `async` digest,
    /// [`produce_async`](Self::produce_async) does not hold up the other tasks. A failure is for the digest to pass on
    /// (`?`) or to deal with.
    ///
    /// # Errors
    /// When the record is not written ([its kind](HostError::kind) says why), or nobody knows whether it is.
    pub fn produce_sync(&self, record: &Record) -> Result<Delivered, HostError> {
        let headers = record.header_views();
        let delivered = self
            .inner
            .host
            .produce_sync(&record.view(&headers), current_cause());
        delivered.map_err(HostError::from)
    }

    /// Produces a record now; the future ends when the broker has acknowledged it.
    ///
    /// # Errors
    /// As [`produce_sync`](Self::produce_sync).
    pub fn produce_async(
        &self,
        record: &Record,
    ) -> impl Future<Output = Result<Delivered, HostError>> + Send + 'static + use<> {
        let (told, outcome) = tokio::sync::oneshot::channel();
        let delivery = Delivery::new(move |outcome| {
            // Nobody waits any more where the future was dropped.
            let _ = told.send(outcome);
        });
        let headers = record.header_views();
        self.inner
            .host
            .produce_then(&record.view(&headers), current_cause(), delivery);
        async move {
            outcome
                .await
                .unwrap_or_else(|_| Err(HostFailure::given_up()))
                .map_err(HostError::from)
        }
    }

    /// Produces a record now; `hear` is called once, from any thread, when it is known whether it is written.
    #[cfg(feature = "outbox")]
    pub(crate) fn produce_told(
        &self,
        record: &Record,
        hear: impl FnOnce(Result<(), HostError>) + Send + 'static,
    ) {
        let delivery = Delivery::new(move |outcome| hear(outcome.map(drop).map_err(HostError::from)));
        let headers = record.header_views();
        self.inner
            .host
            .produce_then(&record.view(&headers), current_cause(), delivery);
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
        Self {
            kind: HostErrorKind::OTHER,
            message,
        }
    }

    /// What kind of refusal it is.
    #[must_use]
    pub fn kind(&self) -> HostErrorKind {
        self.kind
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HostError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        (self.kind == HostErrorKind::REFUSED).then_some(&Refused)
    }
}

impl From<HostFailure> for HostError {
    fn from(failure: HostFailure) -> Self {
        Self {
            kind: failure.kind,
            message: failure.message.into_string(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("trying again cannot help")
    }
}

impl std::error::Error for Refused {}

// === causes ===

/// The message of the task that this thread runs, if it runs one.
fn current_cause() -> MessageId {
    CAUSE.try_with(Cell::get).unwrap_or(MessageId::NONE)
}

/// Polls a message's task: what it produces is the message's.
pub(crate) fn poll_for<F: Future>(
    cause: MessageId,
    future: std::pin::Pin<&mut F>,
    context: &mut Context<'_>,
) -> Poll<F::Output> {
    /// Also where the poll panics.
    struct Before(MessageId);
    impl Drop for Before {
        fn drop(&mut self) {
            let _ = CAUSE.try_with(|current| current.set(self.0));
        }
    }
    let _before = Before(CAUSE.replace(cause));
    future.poll(context)
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

    /// Where it goes.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// All of it, to keep it elsewhere; [`Record::from`] is the way back.
    #[must_use]
    pub fn into_parts(self) -> RecordParts {
        let Self {
            topic,
            partition,
            key,
            payload,
            headers,
            timestamp_ms,
        } = self;
        RecordParts {
            topic,
            partition,
            key,
            payload,
            headers,
            timestamp_ms,
        }
    }

    fn header_views(&self) -> Vec<HeaderView<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| HeaderView {
                name: name.as_str().into(),
                value: value.as_deref().map(Into::into).into(),
            })
            .collect()
    }

    fn view<'a>(&'a self, headers: &'a [HeaderView<'a>]) -> ProduceRecord<'a> {
        ProduceRecord {
            topic: self.topic.as_str().into(),
            partition: self.partition.unwrap_or(-1),
            key: self.key.as_deref().map(Into::into).into(),
            payload: self.payload.as_deref().map(Into::into).into(),
            headers: headers.into(),
            timestamp_ms: self.timestamp_ms.unwrap_or(-1),
        }
    }
}

impl From<RecordParts> for Record {
    fn from(parts: RecordParts) -> Self {
        let RecordParts {
            topic,
            partition,
            key,
            payload,
            headers,
            timestamp_ms,
        } = parts;
        Self {
            topic,
            partition,
            key,
            payload,
            headers,
            timestamp_ms,
        }
    }
}
