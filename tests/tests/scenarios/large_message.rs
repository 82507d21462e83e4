//! A message of 5 MB between small ones is digested whole, in its order, in both isolations; also where it is more than a
//! quarter of the route's memory and travels alone.

use devour_test_ledger::checksum;
use devour_tests::{
    daemon::{Route, Settings},
    kafka::{Kafka, Record},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    witness::Statements,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| run(kafka, Isolation::Process, "64MiB")),
    Run::Shared("process_little_memory", |kafka| {
        run(kafka, Isolation::Process, "16MiB")
    }),
    Run::Shared("thread", |kafka| run(kafka, Isolation::Thread, "64MiB")),
    Run::Shared("thread_little_memory", |kafka| {
        run(kafka, Isolation::Thread, "16MiB")
    }),
];

const LARGE: usize = 5_000_000;

fn run(kafka: &Kafka, isolation: Isolation, memory: &str) -> Outcome {
    let stage = Stage::new(kafka, "large", 1)?;
    let payload = |n: u64, size: usize| {
        (0..size as u64)
            .map(|at| (at.wrapping_mul(31) ^ n) as u8)
            .collect::<Vec<_>>()
    };
    let sizes = [10, LARGE, 10, LARGE, LARGE, 1];
    let payloads: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(n, &size)| payload(n as u64, size))
        .collect();
    let records: Vec<_> = payloads
        .iter()
        .map(|payload| Record {
            payload: Some(payload.clone()),
            ..Record::default()
        })
        .collect();
    kafka.producer()?.send(&stage.topic, 0, &records)?;

    let file = stage.home.file("seen");
    let route =
        Route::of("WitnessRaw", isolation, &stage.topic, &stage.group, &file).with("memory", json!(memory));
    let daemon = stage
        .home
        .start(&Settings::of(kafka.bootstrap()).route(ROUTE, route))?;
    let seen = Statements::of(&file, sizes.len(), DIGESTING)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    for (offset, payload) in payloads.iter().enumerate() {
        let value = json!({"length": payload.len(), "checksum": checksum(payload)});
        assert_eq!(seen.all[offset], json!({"offset": offset, "value": value}));
    }
    Ok(())
}
