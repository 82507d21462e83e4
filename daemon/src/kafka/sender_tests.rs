//! The sender against librdkafka's mock cluster: what is sent arrives byte for byte, and each record is told of once.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;
use crate::kafka::embedded::Cluster as Mock;
use crate::kafka::{
    Batch, Consumer, Message, Rebalance, Revocation, Start, StartOffset, Timestamp, TopicPartition,
    consumer_properties, sender_properties,
};
use crate::os::{EventFd, wait_readable};
use crate::settings::{Cluster, ConsumerConfig, ConsumerType};

struct NoGroup;

impl Rebalance for NoGroup {
    fn assigned(&mut self, _: &Consumer, _: Vec<TopicPartition>) -> Vec<Start> {
        Vec::new()
    }
    fn revoked(&mut self, _: &Consumer, _: Vec<TopicPartition>, _: Revocation) {}
}

fn cluster(bootstrap: &str, more: &[(&str, &str)]) -> Cluster {
    Cluster {
        librdkafka: more
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..Cluster::of(&[bootstrap])
    }
}

fn route() -> RouteName {
    RouteName::new("test").unwrap()
}

/// Sleeps on the descriptor until `count` reports have come.
fn reports(sender: &Sender, wake: &EventFd, count: usize) -> Vec<SenderReport> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut reports = Vec::new();
    while reports.len() < count {
        assert!(
            wait_readable(wake.as_fd(), Some(deadline)).unwrap(),
            "{reports:?}"
        );
        wake.drain();
        reports.extend(sender.take());
    }
    reports
}

/// All messages of one partition.
fn read(mock: &Mock, topic: &str, partition: i32, count: usize, mut each: impl FnMut(&Message<'_>)) {
    let cluster = cluster(&mock.bootstrap(), &[]);
    let properties = consumer_properties(
        &cluster,
        ConsumerType::Simple,
        &ConsumerConfig::default(),
        &route(),
        None,
    );
    let consumer = Consumer::create(&properties.unwrap(), route()).unwrap();
    let start = Start {
        partition: TopicPartition::new(topic.into(), partition),
        offset: StartOffset::Beginning,
        leader_epoch: None,
    };
    consumer.assign_all(&[start]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut seen, mut batch) = (0, Batch::default());
    while seen < count {
        assert!(Instant::now() < deadline, "{seen} of {count} came");
        consumer
            .batch(100, Duration::from_millis(100), &mut NoGroup, &mut batch)
            .unwrap();
        batch.iter().for_each(|message| each(&message));
        seen += batch.len();
    }
    batch.clear();
    let _ = consumer.close(Duration::from_secs(5), &mut NoGroup);
}

#[test]
fn records_arrive_as_they_were_and_each_is_told_of_by_its_ticket() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("dead", 3).unwrap();
    let wake = EventFd::new().unwrap();
    // What would weaken it is overruled.
    let cluster = cluster(
        &mock.bootstrap(),
        &[("acks", "1"), ("retries", "0"), ("linger.ms", "1")],
    );
    let properties = sender_properties(&cluster).unwrap();
    let sender = Sender::create(&properties, route(), &wake).unwrap();

    let (empty, null, bytes) = (Some([].as_slice()), None, Some([0xff, 0x00, 0xfe].as_slice()));
    let headers = [
        ("a", bytes),
        ("a", null),
        ("", empty),
        ("b", Some(b"2".as_slice())),
    ];
    let contents = [(null, null), (empty, empty), (bytes, null), (null, bytes)];
    for (n, (key, payload)) in (7..).zip(contents) {
        let record = Record {
            topic: "dead",
            partition: Some(2),
            key,
            payload,
            headers: if n == 7 { &headers } else { &[] },
            timestamp: Some(1000 + n),
        };
        sender.send(&record, Ticket(n as u64)).unwrap();
    }
    let told = reports(&sender, &wake, 4);
    for (offset, ticket) in (7..11).enumerate() {
        let delivered = SenderReport::Delivered {
            ticket: Ticket(ticket),
            partition: 2,
            offset: offset as i64,
        };
        assert!(told.contains(&delivered), "{told:?}");
    }
    let mut expected = contents.iter();
    read(&mock, "dead", 2, 4, |message| {
        let (key, payload) = expected.next().unwrap();
        assert_eq!((message.key(), message.payload()), (*key, *payload));
        assert_eq!(message.timestamp(), Timestamp::Created(1007 + message.offset()));
        let expected: &[_] = if message.offset() == 0 { &headers } else { &[] };
        assert_eq!(message.headers(), expected);
    });
    assert_eq!(sender.fatal_error(), None);
    assert!(sender.close(Instant::now() + Duration::from_secs(10)));
}

