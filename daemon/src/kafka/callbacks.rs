//! What librdkafka calls back: log lines, errors, statistics, connects and rebalances. No panic leaves a callback.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka_sys as sys;

use super::broker_watch::{self, BrokerWatch, Connectivity, Line, Repeats};
use super::consumer::Consumer;
use super::errors::{ClientEvent, ErrorClass, ErrorCode, text_of};
use super::joining::{self, Joining};
use super::native::entries;
use super::rebalance::Rebalance;
use super::sender::SenderReport;
use super::statistics::{self, PartitionStatistics};
use crate::settings::RouteName;

/// What the callbacks of one client share. Its address is librdkafka's opaque.
pub(super) struct Context {
    route: RouteName,
    source_address: Option<IpAddr>,
    /// Without a group of the user's own, what the group's coordinator says concerns nobody.
    has_group: bool,
    joining: Joining,
    /// Says which brokers are down and which are back. The route's consumer does; a second client need not.
    names_brokers: bool,
    /// An event waits, or the client is finished; never unset in the latter case.
    attention: AtomicBool,
    /// What the broker watch knows too, without its lock: messages come often.
    up: AtomicBool,
    /// A report waits in the state.
    reported: AtomicBool,
    state: Mutex<State>,
}

struct State {
    brokers: BrokerWatch,
    repeats: Repeats,
    /// Bounded: what nobody takes pushes out the oldest.
    events: VecDeque<ClientEvent>,
    /// What became of a producer's records.
    reports: Vec<SenderReport>,
    panicked: Option<String>,
    /// The latest report, until it is taken.
    statistics: Option<Vec<PartitionStatistics>>,
}

/// The call of `batch` or `close` in which this thread is, for the rebalance callback.
#[derive(Clone, Copy)]
struct Serving {
    consumer: *const Consumer,
    handler: *mut (dyn Rebalance + 'static),
}

const EVENTS: usize = 256;

thread_local! {
    static SERVING: Cell<Option<Serving>> = const { Cell::new(None) };
    static IN_REBALANCE: Cell<bool> = const { Cell::new(false) };
}

// === impl Context ===

impl Context {
    pub(super) fn new(route: RouteName, source_address: Option<IpAddr>, has_group: bool) -> Arc<Self> {
        Arc::new(Self::of(route, source_address, has_group))
    }

