//! How long a route stands still while another instance of its plugin takes over: new settings of the plugin, by `devourd
//! reload --wait`, while there is always something to digest. The pause is the receipt's own: from the last outcome of the
//! old instance to the first call of the new one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, HUNDRED},
    figure::{Asked, Bench, Figure},
};

pub(crate) const BENCH: Bench = Bench {
    name: "swap_pause_ms",
    unit: "ms",
    against: None,
    asked: Asked::AtMost(20.0),
};

/// In each run; its value is their median.
const SWAPS: usize = 10;
const DIGEST_US: usize = 500;
/// Enough that it never runs out of them.
const MESSAGES: u64 = 1_000_000;
const DIGESTS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn measure(data: &Data, effort: Effort) -> Result<Figure> {
    data.load(&HUNDRED, MESSAGES)?;
    let mut values = Vec::new();
    for run in 1..=effort.runs {
        let mut pauses = run_once(data)?;
        pauses.sort_by(f64::total_cmp);
        eprintln!("bench: {} {run} of {}: {pauses:.2?} ms", BENCH.name, effort.runs);
        values.push(pauses[pauses.len() / 2]);
    }
    Ok(Figure { bench: BENCH, values })
}

fn run_once(data: &Data) -> Result<Vec<f64>> {
    let bed = Bed::make(
        data,
        RouteSpec {
            topic: HUNDRED.name,
            symbol: "Slow",
            isolation: "process",
            concurrency: json!({}),
            librdkafka: json!({}),
            settings: json!({ "digest_us": DIGEST_US }),
        },
    )?;
    let mut running = bed.daemon()?;
    let mut instances = 0;
    let mut next = |running: &mut crate::daemon::Running<'_>| {
        instances += 1;
        running.await_state("a first digest", DIGESTS_WITHIN, || {
            let text = std::fs::read_to_string(bed.report()).unwrap_or_default();
            (text.lines().count() >= instances).then_some(())
        })
    };
    next(&mut running)?;
    let mut pauses = Vec::new();
    for swap in 1..=SWAPS {
        bed.change_route(|route| route["settings"]["digest_us"] = json!(DIGEST_US + swap % 2))?;
        let receipt: Value = bed.ask(&["reload", "--wait", "--json"])?;
        let pause = &receipt["routes"][0]["not_digesting_ms"];
        let swapped = receipt["routes"][0]["change"] == "swapped";
        pauses.push(
            pause
                .as_f64()
                .filter(|_| swapped)
                .ok_or_else(|| format!("no swap: {receipt}"))?,
        );
        next(&mut running)?;
    }
    running.stop()?;
    Ok(pauses)
}
