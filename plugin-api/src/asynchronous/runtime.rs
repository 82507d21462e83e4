//! The runtime of an instance: threads `digest-0`, `digest-1`, .., that know the instance's context, and an end that does
//! not wait for ever.

use std::{
    future::Future,
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

use crate::ConsumerContext;

/// What awaits is dropped at once; what computes or blocks has this long to come to an await. Then its thread is left
/// to itself.
const LONGEST_END: Duration = Duration::from_secs(1);

/// A runtime of an instance's own.
pub(super) struct OwnRuntime {
    handle: Handle,
    // `None` once it was ended.
    runtime: Option<Runtime>,
}

// === impl OwnRuntime ===

impl OwnRuntime {
    /// One with so many threads. They belong to one instance, so its context is theirs for good.
    pub(super) fn new(workers: usize, context: &ConsumerContext) -> io::Result<Self> {
        let context = context.clone();
        let next = AtomicUsize::new(0);
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name_fn(move || format!("digest-{}", next.fetch_add(1, Ordering::Relaxed)))
            .on_thread_start(move || context.stay())
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where tasks begin; `None` once it was ended.
    pub(super) fn handle(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }

    /// Makes the runtime known to this thread.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Runs a future on this thread, to its end.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// Drops what runs where it awaits, and waits for its threads for a while.
    pub(super) fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(LONGEST_END);
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        self.end();
    }
}
