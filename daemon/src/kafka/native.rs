//! librdkafka's objects as owned values: the client with its queues, and partition lists.

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use rdkafka_sys as sys;

use super::callbacks::Context;
use super::errors::{ClientError, Errno, ErrorCode, text_of};

/// Clients whose `rd_kafka_destroy` has not returned.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many librdkafka consumers exist in this process, those that are still being destroyed included. A number
/// that stays above that of the routes is a leak: a client whose end never came.
pub fn live_clients() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// One `rd_kafka_t` of the consumer type. Everything that points into it holds an `Arc` of this, so it goes last.
pub(super) struct Handle {
    rk: NonNull<sys::rd_kafka_t>,
    consumer_queue: NonNull<sys::rd_kafka_queue_t>,
    commit_queue: NonNull<sys::rd_kafka_queue_t>,
    /// Topics that are held so that their address names them as long as the client lives.
    pinned: Mutex<Vec<NonNull<sys::rd_kafka_topic_t>>>,
    /// librdkafka writes to it until it is destroyed.
    wake: Option<OwnedFd>,
    /// Its address is librdkafka's opaque.
    context: Option<Arc<Context>>,
    gone: Arc<Gone>,
}

/// Tells when a client was really destroyed.
#[derive(Default)]
pub(super) struct Gone {
    is_gone: Mutex<bool>,
    changed: Condvar,
}

/// A partition list.
pub(super) struct List(NonNull<sys::rd_kafka_topic_partition_list_t>);

/// One entry of a list.
pub(super) struct Entry<'a> {
    raw: NonNull<sys::rd_kafka_topic_partition_t>,
    list: PhantomData<&'a mut List>,
}

struct Pointers {
    rk: NonNull<sys::rd_kafka_t>,
    queues: [NonNull<sys::rd_kafka_queue_t>; 2],
    topics: Vec<NonNull<sys::rd_kafka_topic_t>>,
}

// === impl Handle ===

