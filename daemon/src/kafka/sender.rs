//! An idempotent producer for a thread that sleeps in an epoll: no call waits, and what became of a record comes back
//! through a descriptor.

use std::ffi::{CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use rdkafka_sys as sys;

use super::callbacks::{self, Context};
use super::errors::{ClientError, Errno, ErrorCode, text_of};
use super::native::{Gone, check_error};
use super::producer::Record;
use super::properties::ClientProperties;
use crate::settings::RouteName;

/// A producer whose reports one thread takes. Records of one partition are written in the order in which they were sent;
/// each is told of once, as delivered or as failed.
pub struct Sender {
    handle: SenderHandle,
    placing: Placing,
}

/// What the partition of a record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placing {
    /// A wish: where the topic has no such partition, the key decides as in Java's client, and chance where there is no
    /// key.
    Wish,
    /// An order: where the topic has no such partition, the record fails.
    Order,
    /// An order, but a wish where [`Sender::send_wished`] says so.
    Mixed,
}

/// The number that its owner gave to a record; below 2^40 where partitions are wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderReport {
    /// All replicas that are in sync have the record.
    Delivered {
        ticket: Ticket,
        partition: i32,
        offset: i64,
    },
    /// It is not written, or nobody knows whether it is.
    Failed { ticket: Ticket, code: ErrorCode },
}

/// The partitioner chooses, once the topic's partitions are known: nobody has to ask for them before.
const BY_PARTITIONER: i32 = -1;

/// A record's ticket and wish in librdkafka's pointer for it: nothing is allocated that could be lost.
#[derive(Clone, Copy)]
struct Opaque(usize);

/// The client; dropped, it is destroyed elsewhere.
struct SenderHandle {
    rk: NonNull<sys::rd_kafka_t>,
    /// Delivery reports, log lines and errors.
    main: NonNull<sys::rd_kafka_queue_t>,
    /// librdkafka writes to it until it is destroyed.
    wake: Option<OwnedFd>,
    /// Its address is librdkafka's opaque.
    context: Option<Arc<Context>>,
    gone: Arc<Gone>,
}

// === impl Sender ===

impl Sender {
    /// Makes the client. Nothing is contacted yet that this call would wait for. `wake`, an eventfd, becomes readable
    /// when there is something to [`take`](Self::take); a copy of it is kept. A record's partition is a wish.
    pub fn create(
        properties: &ClientProperties,
        route: RouteName,
        wake: impl AsFd,
    ) -> Result<Self, ClientError> {
        Self::make(properties, route, wake, Placing::Wish)
    }

    /// As [`Sender::create`]; a record's partition is an order.
    pub fn create_strict(
        properties: &ClientProperties,
        route: RouteName,
        wake: impl AsFd,
    ) -> Result<Self, ClientError> {
        Self::make(properties, route, wake, Placing::Order)
    }

    /// As [`Sender::create_strict`], for records of both kinds.
    pub(super) fn create_mixed(
        properties: &ClientProperties,
        route: RouteName,
        wake: impl AsFd,
    ) -> Result<Self, ClientError> {
        Self::make(properties, route, wake, Placing::Mixed)
    }

    /// The client itself, which lives as long as this does.
    pub(super) fn rk(&self) -> *mut sys::rd_kafka_t {
        self.handle.rk()
    }

