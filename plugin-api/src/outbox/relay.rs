//! The thread that relays: looks when it is woken and now and then, sends a batch, waits for it, deletes it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{OutboxEntry, OutboxStore};
use crate::{ConsumerContext, HostError};

/// A relay at work. Dropped, it ends.
///
/// ```no_run
/// # use devour::{ConsumerContext, outbox::{OutboxStore, Relay, RelayOptions}};
/// # fn example(store: impl OutboxStore, context: &ConsumerContext) -> std::io::Result<()> {
/// let relay = Relay::start(store, context, RelayOptions::default())?;
/// // After each commit of a transaction that wrote into the outbox:
/// relay.waker().wake();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Relay {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    grace: Duration,
}

/// Wakes a relay. Cheap to clone, usable from any thread; after the relay's end it does nothing.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

/// How a relay goes about it.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// How many records are on their way at once.
    pub batch: usize,
    /// How often the table is looked at although nobody woke the relay: for what other processes wrote into it.
    pub every: Duration,
    /// How long an end waits for what is committed to be relayed; the rest is relayed at the next start.
    pub grace: Duration,
    /// The wait after a first failure; it doubles up to `longest_wait`.
    pub first_wait: Duration,
    /// The longest wait between tries.
    pub longest_wait: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    /// When an end was ordered: until then what is committed may still be relayed.
    ends_at: Option<Instant>,
}

/// What came of a look at the table.
enum Round {
    /// So many were relayed, and there may be more.
    Some,
    /// Nothing waits, or another relay is at work.
    Nothing,
    /// It has to be tried again.
    Failed(String),
    /// The end was ordered while records were on their way.
    Ended,
}

struct Work<S> {
    store: S,
    context: ConsumerContext,
    options: RelayOptions,
    shared: Arc<Shared>,
}

/// Counter of the records that the broker has acknowledged.
pub const RELAYED: &str = "outbox_relayed";
/// Counter of the tries that failed.
pub const FAILED: &str = "outbox_failed";

// === impl Relay ===

impl Relay {
    /// Starts the thread, which begins with what is left of before.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        store: impl OutboxStore,
        context: &ConsumerContext,
        options: RelayOptions,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let grace = options.grace;
        let work = Work {
            store,
            context: context.clone(),
            options,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("outbox".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            waker: Waker { shared },
            thread: Some(thread),
            grace,
        })
    }

    /// What wakes it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Ends it, once it has relayed what is committed, or its grace has passed. To be called in `stopped`.
    pub fn stop(mut self) {
        self.end(self.grace);
    }

    fn end(&mut self, grace: Duration) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.waker.shared.change(|state| {
            state.ends_at = Some(Instant::now() + grace);
            state.woken = true;
        });
        // What it says of itself it has logged.
        let _ = thread.join();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch: 500,
            every: Duration::from_secs(1),
            grace: Duration::from_secs(5),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(30),
        }
    }
}

// === impl Waker ===

impl Waker {
    /// Has the relay look at the table: to be called after a commit.
    pub fn wake(&self) {
        self.shared.change(|state| state.woken = true);
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until it is woken or `longest` has passed, with `deaf` until it has passed or an end is ordered.
    fn sleep(&self, longest: Duration, deaf: bool) {
        let waits = |state: &mut State| state.ends_at.is_none() && (deaf || !state.woken);
        let state = self.lock();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, longest, waits)
            .unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
    }

    fn ends_at(&self) -> Option<Instant> {
        self.lock().ends_at
    }
}

// === impl Work ===

impl<S: OutboxStore> Work<S> {
    fn run(mut self) {
        // What is logged and counted is the route's.
        self.context.stay();
        let mut wait = self.options.first_wait;
        loop {
            let round = catch_unwind(AssertUnwindSafe(|| self.round()))
                .unwrap_or_else(|_| Round::Failed("the outbox's store panicked".to_owned()));
            let ends_at = self.shared.ends_at();
            match round {
                Round::Some => wait = self.options.first_wait,
                Round::Ended => return,
                Round::Nothing if ends_at.is_some() => return,
                Round::Nothing => {
                    wait = self.options.first_wait;
                    self.shared.sleep(self.options.every, false);
                }
                Round::Failed(error) if ends_at.is_some() => {
                    tracing::warn!(
                        error,
                        "the outbox ends with records in it: they are relayed at the next start"
                    );
                    return;
                }
                Round::Failed(error) => {
                    self.context.count(FAILED, 1);
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    tracing::error!(error, wait_ms, "the outbox is not relayed; it is tried again");
                    self.shared.sleep(wait, true);
                    wait = (wait * 2).min(self.options.longest_wait);
                }
            }
            if self.shared.ends_at().is_some_and(|at| Instant::now() >= at) {
                return;
            }
        }
    }

    fn round(&mut self) -> Round {
        let entries = match self.store.claim() {
            Ok(true) => self.store.oldest(self.options.batch.max(1)),
            Ok(false) => return Round::Nothing,
            Err(error) => Err(error),
        };
        match entries {
            Ok(entries) if entries.is_empty() => Round::Nothing,
            Ok(entries) => self.relay(&entries),
            Err(error) => Round::Failed(error.to_string()),
        }
    }

    /// Sends all, in order, and deletes what the broker has, up to the first that it has not. What came behind that one is
    /// sent again after it, so that the last word about anything is the last that was written.
    fn relay(&mut self, entries: &[OutboxEntry]) -> Round {
        let (told, outcomes) = channel();
        for (place, entry) in entries.iter().enumerate() {
            let told = told.clone();
            self.context.produce_told(&entry.record, move |outcome| {
                // Nobody listens any more where the relay has ended.
                let _ = told.send((place, outcome));
            });
        }
        drop(told);
        let mut delivered = vec![false; entries.len()];
        let mut failed: Option<(usize, HostError)> = None;
        let mut left = entries.len();
        while left > 0 {
            match outcomes.recv_timeout(Duration::from_millis(50)) {
                Ok((place, outcome)) => {
                    left -= 1;
                    match outcome {
                        Ok(()) => delivered[place] = true,
                        Err(error) if failed.as_ref().is_none_or(|(first, _)| place < *first) => {
                            failed = Some((place, error));
                        }
                        Err(_) => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.shared.ends_at().is_some_and(|at| Instant::now() >= at) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let done = delivered.iter().take_while(|delivered| **delivered).count();
        let ids: Vec<i64> = entries[..done].iter().map(|entry| entry.id).collect();
        if !ids.is_empty() {
            if let Err(error) = self.store.delete(&ids) {
                return Round::Failed(format!(
                    "what is relayed cannot be deleted, it is sent again: {error}"
                ));
            }
            self.context.count(RELAYED, ids.len() as u64);
        }
        match failed {
            Some((place, error)) => {
                let entry = &entries[place];
                let (id, topic) = (entry.id, entry.record.topic());
                Round::Failed(format!("record {id}, for {topic}: {error}"))
            }
            None if left > 0 => Round::Ended,
            None => Round::Some,
        }
    }
}