    /// For the producer beside a route's consumer.
    pub(super) fn of_sender(route: RouteName, source_address: Option<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            names_brokers: false,
            ..Self::of(route, source_address, false)
        })
    }

    fn of(route: RouteName, source_address: Option<IpAddr>, has_group: bool) -> Self {
        let state = State {
            brokers: BrokerWatch::new(),
            repeats: Repeats::default(),
            events: VecDeque::new(),
            reports: Vec::new(),
            panicked: None,
            statistics: None,
        };
        Self {
            route,
            source_address,
            has_group,
            joining: Joining::default(),
            names_brokers: true,
            attention: AtomicBool::new(false),
            up: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn route(&self) -> &RouteName {
        &self.route
    }

    /// What it asked its group.
    pub(super) fn joining(&self) -> &Joining {
        &self.joining
    }

    pub(super) fn connectivity(&self) -> Connectivity {
        self.state().brokers.connectivity()
    }

    pub(super) fn coordinator_down(&self) -> bool {
        self.state().brokers.coordinator_down()
    }

    pub(super) fn brokers(&self, tell: impl FnOnce(&mut BrokerWatch)) {
        tell(&mut self.state().brokers);
    }

    /// A broker gave messages.
    pub(super) fn answered(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            self.state().brokers.answered();
        }
    }

    /// There is something in `take_events`, or the client is finished.
    pub(super) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    pub(super) fn call_attention(&self) {
        self.attention.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_events(&self) -> Vec<ClientEvent> {
        self.state().events.drain(..).collect()
    }

    pub(super) fn take_reports(&self) -> Vec<SenderReport> {
        std::mem::take(&mut self.state().reports)
    }

    /// The panic of a rebalance handler, which ends this client.
    pub(super) fn panicked(&self) -> Option<String> {
        self.state().panicked.clone()
    }

    /// The partitions of the latest report, once.
    pub(super) fn take_statistics(&self) -> Option<Vec<PartitionStatistics>> {
        if !self.reported.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.state().statistics.take()
    }

    /// An error that belongs to no message: logged, and kept if someone has to know.
    pub(super) fn error(&self, event: ClientEvent) {
        if event.code == ErrorCode::ALL_BROKERS_DOWN {
            self.state().brokers.all_down();
            self.up.store(false, Ordering::Relaxed);
        }
        if !self.has_group
            && matches!(
                event.code,
                ErrorCode::GROUP_AUTHORIZATION_FAILED | ErrorCode::COORDINATOR_NOT_AVAILABLE
            )
        {
            return;
        }
        match event.class {
            ErrorClass::GoOn => {
                let line = match event.code {
                    ErrorCode::TRANSPORT | ErrorCode::RESOLVE | ErrorCode::TIMED_OUT => {
                        self.state().brokers.failed(&event.text)
                    }
                    _ => None,
                };
                self.tell(line);
                tracing::debug!(target: "librdkafka", route = %self.route, code = %event.code, "{}", event.text);
            }
            ErrorClass::Tell | ErrorClass::Recreate => {
                let line = format!("{}: {}", event.code, event.text);
                let admitted = self.state().repeats.admit(&line, Instant::now());
                match event.class {
                    _ if admitted.is_none() => {}
                    ErrorClass::Recreate => {
                        tracing::error!(target: "librdkafka", route = %self.route, code = %event.code, "{}", event.text);
                    }
                    _ => {
                        tracing::warn!(target: "librdkafka", route = %self.route, code = %event.code, "{}", event.text)
                    }
                }
                self.keep(event);
            }
        }
    }

    fn keep(&self, event: ClientEvent) {
        let mut state = self.state();
        if state.events.len() == EVENTS {
            state.events.pop_front();
        }
        state.events.push_back(event);
        self.call_attention();
    }

    fn tell(&self, line: Option<Line>) {
        match line.filter(|_| self.names_brokers) {
            Some(Line::Down(text)) => tracing::warn!(target: "librdkafka", route = %self.route, "{text}"),
            Some(Line::Back(text)) => tracing::info!(target: "librdkafka", route = %self.route, "{text}"),
            None => {}
        }
    }

    fn log(&self, level: c_int, facility: &str, text: &str) {
        // Failed connections are told by the broker watch, once; as an error they come a second time.
        if facility == "FAIL" {
            let line = self.state().brokers.failed(text);
            self.tell(line);
            tracing::debug!(target: "librdkafka", route = %self.route, facility, "{text}");
            return;
        }
        if let Some(topic) = made_again(facility, text) {
            self.keep(ClientEvent {
                class: ErrorClass::Tell,
                code: ErrorCode::UNKNOWN_TOPIC_ID,
                text: text.to_owned(),
                topic: Some(topic.into()),
                partition: None,
            });
        }
        // A fatal error comes as an error too, with its code. That a producer has no use for a consumer's property is no
        // news: both get the same settings.
        if level >= 7
            || facility == "FATAL"
            || (facility == "CONFWARN" && text.contains("will be ignored by"))
        {
            tracing::debug!(target: "librdkafka", route = %self.route, facility, "{text}");
            return;
        }
        let Some(dropped) = self
            .state()
            .repeats
            .admit(&format!("{facility} {text}"), Instant::now())
        else {
            return;
        };
        let dropped = (dropped > 0).then_some(dropped);
        match level {
            ..=3 => tracing::error!(target: "librdkafka", route = %self.route, facility, dropped, "{text}"),
            4 => tracing::warn!(target: "librdkafka", route = %self.route, facility, dropped, "{text}"),
            _ => tracing::info!(target: "librdkafka", route = %self.route, facility, dropped, "{text}"),
        }
    }

    fn statistics(&self, json: &[u8]) {
        match serde_json::from_slice::<broker_watch::Statistics>(json) {
            Ok(report) => {
                let partitions = statistics::partitions(&report.topics, &report.brokers);
                self.state().statistics = Some(partitions);
                self.reported.store(true, Ordering::Relaxed);
                let lines = self.state().brokers.statistics(&report);
                lines.into_iter().for_each(|line| self.tell(Some(line)));
            }
            Err(error) => {
                tracing::debug!(target: "librdkafka", route = %self.route, %error, "unreadable statistics")
            }
        }
    }
}

/// The topic that a line of librdkafka's says to have another id than before. It goes on fetching where it was (a FIXME of
/// its own, `rd_kafka_topic_metadata_update`) and tells of it nowhere else; the line comes before the first message of
/// the new topic, in the same queue.
fn made_again<'t>(facility: &str, text: &'t str) -> Option<&'t str> {
    const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    let (_, rest) = text.split_once("Topic ").filter(|_| facility == "METADATA")?;
    let (topic, ids) = rest.split_once(" changed id from ")?;
    (!ids.starts_with(UNKNOWN)).then_some(topic)
}