    fn make(
        properties: &ClientProperties,
        route: RouteName,
        wake: impl AsFd,
        placing: Placing,
    ) -> Result<Self, ClientError> {
        let wake = wake
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| ClientError::System {
                what: "copying the descriptor that a producer wakes",
                source: Errno(error.raw_os_error().unwrap_or_default()),
            })?;
        let config = properties.native_config()?;
        let context = Context::of_sender(route, properties.source_address());
        let mut buffer = [0 as c_char; 512];
        // SAFETY: the configuration is live; the client made of it keeps `context` in its handle. On success
        // `rd_kafka_new` owns the configuration, so it is forgotten; on failure it stays ours.
        let rk = unsafe {
            match placing {
                Placing::Order => callbacks::install_producer(config.ptr(), &context, delivered_strictly),
                Placing::Wish | Placing::Mixed => {
                    let told = if placing == Placing::Wish {
                        delivered
                    } else {
                        delivered_mixed
                    };
                    callbacks::install_producer(config.ptr(), &context, told);
                    let topics = sys::rd_kafka_conf_get_default_topic_conf(config.ptr());
                    if topics.is_null() {
                        return Err(ClientError::Create("its properties have none for topics".into()));
                    }
                    let chosen = if placing == Placing::Wish {
                        partition
                    } else {
                        partition_mixed
                    };
                    sys::rd_kafka_topic_conf_set_partitioner_cb(topics, Some(chosen));
                }
            }
            let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let rk = sys::rd_kafka_new(kind, config.ptr(), buffer.as_mut_ptr(), buffer.len());
            let Some(rk) = NonNull::new(rk) else {
                return Err(ClientError::Create(text_of(buffer.as_ptr())));
            };
            std::mem::forget(config);
            rk
        };
        // SAFETY: a live client; the call returns a new reference, and aborts where memory ends.
        let main = NonNull::new(unsafe { sys::rd_kafka_queue_get_main(rk.as_ptr()) })
            .expect("every client has a main queue");
        let one = 1u64;
        // SAFETY: librdkafka copies the 8 bytes; the descriptor is kept in the handle until the client is destroyed,
        // and is non-blocking, so that a write under the queue's lock cannot wait.
        unsafe {
            let payload = (&raw const one).cast();
            sys::rd_kafka_queue_io_event_enable(main.as_ptr(), wake.as_raw_fd(), payload, 8);
        }
        let handle = SenderHandle {
            rk,
            main,
            wake: Some(wake),
            context: Some(context),
            gone: Arc::default(),
        };
        // SAFETY: a live client; null is its main queue, so log lines wait for this sender's thread.
        let code = unsafe { sys::rd_kafka_set_log_queue(handle.rk(), std::ptr::null_mut()) };
        match ErrorCode::from(code) {
            ErrorCode::NONE => Ok(Self { handle, placing }),
            code => Err(ClientError::call("sending the log to the client's queue", code)),
        }
    }

    /// Queues a copy of a record. What becomes of it is told under `ticket`.
    ///
    /// # Errors
    /// Where it cannot be queued (the queue is full, the client is finished); then nothing more comes of it.
    pub fn send(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), ClientError> {
        let (partition, opaque) = match self.placing {
            Placing::Wish => (BY_PARTITIONER, Opaque::new(ticket, record.partition).0),
            Placing::Order | Placing::Mixed => {
                (record.partition.unwrap_or(BY_PARTITIONER), ticket.0 as usize)
            }
        };
        self.queue(record, partition, opaque)
    }

    /// As [`Sender::send`], of a record whose partition is a wish, by a sender of both kinds. Its ticket comes back
    /// [marked](Ticket::wished).
    pub(super) fn send_wished(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), ClientError> {
        let opaque = Opaque::new(ticket, record.partition).0 | Opaque::WISHED;
        self.queue(record, BY_PARTITIONER, opaque)
    }

    fn queue(&self, record: &Record<'_>, partition: i32, opaque: usize) -> Result<(), ClientError> {
        use sys::rd_kafka_vtype_t as V;
        let topic = c_name(record.topic)?;
        let headers = Headers::of(record.headers);
        let mem = |bytes: Option<&[u8]>| sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            // Null is not empty: an empty slice has an address.
            ptr: bytes.map_or(std::ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast()),
            size: bytes.map_or(0, <[u8]>::len),
        };
        type Union = sys::rd_kafka_vu_s__bindgen_ty_1;
        let value = |vtype, u: Union| sys::rd_kafka_vu_t { vtype, u };
        let mut values = vec![
            value(V::RD_KAFKA_VTYPE_TOPIC, Union { cstr: topic.as_ptr() }),
            value(V::RD_KAFKA_VTYPE_PARTITION, Union { i32_: partition }),
            value(
                V::RD_KAFKA_VTYPE_MSGFLAGS,
                Union {
                    i: sys::RD_KAFKA_MSG_F_COPY,
                },
            ),
            value(
                V::RD_KAFKA_VTYPE_VALUE,
                Union {
                    mem: mem(record.payload),
                },
            ),
            value(V::RD_KAFKA_VTYPE_KEY, Union { mem: mem(record.key) }),
            value(
                V::RD_KAFKA_VTYPE_OPAQUE,
                Union {
                    ptr: opaque as *mut c_void,
                },
            ),
        ];
        if let Some(at) = record.timestamp {
            values.push(value(V::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: at }));
        }
        if let Some(headers) = &headers {
            values.push(value(
                V::RD_KAFKA_VTYPE_HEADERS,
                Union {
                    headers: headers.raw(),
                },
            ));
        }
        // SAFETY: a live client and `values.len()` values, each as its type says and living during the call. Key and
        // value are copied; the headers are librdkafka's if there is no error, and ours else. The returned error is
        // ours.
        let sent = unsafe {
            let error = sys::rd_kafka_produceva(self.handle.rk(), values.as_ptr(), values.len());
            check_error("queueing a record", error)
        };
        if let (Ok(()), Some(headers)) = (&sent, headers) {
            headers.given_away();
        }
        sent
    }

    /// Everything that has happened since the last call, in its order.
    pub fn take(&self) -> Vec<SenderReport> {
        // SAFETY: a live client; the callbacks run in this call and find the context.
        unsafe { sys::rd_kafka_poll(self.handle.rk(), 0) };
        let context = self.handle.context();
        // What was logged as it came.
        drop(context.take_events());
        context.take_reports()
    }

    /// What has ended this client, if anything has: only a new one goes on.
    pub fn fatal_error(&self) -> Option<ClientError> {
        let mut buffer = [0 as c_char; 512];
        // SAFETY: the buffer's length is passed; the text is terminated within it.
        let (code, text) = unsafe {
            let code = sys::rd_kafka_fatal_error(self.handle.rk(), buffer.as_mut_ptr(), buffer.len());
            (ErrorCode::from(code), text_of(buffer.as_ptr()))
        };
        (!code.is_ok()).then_some(ClientError::Fatal { code, text })
    }

    /// Gives up what is on its way: each record is told of as failed.
    pub fn purge(&self) {
        // SAFETY: a live client.
        unsafe {
            let flags = sys::RD_KAFKA_PURGE_F_QUEUE
                | sys::RD_KAFKA_PURGE_F_INFLIGHT
                | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
            sys::rd_kafka_purge(self.handle.rk(), flags);
        }
    }

    /// Ends the client; what is still on its way is given up. Whether it is destroyed by `deadline`.
    pub fn close(self, deadline: Instant) -> bool {
        self.purge();
        let gone = Arc::clone(&self.handle.gone);
        drop(self);
        gone.wait_until(deadline)
    }
}

