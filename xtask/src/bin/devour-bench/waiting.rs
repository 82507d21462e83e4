//! Digests that wait, as those do that ask a database: how close devourd comes to a scheduler that loses no time and may
//! hold no more messages ([`ideal`]), on the same messages in the same order. On threads, and in futures.
//!
//! The keys are such that the hottest one is at work for half of the time that the ideal needs: 100 at once with 10,000
//! keys, 1,000 at once with a million, both with an exponent of 0.5. With an exponent of 1 the hottest key alone, one
//! message after the other, would decide how long it takes, and any scheduler that keeps it busy would look as good.
//!
//! The order is read from the topic by a bare loop with the daemon's properties. What a wait takes is measured, not
//! believed: one after the other on a thread that does nothing else, as in a lane that never waits for a message.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use devour_test_sum::moment::Measured;
use devourd::worker::intake::MAX_QUEUED;
use serde_json::{Value, json};

use crate::{
    Effort, Result,
    bare::Bare,
    daemon::{Bed, RouteSpec},
    data::{Data, Keys, Topic},
    figure::{Asked, Bench, Figure},
    ideal,
};

/// A way to wait.
struct Kind {
    bench: Bench,
    topic: Topic,
    symbol: &'static str,
    lanes: usize,
    at_once: usize,
    /// How long a wait really takes.
    alone: fn() -> Result<Duration>,
}

const AGAINST: &str = "ideal";
const WAIT: Duration = Duration::from_millis(10);
const ENDS_WITHIN: Duration = Duration::from_secs(300);

const KINDS: [Kind; 2] = [
    Kind {
        bench: Bench::ratio("waiting_threads_100", AGAINST, Asked::AtLeast(0.95)),
        topic: topic("devour-bench-zipf-10k", 10_000),
        symbol: "Wait",
        lanes: 100,
        at_once: 100,
        alone: alone_on_a_thread,
    },
    Kind {
        bench: Bench::ratio("waiting_async_1000", AGAINST, Asked::AtLeast(0.95)),
        topic: topic("devour-bench-zipf-1m", 1_000_000),
        symbol: "WaitAsync",
        lanes: 1,
        at_once: 1000,
        alone: alone_in_a_future,
    },
];

/// Of half a KiB: as many as may be held then come from all partitions, not from the two or three whose fetched messages
/// stand in front.
const fn topic(name: &'static str, keys: u32) -> Topic {
    Topic {
        name,
        bytes: 512,
        keys: Keys::Zipf { keys, exponent: 0.5 },
        headers: false,
    }
}

pub(crate) fn benches() -> impl Iterator<Item = Bench> {
    KINDS.iter().map(|kind| kind.bench)
}

pub(crate) fn measure(
    data: &Data,
    effort: Effort,
    wanted: &dyn Fn(Bench) -> bool,
    show: &dyn Fn(Figure),
) -> Result<()> {
    for kind in KINDS.iter().filter(|kind| wanted(kind.bench)) {
        let messages = (kind.at_once as f64 * effort.seconds / WAIT.as_secs_f64()) as u64;
        data.load(&kind.topic, messages)?;
        let mut values = Vec::new();
        for _ in 1..=effort.runs {
            values.push(kind.run(data, messages)?);
        }
        show(Figure {
            bench: kind.bench,
            values,
        });
        data.forget(&kind.topic)?;
    }
    Ok(())
}

// === impl Kind ===

impl Kind {
    /// The ideal's time as a part of ours.
    fn run(&self, data: &Data, messages: u64) -> Result<f64> {
        let keys = self.keys_as_read(data)?;
        let wait = (self.alone)()?;
        let bounds = ideal::Bounds {
            at_once: self.at_once,
            held: MAX_QUEUED + self.at_once,
            wait: wait.as_nanos() as u64,
        };
        let ideal = ideal::span(&keys, bounds, messages as usize).ok_or("messages are missing")?;

        // The first message ends the warm-up: it is measured from its end to that of the last.
        let settings = json!({
            "wait_us": WAIT.as_micros() as u64, "warm_up": 1, "measured": messages - 1, "beside_daemon": true,
        });
        let bed = self.bed(data, settings)?;
        let mut running = bed.daemon()?;
        let text = running.await_state("its report", ENDS_WITHIN, || std::fs::read(bed.report()).ok())?;
        let measured: Measured = serde_json::from_slice(&text)?;
        running.stop()?;
        if measured.messages != messages - 1 {
            return Err(format!("it did not see what it should have: {measured:?}").into());
        }
        // All at work all the time, whatever the keys are.
        let busy = messages as f64 * wait.as_secs_f64() / self.at_once as f64;
        eprintln!(
            "bench: {}: {:.2} s, the ideal {:.2} s ({busy:.2} s without keys), a wait of {} ms takes {:.3} ms, {:.1} us \
             CPU a message",
            self.bench.name,
            measured.wall as f64 / 1e9,
            ideal as f64 / 1e9,
            WAIT.as_millis(),
            wait.as_secs_f64() * 1e3,
            measured.cpu as f64 / measured.messages as f64 / 1e3,
        );
        Ok(ideal as f64 / measured.wall as f64)
    }

    fn bed(&self, data: &Data, settings: Value) -> Result<Bed> {
        Bed::make(
            data,
            RouteSpec {
                topic: self.topic.name,
                symbol: self.symbol,
                isolation: "process",
                concurrency: json!({ "order": "key", "lanes": self.lanes, "in_flight": self.at_once }),
                librdkafka: json!({}),
                settings,
            },
        )
    }

    /// The keys of all messages, numbered, in the order in which a client reads them.
    fn keys_as_read(&self, data: &Data) -> Result<Vec<u32>> {
        let count = data.count(&self.topic)? as usize;
        let bed = self.bed(data, json!({}))?;
        let mut numbers: HashMap<(i32, Vec<u8>), u32> = HashMap::new();
        let mut keys = Vec::with_capacity(count);
        Bare::of(&bed.settings())?.batches(|batch| {
            for message in batch.iter() {
                let next = numbers.len() as u32;
                let key = (message.partition(), message.key().unwrap_or_default().to_vec());
                keys.push(*numbers.entry(key).or_insert(next));
            }
            Ok(keys.len() >= count)
        })?;
        Ok(keys)
    }
}

/// How often a wait is measured to know what it takes.
const SAMPLES: usize = 200;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn alone_on_a_thread() -> Result<Duration> {
    let timed = |_| {
        let begin = Instant::now();
        thread::sleep(WAIT);
        begin.elapsed()
    };
    Ok(median((0..SAMPLES).map(timed).collect()))
}

/// The runtime's timer ticks in milliseconds, and a wait that begins when another has just ended takes one more.
fn alone_in_a_future() -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    Ok(median(runtime.block_on(async {
        let mut times = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let begin = Instant::now();
            tokio::time::sleep(WAIT).await;
            times.push(begin.elapsed());
        }
        times
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zipf::Zipf;

    #[test]
    fn the_hottest_key_is_at_work_half_of_the_time() {
        for kind in &KINDS {
            let Keys::Zipf { keys, exponent } = kind.topic.keys else {
                panic!("{:?}", kind.topic);
            };
            let at_work = Zipf::new(keys, exponent).first() * kind.at_once as f64;
            assert!((at_work - 0.5).abs() < 0.01, "{}: {at_work}", kind.bench.name);
        }
    }
}
