//! A group's committed offsets moved from outside, up and down. While the daemon is stopped: it begins there, so what lies
//! between is passed over, or digested once more. While it runs: a consumer asks for its offsets when it gets a partition
//! and never again, so it goes on from its own position, digests nothing twice, and its next commit stands; with no commit
//! to make before its end, its next start begins where the offsets were moved to.

use devour_tests::{
    daemon::SOON,
    kafka::{Kafka, unique},
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};

pub const RUNS: &[Run] = &[
    Run::Shared("up_while_stopped", |kafka| while_stopped(kafka, 150)),
    Run::Shared("down_while_stopped", |kafka| while_stopped(kafka, 40)),
    Run::Shared("up_while_running", |kafka| while_running(kafka, 150)),
    Run::Shared("down_while_running", |kafka| while_running(kafka, 40)),
];

const PARTITIONS: i32 = 3;
/// In each partition, of which so many are there at first.
const EACH: i64 = 100;

fn while_stopped(kafka: &Kafka, to: i64) -> Outcome {
    let mut stage = digested_and_committed(kafka)?;
    stage.produce(300..600)?;
    move_all(&stage, to)?;
    let daemon = stage.home.start_again()?;
    let (passed, again) = (3 * (to - EACH).max(0), 3 * (EACH - to).max(0));
    stage.expected.retain(|place| {
        let passed_over = (EACH..to).contains(&place.offset);
        !passed_over
    });
    stage.await_all()?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, PARTITIONS, 6 * EACH, SOON)?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    verdict.twice_only("what the offsets went back over", |one| {
        (to..EACH).contains(&one.place.offset)
    })?;
    assert_eq!(verdict.duplicated.len() as i64, again, "{verdict}");
    assert_eq!(verdict.expected as i64, 600 - passed, "{verdict}");
    Ok(())
}

fn while_running(kafka: &Kafka, to: i64) -> Outcome {
    let mut stage = digested_and_committed(kafka)?;
    let other = unique("other");
    stage.admin.create_topic(&other, 1)?;
    let daemon = stage.home.start_again()?;
    stage.produce(300..330)?;
    stage.await_all()?;
    let place = |offset| offset_in_all(offset);
    let committed = |stage: &Stage<'_>, each: i64| {
        stage
            .admin
            .await_committed(&stage.group, &stage.topic, PARTITIONS, 3 * each, SOON)
    };
    committed(&stage, EACH + 10)?;

    // Its position stands, and its next commit too.
    stage
        .admin
        .set_committed_as_member(&stage.group, &other, &stage.topic, &place(to))?;
    committed(&stage, to)?;
    stage.produce(330..360)?;
    stage.await_all()?;
    committed(&stage, EACH + 20)?;

    // With nothing to commit before its end, the next start begins there.
    let end = EACH + 20;
    stage
        .admin
        .set_committed_as_member(&stage.group, &other, &stage.topic, &place(to))?;
    daemon.stop()?;
    committed(&stage, to)?;
    stage.produce(360..900)?;
    let daemon = stage.home.start_again()?;
    stage
        .expected
        .retain(|place| !(end..to).contains(&place.offset));
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let verdict = stage.verdict()?;
    verdict.in_order()?;
    verdict.twice_only("what the offsets went back over", |one| {
        (to..end).contains(&one.place.offset)
    })?;
    assert_eq!(
        verdict.duplicated.len() as i64,
        3 * (end - to).max(0),
        "{verdict}"
    );
    Ok(())
}

/// A stage whose first messages are digested and committed by a daemon that has ended and left the group.
fn digested_and_committed(kafka: &Kafka) -> Result<Stage<'_>, libtest_mimic::Failed> {
    let mut stage = Stage::new(kafka, "moved", PARTITIONS)?;
    stage.produce(0..3 * EACH as u64)?;
    let route = stage
        .route(Isolation::Process)
        .commit_every_ms(200)
        .with("membership", serde_json::json!("dynamic"));
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    Ok(stage)
}

fn move_all(stage: &Stage<'_>, to: i64) -> Outcome {
    stage
        .admin
        .set_committed(&stage.group, &stage.topic, &offset_in_all(to))?;
    Ok(())
}

fn offset_in_all(offset: i64) -> Vec<(i32, i64)> {
    (0..PARTITIONS).map(|partition| (partition, offset)).collect()
}
