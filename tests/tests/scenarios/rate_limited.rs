//! `rate_limit` holds for all lanes together: no second has more digests than it says, with one lane and with several, and
//! the route keeps up with it. What fails and is tried again counts too.

use devour_tests::{
    judge::Order,
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("one_lane", |kafka| run(kafka, Isolation::Process, Order::Partition, 1)),
    Run::Shared("four_lanes", |kafka| run(kafka, Isolation::Process, Order::None, 4)),
    Run::Shared("four_lanes_thread", |kafka| {
        run(kafka, Isolation::Thread, Order::Key, 4)
    }),
];

const A_SECOND: u64 = 200;
const NS: u64 = 1_000_000_000;
/// A digest may come that much later than it was handed out, and the one before it at once.
const LATE: u64 = NS / 5;

fn run(kafka: &Kafka, isolation: Isolation, order: Order, lanes: u32) -> Outcome {
    let mut stage = Stage::in_order_of(order, kafka, "limited", 4)?;
    let seconds = if scale::soak() { 60 } else { 4 };
    stage.produce(0..seconds * A_SECOND)?;
    let route = stage
        .route(isolation)
        .lanes(order, lanes)
        .with("rate_limit", json!(format!("{A_SECOND}/s")))
        .faults(json!([{"kind": "retry", "every": 5}]))
        .quick_again();
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;

    let mut attempts: Vec<u64> = stage.ledger.lines()?.records.iter().map(|one| one.at).collect();
    attempts.sort_unstable();
    let windows = attempts.iter().zip(attempts.iter().skip(A_SECOND as usize));
    let shortest = windows.map(|(first, next)| next - first).min().unwrap_or_default();
    assert!(
        shortest >= NS - LATE,
        "{} attempts within {} ms",
        A_SECOND + 1,
        shortest / 1_000_000
    );
    let took = attempts.last().zip(attempts.first()).map_or(0, |(last, first)| last - first);
    let a_second = attempts.len() as u64 * NS / took.max(1);
    eprintln!("{} attempts, {a_second} a second; {A_SECOND} are allowed", attempts.len());
    assert!(
        a_second >= A_SECOND / 2,
        "{a_second} a second, where {A_SECOND} are allowed"
    );
    stage.verdict()?.once_in_order()?;
    Ok(())
}
