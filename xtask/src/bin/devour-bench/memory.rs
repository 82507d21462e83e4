//! What the daemon and its routes hold when nothing is to be done, 10 s after a million messages of 100 bytes each:
//! proportional set size, so that what processes share counts once.
//!
//! - `rss_daemon_mib`: the daemon's own process, with one route whose plugin has a process.
//! - `rss_process_route_mib`, `rss_thread_route_mib`: what one route more adds, in the daemon and in its plugin's process
//!   together: a daemon with such routes beside the first, less a daemon without them, a route.

use std::time::{Duration, Instant};

use devour_tests::wait;
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, Keys, Topic},
    figure::{Asked, Bench, Figure},
    procfs,
};

const DAEMON: Bench = of("rss_daemon_mib", 15.0);
const PROCESS_ROUTE: Bench = of("rss_process_route_mib", 6.0);
const THREAD_ROUTE: Bench = of("rss_thread_route_mib", 3.0);

pub(crate) const BENCHES: [Bench; 3] = [DAEMON, PROCESS_ROUTE, THREAD_ROUTE];

/// Exactly a million, so that all were digested when the last is.
const MILLION: Topic = Topic {
    name: "devour-bench-million",
    bytes: 100,
    keys: Keys::None,
    headers: false,
};
const MESSAGES: u64 = 1_000_000;
/// Messages that an instance counts before it tells; a part of all, so that the last is told.
const STEP: u64 = 1000;
const FIRST: &str = "first";
/// Routes that are added to the first.
const MORE: usize = 4;
const DIGESTED_WITHIN: Duration = Duration::from_secs(60);
/// Without a message, before it is measured.
const IDLE: Duration = Duration::from_secs(10);

/// Bytes.
#[derive(Clone, Copy)]
struct Held {
    daemon: u64,
    plugins: u64,
}

const fn of(name: &'static str, most: f64) -> Bench {
    Bench {
        name,
        unit: "MiB",
        against: None,
        asked: Asked::AtMost(most),
    }
}

pub(crate) fn measure(data: &Data, effort: Effort, wanted: &dyn Fn(Bench) -> bool) -> Result<Vec<Figure>> {
    data.load(&MILLION, MESSAGES)?;
    if data.count(&MILLION)? != MESSAGES {
        return Err(format!("{} does not hold a million messages: delete it", MILLION.name).into());
    }
    let mut figures: Vec<Figure> = BENCHES
        .into_iter()
        .filter(|bench| wanted(*bench))
        .map(|bench| Figure {
            bench,
            values: Vec::new(),
        })
        .collect();
    for run in 1..=effort.runs {
        let alone = idle(data, 0, "process")?;
        eprintln!(
            "bench: memory, run {run} of {}: daemon {:.2} MiB, its one plugin {:.2} MiB",
            effort.runs,
            mib(alone.daemon),
            mib(alone.plugins),
        );
        for figure in &mut figures {
            let value = match figure.bench.name {
                name if name == DAEMON.name => mib(alone.daemon),
                name => {
                    let isolation = if name == THREAD_ROUTE.name {
                        "thread"
                    } else {
                        "process"
                    };
                    let with = idle(data, MORE, isolation)?;
                    let more = |held: u64, alone: u64| mib(held.saturating_sub(alone)) / MORE as f64;
                    let in_daemon = more(with.daemon, alone.daemon);
                    let in_plugins = more(with.plugins, alone.plugins);
                    eprintln!(
                        "bench:   a {isolation} route: {in_daemon:.2} MiB in the daemon, {in_plugins:.2} MiB in its plugin's \
                         process"
                    );
                    in_daemon + in_plugins
                }
            };
            figure.values.push(value);
        }
    }
    data.forget(&MILLION)?;
    Ok(figures)
}

/// What a daemon with one route and so many more holds when all of them have been idle.
fn idle(data: &Data, more: usize, isolation: &'static str) -> Result<Held> {
    // All instances in one process count together.
    let together = if isolation == "thread" { more.max(1) } else { 1 };
    let route = |isolation, of: usize| RouteSpec {
        topic: MILLION.name,
        symbol: "Sum",
        isolation,
        concurrency: json!({}),
        librdkafka: json!({}),
        settings: json!({
            "warm_up": STEP, "measured": of as u64 * MESSAGES - STEP, "step": STEP, "beside_daemon": false,
        }),
    };
    let names: Vec<String> = (0..more).map(|n| format!("more-{n}")).collect();
    let others = names
        .iter()
        .map(|name| (name.clone(), route(isolation, together)));
    let first = (FIRST.to_owned(), route("process", 1));
    let bed = Bed::of_routes(data, std::iter::once(first).chain(others))?;
    let mut running = bed.daemon()?;
    let reported = |name: &str| bed.report_of(name).exists();
    running.await_state("the last message", DIGESTED_WITHIN, || {
        let written = names.iter().filter(|name| reported(name)).count();
        (reported(FIRST) && written * together >= names.len()).then_some(())
    })?;
    // Not a wait for a state: being idle for so long is what is measured.
    wait::pace(Instant::now() + IDLE);
    let daemon = running.process.pid();
    let held = Held {
        daemon: procfs::proportional(daemon)?,
        plugins: procfs::children(daemon)?
            .into_iter()
            .map(procfs::proportional)
            .sum::<Result<u64>>()?,
    };
    running.stop()?;
    Ok(held)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