fn c_name(name: &str) -> Result<CString, ClientError> {
    CString::new(name).map_err(|_| ClientError::Name(name.to_owned()))
}

/// The delivery report of one record, whose partition was a wish.
unsafe extern "C" fn delivered(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka passes a live message, and the opaque that `install_producer` set.
    unsafe { tell_delivered(message, Opaque((*message)._private as usize).ticket(), opaque) }
}

/// The delivery report of one record, whose opaque is its ticket.
unsafe extern "C" fn delivered_strictly(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: as in `delivered`.
    unsafe { tell_delivered(message, Ticket((*message)._private as u64), opaque) }
}

/// The delivery report of one record of a sender of both kinds.
unsafe extern "C" fn delivered_mixed(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: as in `delivered`.
    unsafe {
        let own = (*message)._private as usize;
        let ticket = match own & Opaque::WISHED {
            0 => Ticket(own as u64),
            mark => Opaque(own & !mark).ticket().wished(),
        };
        tell_delivered(message, ticket, opaque);
    }
}

/// Keeps what became of a record.
unsafe fn tell_delivered(message: *const sys::rd_kafka_message_t, ticket: Ticket, opaque: *mut c_void) {
    // SAFETY: as in `delivered`. The error is read as a number: a broker's code may be none of the enum's.
    unsafe {
        let code = ErrorCode::new((&raw const (*message).err).cast::<i32>().read());
        let report = if code.is_ok() {
            SenderReport::Delivered {
                ticket,
                partition: (*message).partition,
                offset: (*message).offset,
            }
        } else {
            SenderReport::Failed { ticket, code }
        };
        callbacks::report(opaque, report);
    }
}

