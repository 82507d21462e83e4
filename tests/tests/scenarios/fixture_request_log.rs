//! A broker of our own tells which offsets a client fetched, and in which order.

use std::time::Duration;

use devour_tests::{
    kafka::{BrokerOptions, Kafka, unique},
    scenario::{Outcome, Run},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

fn run() -> Outcome {
    let kafka = Kafka::start(BrokerOptions {
        request_log: true,
        ..BrokerOptions::default()
    })?;
    let topic = unique("requests");
    kafka.admin()?.create_topic(&topic, 1)?;
    kafka.producer()?.numbered(&topic, 1, 0..100, 0)?;
    for from in [0, 40] {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("client.id", "watched")
            .set("group.id", "none")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&topic, 0, Offset::Offset(from))?;
        consumer.assign(&partitions)?;
        for _ in from..100 {
            consumer
                .poll(Duration::from_secs(30))
                .ok_or("a message should come")??;
        }
    }
    let broker = kafka.broker().expect("it is our own");
    let offsets: Vec<_> = broker
        .fetches("watched")?
        .into_iter()
        .map(|fetch| fetch.offset)
        .collect();
    assert_eq!(offsets.first(), Some(&0), "{offsets:?}");
    assert!(offsets.contains(&40), "{offsets:?}");
    assert!(broker.fetches("nobody")?.is_empty());
    Ok(())
}
