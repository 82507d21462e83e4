//! What a hundred routes in one daemon cost while there is nothing to do: CPU time of the daemon and of all plugin
//! processes, as a part of one core, after all have started and digested, and half of them were changed by a reload and
//! have digested again.

use std::{
    fs,
    time::{Duration, Instant},
};

use devour_test_sum::moment;
use devour_tests::{kafka::unique, wait};
use rdkafka::producer::{BaseRecord, Producer};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::{Bed, RouteSpec},
    data::{Data, PARTITIONS, produce_one},
    figure::{Bench, Figure},
    procfs,
};

pub(crate) const BENCH: Bench = Bench::alone("hundred_routes_idle_cpu_percent", "%");

const ROUTES: usize = 100;
/// Each time, for all routes; more than one for each partition.
const MESSAGES: u64 = 1000;
const ALL_DIGEST_WITHIN: Duration = Duration::from_secs(120);
/// After the last digest, before it is measured.
const SETTLES: Duration = Duration::from_secs(10);

pub(crate) fn measure(data: &Data, effort: Effort) -> Result<Figure> {
    let topic = unique("devour-bench-idle");
    data.admin().create_topic(&topic, PARTITIONS)?;
    let names: Vec<String> = (0..ROUTES).map(|n| format!("route-{n}")).collect();
    let route = |name: &String| {
        let spec = RouteSpec {
            topic: &topic,
            symbol: "Slow",
            isolation: "process",
            concurrency: json!({}),
            librdkafka: json!({}),
            settings: json!({ "digest_us": 1 }),
        };
        (name.clone(), spec)
    };
    let bed = Bed::of_routes(data, names.iter().map(route))?;
    // How many of its instances have digested.
    let digested =
        |name: &String| fs::read_to_string(bed.report_of(name)).map_or(0, |text| text.lines().count());

    produce(data, &topic)?;
    let mut running = bed.daemon()?;
    running.await_state("a digest of each route", ALL_DIGEST_WITHIN, || {
        names.iter().all(|name| digested(name) >= 1).then_some(())
    })?;
    let changed = &names[..ROUTES / 2];
    bed.change(|settings| {
        for name in changed {
            settings["consumer_routes"][name]["settings"]["digest_us"] = json!(2);
        }
    })?;
    running.process.signal(Signal::HUP)?;
    let mut next = Instant::now();
    running.await_state("a digest of each changed route", ALL_DIGEST_WITHIN, || {
        // Messages until each has had one: which of them a new instance gets is the reload's matter.
        if Instant::now() >= next {
            produce(data, &topic).ok()?;
            next = Instant::now() + Duration::from_secs(1);
        }
        changed.iter().all(|name| digested(name) >= 2).then_some(())
    })?;

    let daemon = running.process.pid();
    let mut values = Vec::new();
    for run in 1..=effort.runs {
        // Not a wait for a state: so long nothing is to happen.
        wait::pace(Instant::now() + SETTLES);
        let processes: Vec<u32> = procfs::children(daemon)?.into_iter().chain([daemon]).collect();
        if processes.len() != ROUTES + 1 {
            return Err(format!("{} plugin processes instead of {ROUTES}", processes.len() - 1).into());
        }
        let cpu = || {
            processes
                .iter()
                .map(|pid| procfs::cpu(*pid))
                .collect::<Result<Vec<u64>>>()
        };
        let (before, begin) = (cpu()?, moment::now());
        wait::pace(Instant::now() + Duration::from_secs_f64(effort.seconds));
        let (after, end) = (cpu()?, moment::now());
        let percent = |used: u64| used as f64 * 100.0 / (end - begin) as f64;
        let used = |n: usize| after[n].saturating_sub(before[n]);
        let plugins = percent((0..ROUTES).map(used).sum());
        let of_daemon = percent(used(ROUTES));
        eprintln!(
            "bench: idle, run {run} of {}: the daemon {of_daemon:.2} %, its {ROUTES} plugin processes {plugins:.3} %",
            effort.runs
        );
        values.push(of_daemon + plugins);
    }
    running.stop()?;
    data.admin().delete_topic(&topic)?;
    Ok(Figure { bench: BENCH, values })
}

fn produce(data: &Data, topic: &str) -> Result<()> {
    let producer = data.producer(Duration::ZERO)?;
    for n in 0..MESSAGES {
        let partition = (n % u64::from(PARTITIONS.unsigned_abs())) as i32;
        produce_one(
            &producer,
            BaseRecord::to(topic).partition(partition).payload(&b"idle"[..]),
        )?;
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}
