//! Three daemons with static membership are restarted one after another under load: each gets back what it had, the
//! group's generation stays, the others see no rebalance, and nothing is lost, digested twice or out of order.

use std::{collections::BTreeSet, time::Duration};

use devour_tests::{
    kafka::Kafka,
    members::{Members, is_rebalance},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const MEMBERS: usize = 3;
const PARTITIONS: usize = 12;
/// Below the session timeout of 45 s: it is the static id that brings the partitions back, not its end.
const SOON: Duration = Duration::from_secs(20);

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "rolling", PARTITIONS as i32)?;
    let settings = stage.settings(stage.route(Isolation::Process).work_us(300).commit_every_ms(500));
    let mut members = Members::new("rolling", MEMBERS, &settings)?;
    for index in 0..MEMBERS {
        members.join(index)?;
    }
    members.await_shared_out(PARTITIONS, SOON)?;
    stage.admin.await_members(&stage.group, MEMBERS, SOON)?;
    let before = stage.admin.generations(&stage.group)?;
    let before = before.last().ok_or("the group has a generation")?;
    let ids: BTreeSet<_> = before
        .members
        .iter()
        .filter_map(|one| one.instance_id.clone())
        .collect();
    assert_eq!(ids.len(), MEMBERS, "each has an id of its own: {before:?}");

    let load = stage.load(1000)?;
    stage.await_digested(500)?;
    for round in 0..if scale::soak() { 10 } else { 1 } {
        for index in 0..MEMBERS {
            restart(&mut members, index).map_err(|why| format!("round {round}, member {index}: {why:?}"))?;
        }
    }
    stage.take_load(load)?;
    stage.await_all()?;
    let after = stage.admin.generations(&stage.group)?;
    let after = after.last().ok_or("the group has a generation")?;
    assert_eq!(after.number, before.number, "{after:?}");
    members.leave_all()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn restart(members: &mut Members, index: usize) -> Outcome {
    let had = members.member(index).owns()?;
    let others: Vec<usize> = (0..members.count()).filter(|other| *other != index).collect();
    let heard: Vec<usize> = others
        .iter()
        .map(|&other| members.member(other).log().len())
        .collect();
    members.leave(index)?;
    members.await_away(index)?;
    members.join(index)?;
    let member = members.member(index);
    wait::until_told("what it had to come back", SOON, || match member.owns() {
        Ok(has) if has == had => Ok(()),
        has => Err(format!("{has:?} of {had:?}")),
    })?;
    for (&other, heard) in others.iter().zip(heard) {
        let lines = members.member(other).log().lines();
        if let Some(line) = lines.iter().skip(heard).find(|line| is_rebalance(line)) {
            return Err(format!("member {other} saw a rebalance: {}", line.raw).into());
        }
    }
    Ok(())
}
