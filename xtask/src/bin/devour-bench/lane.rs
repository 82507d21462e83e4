//! The whole way of a message with one lane, against librdkafka's bare batch loop on the same data: throughput as a
//! ratio, and CPU time a message of all our processes above the bare loop's. Start-up and the first messages do not
//! count: both sides measure between two messages, in a steady state.

use std::time::Duration;

use devour_test_sum::moment::Measured;
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::Data,
    figure::Figure,
};

const PROCESS: (&str, &str) = ("one_lane_100b", "one_lane_100b_overhead_ns");
const THREAD: (&str, &str) = ("one_lane_100b_thread", "one_lane_100b_thread_overhead_ns");

pub(crate) const NAMES: [&str; 4] = [PROCESS.0, PROCESS.1, THREAD.0, THREAD.1];

const AGAINST: Option<&str> = Some("consume_batch");
/// Read before anything is measured; more than a client reads ahead.
const WARM_UP: u64 = 2_000_000;
/// Left to be read when all is measured, so that reading ahead goes on until then.
const REST: u64 = 2_000_000;
/// Enough to find out how fast this machine is.
const FIRST_LOOK: u64 = 6_000_000;
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Bare,
    Daemon { isolation: &'static str },
}

pub(crate) fn measure(data: &Data, effort: Effort, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Figure>> {
    data.load(WARM_UP + FIRST_LOOK + REST)?;
    let look = read(data, Reader::Bare, FIRST_LOOK)?;
    let rate = look.messages as f64 * 1e9 / look.wall as f64;
    let messages = (rate * effort.seconds) as u64;
    data.load(WARM_UP + messages + REST)?;

    let mut kinds = Vec::new();
    for (names, isolation) in [(PROCESS, "process"), (THREAD, "thread")] {
        if wanted(names.0) || wanted(names.1) {
            kinds.push((names, isolation, Vec::new(), Vec::new()));
        }
    }
    for run in 1..=effort.runs {
        eprintln!("bench: run {run} of {}", effort.runs);
        let bare = read(data, Reader::Bare, messages)?;
        for (_, isolation, ratios, overheads) in &mut kinds {
            let ours = read(data, Reader::Daemon { isolation }, messages)?;
            ratios.push(each(bare.wall, bare) / each(ours.wall, ours));
            overheads.push(each(ours.cpu, ours) - each(bare.cpu, bare));
        }
    }
    let mut figures = Vec::new();
    for (names, _, ratios, overheads) in kinds {
        figures.push(Figure {
            bench: names.0,
            unit: "ratio",
            against: AGAINST,
            values: ratios,
        });
        figures.push(Figure {
            bench: names.1,
            unit: "ns",
            against: AGAINST,
            values: overheads,
        });
    }
    Ok(figures)
}

/// Nanoseconds a message.
fn each(nanoseconds: u64, of: Measured) -> f64 {
    nanoseconds as f64 / of.messages as f64
}

fn read(data: &Data, reader: Reader, messages: u64) -> Result<Measured> {
    let (isolation, beside_daemon, name) = match reader {
        Reader::Bare => ("process", false, "bare loop"),
        Reader::Daemon { isolation } => (isolation, isolation == "process", isolation),
    };
    let bed = Bed::make(
        data,
        RouteSpec {
            symbol: "Sum",
            isolation,
            librdkafka: json!({}),
            settings: json!({ "warm_up": WARM_UP, "measured": messages, "beside_daemon": beside_daemon }),
        },
    )?;
    let mut running = if reader == Reader::Bare {
        bed.bare()?
    } else {
        bed.daemon()?
    };
    let text = running.await_state("its report", ENDS_WITHIN, || std::fs::read(bed.report()).ok())?;
    let measured: Measured = serde_json::from_slice(&text)?;
    if reader != Reader::Bare {
        running.stop()?;
    }
    if measured.messages < messages.saturating_sub(10_000) || measured.bytes != measured.messages * 100 {
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
