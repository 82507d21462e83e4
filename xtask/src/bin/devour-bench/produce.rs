//! Reading messages and producing each to another topic, beside a bare loop that does the same with librdkafka's own
//! producer, under the same properties. The daemon keeps the two together: an offset waits for its record.

use std::time::Duration;

use devour_test_sum::moment::Measured;
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, HUNDRED, PARTITIONS},
    figure::{Asked, Bench, Figure},
};

/// A way to do it, and its figures.
struct Case {
    ratio: Bench,
    overhead: Bench,
    isolation: &'static str,
}

/// Who does it.
#[derive(Clone, Copy)]
enum Who<'a> {
    Bare,
    Daemon(&'a Case),
}

const AGAINST: &str = "consume_produce";
/// What is read is read again in every run, and what is produced is deleted after it.
const TO: &str = "devour-bench-out";

const CASES: [Case; 2] = [
    Case {
        ratio: Bench::ratio("produce_at_least_once", AGAINST, Asked::AtLeast(0.85)),
        overhead: overhead("produce_at_least_once_overhead_ns"),
        isolation: "process",
    },
    Case {
        ratio: Bench::ratio("produce_at_least_once_thread", AGAINST, Asked::Nothing),
        overhead: overhead("produce_at_least_once_thread_overhead_ns"),
        isolation: "thread",
    },
];

/// Before the measured ones; more than may wait for the brokers.
const WARM_UP: u64 = 500_000;
/// Left to be read when all is measured.
const REST: u64 = 2_000_000;
const FIRST_LOOK: u64 = 1_000_000;
const MOST: u64 = 20_000_000;
const ENDS_WITHIN: Duration = Duration::from_secs(300);

const fn overhead(name: &'static str) -> Bench {
    Bench {
        name,
        unit: "ns",
        against: Some(AGAINST),
        asked: Asked::Nothing,
    }
}

pub(crate) fn benches() -> impl Iterator<Item = Bench> {
    CASES.iter().flat_map(|case| [case.ratio, case.overhead])
}

pub(crate) fn measure(
    data: &Data,
    effort: Effort,
    wanted: &dyn Fn(Bench) -> bool,
    show: &dyn Fn(Figure),
) -> Result<()> {
    let is_wanted = |case: &&Case| wanted(case.ratio) || wanted(case.overhead);
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if cases.is_empty() {
        return Ok(());
    }
    data.load(&HUNDRED, WARM_UP + FIRST_LOOK + REST)?;
    let look = pass(data, Who::Bare, FIRST_LOOK)?;
    let rate = look.messages as f64 * 1e9 / look.wall as f64;
    let messages = ((rate * effort.seconds) as u64).min(MOST);
    data.load(&HUNDRED, WARM_UP + messages + REST)?;
    let mut values = vec![(Vec::new(), Vec::new()); cases.len()];
    for run in 1..=effort.runs {
        eprintln!("bench: {TO}, run {run} of {}", effort.runs);
        let bare = pass(data, Who::Bare, messages)?;
        for (case, (ratios, overheads)) in cases.iter().zip(&mut values) {
            let ours = pass(data, Who::Daemon(case), messages)?;
            ratios.push(each(bare.wall, bare) / each(ours.wall, ours));
            overheads.push(each(ours.cpu, ours) - each(bare.cpu, bare));
        }
    }
    for (case, (ratios, overheads)) in cases.iter().zip(values) {
        for (bench, values) in [(case.ratio, ratios), (case.overhead, overheads)] {
            show(Figure { bench, values });
        }
    }
    data.forget(&HUNDRED)
}

/// Nanoseconds a message.
fn each(nanoseconds: u64, of: Measured) -> f64 {
    nanoseconds as f64 / of.messages as f64
}

fn pass(data: &Data, who: Who<'_>, messages: u64) -> Result<Measured> {
    let (isolation, name) = match who {
        Who::Bare => ("process", "bare loop"),
        Who::Daemon(case) => (case.isolation, case.isolation),
    };
    let beside_daemon = matches!(who, Who::Daemon(_)) && isolation == "process";
    data.admin().create_topic(TO, PARTITIONS)?;
    let bed = Bed::make(
        data,
        RouteSpec {
            topic: HUNDRED.name,
            symbol: "Pass",
            isolation,
            concurrency: json!({}),
            librdkafka: json!({}),
            settings: json!({
                "warm_up": WARM_UP, "measured": messages, "beside_daemon": beside_daemon, "to": TO,
            }),
        },
    )?;
    let mut running = match who {
        Who::Bare => bed.bare()?,
        Who::Daemon(_) => bed.daemon()?,
    };
    let text = running.await_state("its report", ENDS_WITHIN, || std::fs::read(bed.report()).ok())?;
    let measured: Measured = serde_json::from_slice(&text)?;
    if matches!(who, Who::Daemon(_)) {
        running.stop()?;
    } else {
        drop(running);
    }
    data.admin().delete_topic(TO)?;
    if measured.messages < messages.saturating_sub(10_000) {
        return Err(format!("{name}: it did not pass on what it should have: {measured:?}").into());
    }
    eprintln!(
        "bench:   {name:9} {:5.2} s, {:5.2} million messages/s, {:6.1} ns CPU a message",
        measured.wall as f64 / 1e9,
        1e3 / each(measured.wall, measured),
        each(measured.cpu, measured),
    );
    Ok(measured)
}