// SAFETY: librdkafka's client, queues and topics may be used from any thread; the one rule that is not thread-safe
// (a single batch loop per client) is kept by `Consumer`, which is not `Sync`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Takes over a client that was just made.
    ///
    /// # Safety
    /// `rk` is a live consumer with a group id, nobody else destroys it, and its opaque is `context`'s address.
    pub(super) unsafe fn adopt(
        rk: NonNull<sys::rd_kafka_t>,
        context: Arc<Context>,
        wake: OwnedFd,
    ) -> Result<Self, ClientError> {
        // The main queue (logs, errors, statistics) goes into the consumer's: one queue to serve.
        // SAFETY: a live consumer, by the contract.
        let code = unsafe { sys::rd_kafka_poll_set_consumer(rk.as_ptr()) };
        // SAFETY: as above; both calls return a new reference or null.
        let queues = unsafe {
            [
                sys::rd_kafka_queue_get_consumer(rk.as_ptr()),
                sys::rd_kafka_queue_new(rk.as_ptr()),
            ]
        };
        let [Some(consumer_queue), Some(commit_queue)] = queues.map(NonNull::new) else {
            // SAFETY: ours to destroy, and nothing of it is held (a null queue needs no release).
            unsafe {
                for queue in queues.into_iter().flat_map(NonNull::new) {
                    sys::rd_kafka_queue_destroy(queue.as_ptr());
                }
                sys::rd_kafka_destroy_flags(rk.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            }
            return Err(ClientError::Create(
                "it has no consumer queue; a group id is missing".into(),
            ));
        };
        LIVE.fetch_add(1, Ordering::Relaxed);
        let one = 1u64;
        for queue in [consumer_queue, commit_queue] {
            // SAFETY: librdkafka copies the 8 bytes; the descriptor is kept in `wake` until the client is destroyed
            // and is non-blocking, so that a write under a queue's lock cannot wait.
            unsafe {
                sys::rd_kafka_queue_io_event_enable(
                    queue.as_ptr(),
                    wake.as_raw_fd(),
                    (&raw const one).cast(),
                    8,
                );
            }
        }
        let handle = Self {
            rk,
            consumer_queue,
            commit_queue,
            pinned: Mutex::new(Vec::new()),
            wake: Some(wake),
            context: Some(context),
            gone: Arc::default(),
        };
        let code = ErrorCode::from(code);
        if code.is_ok() {
            Ok(handle)
        } else {
            Err(ClientError::call("joining the two queues of the client", code))
        }
    }

    pub(super) fn rk(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    pub(super) fn consumer_queue(&self) -> *mut sys::rd_kafka_queue_t {
        self.consumer_queue.as_ptr()
    }

    pub(super) fn commit_queue(&self) -> *mut sys::rd_kafka_queue_t {
        self.commit_queue.as_ptr()
    }

    pub(super) fn context(&self) -> &Context {
        self.context.as_ref().expect("taken in drop only")
    }

    pub(super) fn wake(&self) -> &OwnedFd {
        self.wake.as_ref().expect("taken in drop only")
    }

    pub(super) fn gone(&self) -> Arc<Gone> {
        Arc::clone(&self.gone)
    }

    /// Keeps a topic's address from being used for another topic as long as the client lives.
    pub(super) fn pin(&self, name: &CStr) {
        // SAFETY: a live client; the null configuration means the default one. The result is a new reference.
        let topic = unsafe { sys::rd_kafka_topic_new(self.rk(), name.as_ptr(), std::ptr::null_mut()) };
        if let Some(topic) = NonNull::new(topic) {
            self.pinned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(topic);
        }
    }

    /// The client's fatal error, if it has one.
    pub(super) fn fatal_error(&self) -> Option<(ErrorCode, String)> {
        let mut buffer = [0 as c_char; 512];
        // SAFETY: the buffer's length is passed; the text is terminated within it.
        let (code, text) = unsafe {
            let code = sys::rd_kafka_fatal_error(self.rk(), buffer.as_mut_ptr(), buffer.len());
            (ErrorCode::from(code), text_of(buffer.as_ptr()))
        };
        (!code.is_ok()).then_some((code, text))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let pointers = Pointers {
            rk: self.rk,
            queues: [self.consumer_queue, self.commit_queue],
            topics: std::mem::take(&mut *self.pinned.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        let gone = Arc::clone(&self.gone);
        // librdkafka uses these until it is destroyed: a closure that is dropped without having run must not end them.
        let used = ManuallyDrop::new((self.wake.take(), self.context.take()));
        let destroy = move || {
            pointers.destroy();
            LIVE.fetch_sub(1, Ordering::Relaxed);
            drop(ManuallyDrop::into_inner(used));
            gone.tell();
        };
        // `rd_kafka_destroy` may wait for brokers for seconds (once seen: for ever), and the last reference may go
        // on any thread: never on this one. If no thread can be had, the client is leaked and stays counted.
        if let Err(error) = std::thread::Builder::new()
            .name("kafka-destroy".into())
            .spawn(destroy)
        {
            tracing::error!(target: "librdkafka", %error, "no thread to destroy a Kafka client on: it is leaked");
        }
    }
}

// SAFETY: see `Handle`; the pointers are moved to the one thread that destroys them.
unsafe impl Send for Pointers {}

impl Pointers {
    fn destroy(self) {
        // SAFETY: the last `Arc<Handle>` is gone, so no message, list or queue of this client is left but these.
        // With NO_CONSUMER_CLOSE librdkafka does not wait for a rebalance callback that nobody would serve.
        unsafe {
            for topic in self.topics {
                sys::rd_kafka_topic_destroy(topic.as_ptr());
            }
            for queue in self.queues {
                sys::rd_kafka_queue_io_event_enable(queue.as_ptr(), -1, std::ptr::null(), 0);
                sys::rd_kafka_queue_destroy(queue.as_ptr());
            }
            sys::rd_kafka_destroy_flags(self.rk.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

impl Gone {
    pub(super) fn tell(&self) {
        *self.is_gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until the client is destroyed, or the deadline; says whether it is.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        let guard = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let (guard, _) = self
            .changed
            .wait_timeout_while(guard, left, |gone| !*gone)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }
}

// === impl List ===

impl List {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = i32::try_from(capacity).unwrap_or(i32::MAX);
        // SAFETY: the call allocates and aborts where it cannot.
        let raw = unsafe { sys::rd_kafka_topic_partition_list_new(capacity) };
        Self(NonNull::new(raw).expect("librdkafka aborts when memory ends, it returns no null"))
    }

    /// Appends a partition; its offset is "invalid", which means the committed one.
    pub(super) fn add(&mut self, topic: &str, partition: i32) -> Result<Entry<'_>, ClientError> {
        let name = CString::new(topic).map_err(|_| ClientError::Name(topic.to_owned()))?;
        // SAFETY: a live list; the name is copied.
        let raw =
            unsafe { sys::rd_kafka_topic_partition_list_add(self.0.as_ptr(), name.as_ptr(), partition) };
        Ok(Entry {
            raw: NonNull::new(raw).expect("as in `new`"),
            list: PhantomData,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    pub(super) fn len(&self) -> usize {
        // SAFETY: a live list.
        usize::try_from(unsafe { self.0.as_ref() }.cnt).unwrap_or(0)
    }

    pub(super) fn entries(&mut self) -> impl Iterator<Item = Entry<'_>> {
        // SAFETY: a live list.
        unsafe { entries(self.0.as_ptr()) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) }
    }
}

/// The entries of a list that librdkafka owns; none for a null pointer.
///
/// # Safety
/// `list` is null or a list that lives, and is changed by nobody else, as long as `'a`.
pub(super) unsafe fn entries<'a>(
    list: *mut sys::rd_kafka_topic_partition_list_t,
) -> impl Iterator<Item = Entry<'a>> {
    let (first, count) = match NonNull::new(list) {
        // SAFETY: live by the contract.
        Some(list) => unsafe {
            (
                list.as_ref().elems,
                usize::try_from(list.as_ref().cnt).unwrap_or(0),
            )
        },
        None => (std::ptr::null_mut(), 0),
    };
    (0..count).map(move |at| {
        // SAFETY: `elems` points to `cnt` entries.
        let raw = unsafe { NonNull::new_unchecked(first.add(at)) };
        Entry {
            raw,
            list: PhantomData,
        }
    })
}

// === impl Entry ===

impl Entry<'_> {
    pub(super) fn topic(&self) -> String {
        // SAFETY: an entry's topic is a terminated string.
        unsafe { text_of((*self.raw.as_ptr()).topic) }
    }

    pub(super) fn partition(&self) -> i32 {
        // SAFETY: a live entry.
        unsafe { (*self.raw.as_ptr()).partition }
    }

    pub(super) fn offset(&self) -> i64 {
        // SAFETY: a live entry.
        unsafe { (*self.raw.as_ptr()).offset }
    }

    pub(super) fn set_offset(&mut self, offset: i64) {
        // SAFETY: a live entry.
        unsafe { (*self.raw.as_ptr()).offset = offset }
    }

    pub(super) fn error(&self) -> ErrorCode {
        // Read as a number: a broker's code may be none of the enum's.
        // SAFETY: a live entry; the enum is an i32 in memory.
        ErrorCode::new(unsafe { (&raw const (*self.raw.as_ptr()).err).cast::<i32>().read() })
    }

    pub(super) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: a live entry.
        let epoch = unsafe { sys::rd_kafka_topic_partition_get_leader_epoch(self.raw.as_ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    pub(super) fn set_leader_epoch(&mut self, epoch: Option<i32>) {
        // SAFETY: a live entry.
        unsafe { sys::rd_kafka_topic_partition_set_leader_epoch(self.raw.as_ptr(), epoch.unwrap_or(-1)) }
    }

    pub(super) fn metadata(&self) -> Vec<u8> {
        // SAFETY: a live entry; `metadata` is null or has `metadata_size` bytes.
        unsafe {
            let raw = &*self.raw.as_ptr();
            if raw.metadata.is_null() {
                return Vec::new();
            }
            std::slice::from_raw_parts(raw.metadata.cast::<u8>(), raw.metadata_size).to_vec()
        }
    }

    pub(super) fn set_metadata(&mut self, metadata: &str) {
        if metadata.is_empty() {
            return;
        }
        // SAFETY: a live entry without metadata yet; librdkafka frees it with `free`, so it comes from `malloc`.
        unsafe {
            let copy = libc::malloc(metadata.len());
            assert!(
                !copy.is_null(),
                "no memory for {} bytes of commit metadata",
                metadata.len()
            );
            std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast::<u8>(), metadata.len());
            (*self.raw.as_ptr()).metadata = copy;
            (*self.raw.as_ptr()).metadata_size = metadata.len();
        }
    }
}

/// Takes an `rd_kafka_error_t`: null is success.
///
/// # Safety
/// `error` is null or owned by the caller, who gives it up.
pub(super) unsafe fn check_error(
    what: &'static str,
    error: *mut sys::rd_kafka_error_t,
) -> Result<(), ClientError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: owned and live until destroyed at the end.
    unsafe {
        let code = ErrorCode::from(sys::rd_kafka_error_code(error));
        let text = text_of(sys::rd_kafka_error_string(error));
        let fatal = sys::rd_kafka_error_is_fatal(error) != 0;
        sys::rd_kafka_error_destroy(error);
        Err(if fatal {
            ClientError::Fatal { code, text }
        } else {
            ClientError::Call { what, code, text }
        })
    }
}

/// A non-blocking eventfd.
pub(super) fn eventfd() -> Result<OwnedFd, ClientError> {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| ClientError::System {
        what: "making the descriptor that wakes the poll thread",
        source: Errno(errno.raw_os_error()),
    })
}