/// Runs `serve`, during which librdkafka may call the rebalance callback: it reaches `handler`.
pub(super) fn serving<T>(consumer: &Consumer, handler: &mut dyn Rebalance, serve: impl FnOnce() -> T) -> T {
    struct Restore(Option<Serving>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SERVING.set(self.0);
        }
    }
    let handler = &raw mut *handler;
    // SAFETY: only the lifetime is widened; the pointer is used by `rebalance` inside `serve` and taken away, by
    // `Restore`, before this borrow ends.
    let handler: *mut (dyn Rebalance + 'static) = unsafe { std::mem::transmute(handler) };
    let _restore = Restore(SERVING.replace(Some(Serving { consumer, handler })));
    serve()
}

/// This thread is inside a rebalance handler.
pub(super) fn in_rebalance() -> bool {
    IN_REBALANCE.get()
}

/// Sets every callback on a configuration whose opaque will be a `Context`.
///
/// # Safety
/// `conf` is a live configuration, and the client made of it gets the address of a `Context` that outlives it.
pub(super) unsafe fn install(conf: *mut sys::rd_kafka_conf_t, context: &Arc<Context>) {
    // SAFETY: the contract.
    unsafe {
        sys::rd_kafka_conf_set_opaque(conf, Arc::as_ptr(context).cast_mut().cast());
        sys::rd_kafka_conf_set_log_cb(conf, Some(log));
        sys::rd_kafka_conf_set_error_cb(conf, Some(error));
        sys::rd_kafka_conf_set_stats_cb(conf, Some(statistics));
        sys::rd_kafka_conf_set_rebalance_cb(conf, Some(rebalance));
        joining::install(conf, context);
        if context.source_address.is_some() {
            sys::rd_kafka_conf_set_connect_cb(conf, Some(connect));
        }
    }
}

/// The delivery reports of a producer, whose records each have a number.
pub(super) type Delivered =
    unsafe extern "C" fn(*mut sys::rd_kafka_t, *const sys::rd_kafka_message_t, *mut c_void);

/// As [`install`], for a producer.
///
/// # Safety
/// As [`install`].
pub(super) unsafe fn install_producer(
    conf: *mut sys::rd_kafka_conf_t,
    context: &Arc<Context>,
    delivered: Delivered,
) {
    // SAFETY: the contract.
    unsafe {
        sys::rd_kafka_conf_set_opaque(conf, Arc::as_ptr(context).cast_mut().cast());
        sys::rd_kafka_conf_set_log_cb(conf, Some(log));
        sys::rd_kafka_conf_set_error_cb(conf, Some(error));
        sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(delivered));
        if context.source_address.is_some() {
            sys::rd_kafka_conf_set_connect_cb(conf, Some(connect));
        }
    }
}

/// Keeps what a delivery report says, for the thread that serves the producer.
///
/// # Safety
/// `opaque` is what `install_producer` set.
pub(super) unsafe fn report(opaque: *mut c_void, report: SenderReport) {
    guarded((), || {
        // SAFETY: the contract.
        unsafe { context(opaque) }.state().reports.push(report);
    });
}

// === callbacks ===

/// Runs a callback's body; a panic ends here (it must not unwind into C).
fn guarded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// # Safety
/// `opaque` is the address of a client's `Context`, which lives as long as the client.
unsafe fn context<'a>(opaque: *mut c_void) -> &'a Context {
    // SAFETY: the contract.
    unsafe { &*opaque.cast::<Context>() }
}

unsafe extern "C" fn log(
    rk: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    guarded((), || {
        if rk.is_null() {
            return;
        }
        // SAFETY: librdkafka passes terminated strings, and a client whose opaque `install` set.
        unsafe { context(sys::rd_kafka_opaque(rk)).log(level, &text_of(facility), &text_of(text)) }
    });
}

/// For a client whose log nobody wants.
pub(super) unsafe extern "C" fn ignore_log(
    _: *const sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: *const c_char,
) {
}

unsafe extern "C" fn error(
    rk: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    guarded((), || {
        let mut code = ErrorCode::new(code);
        // SAFETY: a terminated string, and the opaque that `install` set.
        let (context, mut text) = unsafe { (context(opaque), text_of(reason)) };
        let mut class = code.class();
        if code == ErrorCode::FATAL {
            let mut buffer = [0 as c_char; 512];
            // SAFETY: the buffer's length is passed; the text is terminated within it.
            unsafe {
                code = ErrorCode::from(sys::rd_kafka_fatal_error(rk, buffer.as_mut_ptr(), buffer.len()));
                text = text_of(buffer.as_ptr());
            }
            class = ErrorClass::Recreate;
        }
        context.error(ClientEvent {
            class,
            code,
            text,
            topic: None,
            partition: None,
        });
    });
}

