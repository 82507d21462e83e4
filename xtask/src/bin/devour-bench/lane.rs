//! The whole way of a message, against librdkafka's bare batch loop on the same data: throughput as a ratio, and CPU time
//! a message of all our processes above the bare loop's. With one lane, which is fed straight, and with four, which are
//! fed by key. Start-up and the first messages do not count: both sides measure between two messages, in a steady state.

use std::time::Duration;

use devour_test_sum::moment::Measured;
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, HEADER_BYTES, HUNDRED, Keys, Topic},
    figure::{Asked, Bench, Figure},
};

/// What reads one topic.
struct Group {
    topic: Topic,
    symbol: &'static str,
    cases: &'static [Case],
}

/// A way to read it, and its figures.
struct Case {
    ratio: Bench,
    overhead: Bench,
    isolation: &'static str,
    lanes: u32,
}

/// Who reads.
#[derive(Clone, Copy)]
enum Reader<'a> {
    Bare,
    Daemon(&'a Case),
}

const AGAINST: &str = "consume_batch";

const GROUPS: [Group; 4] = [
    Group {
        topic: HUNDRED,
        symbol: "Sum",
        cases: &[
            Case {
                ratio: ratio("one_lane_100b", Asked::AtLeast(0.90)),
                overhead: overhead("one_lane_100b_overhead_ns", Asked::AtMost(100.0)),
                isolation: "process",
                lanes: 1,
            },
            Case {
                ratio: ratio("one_lane_100b_thread", Asked::AtLeast(0.95)),
                overhead: overhead("one_lane_100b_thread_overhead_ns", Asked::AtMost(40.0)),
                isolation: "thread",
                lanes: 1,
            },
        ],
    },
    Group {
        topic: Topic {
            name: "devour-bench-100b-keys",
            bytes: 100,
            keys: Keys::Uniform(10_000),
            headers: false,
        },
        symbol: "Sum",
        cases: &[
            Case {
                ratio: ratio("four_lanes_by_key", Asked::AtLeast(0.80)),
                overhead: overhead("four_lanes_by_key_overhead_ns", Asked::AtMost(250.0)),
                isolation: "process",
                lanes: 4,
            },
            Case {
                ratio: ratio("four_lanes_by_key_thread", Asked::Nothing),
                overhead: overhead("four_lanes_by_key_thread_overhead_ns", Asked::AtMost(150.0)),
                isolation: "thread",
                lanes: 4,
            },
        ],
    },
    Group {
        topic: Topic {
            name: "devour-bench-100b-headers",
            bytes: 100,
            keys: Keys::None,
            headers: true,
        },
        symbol: "SumHeaders",
        cases: &[Case {
            ratio: ratio("one_lane_100b_headers", Asked::Nothing),
            overhead: overhead("one_lane_100b_headers_overhead_ns", Asked::Nothing),
            isolation: "process",
            lanes: 1,
        }],
    },
    Group {
        topic: Topic {
            name: "devour-bench-1kib",
            bytes: 1024,
            keys: Keys::None,
            headers: false,
        },
        symbol: "Sum",
        cases: &[
            Case {
                ratio: ratio("one_lane_1kib", Asked::AtLeast(0.90)),
                overhead: overhead("one_lane_1kib_overhead_ns", Asked::Nothing),
                isolation: "process",
                lanes: 1,
            },
            Case {
                ratio: ratio("one_lane_1kib_thread", Asked::AtLeast(0.95)),
                overhead: overhead("one_lane_1kib_thread_overhead_ns", Asked::Nothing),
                isolation: "thread",
                lanes: 1,
            },
        ],
    },
];

/// Read before anything is measured; more than a client reads ahead. In bytes of values.
const WARM_UP: u64 = 200_000_000;
/// Left to be read when all is measured, so that reading ahead goes on until then.
const REST: u64 = 200_000_000;
/// Enough to find out how fast this machine is.
const FIRST_LOOK: u64 = 600_000_000;
/// No more than that is measured: the log has to stay in memory, or the disk is measured.
const MOST: u64 = 11 << 30;
const ENDS_WITHIN: Duration = Duration::from_secs(300);

const fn ratio(name: &'static str, asked: Asked) -> Bench {
    Bench::ratio(name, AGAINST, asked)
}

const fn overhead(name: &'static str, asked: Asked) -> Bench {
    Bench {
        name,
        unit: "ns",
        against: Some(AGAINST),
        asked,
    }
}