/// Chooses the partition of a record, of `count`.
unsafe extern "C" fn partition(
    topic: *const sys::rd_kafka_topic_t,
    key: *const c_void,
    key_length: usize,
    count: i32,
    topic_opaque: *mut c_void,
    record: *mut c_void,
) -> i32 {
    match Opaque(record as usize).wish() {
        Some(wish) if wish < count => wish,
        // SAFETY: what librdkafka passed, for its own partitioner.
        _ => unsafe {
            sys::rd_kafka_msg_partitioner_murmur2_random(topic, key, key_length, count, topic_opaque, record)
        },
    }
}

/// As [`partition`], where only marked records have a wish here. What has neither wish nor key goes to one partition for a
/// while, as librdkafka does it where the partitioner is its own: batches are larger by that.
unsafe extern "C" fn partition_mixed(
    topic: *const sys::rd_kafka_topic_t,
    key: *const c_void,
    key_length: usize,
    count: i32,
    topic_opaque: *mut c_void,
    record: *mut c_void,
) -> i32 {
    let own = record as usize;
    let is_marked = own & Opaque::WISHED != 0;
    if !is_marked && key.is_null() {
        let sticky = sticky(count);
        // SAFETY: the topic that librdkafka passed, from within its partitioner, as this call has to be.
        if unsafe { sys::rd_kafka_topic_partition_available(topic, sticky) } != 0 {
            return sticky;
        }
    }
    let own = if is_marked { own & !Opaque::WISHED } else { 0 };
    // SAFETY: what librdkafka passed; the last is a number in either case.
    unsafe { partition(topic, key, key_length, count, topic_opaque, own as *mut c_void) }
}

/// The partition of a while, of `count`.
fn sticky(count: i32) -> i32 {
    /// As librdkafka's `sticky.partitioning.linger.ms`.
    const WHILE_MS: i64 = 10;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let turn = (now.tv_sec * 1000 + now.tv_nsec / 1_000_000) / WHILE_MS;
    let mixed = turn.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    (mixed % u64::from(count.max(1).cast_unsigned())) as i32
}

// === impl Ticket ===

impl Ticket {
    const WISHED: u64 = 1 << 63;

    /// The ticket of a record whose partition was a wish, as a sender of both kinds tells of it.
    #[must_use]
    pub fn wished(self) -> Self {
        Self(self.0 | Self::WISHED)
    }

    /// The ticket that was [marked](Self::wished), if this is one.
    #[must_use]
    pub fn of_wished(self) -> Option<Self> {
        (self.0 & Self::WISHED != 0).then_some(Self(self.0 & !Self::WISHED))
    }
}

// === impl Opaque ===

impl Opaque {
    /// The lower 24 bits: the wish plus one, 0 for none (Kafka has no topics of so many partitions).
    const WISH_BITS: u32 = 24;
    /// Marks one that holds a wish, where others do not.
    const WISHED: usize = 1 << 63;