unsafe extern "C" fn statistics(
    _rk: *mut sys::rd_kafka_t,
    json: *mut c_char,
    length: usize,
    opaque: *mut c_void,
) -> c_int {
    guarded((), || {
        // SAFETY: `length` bytes that live during the call; the opaque that `install` set.
        unsafe { context(opaque).statistics(std::slice::from_raw_parts(json.cast::<u8>(), length)) }
    });
    0 // librdkafka frees the text
}

/// Binds a broker's socket to the source address before it is connected. Runs on a broker thread under its lock: no
/// call of librdkafka here.
unsafe extern "C" fn connect(
    socket: c_int,
    address: *const libc::sockaddr,
    length: c_int,
    _broker: *const c_char,
    opaque: *mut c_void,
) -> c_int {
    guarded(libc::EIO, || {
        // SAFETY: the opaque that `install` set.
        let Some(source) = unsafe { context(opaque) }.source_address else {
            return libc::EINVAL;
        };
        // SAFETY: librdkafka passes a whole address.
        let family = c_int::from(unsafe { (*address).sa_family });
        let wanted = if source.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        if family != wanted {
            return libc::EAFNOSUPPORT; // librdkafka goes on to the next address of that host
        }
        // SAFETY: librdkafka's open socket, ours during this call.
        let socket_fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket) };
        let on: c_int = 1;
        // Without it the kernel takes one ephemeral port per address at bind, not per connection. Not essential.
        // SAFETY: a socket and an int of the length that is passed.
        unsafe {
            libc::setsockopt(
                socket,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of::<c_int>() as libc::socklen_t,
            );
        }
        if let Err(errno) = rustix::net::bind(socket_fd, &SocketAddr::new(source, 0)) {
            return errno.raw_os_error();
        }
        // SAFETY: the address is librdkafka's, of the length it says; the socket is non-blocking.
        if unsafe { libc::connect(socket, address, length as libc::socklen_t) } == 0 {
            return 0;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINPROGRESS) | None => 0,
            Some(errno) => errno,
        }
    })
}

unsafe extern "C" fn rebalance(
    rk: *mut sys::rd_kafka_t,
    code: sys::rd_kafka_resp_err_t,
    partitions: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            IN_REBALANCE.set(false);
        }
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let serving = SERVING.get()?;
        IN_REBALANCE.set(true);
        let _inside = Inside;
        // SAFETY: set by `serving`, which is further down this thread's stack and holds both borrows. The handler
        // is not reached a second time: `batch` and `close` are refused inside a handler.
        let (consumer, handler) = unsafe { (&*serving.consumer, &mut *serving.handler) };
        // SAFETY: the list lives during the callback.
        let list = unsafe { entries(partitions) }
            .map(|entry| (entry.topic(), entry.partition()))
            .collect();
        consumer.rebalance(ErrorCode::from(code), list, handler);
        Some(())
    }));
    // SAFETY: the opaque that `install` set.
    let context = unsafe { context(opaque) };
    match outcome {
        Ok(Some(())) => return,
        // Nobody serves this client any more (it is being destroyed): librdkafka only wants its answer.
        Ok(None) => {}
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without text".into());
            tracing::error!(target: "librdkafka", route = %context.route, "the rebalance handler panicked: {text}");
            context.state().panicked = Some(text);
            context.call_attention();
        }
    }
    // Without an answer the client would wait for ever, so it gives up everything.
    // SAFETY: a live client inside its own callback; null means "no partition".
    unsafe { sys::rd_kafka_assign(rk, std::ptr::null()) };
}

#[cfg(test)]
mod tests {
    use super::made_again;

    #[test]
    fn a_topic_with_another_id_was_made_again_and_a_first_id_is_none() {
        let line =
            |from: &str| format!("[thrd:main]: Topic a.b changed id from {from} to Zk3cJ0SuS1mNWZ5hCkHf7A");
        assert_eq!(
            made_again("METADATA", &line("hQ3cJ0SuS1mNWZ5hCkHf7A")),
            Some("a.b")
        );
        assert_eq!(made_again("METADATA", &line("AAAAAAAAAAAAAAAAAAAAAA")), None);
        assert_eq!(made_again("FETCH", &line("hQ3cJ0SuS1mNWZ5hCkHf7A")), None);
    }
}
