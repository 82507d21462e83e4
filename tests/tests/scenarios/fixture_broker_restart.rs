//! A broker of our own stops, leaves no process behind, and starts again on the same ports with its data.

use std::path::Path;

use devour_tests::{
    kafka::{BrokerOptions, Kafka, unique},
    scenario::{Outcome, Run},
};

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

fn run() -> Outcome {
    let mut kafka = Kafka::start(BrokerOptions::default())?;
    let bootstrap = kafka.bootstrap().to_owned();
    let topic = unique("restart");
    kafka.admin()?.create_topic(&topic, 2)?;
    let mut expected = kafka.producer()?.numbered(&topic, 2, 0..100, 0)?;

    for stop in ["TERM", "KILL"] {
        let broker = kafka.broker_mut().expect("it is our own");
        let pid = broker.pid().expect("it runs");
        if stop == "TERM" {
            broker.stop()?
        } else {
            broker.kill()?
        };
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{stop}: the broker is gone"
        );
        broker.start_again()?;
        assert_eq!(kafka.bootstrap(), bootstrap);
        let from = expected.count();
        expected.extend(kafka.producer()?.numbered(&topic, 2, from..from + 100, 0)?);
    }
    assert_eq!(expected.count(), 300);
    assert_eq!(kafka.admin()?.watermarks(&topic, 1)?, (0, 150));
    Ok(())
}
