//! A load: messages that are produced at a steady rate on a thread of their own, for as long as a scenario wants them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{ProduceError, Producer};
use crate::{judge::Expected, wait};

/// A load until it is stopped; see [`Producer::numbered`] for its messages.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Expected, ProduceError>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    partitions: AtomicI32,
    next: AtomicU64,
}

/// How often the load sends what has become due.
const BEAT: Duration = Duration::from_millis(50);
const SIZE: usize = 100;

// === impl Load ===

impl Load {
    /// Begins with message number `first`: about `per_second` messages, round the partitions of `topic`.
    pub fn start(producer: Producer, topic: &str, partitions: i32, first: u64, per_second: u64) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            partitions: AtomicI32::new(partitions),
            next: AtomicU64::new(first),
        });
        let thread = std::thread::spawn({
            let (shared, topic) = (Arc::clone(&shared), topic.to_owned());
            move || {
                // Said at once too: who waits for its messages would wait in vain.
                shared
                    .run(&producer, &topic, per_second)
                    .inspect_err(|error| eprintln!("the load on {topic} ended: {error}"))
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// From now on it goes round so many partitions.
    pub fn spread_to(&self, partitions: i32) {
        self.shared.partitions.store(partitions, Ordering::Relaxed);
    }

    /// The number of the next message: all below it are sent or about to be.
    pub fn next(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// Ends it, and returns what was produced once all of it is acknowledged.
    pub fn stop(mut self) -> Result<Expected, ProduceError> {
        self.end().unwrap_or_else(|| Ok(Expected::default()))
    }

    fn end(&mut self) -> Option<Result<Expected, ProduceError>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn run(&self, producer: &Producer, topic: &str, per_second: u64) -> Result<Expected, ProduceError> {
        let first = self.next.load(Ordering::Relaxed);
        let (begin, mut beat) = (Instant::now(), Instant::now());
        let mut expected = Expected::default();
        while !self.stop.load(Ordering::Relaxed) {
            let due = first + (begin.elapsed().as_secs_f64() * per_second as f64) as u64;
            let from = self.next.swap(due, Ordering::Relaxed);
            let partitions = self.partitions.load(Ordering::Relaxed);
            expected.extend(producer.numbered(topic, partitions, from..due, SIZE)?);
            beat += BEAT;
            wait::pace(beat);
        }
        Ok(expected)
    }
}
