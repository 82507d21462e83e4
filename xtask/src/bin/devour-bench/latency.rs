//! How old a message is when it is digested, at 1,000 messages a second: beside a bare poll loop that reads the same
//! topic at the same time, in another group. Less is better; 1 is as good as the loop.

use std::{
    fs,
    time::{Duration, Instant},
};

use devour_test_sum::{
    latency::{seen_beside, stamp},
    moment::now,
};
use devour_tests::{kafka::unique, wait};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, PARTITIONS, produce_one},
    figure::{Asked, Bench, Figure},
};

const P50: Bench = Bench::ratio("latency_p50_ratio", AGAINST, Asked::Nothing);
const P99: Bench = Bench::ratio("latency_p99_ratio", AGAINST, Asked::Nothing);

pub(crate) const BENCHES: [Bench; 2] = [P50, P99];

const AGAINST: &str = "poll";
/// Between two messages.
const BEAT: Duration = Duration::from_millis(1);
/// Messages without a moment, once both have seen some: whatever is only done at the start is over by then.
const WARM_UP: u64 = 2000;
const BYTES: usize = 100;
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Produces one message at each beat.
struct Beats<'a> {
    producer: BaseProducer,
    topic: &'a str,
    next: Instant,
    sent: u64,
}

pub(crate) fn measure(data: &Data, effort: Effort) -> Result<[Figure; 2]> {
    let messages = (effort.seconds / BEAT.as_secs_f64()) as u64;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for run in 1..=effort.runs {
        let (ours, bare) = run_once(data, messages)?;
        let us = |ages: &[u64], part| percentile(ages, part) as f64 / 1e3;
        eprintln!(
            "bench: latency, run {run} of {}: p50 {:.0} us beside {:.0} us, p99 {:.0} us beside {:.0} us",
            effort.runs,
            us(&ours, 0.50),
            us(&bare, 0.50),
            us(&ours, 0.99),
            us(&bare, 0.99),
        );
        p50.push(us(&ours, 0.50) / us(&bare, 0.50));
        p99.push(us(&ours, 0.99) / us(&bare, 0.99));
    }
    let figure = |bench, values| Figure { bench, values };
    Ok([figure(P50, p50), figure(P99, p99)])
}

/// The ages in ascending order: of the daemon's messages, of the loop's.
fn run_once(data: &Data, messages: u64) -> Result<(Vec<u64>, Vec<u64>)> {
    let topic = unique("devour-bench-latency");
    data.admin().create_topic(&topic, PARTITIONS)?;
    let bed = || {
        Bed::make(
            data,
            RouteSpec {
                topic: &topic,
                symbol: "Latency",
                isolation: "process",
                concurrency: json!({}),
                librdkafka: json!({}),
                settings: json!({ "measured": messages }),
            },
        )
    };
    let (ours, bare) = (bed()?, bed()?);
    let (mut daemon, mut poll) = (ours.daemon()?, bare.bare()?);

    let mut beats = Beats {
        producer: data.producer(Duration::ZERO)?,
        topic: &topic,
        next: Instant::now(),
        sent: 0,
    };
    let both_read = || {
        [&ours, &bare]
            .iter()
            .all(|bed| seen_beside(&bed.report()).exists())
    };
    let begin = Instant::now();
    while !both_read() {
        if begin.elapsed() > STARTS_WITHIN {
            return Err("the daemon or the bare loop reads nothing".into());
        }
        beats.produce(100, false)?;
    }
    beats.produce(WARM_UP, false)?;
    beats.produce(messages, true)?;
    beats.producer.flush(ENDS_WITHIN)?;

    let ages = |text: Vec<u8>| -> Result<Vec<u64>> {
        let mut ages: Vec<u64> = serde_json::from_slice(&text)?;
        ages.sort_unstable();
        Ok(ages)
    };
    let text = daemon.await_state("its report", ENDS_WITHIN, || fs::read(ours.report()).ok())?;
    let of_daemon = ages(text)?;
    let text = poll.await_state("its report", ENDS_WITHIN, || fs::read(bare.report()).ok())?;
    let of_poll = ages(text)?;
    daemon.stop()?;
    data.admin().delete_topic(&topic)?;
    Ok((of_daemon, of_poll))
}

/// The least of these ascending values that is not less than such a part of them.
fn percentile(ascending: &[u64], part: f64) -> u64 {
    let rank = (ascending.len() as f64 * part).ceil() as usize;
    ascending[rank.clamp(1, ascending.len()) - 1]
}

// === impl Beats ===

impl Beats<'_> {
    fn produce(&mut self, messages: u64, measured: bool) -> Result<()> {
        let mut payload = [b'x'; BYTES];
        for _ in 0..messages {
            wait::pace(self.next);
            self.next += BEAT;
            stamp(&mut payload, measured.then(now));
            let partition = (self.sent % PARTITIONS.unsigned_abs() as u64) as i32;
            produce_one(
                &self.producer,
                BaseRecord::to(self.topic)
                    .partition(partition)
                    .payload(&payload[..]),
            )?;
            self.producer.poll(Duration::ZERO);
            self.sent += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let ages: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&ages, 0.50), 100);
        assert_eq!(percentile(&ages, 0.99), 198);
        assert_eq!(percentile(&[7], 0.99), 7);
        assert_eq!(percentile(&[7, 9], 0.0), 7);
    }
}
