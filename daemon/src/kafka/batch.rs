//! Messages as librdkafka hands them out, many at a time: nothing is copied, nothing is allocated for a message.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka_sys as sys;

use super::errors::{ClientEvent, ErrorCode, text_of};
use super::native::Handle;

/// The messages of one [`batch`](super::Consumer::batch) call, in the order of each partition.
///
/// They point into librdkafka's fetch buffers, which live until the batch is dropped, cleared or filled again; every
/// message pins its whole buffer. A batch that holds messages keeps its client in memory, closed or not: clear it
/// before closing.
#[derive(Default)]
pub struct Batch {
    messages: Vec<NonNull<sys::rd_kafka_message_t>>,
    client: Option<Arc<Handle>>,
    /// Parsing headers changes the message; everything else only reads.
    headers: Mutex<()>,
}

/// One message of a batch.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    raw: &'a sys::rd_kafka_message_t,
    headers: &'a Mutex<()>,
}

/// The topic of a message as a number: equal for all messages of a topic. [`Consumer::topic_name`] turns it into a
/// name, and from then on it stands for that name as long as the client lives.
///
/// [`Consumer::topic_name`]: super::Consumer::topic_name
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicHandle(pub(super) usize);

/// When a message was made or stored, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp {
    None,
    Created(i64),
    Appended(i64),
}

/// Names and values in the order of the message; names may repeat, a value may be null.
pub type Headers<'a> = Vec<(&'a str, Option<&'a [u8]>)>;

// === impl Batch ===

// SAFETY: a message of librdkafka may be read and destroyed from any thread; `client` keeps what it points into.
unsafe impl Send for Batch {}
// SAFETY: shared access only reads, but for headers, which are parsed under a lock.
unsafe impl Sync for Batch {}

