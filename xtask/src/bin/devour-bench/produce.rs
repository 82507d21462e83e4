//! Reading messages and producing each to another topic, beside a bare loop that does the same with librdkafka's own
//! producer, under the same properties. The daemon keeps the two together: an offset waits for its record, or goes into
//! one transaction with it.

use std::time::Duration;

use devour_test_sum::moment::Measured;
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, HUNDRED, PARTITIONS},
    figure::{Asked, Bench, Figure},
};

/// A figure: who does it, and who the other is.
struct Case {
    ratio: Bench,
    overhead: Option<Bench>,
    who: Who,
    against: Who,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Bare,
    Daemon {
        isolation: &'static str,
        delivery: &'static str,
    },
}

const BARE: &str = "consume_produce";
/// What is read is read again in every run, and what is produced is deleted after it.
const TO: &str = "devour-bench-out";

const AT_LEAST_ONCE: Who = Who::Daemon {
    isolation: "process",
    delivery: "at_least_once",
};

const CASES: [Case; 3] = [
    Case {
        ratio: Bench::ratio("produce_at_least_once", BARE, Asked::AtLeast(0.85)),
        overhead: Some(overhead("produce_at_least_once_overhead_ns")),
        who: AT_LEAST_ONCE,
        against: Who::Bare,
    },
    Case {
        ratio: Bench::ratio("produce_at_least_once_thread", BARE, Asked::Nothing),
        overhead: Some(overhead("produce_at_least_once_thread_overhead_ns")),
        who: Who::Daemon {
            isolation: "thread",
            delivery: "at_least_once",
        },
        against: Who::Bare,
    },
    Case {
        ratio: Bench::ratio(
            "produce_exactly_once",
            "produce_at_least_once",
            Asked::AtLeast(0.80),
        ),
        overhead: None,
        who: Who::Daemon {
            isolation: "process",
            delivery: "exactly_once",
        },
        against: AT_LEAST_ONCE,
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
        against: Some(BARE),
        asked: Asked::Nothing,
    }
}

pub(crate) fn benches() -> impl Iterator<Item = Bench> {
    CASES.iter().flat_map(Case::benches)
}

pub(crate) fn measure(
    data: &Data,
    effort: Effort,
    wanted: &dyn Fn(Bench) -> bool,
    show: &dyn Fn(Figure),
) -> Result<()> {
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.benches().any(wanted)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut all: Vec<Who> = Vec::new();
    for who in cases.iter().flat_map(|case| [case.against, case.who]) {
        if !all.contains(&who) {
            all.push(who);
        }
    }
    data.load(&HUNDRED, WARM_UP + FIRST_LOOK + REST)?;
    let look = pass(data, Who::Bare, FIRST_LOOK)?;
    let rate = look.messages as f64 * 1e9 / look.wall as f64;
    let messages = ((rate * effort.seconds) as u64).min(MOST);
    data.load(&HUNDRED, WARM_UP + messages + REST)?;
    let mut values = vec![(Vec::new(), Vec::new()); cases.len()];
    for run in 1..=effort.runs {
        eprintln!("bench: {TO}, run {run} of {}", effort.runs);
        let mut taken = Vec::with_capacity(all.len());
        for &who in &all {
            taken.push((who, pass(data, who, messages)?));
        }
        let of = |wanted: Who| {
            taken
                .iter()
                .find(|(who, _)| *who == wanted)
                .map(|(_, measured)| *measured)
        };
        for (case, (ratios, overheads)) in cases.iter().zip(&mut values) {
            let (Some(theirs), Some(ours)) = (of(case.against), of(case.who)) else {
                continue;
            };
            ratios.push(each(theirs.wall, theirs) / each(ours.wall, ours));
            overheads.push(each(ours.cpu, ours) - each(theirs.cpu, theirs));
        }
    }
    for (case, (ratios, overheads)) in cases.iter().zip(values) {
        for (bench, values) in case.benches().zip([ratios, overheads]) {
            show(Figure { bench, values });
        }
    }
    data.forget(&HUNDRED)
}

/// Nanoseconds a message.
fn each(nanoseconds: u64, of: Measured) -> f64 {
    nanoseconds as f64 / of.messages as f64
}

fn pass(data: &Data, who: Who, messages: u64) -> Result<Measured> {
    let (isolation, delivery, name) = match who {
        Who::Bare => ("process", "at_least_once", "bare loop"),
        Who::Daemon { isolation, delivery } if delivery == "exactly_once" => (isolation, delivery, delivery),
        Who::Daemon { isolation, delivery } => (isolation, delivery, isolation),
    };
    let is_ours = who != Who::Bare;
    let beside_daemon = is_ours && isolation == "process";
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
    bed.change_route(|route| route["delivery"] = json!(delivery))?;
    let mut running = if is_ours { bed.daemon()? } else { bed.bare()? };
    let text = running.await_state("its report", ENDS_WITHIN, || std::fs::read(bed.report()).ok())?;
    let measured: Measured = serde_json::from_slice(&text)?;
    if is_ours {
        running.stop()?;
    } else {
        drop(running);
    }
    data.admin().delete_topic(TO)?;
    if measured.messages < messages.saturating_sub(10_000) {
        return Err(format!("{name}: it did not pass on what it should have: {measured:?}").into());
    }
    eprintln!(
        "bench:   {name:12} {:5.2} s, {:5.2} million messages/s, {:6.1} ns CPU a message",
        measured.wall as f64 / 1e9,
        1e3 / each(measured.wall, measured),
        each(measured.cpu, measured),
    );
    Ok(measured)
}

// === impl Case ===

impl Case {
    fn benches(&self) -> impl Iterator<Item = Bench> {
        std::iter::once(self.ratio).chain(self.overhead)
    }
}
