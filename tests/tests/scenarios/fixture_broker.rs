//! The shared Kafka creates and deletes topics, shows a group's members, generations and committed offsets, and the
//! producer knows where each message went.

use std::time::Duration;

use devour_tests::{
    judge::judge,
    kafka::{Guest, Kafka, unique},
    scenario::{Outcome, Run},
    wait,
};

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const PARTITIONS: i32 = 3;

fn run(kafka: &Kafka) -> Outcome {
    let admin = kafka.admin()?;
    let (topic, group) = (unique("fixture"), unique("fixture-group"));
    admin.create_topic(&topic, PARTITIONS)?;
    let expected = kafka.producer()?.numbered(&topic, PARTITIONS, 0..1000, 100)?;
    assert_eq!(expected.count(), 1000);
    assert_eq!(admin.watermarks(&topic, 1)?, (0, 333));
    for (place, n) in expected.places() {
        assert_eq!((place.partition as u64, place.offset as u64), (n % 3, n / 3));
    }
    assert_eq!(admin.group(&group)?, None);

    let join = |name: &str, properties: &[(&str, &str)]| {
        Guest::join(
            kafka.bootstrap(),
            (&group, name, &topic),
            "cooperative-sticky",
            properties,
        )
    };
    let first = join("one", &[("group.instance.id", "one")])?;
    wait::until("1000 messages", Duration::from_secs(30), || {
        (first.lines().records.len() == 1000).then_some(())
    })?;
    let members = admin.await_members(&group, 1, Duration::from_secs(10))?;
    assert_eq!(
        (members[0].client_id.as_str(), members[0].host.as_str()),
        ("one", "/127.0.0.1")
    );

    let history = admin.generations(&group)?;
    let last = history.last().expect("the group has a generation");
    assert_eq!(
        (last.number, last.assignor.as_deref()),
        (1, Some("cooperative-sticky"))
    );
    assert_eq!(last.members[0].id, members[0].id);
    assert_eq!(last.members[0].instance_id.as_deref(), Some("one"));

    // Dynamic: a static member that closes stays in the group, with its partitions, for the session timeout.
    let second = join("two", &[])?;
    assert_eq!(admin.await_members(&group, 2, Duration::from_secs(60))?.len(), 2);
    assert!(
        admin.generations(&group)?.last().expect("generations").number > 1,
        "joining is a new generation"
    );
    second.leave();
    admin.await_members(&group, 1, Duration::from_secs(60))?;
    judge(&expected, &first.leave()).once_in_order()?;
    let committed = admin.committed(&group, &topic, PARTITIONS)?;
    assert_eq!(
        committed.into_iter().collect::<Vec<_>>(),
        [(0, 334), (1, 333), (2, 333)]
    );
    admin.await_committed(&group, &topic, PARTITIONS, 1000, Duration::from_secs(10))?;

    admin.grow_topic(&topic, 5)?;
    admin.delete_topic(&topic)?;
    Ok(())
}
