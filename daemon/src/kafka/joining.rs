//! Whether a client asked its group to join, and the group owes it the answer. librdkafka tells that nowhere, but shows
//! every request and every response to who asks for them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka_sys as sys;

use super::callbacks::Context;
use super::errors::ErrorCode;

/// By these a client becomes a member, or says that it is one: JoinGroup, and KIP-848's ConsumerGroupHeartbeat.
const ASKS: [i16; 2] = [11, 68];
const NAME: &CStr = c"joining";
const OK: sys::rd_kafka_resp_err_t = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// What a client asked its group.
#[derive(Debug, Default)]
pub(super) struct Joining {
    has_asked: AtomicBool,
    is_owed: AtomicBool,
}

// === impl Joining ===

impl Joining {
    /// It asked to join, once at least.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Acquire)
    }

    /// It asked, and is not answered yet.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Acquire)
    }

    fn sent(&self, request: i16) {
        if ASKS.contains(&request) {
            self.is_owed.store(true, Ordering::Release);
            self.has_asked.store(true, Ordering::Release);
        }
    }

    /// Also where there will be no answer: the connection ended.
    fn answered(&self, request: i16) {
        if ASKS.contains(&request) {
            self.is_owed.store(false, Ordering::Release);
        }
    }
}

/// Has the client that is made of `conf` note what it asks.
///
/// # Safety
/// `conf` is a live configuration, and `context` outlives the client that is made of it.
pub(super) unsafe fn install(conf: *mut sys::rd_kafka_conf_t, context: &Arc<Context>) {
    let context = Arc::as_ptr(context).cast_mut().cast();
    // SAFETY: the contract. (What it may refuse is a name that is there already.)
    unsafe {
        sys::rd_kafka_conf_interceptor_add_on_new(conf, NAME.as_ptr(), Some(on_new), context);
    }
}

/// # Safety
/// `context` is what `install` was given, and the client lives.
unsafe fn joining<'a>(context: *mut c_void) -> &'a Joining {
    // SAFETY: the contract of `install`.
    unsafe { &*context.cast_const().cast::<Context>() }.joining()
}

unsafe extern "C" fn on_new(
    rk: *mut sys::rd_kafka_t,
    _: *const sys::rd_kafka_conf_t,
    context: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: librdkafka calls this inside `rd_kafka_new`, where interceptors may be added.
    unsafe {
        let code = sys::rd_kafka_interceptor_add_on_request_sent(rk, NAME.as_ptr(), Some(on_sent), context);
        if !ErrorCode::from(code).is_ok() {
            return code;
        }
        sys::rd_kafka_interceptor_add_on_response_received(rk, NAME.as_ptr(), Some(on_answer), context)
    }
}

unsafe extern "C" fn on_sent(
    _: *mut sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    request: i16,
    _: i16,
    _: i32,
    _: usize,
    context: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: a client's thread calls this.
    unsafe { joining(context) }.sent(request);
    OK
}

unsafe extern "C" fn on_answer(
    _: *mut sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    request: i16,
    _: i16,
    _: i32,
    _: usize,
    _: i64,
    _: sys::rd_kafka_resp_err_t,
    context: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: as `on_sent`.
    unsafe { joining(context) }.answered(request);
    OK
}
