//! The reader against librdkafka's mock cluster: it ends where the topic ended when it was asked.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::*;
use crate::kafka::embedded::Cluster as Mock;
use crate::kafka::{Record, Sender, Ticket, sender_properties};
use crate::os::{EventFd, wait_readable};

const TOPIC: &str = "letters";
const PARTITIONS: i32 = 2;

/// Adds `count` messages to each partition.
fn write(cluster: &Cluster, route: &RouteName, count: u64) {
    let wake = EventFd::new().unwrap();
    let sender = Sender::create(&sender_properties(cluster).unwrap(), route.clone(), &wake).unwrap();
    for partition in 0..PARTITIONS {
        for ticket in 0..count {
            let record = Record {
                topic: TOPIC,
                partition: Some(partition),
                key: None,
                payload: Some(b"one"),
                headers: &[],
                timestamp: None,
            };
            sender.send(&record, Ticket(ticket)).unwrap();
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut told = 0;
    while told < count * PARTITIONS as u64 {
        assert!(
            wait_readable(wake.as_fd(), Some(deadline)).unwrap(),
            "{told} told"
        );
        wake.drain();
        told += sender.take().len() as u64;
    }
    sender.close(deadline);
}

#[test]
fn what_is_written_after_the_extents_were_asked_for_is_not_read() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic(TOPIC, PARTITIONS).unwrap();
    let cluster = Cluster::of(&[&mock.bootstrap()]);
    let route = RouteName::new("test").unwrap();
    write(&cluster, &route, 5);
    let properties = reader_properties(&cluster, &route, None).unwrap();
    let reader = Reader::create(&properties, route.clone()).unwrap();
    let mut extents = reader.extents(TOPIC, Duration::from_secs(10)).unwrap();
    // One partition is read from its middle, the other only to it.
    extents[0].from = 2;
    extents[1].to = 4;
    write(&cluster, &route, 5);

    let mut read: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let done = reader.read(TOPIC, &extents, |messages| {
        assert!(!messages.is_empty());
        for message in messages {
            read.entry(message.partition())
                .or_default()
                .push(message.offset());
        }
        ControlFlow::Continue(())
    });
    done.unwrap();
    reader.close(Duration::from_secs(5));
    assert_eq!(read, BTreeMap::from([(0, vec![2, 3, 4]), (1, vec![0, 1, 2, 3])]));
}
