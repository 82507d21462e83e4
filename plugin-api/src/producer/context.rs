//! What a caller says of one production: beside the payload, and into it.

use serde::Serialize;
use serde_json::{Map, Value};

/// What happened to what a payload tells of. It goes into the message, as `event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It is new.
    Create,
    /// It is another than before.
    Update,
    /// It is gone; the payload is what it was.
    Delete,
}

/// What a producer's hooks are told: they choose topic, schema and key by it. It is no part of the message, except for
/// the [event](Self::event).
///
/// ```
/// use devour::{Event, ProduceContext};
///
/// let context = ProduceContext::from(Event::Update).with("tenant", "acme").header("source", "shop");
/// assert_eq!(context.get("tenant").and_then(|tenant| tenant.as_str()), Some("acme"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceContext {
    event: Option<Event>,
    values: Map<String, Value>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp_ms: Option<i64>,
}

/// What is added to a message after its schema: it wins over what the payload says.
///
/// ```
/// use devour::Extras;
///
/// let extras = Extras::new().with("source", "import").with("attempt", 2);
/// # let _ = extras;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras(pub(super) Map<String, Value>);

// === impl Event ===

impl Event {
    /// As it stands in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

// === impl ProduceContext ===

impl ProduceContext {
    /// One that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the event.
    #[must_use]
    pub fn with_event(mut self, event: Event) -> Self {
        self.event = Some(event);
        self
    }

    /// Adds a value for the hooks.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.insert(name.into(), value.into());
        self
    }

    /// Adds a header to the record.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the record's partition, which else the key decides.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the record's timestamp, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp_ms(mut self, milliseconds: i64) -> Self {
        self.timestamp_ms = Some(milliseconds);
        self
    }

    /// What happened, where the payload tells of a change.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        self.event
    }

    /// A value that the caller gave.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

impl From<()> for ProduceContext {
    fn from((): ()) -> Self {
        Self::new()
    }
}

impl From<Event> for ProduceContext {
    fn from(event: Event) -> Self {
        Self::new().with_event(event)
    }
}

impl From<&Self> for ProduceContext {
    fn from(context: &Self) -> Self {
        context.clone()
    }
}

// === impl Extras ===

impl Extras {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }
}

impl From<()> for Extras {
    fn from((): ()) -> Self {
        Self::new()
    }
}

impl From<Map<String, Value>> for Extras {
    fn from(extras: Map<String, Value>) -> Self {
        Self(extras)
    }
}

impl From<&Self> for Extras {
    fn from(extras: &Self) -> Self {
        extras.clone()
    }
}
