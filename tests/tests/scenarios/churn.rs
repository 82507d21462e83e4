//! Daemons join and leave a group under load, one every half second at random: nothing is lost, order is kept, and twice
//! is only what lies in partitions that a daemon reported as lost. Eager, cooperative and KIP-848; 12 members and 48
//! partitions for a minute in a soak.

use std::time::{Duration, Instant};

use devour_tests::{
    chance::{Chance, seed},
    kafka::Kafka,
    members::{Members, Standing},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("eager", |kafka| run(kafka, Protocol::Eager)),
    Run::Shared("cooperative", |kafka| run(kafka, Protocol::Cooperative)),
    Run::Shared("kip_848", |kafka| run(kafka, Protocol::Kip848)),
];

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Eager,
    Cooperative,
    Kip848,
}

struct Scale {
    members: usize,
    partitions: i32,
    span: Duration,
    per_second: u64,
}

const BEAT: Duration = Duration::from_millis(500);
const SETTLE: Duration = Duration::from_secs(20);

fn run(kafka: &Kafka, protocol: Protocol) -> Outcome {
    let scale = if scale::soak() {
        Scale {
            members: 12,
            partitions: 48,
            span: Duration::from_secs(60),
            per_second: 3000,
        }
    } else {
        Scale {
            members: 4,
            partitions: 12,
            span: Duration::from_secs(6),
            per_second: 1000,
        }
    };
    let mut chance = Chance::new(seed(&format!("churn, {protocol:?}")));
    let mut stage = Stage::new(kafka, "churn", scale.partitions)?;
    // One daemon is slower than the load: there is always something in hand.
    let mut route = stage
        .route(Isolation::Process)
        .work_us(1000)
        .commit_every_ms(1000)
        .with("membership", json!("dynamic"));
    if matches!(protocol, Protocol::Eager) {
        route = route.with("config", json!({"membership_protocol": "range"}));
    }
    let mut settings = stage.settings(route);
    if matches!(protocol, Protocol::Kip848) {
        settings = settings.with("librdkafka", json!({"group.protocol": "consumer"}));
    }
    let mut members = Members::new("churn", scale.members, &settings)?;
    for index in 0..scale.members / 2 {
        members.join(index)?;
    }
    let load = stage.load(scale.per_second)?;
    stage.await_digested(100)?;

    let (begin, mut beat) = (Instant::now(), Instant::now());
    let (mut joined, mut left) = (0, 0);
    while begin.elapsed() < scale.span {
        beat += BEAT;
        wait::pace(beat);
        // Any of those that are not on their way out.
        let mut free = Vec::new();
        for index in 0..members.count() {
            match members.standing(index)? {
                Standing::Leaving => {}
                standing => free.push((index, standing)),
            }
        }
        if free.is_empty() {
            continue;
        }
        match free[chance.below(free.len())] {
            (index, Standing::Away) => {
                members.join(index)?;
                joined += 1;
            }
            (index, _) => {
                members.leave(index)?;
                left += 1;
            }
        }
    }
    stage.take_load(load)?;
    let mut here = 0;
    for index in 0..members.count() {
        here += usize::from(members.standing(index)? == Standing::Here);
    }
    if here == 0 {
        members.await_away(0)?;
        members.join(0)?;
    }
    stage.await_all()?;
    // Who left is not waited for: the others have everything long before a session (45 s) would end.
    members.await_shared_out(scale.partitions as usize, SETTLE)?;
    members.leave_all()?;
    stage.all_is_committed()?;

    let lost = members.lost();
    let verdict = stage.verdict()?;
    eprintln!(
        "churn, {protocol:?}: {joined} joined, {left} left, {} digested, {} twice, {} partitions lost",
        verdict.digested,
        verdict.duplicated.len(),
        lost.as_ref().map_or("many".to_owned(), |lost| lost.len().to_string()),
    );
    verdict.in_order()?;
    verdict.twice_only("what lies in partitions that were reported lost", |one| {
        let partition = (one.place.topic.clone(), one.place.partition);
        lost.as_ref().is_none_or(|lost| lost.contains(&partition))
    })?;
    assert!(joined > 0 && left > 0, "{joined} joined, {left} left");
    Ok(())
}
