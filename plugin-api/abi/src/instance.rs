//! One instance of a consumer, erased so that it can cross.

use std::{
    ffi::c_void,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{ROption, RResult, RStr, RString},
};

use crate::{Call, CallReturn, Failure, FailureKind, LifecycleAnswer, LifecycleCall};

/// The plugin's side of an instance. Used by one thread at a time.
pub trait PluginInstance: Send + 'static {
    /// Digests a batch. Panics are caught outside; the cell then names the message.
    fn digest(&mut self, call: &Call<'_>) -> CallReturn;
    /// One step of its life.
    ///
    /// # Errors
    /// What the instance says went wrong.
    fn lifecycle(&mut self, call: LifecycleCall) -> Result<LifecycleAnswer, Failure>;
}

/// An instance as the host holds it. Dropping it drops the plugin's value; a panic there is lost, use [`Instance::end`].
#[repr(C)]
#[derive(StableAbi)]
pub struct Instance {
    data: *mut c_void,
    vtable: InstanceVtableRef,
}

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = InstanceVtableRef)))]
#[sabi(missing_field(option))]
struct InstanceVtable {
    digest: unsafe extern "C" fn(data: *mut c_void, call: &Call<'_>) -> CallReturn,
    lifecycle: unsafe extern "C" fn(data: *mut c_void, call: RStr<'_>) -> RResult<RString, Failure>,
    #[sabi(last_prefix_field)]
    drop: unsafe extern "C" fn(data: *mut c_void) -> RResult<(), Failure>,
}

// === impl Instance ===

impl Instance {
    /// Erases `instance`.
    pub fn new<P: PluginInstance>(instance: P) -> Self {
        Self {
            data: Box::into_raw(Box::new(instance)).cast(),
            vtable: instance_vtable::<P>(),
        }
    }

    /// Digests a batch.
    #[must_use]
    pub fn digest(&mut self, call: &Call<'_>) -> CallReturn {
        // SAFETY: `data` is the box of the type that the vtable is for, and `&mut self` is the only use.
        unsafe { self.vtable.digest()(self.data, call) }
    }

    /// One step of its life.
    ///
    /// # Errors
    /// What the instance says went wrong; `PANIC` if it panicked, and then it must not be used again.
    pub fn lifecycle(&mut self, call: &LifecycleCall) -> Result<LifecycleAnswer, Failure> {
        let text =
            serde_json::to_string(call).map_err(|e| Failure::new(FailureKind::FATAL, e.to_string()))?;
        // SAFETY: as in `digest`.
        let answer = unsafe { self.vtable.lifecycle()(self.data, RStr::from_str(&text)) }.into_result()?;
        serde_json::from_str(&answer).map_err(|e| {
            Failure::new(
                FailureKind::FATAL,
                format!("its answer to `{text}` is not what was asked for: {e}"),
            )
        })
    }

    /// Drops the plugin's value and says whether that panicked.
    ///
    /// # Errors
    /// The panic.
    pub fn end(self) -> Result<(), Failure> {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `self` is consumed and not dropped, so this is the only drop.
        unsafe { this.vtable.drop()(this.data) }.into_result()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: `end` takes `self` without dropping it, so the value was not dropped before.
        let _ = unsafe { self.vtable.drop()(self.data) };
    }
}

// SAFETY: the value behind `data` is `PluginInstance: Send`.
unsafe impl Send for Instance {}

fn instance_vtable<P: PluginInstance>() -> InstanceVtableRef {
    // Each function's SAFETY: `data` is the box that `Instance::new::<P>` leaked, used by one thread at a time.
    unsafe extern "C" fn digest<P: PluginInstance>(data: *mut c_void, call: &Call<'_>) -> CallReturn {
        // SAFETY: see above.
        let instance = unsafe { &mut *data.cast::<P>() };
        match catch_unwind(AssertUnwindSafe(|| instance.digest(call))) {
            Ok(returned) => returned,
            Err(panic) => {
                let at = call.cell.load();
                let finished = if at.call == call.number { at.index } else { 0 };
                CallReturn {
                    finished,
                    broken: ROption::RSome(Failure::of_panic(panic)),
                }
            }
        }
    }
    unsafe extern "C" fn lifecycle<P: PluginInstance>(
        data: *mut c_void,
        call: RStr<'_>,
    ) -> RResult<RString, Failure> {
        // SAFETY: see above.
        let instance = unsafe { &mut *data.cast::<P>() };
        let answered = catch_unwind(AssertUnwindSafe(|| {
            // A step that this version does not know is answered, not refused: hosts may be newer.
            let answer = match serde_json::from_str::<LifecycleCall>(call.as_str()) {
                Ok(step) => instance.lifecycle(step)?,
                Err(_) => LifecycleAnswer::default(),
            };
            serde_json::to_string(&answer).map_err(|e| Failure::new(FailureKind::FATAL, e.to_string()))
        }));
        match answered {
            Ok(answer) => answer.map(RString::from).into(),
            Err(panic) => RResult::RErr(Failure::of_panic(panic)),
        }
    }
    unsafe extern "C" fn drop<P: PluginInstance>(data: *mut c_void) -> RResult<(), Failure> {
        // SAFETY: see above; the caller passes `data` to this function once.
        let boxed = unsafe { Box::from_raw(data.cast::<P>()) };
        match catch_unwind(AssertUnwindSafe(move || std::mem::drop(boxed))) {
            Ok(()) => RResult::ROk(()),
            Err(panic) => RResult::RErr(Failure::of_panic(panic)),
        }
    }
    struct Table<P>(PhantomData<P>);
    impl<P: PluginInstance> Table<P> {
        const VALUE: &'static WithMetadata<InstanceVtable> = &WithMetadata::new(InstanceVtable {
            digest: digest::<P>,
            lifecycle: lifecycle::<P>,
            drop: drop::<P>,
        });
    }
    InstanceVtableRef(Table::<P>::VALUE.static_as_prefix())
}

/// Runs one side's code under a function that the other side called: a panic must not cross, and here nobody could
/// be told of it, so it ends the process.
pub(crate) fn never_unwind<T>(work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(_) => std::process::abort(),
    }
}