/// Sends records without a key, with these wishes, and says where each went.
fn partitions(mock: &Mock, keys: [Option<&[u8]>; 2], wish: Option<i32>) -> Vec<i32> {
    let wake = EventFd::new().unwrap();
    let properties = sender_properties(&cluster(&mock.bootstrap(), &[])).unwrap();
    let sender = Sender::create(&properties, route(), &wake).unwrap();
    for (ticket, key) in (1..).zip(keys) {
        let record = Record {
            topic: "dead",
            partition: wish,
            key,
            payload: Some(b"x"),
            ..Record::default()
        };
        sender.send(&record, Ticket(ticket)).unwrap();
    }
    let mut places: Vec<(u64, i32)> = reports(&sender, &wake, keys.len())
        .iter()
        .map(|report| match report {
            SenderReport::Delivered {
                ticket, partition, ..
            } => (ticket.0, *partition),
            failed => panic!("{failed:?}"),
        })
        .collect();
    places.sort_unstable();
    places.into_iter().map(|(_, partition)| partition).collect()
}

#[test]
fn a_record_goes_to_the_partition_of_its_wish_or_of_its_key() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("dead", 3).unwrap();
    assert_eq!(partitions(&mock, [None, Some(b"k")], Some(2)), [2, 2]);
    assert_eq!(partitions(&mock, [None, Some(b"k")], Some(0)), [0, 0]);
    // Partition 3 is none of the topic's: murmur2, as in Java's client.
    let by_key = partitions(&mock, [Some(b"21"), Some(b"foobar")], Some(3));
    assert_eq!(
        by_key,
        [
            (-973_932_308_i32 & 0x7fff_ffff) % 3,
            (-790_332_482 & 0x7fff_ffff) % 3
        ]
    );
    assert_eq!(by_key, partitions(&mock, [Some(b"21"), Some(b"foobar")], None));
}

#[test]
fn what_a_record_carries_through_librdkafka_comes_back() {
    for ticket in [0, 1, (1 << 40) - 1] {
        for wish in [None, Some(0), Some(1), Some(200_000)] {
            let opaque = Opaque::new(Ticket(ticket), wish);
            assert_eq!((opaque.ticket(), opaque.wish()), (Ticket(ticket), wish));
        }
        assert_eq!(Opaque::new(Ticket(ticket), Some(i32::MAX)).wish(), None);
        assert_eq!(Opaque::new(Ticket(ticket), Some(-1)).wish(), None);
    }
}

#[test]
fn what_is_on_its_way_to_a_broker_that_is_gone_is_given_up_at_the_end() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("dead", 1).unwrap();
    let wake = EventFd::new().unwrap();
    let properties = sender_properties(&cluster(&mock.bootstrap(), &[])).unwrap();
    let sender = Sender::create(&properties, route(), &wake).unwrap();
    let record = Record {
        topic: "dead",
        payload: Some(b"x"),
        ..Record::default()
    };
    sender.send(&record, Ticket(1)).unwrap();
    assert_eq!(reports(&sender, &wake, 1).len(), 1);
    drop(mock);
    sender.send(&record, Ticket(2)).unwrap();
    assert!(sender.close(Instant::now() + Duration::from_secs(10)));
}
