//! How long a route stands still when something is killed.
//!
//! - `plugin_restart_ms`: from the SIGKILL of a plugin's process to the first digest of the new one, while the daemon holds
//!   500 MiB. It comes to hold them by reading ahead: its client may keep that much, and the plugin is slow.
//! - `daemon_restart_static_ms`: from the SIGKILL of the daemon, which is started again as soon as it is gone, to its next
//!   digest. The route is a static member of its group, as routes are by default.

use std::{fs, time::Duration};

use devour_test_sum::FirstDigest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec, Running},
    data::{Data, HUNDRED},
    figure::{Asked, Bench, Figure},
    procfs::resident,
};

const PLUGIN: Bench = of("plugin_restart_ms", 20.0);
const DAEMON: Bench = of("daemon_restart_static_ms", 500.0);

pub(crate) const BENCHES: [Bench; 2] = [PLUGIN, DAEMON];

const BALLAST: u64 = 500 << 20;
/// Messages that are enough for the ballast.
const MESSAGES: u64 = 4_000_000;
const GROWS_WITHIN: Duration = Duration::from_secs(60);
const DIGESTS_WITHIN: Duration = Duration::from_secs(30);

const fn of(name: &'static str, most: f64) -> Bench {
    Bench {
        name,
        unit: "ms",
        against: None,
        asked: Asked::AtMost(most),
    }
}

pub(crate) fn measure(
    data: &Data,
    effort: Effort,
    wanted: &dyn Fn(Bench) -> bool,
    show: &dyn Fn(Figure),
) -> Result<()> {
    if !BENCHES.into_iter().any(wanted) {
        return Ok(());
    }
    data.load(&HUNDRED, MESSAGES)?;
    for (bench, once) in [
        (PLUGIN, plugin as fn(&Data) -> Result<f64>),
        (DAEMON, daemon as fn(&Data) -> Result<f64>),
    ] {
        if !wanted(bench) {
            continue;
        }
        let mut values = Vec::new();
        for run in 1..=effort.runs {
            let ms = once(data)?;
            eprintln!("bench: {} {run} of {}: {ms:.2} ms", bench.name, effort.runs);
            values.push(ms);
        }
        show(Figure { bench, values });
    }
    Ok(())
}

fn plugin(data: &Data) -> Result<f64> {
    let reads_far_ahead =
        json!({ "queued.min.messages": 10_000_000, "queued.max.messages.kbytes": 160 << 10 });
    let bed = bed(data, reads_far_ahead)?;
    let mut running = bed.daemon()?;
    let first = nth_digest(&bed, &mut running, 0)?;
    let daemon = running.process.pid();
    let held = running.await_state("500 MiB", GROWS_WITHIN, || {
        resident(daemon).filter(|bytes| *bytes >= BALLAST)
    })?;
    eprintln!("bench: the daemon is at {} MiB", held >> 20);
    let plugin = i32::try_from(first.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or("the plugin's process has no number")?;
    let killed = FirstDigest::now();
    kill_process(plugin, Signal::KILL)?;
    let next = nth_digest(&bed, &mut running, 1)?;
    running.stop()?;
    Ok(ms_between(killed, next))
}

fn daemon(data: &Data) -> Result<f64> {
    let bed = bed(data, json!({}))?;
    let mut running = bed.daemon()?;
    nth_digest(&bed, &mut running, 0)?;
    let killed = FirstDigest::now();
    running.process.kill()?;
    let mut running = bed.daemon()?;
    let next = nth_digest(&bed, &mut running, 1)?;
    running.stop()?;
    Ok(ms_between(killed, next))
}

fn bed(data: &Data, librdkafka: Value) -> Result<Bed> {
    Bed::make(
        data,
        RouteSpec {
            topic: HUNDRED.name,
            symbol: "Slow",
            isolation: "process",
            concurrency: json!({}),
            librdkafka,
            settings: json!({ "digest_us": 500 }),
        },
    )
}

/// The first digest of the n-th plugin process.
fn nth_digest(bed: &Bed, running: &mut Running<'_>, n: usize) -> Result<FirstDigest> {
    running.await_state("a plugin's first digest", DIGESTS_WITHIN, || {
        digests(bed).into_iter().nth(n)
    })
}

fn ms_between(then: FirstDigest, next: FirstDigest) -> f64 {
    (next.at - then.at) as f64 / 1e6
}

/// The first digest of each plugin process so far.
fn digests(bed: &Bed) -> Vec<FirstDigest> {
    let text = fs::read_to_string(bed.report()).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| serde_json::from_str(line).ok()).collect()
}
