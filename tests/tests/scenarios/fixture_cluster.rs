//! The cluster of three keeps what was acknowledged when it loses a broker, moves leaders and coordinators, and is whole
//! again when the broker is back.

use std::time::Duration;

use devour_tests::{
    kafka::{Kafka, Nodes, unique},
    scenario::{Outcome, Run},
    wait,
};

pub const RUNS: &[Run] = &[Run::Cluster("", run)];

fn run(kafka: &Kafka, nodes: &mut Nodes) -> Outcome {
    let admin = kafka.admin()?;
    let (topic, group) = (unique("cluster"), unique("cluster-group"));
    admin.create_topic(&topic, 3)?;
    let mut expected = kafka.producer()?.numbered(&topic, 3, 0..300, 0)?;
    admin.set_committed(&group, &topic, &[(0, 7)])?;

    let lost = admin.coordinator(&group)?;
    nodes.broker(lost)?.kill()?;
    let elsewhere = |what: &str, place: &dyn Fn() -> Option<i32>| {
        wait::until(what, Duration::from_secs(30), || {
            place().filter(|&id| id > 0 && id != lost)
        })
    };
    elsewhere("another coordinator", &|| admin.coordinator(&group).ok())?;
    for partition in 0..3 {
        elsewhere("another leader", &|| admin.leader(&topic, partition).ok())?;
    }
    assert_eq!(
        admin.committed(&group, &topic, 3)?.into_iter().collect::<Vec<_>>(),
        [(0, 7)]
    );
    expected.extend(kafka.producer()?.numbered(&topic, 3, 300..600, 0)?);
    assert_eq!(expected.count(), 600);

    nodes.broker(lost)?.start_again()?;
    nodes.await_whole(kafka)?;
    for partition in 0..3 {
        assert_eq!(admin.watermarks(&topic, partition)?, (0, 200));
    }
    Ok(())
}
