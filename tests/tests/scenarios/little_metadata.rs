//! A broker that has less room beside an offset than Kafka's default gets the offsets alone, after one warning: they are
//! committed to the end, and what was found finished beyond them is still passed over.

use devour_tests::{
    kafka::{BrokerOptions, Kafka},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
};
use devourd::worker::completed::{Completed, encode};

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

const MESSAGES: u64 = 500;

fn run() -> Outcome {
    let mut kafka = Kafka::start(BrokerOptions::default())?;
    let (topic, group, beyond);
    {
        let mut stage = Stage::new(&kafka, "little", 1)?;
        stage.produce(0..MESSAGES)?;
        let finished: Completed = (100..490).step_by(10).map(|offset| offset..offset + 3).collect();
        let (text, fits) = encode(0, &finished);
        assert!(fits && text.len() > 16, "{text}");
        stage.admin.commit(&stage.group, (&stage.topic, 0), 0, &text)?;
        (topic, group, beyond) = (stage.topic.clone(), stage.group.clone(), finished);
    }
    let broker = kafka.broker_mut().ok_or("the broker is our own")?;
    broker.stop()?;
    broker.configure("offset.metadata.max.bytes=16")?;
    broker.start_again()?;

    let mut stage = Stage::without_topic(&kafka, "little", topic, 1)?;
    stage.group = group;
    for offset in 0..MESSAGES as i64 {
        if !beyond.runs().iter().any(|run| run.contains(&offset)) {
            stage.expected.add(&stage.topic, 0, offset, offset as u64);
        }
    }
    let route = stage
        .route(Isolation::Process)
        .work_us(2_000)
        .commit_every_ms(100);
    let daemon = stage.home.start(&stage.settings(route))?;
    let refused =
        |line: &devour_tests::daemon::Line| line.says("the broker refuses the list of what is finished");
    let warned = daemon.wait_for("the warning", DIGESTING, refused)?;
    assert_eq!(warned.level(), "WARN");
    stage.await_all()?;
    stage
        .admin
        .await_committed(&stage.group, &stage.topic, 1, MESSAGES as i64, DIGESTING)?;
    let log = daemon.stop()?;
    assert_eq!(log.all(refused).len(), 1, "it is said once");
    let failed = log.all(|line| line.says("commits fail"));
    assert!(failed.is_empty(), "{failed:?}");
    stage.verdict()?.once_in_order()?;
    Ok(())
}