    fn new(ticket: Ticket, wish: Option<i32>) -> Self {
        let wish = wish
            .and_then(|wish| usize::try_from(wish).ok())
            .map(|wish| wish + 1);
        let wish = wish.filter(|wish| *wish < 1 << Self::WISH_BITS).unwrap_or(0);
        Self(((ticket.0 as usize) << Self::WISH_BITS) | wish)
    }

    fn ticket(self) -> Ticket {
        Ticket((self.0 >> Self::WISH_BITS) as u64)
    }

    fn wish(self) -> Option<i32> {
        let wish = self.0 & ((1 << Self::WISH_BITS) - 1);
        i32::try_from(wish).ok()?.checked_sub(1).filter(|wish| *wish >= 0)
    }
}

// === impl SenderHandle ===

// SAFETY: librdkafka's client, queues and topics may be used from any thread.
unsafe impl Send for SenderHandle {}
// SAFETY: as above.
unsafe impl Sync for SenderHandle {}

impl SenderHandle {
    fn rk(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    fn context(&self) -> &Context {
        self.context.as_ref().expect("taken in drop only")
    }
}

impl Drop for SenderHandle {
    fn drop(&mut self) {
        let (rk, main) = (SendPointer(self.rk), SendPointer(self.main));
        let gone = Arc::clone(&self.gone);
        // librdkafka uses these until it is destroyed: a closure that is dropped without having run must not end them.
        let used = ManuallyDrop::new((self.wake.take(), self.context.take()));
        let destroy = move || {
            // SAFETY: the last reference to the client is gone, so nothing of it is left but these.
            unsafe {
                sys::rd_kafka_queue_io_event_enable(main.get(), -1, std::ptr::null(), 0);
                sys::rd_kafka_queue_destroy(main.get());
                sys::rd_kafka_destroy(rk.get());
            }
            drop(ManuallyDrop::into_inner(used));
            gone.tell();
        };
        // It may wait for its own threads: never on this one. If no thread can be had, the client is leaked.
        let thread = std::thread::Builder::new().name("kafka-destroy".into());
        if let Err(error) = thread.spawn(destroy) {
            tracing::error!(target: "librdkafka", %error, "no thread to destroy a Kafka producer on: it is leaked");
        }
    }
}

/// A pointer of librdkafka on its way to the one thread that destroys what it points to.
struct SendPointer<T>(NonNull<T>);

// SAFETY: see `SenderHandle`.
unsafe impl<T> Send for SendPointer<T> {}

impl<T> SendPointer<T> {
    fn get(&self) -> *mut T {
        self.0.as_ptr()
    }
}

/// A list of headers until librdkafka takes it.
struct Headers(NonNull<sys::rd_kafka_headers_t>);

impl Headers {
    /// None for none: a message without headers.
    fn of(headers: &[(&str, Option<&[u8]>)]) -> Option<Self> {
        if headers.is_empty() {
            return None;
        }
        // SAFETY: the call allocates and aborts where it cannot.
        let list = NonNull::new(unsafe { sys::rd_kafka_headers_new(headers.len()) })?;
        for (name, value) in headers {
            // SAFETY: a live list; name and value are copied, with the lengths that are passed (a null value has -1,
            // which librdkafka reads as null, as it does the null pointer).
            unsafe {
                sys::rd_kafka_header_add(
                    list.as_ptr(),
                    name.as_ptr().cast(),
                    name.len() as isize,
                    value.map_or(std::ptr::null(), |value| value.as_ptr().cast()),
                    value.map_or(0, |value| value.len() as isize),
                );
            }
        }
        Some(Self(list))
    }

    fn raw(&self) -> *mut sys::rd_kafka_headers_t {
        self.0.as_ptr()
    }

    /// librdkafka owns them now.
    fn given_away(self) {
        std::mem::forget(self);
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: still ours.
        unsafe { sys::rd_kafka_headers_destroy(self.raw()) }
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
