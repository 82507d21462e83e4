//! A cluster of three loses a broker under load, and gets it back: one that leads partitions, and the one that
//! coordinates the group. The daemon goes on with the others from its own positions: nothing is lost, digested twice or
//! out of order, commits pass again, and the log is not filled.

use std::time::Duration;

use devour_tests::{
    daemon::SOON,
    kafka::{Kafka, Nodes},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};

pub const RUNS: &[Run] = &[
    Run::Cluster("leader", |kafka, nodes| run(kafka, nodes, Lost::Leader)),
    Run::Cluster("coordinator", |kafka, nodes| run(kafka, nodes, Lost::Coordinator)),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lost {
    /// One that leads a partition and does not coordinate the group.
    Leader,
    Coordinator,
}

const PARTITIONS: i32 = 6;

fn run(kafka: &Kafka, nodes: &mut Nodes, lost: Lost) -> Outcome {
    let mut stage = Stage::new(kafka, "broker-lost", PARTITIONS)?;
    let route = stage
        .route(Isolation::Process)
        .work_us(300)
        .commit_every_ms(200);
    let daemon = stage.home.start(&stage.settings(route))?;
    let load = stage.load(if scale::soak() { 2000 } else { 500 })?;
    for round in 0..if scale::soak() { 10 } else { 1 } {
        let so_far = load.next();
        stage.await_digested(so_far + 500)?;
        await_commit(&stage)?;
        let broker = which(&stage, lost, round)?;
        let committed = stage.admin.committed(&stage.group, &stage.topic, PARTITIONS)?;
        nodes.broker(broker)?.kill()?;

        // Digesting goes on, and so do commits.
        let at_the_loss = load.next();
        stage.await_digested(at_the_loss + 1000)?;
        wait::until_told("commits beyond the loss", scale::patience(SOON), || {
            let now = stage
                .admin
                .committed(&stage.group, &stage.topic, PARTITIONS)
                .map_err(|error| error.to_string())?;
            let beyond = |(partition, offset): (&i32, &i64)| now.get(partition).is_some_and(|now| now > offset);
            if committed.iter().all(beyond) {
                Ok(())
            } else {
                Err(format!("{now:?} after {committed:?}"))
            }
        })?;
        nodes.broker(broker)?.start_again()?;
        nodes.await_whole(kafka)?;
    }
    stage.take_load(load)?;
    stage.await_all()?;
    let log = daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    let told = log.all(|line| matches!(line.level(), "WARN" | "ERROR"));
    assert!(told.len() <= 40, "{} warnings:\n{}", told.len(), log.tail());
    Ok(())
}

fn await_commit(stage: &Stage<'_>) -> Outcome {
    wait::until("a commit for every partition", SOON, || {
        let committed = stage
            .admin
            .committed(&stage.group, &stage.topic, PARTITIONS)
            .ok()?;
        (committed.len() == PARTITIONS as usize).then_some(())
    })?;
    Ok(())
}

fn which(stage: &Stage<'_>, lost: Lost, round: i32) -> Result<i32, libtest_mimic::Failed> {
    let coordinator = stage.admin.coordinator(&stage.group)?;
    if lost == Lost::Coordinator {
        return Ok(coordinator);
    }
    let within = Duration::from_secs(30);
    let leader = wait::until("a leader that is not the coordinator", within, || {
        (0..PARTITIONS)
            .map(|number| (number + round) % PARTITIONS)
            .filter_map(|partition| stage.admin.leader(&stage.topic, partition).ok())
            .find(|&leader| leader > 0 && leader != coordinator)
    })?;
    Ok(leader)
}
