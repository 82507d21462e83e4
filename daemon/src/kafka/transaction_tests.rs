//! Transactions against librdkafka's mock cluster: steps are answered, and records told of. (It fences nobody: that is shown
//! on a real Kafka, by the scenarios `exactly_once` and `exactly_once_zombie`.)

#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;

use super::*;
use crate::kafka::embedded::Cluster as Mock;
use crate::kafka::transaction_properties;
use crate::os::{EventFd, wait_readable};
use crate::settings::Cluster;

struct Stage {
    producer: TransactionalProducer,
    wake: EventFd,
}

fn stage(mock: &Mock, id: &str) -> Stage {
    let cluster = Cluster::of(&[&mock.bootstrap()]);
    let properties = transaction_properties(&cluster, id).unwrap();
    let wake = EventFd::new().unwrap();
    let producer =
        TransactionalProducer::create(&properties, RouteName::new("test").unwrap(), &wake).unwrap();
    Stage { producer, wake }
}

impl Stage {
    /// Sleeps on the descriptor until the step is answered.
    fn step(&self) -> Stepped {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let steps = self.producer.take_steps();
            if let Some(step) = steps.into_iter().next() {
                return step;
            }
            assert!(
                wait_readable(self.wake.as_fd(), Some(deadline)).unwrap(),
                "no answer"
            );
            self.wake.drain();
        }
    }

    fn init(&self) {
        self.producer.init();
        let done = Stepped {
            step: Step::Init,
            outcome: Ok(()),
        };
        assert_eq!(self.step(), done);
    }

    fn reports(&self, count: usize) -> Vec<SenderReport> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut reports = Vec::new();
        while reports.len() < count {
            assert!(
                wait_readable(self.wake.as_fd(), Some(deadline)).unwrap(),
                "{reports:?}"
            );
            self.wake.drain();
            reports.extend(self.producer.take_reports());
        }
        reports
    }
}

fn record(partition: Option<i32>) -> Record<'static> {
    Record {
        topic: "out",
        partition,
        key: None,
        payload: Some(b"x"),
        headers: &[],
        timestamp: None,
    }
}

#[test]
fn records_are_told_of_by_their_tickets_whichever_kind_they_are_of() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("out", 4).unwrap();
    let stage = stage(&mock, "kinds");
    stage.init();
    stage.producer.begin().unwrap();
    stage.producer.send(&record(Some(2)), Ticket(7)).unwrap();
    stage.producer.send_wished(&record(Some(3)), Ticket(7)).unwrap();
    stage.producer.send_wished(&record(Some(99)), Ticket(8)).unwrap();
    let mut told: Vec<(Option<u64>, u64, i32)> = stage
        .reports(3)
        .into_iter()
        .map(|report| match report {
            SenderReport::Delivered {
                ticket, partition, ..
            } => (ticket.of_wished().map(|own| own.0), ticket.0, partition),
            SenderReport::Failed { .. } => panic!("{report:?}"),
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told[0], (None, 7, 2));
    assert_eq!((told[1].0, told[1].2), (Some(7), 3));
    assert!(
        told[2].0 == Some(8) && told[2].2 < 4,
        "a wish that cannot be had is passed over"
    );
}

#[test]
fn what_is_aborted_is_over_and_another_can_begin() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("out", 1).unwrap();
    let stage = stage(&mock, "aborts");
    stage.init();
    assert!(stage.producer.begin().is_ok());
    assert!(stage.producer.begin().is_err(), "one at a time");
    stage.producer.send(&record(Some(0)), Ticket(1)).unwrap();
    stage.producer.abort();
    let aborted = stage.step();
    assert_eq!((aborted.step, aborted.outcome), (Step::Abort, Ok(())));
    assert!(stage.producer.begin().is_ok());
}