impl Batch {
    /// An empty batch that can be filled without another allocation of `capacity` pointers.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            messages: Vec::with_capacity(capacity),
            client: None,
            headers: Mutex::new(()),
        }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message at this place.
    #[inline]
    pub fn get(&self, at: usize) -> Option<Message<'_>> {
        self.messages.get(at).map(|raw| self.message(raw))
    }

    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> + DoubleEndedIterator {
        self.messages.iter().map(|raw| self.message(raw))
    }

    #[inline]
    fn message(&self, raw: &NonNull<sys::rd_kafka_message_t>) -> Message<'_> {
        // SAFETY: every pointer is a live message that this batch owns.
        let raw = unsafe { raw.as_ref() };
        Message {
            raw,
            headers: &self.headers,
        }
    }

    /// Gives all messages back to librdkafka; the batch can be filled again.
    pub fn clear(&mut self) {
        for raw in self.messages.drain(..) {
            // SAFETY: owned, and taken out as it is destroyed.
            unsafe { sys::rd_kafka_message_destroy(raw.as_ptr()) };
        }
        self.client = None;
    }

    /// Appends up to `max` messages of the client's consumer queue; what stands for an error goes to `events`.
    /// Returns how many entries librdkafka gave, errors included.
    pub(super) fn fill(
        &mut self,
        client: &Arc<Handle>,
        max: usize,
        timeout_ms: i32,
        events: &mut Vec<ClientEvent>,
    ) -> usize {
        let start = self.messages.len();
        self.messages.reserve(max);
        // Set first: whatever librdkafka gives is covered.
        self.client.get_or_insert_with(|| Arc::clone(client));
        debug_assert!(self.client.as_ref().is_some_and(|held| Arc::ptr_eq(held, client)));
        // SAFETY: room for `max` pointers was reserved behind `start`; librdkafka fills as many as it says, each a
        // live message that is ours from then on. The batch is empty or of this client, whose `Arc` it holds.
        let got = unsafe {
            let room = self
                .messages
                .as_mut_ptr()
                .add(start)
                .cast::<*mut sys::rd_kafka_message_t>();
            let got = sys::rd_kafka_consume_batch_queue(client.consumer_queue(), timeout_ms, room, max);
            let got = usize::try_from(got).unwrap_or(0);
            self.messages.set_len(start + got);
            got
        };
        if self.messages[start..].iter().any(|raw| !error_of(*raw).is_ok()) {
            self.take_errors(start, events);
        }
        if self.messages.is_empty() {
            self.client = None;
        }
        got
    }

    #[cold]
    fn take_errors(&mut self, start: usize, events: &mut Vec<ClientEvent>) {
        let tail = self.messages.split_off(start);
        for raw in tail {
            let code = error_of(raw);
            if code.is_ok() {
                self.messages.push(raw);
                continue;
            }
            // SAFETY: a live message that is ours; destroyed here and not kept.
            unsafe {
                let message = raw.as_ref();
                let topic = topic_text(message.rkt);
                events.push(ClientEvent {
                    class: code.class(),
                    code,
                    text: text_of(sys::rd_kafka_message_errstr(message)),
                    // An error of a whole topic comes with a partition that means nothing.
                    partition: (topic.is_some() && message.partition >= 0 && !code.is_of_topic())
                        .then_some(message.partition),
                    topic,
                });
                sys::rd_kafka_message_destroy(raw.as_ptr());
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

#[inline]
fn error_of(raw: NonNull<sys::rd_kafka_message_t>) -> ErrorCode {
    // Read as a number: a broker's code may be none of the enum's.
    // SAFETY: a live message; the enum is an i32 in memory.
    ErrorCode::new(unsafe { (&raw const (*raw.as_ptr()).err).cast::<i32>().read() })
}

/// # Safety
/// `topic` is null or a live topic.
unsafe fn topic_text(topic: *mut sys::rd_kafka_topic_t) -> Option<Arc<str>> {
    // SAFETY: the contract; the name is a terminated string.
    (!topic.is_null()).then(|| unsafe { text_of(sys::rd_kafka_topic_name(topic)) }.into())
}

// === impl Message ===

impl<'a> Message<'a> {
    #[inline]
    pub fn topic_handle(&self) -> TopicHandle {
        TopicHandle(self.raw.rkt as usize)
    }

    /// The topic's name, read from librdkafka; [`Consumer::topic_name`](super::Consumer::topic_name) is cheaper.
    pub fn topic(&self) -> &'a str {
        // SAFETY: a message holds its topic; the name is terminated and lives as long.
        let name = unsafe { std::ffi::CStr::from_ptr(sys::rd_kafka_topic_name(self.raw.rkt)) };
        name.to_str().unwrap_or("") // Kafka allows only ASCII in a topic's name
    }

    #[inline]
    pub fn partition(&self) -> i32 {
        self.raw.partition
    }

    #[inline]
    pub fn offset(&self) -> i64 {
        self.raw.offset
    }

    /// The key; none is not the same as empty.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives pointer and length of memory that the message pins.
        unsafe { bytes(self.raw.key, self.raw.key_len) }
    }

    /// The value; none is a tombstone.
    #[inline]
    pub fn payload(&self) -> Option<&'a [u8]> {
        // SAFETY: as in `key`.
        unsafe { bytes(self.raw.payload, self.raw.len) }
    }

    pub fn timestamp(&self) -> Timestamp {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a live message; the second argument is written to.
        let at = unsafe { sys::rd_kafka_message_timestamp(self.raw, &mut kind) };
        match kind {
            _ if at < 0 => Timestamp::None,
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::Created(at),
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::Appended(at),
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::None,
        }
    }

    /// The epoch of the partition's leader that gave the message; belongs into the commit of the next offset.
    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: a live message.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.raw) };
        (epoch >= 0).then_some(epoch)
    }

    /// The headers, parsed now (about 100 ns and an allocation each): ask for them only where they are wanted. A name
    /// that is not UTF-8 becomes empty.
    pub fn headers(&self) -> Headers<'a> {
        let _one_at_a_time = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = std::ptr::null_mut();
        // SAFETY: a live message. librdkafka keeps the parsed list in it, until the message is destroyed; the lock
        // keeps others from parsing it at the same time.
        let code = unsafe { sys::rd_kafka_message_headers(self.raw, &mut list) };
        let mut headers = Vec::new();
        if !ErrorCode::from(code).is_ok() {
            return headers;
        }
        for at in 0.. {
            let (mut name, mut value, mut size) = (std::ptr::null::<c_char>(), std::ptr::null::<c_void>(), 0);
            // SAFETY: the list lives as the message; the three results are written where there is such a header.
            let code = unsafe { sys::rd_kafka_header_get_all(list, at, &mut name, &mut value, &mut size) };
            if !ErrorCode::from(code).is_ok() {
                break;
            }
            // SAFETY: a terminated name, and `size` bytes at `value` or null, both living as the message.
            headers.push(unsafe {
                (
                    std::ffi::CStr::from_ptr(name).to_str().unwrap_or(""),
                    bytes(value.cast_mut(), size),
                )
            });
        }
        headers
    }
}

/// # Safety
/// `at` is null or has `length` bytes that live as long as `'a`.
#[inline]
unsafe fn bytes<'a>(at: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the contract.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) })
}
