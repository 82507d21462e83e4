//! A second consumer of another make joins the group and leaves again while the daemon digests: nothing is lost, nothing
//! is digested twice, order is kept.

use std::collections::HashSet;

use devour_tests::{
    both,
    daemon::SOON,
    judge::judge,
    kafka::{Guest, Kafka},
    ledger::{Lines, Record},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    wait,
};

pub const RUNS: &[Run] = both!(Shared, run);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let mut stage = Stage::new(kafka, "guest", 6)?;
    let count = scale::messages(100_000);
    stage.produce(0..count)?;
    let daemon = stage
        .home
        .start(&stage.settings(stage.route(isolation).work_us(300)))?;
    daemon.await_state(ROUTE, "running")?;
    stage.await_digested(count / 10)?;

    // A load for as long as the guest takes to come and go: the backlog alone may be digested before its first partition.
    let load = stage.load(500)?;
    let guest = Guest::join(
        kafka.bootstrap(),
        (&stage.group, "guest", &stage.topic),
        "cooperative-sticky",
        &[],
    )?;
    stage.admin.await_members(&stage.group, 2, SOON)?;
    wait::until("the guest's first messages", DIGESTING, || {
        (!guest.lines().records.is_empty()).then_some(())
    })?;
    let guests = guest.leave();
    stage.admin.await_members(&stage.group, 1, SOON)?;
    stage.take_load(load)?;
    await_all(&mut stage, &guests)?;

    // And more once it is gone.
    let more = stage.expected.count();
    stage.produce(more..more + count / 10)?;
    await_all(&mut stage, &guests)?;
    daemon.stop()?;
    let lines = Lines::join([stage.ledger.close()?, guests]);
    judge(&stage.expected, &lines).once_in_order()?;
    Ok(())
}

/// Waits until each message was digested by the daemon or by the guest.
fn await_all(stage: &mut Stage<'_>, guests: &Lines) -> Outcome {
    let place = |record: &Record| (record.partition, record.offset);
    let by_guest: HashSet<_> = guests.records.iter().map(place).collect();
    let count = stage.expected.count() as usize;
    stage
        .ledger
        .await_that("all messages", scale::patience(DIGESTING), |lines| {
            let mut all = by_guest.clone();
            all.extend(lines.records.iter().map(place));
            all.len() >= count
        })?;
    Ok(())
}
