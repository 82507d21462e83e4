//! How long a route stands still when its plugin's process dies: from its SIGKILL to the first digest of the new
//! process, while the daemon holds 500 MiB. It comes to hold them by reading ahead: its client may keep that much, and
//! the plugin is slow.

use std::{fs, time::Duration};

use devour_test_sum::FirstDigest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, HUNDRED},
    figure::{Bench, Figure},
};

pub(crate) const BENCH: Bench = Bench::alone("plugin_restart_ms", "ms");

const BALLAST: u64 = 500 << 20;
/// Messages that are enough for the ballast.
const MESSAGES: u64 = 4_000_000;
const GROWS_WITHIN: Duration = Duration::from_secs(60);
const RESTARTS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn measure(data: &Data, effort: Effort) -> Result<Figure> {
    data.load(&HUNDRED, MESSAGES)?;
    let mut values = Vec::new();
    for run in 1..=effort.runs {
        let (ms, held) = restart(data)?;
        eprintln!(
            "bench: {} {run} of {}: {ms:.2} ms, daemon at {} MiB",
            BENCH.name,
            effort.runs,
            held >> 20
        );
        values.push(ms);
    }
    Ok(Figure { bench: BENCH, values })
}

fn restart(data: &Data) -> Result<(f64, u64)> {
    let bed = Bed::make(
        data,
        RouteSpec {
            topic: HUNDRED.name,
            symbol: "Slow",
            isolation: "process",
            concurrency: json!({}),
            librdkafka: json!({ "queued.min.messages": 10_000_000, "queued.max.messages.kbytes": 160 << 10 }),
            settings: json!({ "digest_us": 500 }),
        },
    )?;
    let mut running = bed.daemon()?;
    let first = running.await_state("the first digest", GROWS_WITHIN, || {
        digests(&bed).into_iter().next()
    })?;
    let daemon = running.process.pid();
    let held = running.await_state("500 MiB", GROWS_WITHIN, || {
        resident(daemon).filter(|bytes| *bytes >= BALLAST)
    })?;
    let plugin = i32::try_from(first.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or("the plugin's process has no number")?;
    let killed = FirstDigest::now();
    kill_process(plugin, Signal::KILL)?;
    let next = running.await_state("the next digest", RESTARTS_WITHIN, || {
        digests(&bed).into_iter().nth(1)
    })?;
    running.stop()?;
    Ok(((next.at - killed.at) as f64 / 1e6, held))
}

/// The first digest of each plugin process so far.
fn digests(bed: &Bed) -> Vec<FirstDigest> {
    let text = fs::read_to_string(bed.report()).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}
