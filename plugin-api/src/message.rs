//! A message as a digest sees it: a view for the length of the digest, or an owned handle beyond it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use devour_abi::{HeaderView, LentCallHost, MessageView, OwnedMessage, TimestampType};

use crate::{DigestError, HostError};

/// A message, valid until its digest returns. Copying it copies no bytes.
#[derive(Clone, Copy)]
pub struct Message<'m> {
    view: &'m MessageView<'m>,
    source: Source<'m>,
}

/// Who lends a message, and gives its headers.
#[derive(Clone, Copy)]
enum Source<'m> {
    /// The call that brought it.
    Call { host: &'m LentCallHost<'m>, index: u32 },
    /// The handle under which it was taken beyond its call.
    Taken(&'m OwnedMessage),
}

/// A header of a message. Names may repeat; a value may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'m> {
    /// The header's name.
    pub name: &'m str,
    /// The header's bytes.
    pub value: Option<&'m [u8]>,
}

/// A message taken beyond its digest: it is finished when [`done`](Self::done) or [`fail`](Self::fail) says so, from
/// any thread. Dropping it asks for a retry.
pub struct TakenMessage {
    owned: OwnedMessage,
}

/// The accessors that a view and an owned handle share; `$view` gives the `MessageView`.
macro_rules! accessors {
    ($lifetime:lifetime, $this:ident => $view:expr) => {
        /// The topic's name.
        #[must_use]
        pub fn topic(&$this) -> &$lifetime str {
            $view.topic.as_str()
        }

        /// The partition of the topic.
        #[must_use]
        pub fn partition(&$this) -> i32 {
            $view.partition
        }

        /// The offset in the partition.
        #[must_use]
        pub fn offset(&$this) -> i64 {
            $view.offset
        }

        /// The key's bytes; `None` is Kafka's null key.
        #[must_use]
        pub fn key(&$this) -> Option<&$lifetime [u8]> {
            $view.key.into_option().map(|key| key.as_slice())
        }

        /// The value's bytes; `None` is a tombstone.
        #[inline]
        #[must_use]
        pub fn payload(&$this) -> Option<&$lifetime [u8]> {
            $view.payload.into_option().map(|payload| payload.as_slice())
        }

        /// Milliseconds since the epoch, where the broker gave a timestamp.
        #[must_use]
        pub fn timestamp_ms(&$this) -> Option<i64> {
            let view = $view;
            (view.timestamp_type != TimestampType::NOT_AVAILABLE && view.timestamp_ms >= 0)
                .then_some(view.timestamp_ms)
        }

        /// The timestamp as a time.
        #[must_use]
        pub fn timestamp(&$this) -> Option<SystemTime> {
            let milliseconds = u64::try_from($this.timestamp_ms()?).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
        }

        /// Who set the timestamp.
        #[must_use]
        pub fn timestamp_type(&$this) -> TimestampType {
            $view.timestamp_type
        }

        /// 1 at the first delivery, one more for every failed attempt before this one.
        #[must_use]
        pub fn attempt(&$this) -> u32 {
            $view.attempt
        }
    };
}

// === impl Message ===

impl<'m> Message<'m> {
    #[inline]
    pub(crate) fn new(view: &'m MessageView<'m>, host: &'m LentCallHost<'m>, index: u32) -> Self {
        let source = Source::Call { host, index };
        Self { view, source }
    }

    /// A message that was taken; `view` is the handle's.
    pub(crate) fn taken(view: &'m MessageView<'m>, owned: &'m OwnedMessage) -> Self {
        let source = Source::Taken(owned);
        Self { view, source }
    }

    accessors!('m, self => self.view);

    /// The headers, in order; asked of the host only now. A consumer in a process of its own sees them if it takes
    /// the whole message or its attributes ask for them.
    ///
    /// # Panics
    /// On another thread than the one that its digest was called on, unless that is `async`.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'m>> + use<'m> {
        let headers = match self.source {
            Source::Call { host, index } => host
                .on_its_thread()
                .expect("headers are read on the thread that the digest was called on")
                .headers(index),
            Source::Taken(owned) => owned.headers(),
        };
        headers.iter().map(header)
    }

    /// The value of the last header of this name; `None` if there is no such header or its value is null.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'m [u8]> {
        self.headers()
            .filter(|header| header.name == name)
            .last()
            .and_then(|header| header.value)
    }

    /// Takes the message beyond the digest: it counts as digested only once the handle says so.
    ///
    /// # Errors
    /// When this host cannot give messages beyond a call, in its words; in an `async` digest, whose message is taken
    /// already; on another thread than the one that the digest was called on.
    pub fn take(&self) -> Result<TakenMessage, HostError> {
        let taken = match self.source {
            Source::Call { host, index } => match host.on_its_thread() {
                Some(host) => host.take(index),
                None => Err("a message is taken on the thread that its digest was called on".to_owned()),
            },
            Source::Taken(_) => Err("the message is taken already: its digest is async".to_owned()),
        };
        taken.map(|owned| TakenMessage { owned }).map_err(HostError::new)
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_view(self.view, "Message", f)
    }
}

// === impl TakenMessage ===

impl TakenMessage {
    accessors!('_, self => self.owned.view());

    /// The headers, in order; empty unless the consumer's attributes ask for them.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'_>> {
        self.owned.headers().iter().map(header)
    }

    /// The message is digested.
    pub fn done(self) {
        self.owned.complete(None);
    }

    /// The message failed.
    pub fn fail(self, error: DigestError) {
        self.owned.complete(Some(error.into_failure()));
    }
}

impl fmt::Debug for TakenMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_view(&self.owned.view(), "TakenMessage", f)
    }
}

fn header<'m>(header: &HeaderView<'m>) -> Header<'m> {
    Header {
        name: header.name.as_str(),
        value: header.value.into_option().map(|value| value.as_slice()),
    }
}

fn debug_view(view: &MessageView<'_>, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("topic", &view.topic.as_str())
        .field("partition", &view.partition)
        .field("offset", &view.offset)
        .field("key_bytes", &view.key.into_option().map(|key| key.len()))
        .field(
            "payload_bytes",
            &view.payload.into_option().map(|payload| payload.len()),
        )
        .field("attempt", &view.attempt)
        .finish_non_exhaustive()
}