pub(crate) fn benches() -> impl Iterator<Item = Bench> {
    let of_group = |group: &Group| group.cases.iter().flat_map(|case| [case.ratio, case.overhead]);
    GROUPS.iter().flat_map(of_group)
}

pub(crate) fn measure(
    data: &Data,
    effort: Effort,
    wanted: &dyn Fn(Bench) -> bool,
    show: &dyn Fn(Figure),
) -> Result<()> {
    for group in &GROUPS {
        let is_wanted = |case: &&Case| wanted(case.ratio) || wanted(case.overhead);
        let cases: Vec<&Case> = group.cases.iter().filter(is_wanted).collect();
        if !cases.is_empty() {
            group.measure(data, effort, &cases, show)?;
        }
    }
    Ok(())
}

/// Nanoseconds a message.
fn each(nanoseconds: u64, of: Measured) -> f64 {
    nanoseconds as f64 / of.messages as f64
}

// === impl Group ===

impl Group {
    fn measure(&self, data: &Data, effort: Effort, cases: &[&Case], show: &dyn Fn(Figure)) -> Result<()> {
        let around = self.messages(WARM_UP) + self.messages(REST);
        let first_look = self.messages(FIRST_LOOK);
        data.load(&self.topic, around + first_look)?;
        let look = self.read(data, Reader::Bare, first_look)?;
        let rate = look.messages as f64 * 1e9 / look.wall as f64;
        let messages = ((rate * effort.seconds) as u64).min(self.messages(MOST));
        data.load(&self.topic, around + messages)?;

        let mut values = vec![(Vec::new(), Vec::new()); cases.len()];
        for run in 1..=effort.runs {
            eprintln!("bench: {}, run {run} of {}", self.topic.name, effort.runs);
            let bare = self.read(data, Reader::Bare, messages)?;
            for (case, (ratios, overheads)) in cases.iter().zip(&mut values) {
                let ours = self.read(data, Reader::Daemon(case), messages)?;
                ratios.push(each(bare.wall, bare) / each(ours.wall, ours));
                overheads.push(each(ours.cpu, ours) - each(bare.cpu, bare));
            }
        }
        for (case, (ratios, overheads)) in cases.iter().zip(values) {
            for (bench, values) in [(case.ratio, ratios), (case.overhead, overheads)] {
                show(Figure { bench, values });
            }
        }
        data.forget(&self.topic)
    }

    /// How many messages have so many bytes.
    fn messages(&self, bytes: u64) -> u64 {
        bytes / self.topic.bytes as u64
    }

    fn read(&self, data: &Data, reader: Reader<'_>, messages: u64) -> Result<Measured> {
        let (isolation, lanes, name) = match reader {
            Reader::Bare => ("process", 1, "bare loop"),
            Reader::Daemon(case) => (case.isolation, case.lanes, case.isolation),
        };
        let beside_daemon = matches!(reader, Reader::Daemon(_)) && isolation == "process";
        let order = if lanes > 1 { "key" } else { "partition" };
        let warm_up = self.messages(WARM_UP);
        let bed = Bed::make(
            data,
            RouteSpec {
                topic: self.topic.name,
                symbol: self.symbol,
                isolation,
                concurrency: json!({ "order": order, "lanes": lanes }),
                librdkafka: json!({}),
                settings: json!({ "warm_up": warm_up, "measured": messages, "beside_daemon": beside_daemon }),
            },
        )?;
        let mut running = match reader {
            Reader::Bare => bed.bare()?,
            Reader::Daemon(_) => bed.daemon()?,
        };
        let text = running.await_state("its report", ENDS_WITHIN, || std::fs::read(bed.report()).ok())?;
        let measured: Measured = serde_json::from_slice(&text)?;
        if matches!(reader, Reader::Daemon(_)) {
            running.stop()?;
        }
        let header_bytes = if self.topic.headers { HEADER_BYTES } else { 0 };
        let whole = measured.bytes == measured.messages * self.topic.bytes as u64
            && measured.header_bytes == measured.messages * header_bytes;
        if measured.messages < messages.saturating_sub(10_000) || !whole {
            return Err(format!("{name}: it did not see what it should have: {measured:?}").into());
        }
        eprintln!(
            "bench:   {name:9} {:5.2} s, {:5.2} million messages/s, {:6.1} ns CPU a message",
            measured.wall as f64 / 1e9,
            1e3 / each(measured.wall, measured),
            each(measured.cpu, measured),
        );
        Ok(measured)
    }
}
