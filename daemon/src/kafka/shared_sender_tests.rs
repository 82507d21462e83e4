//! The shared producer against librdkafka's mock cluster: routes share one client and hear of their own records only.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    kafka::{ErrorCode, embedded::Cluster as Mock, output_properties},
    settings::Cluster,
};

fn properties(mock: &Mock) -> ClientProperties {
    let cluster = Cluster {
        librdkafka: [("linger.ms".to_owned(), "1".to_owned())].into(),
        ..Cluster::of(&[&mock.bootstrap()])
    };
    output_properties(&cluster).unwrap()
}

fn share(properties: &ClientProperties) -> SenderShare {
    SenderShare::join(properties, &Arc::new(EventFd::new().unwrap())).unwrap()
}

/// So many reports.
fn reports(share: &SenderShare, count: usize) -> Vec<SenderReport> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut all = Vec::new();
    while all.len() < count {
        assert!(Instant::now() < deadline, "{all:?}");
        wait_readable(share.mailbox.wake.as_fd(), Some(deadline)).unwrap();
        all.extend(share.take());
    }
    all
}

fn record(partition: Option<i32>) -> Record<'static> {
    Record {
        topic: "out",
        partition,
        payload: Some(b"x"),
        ..Record::default()
    }
}

#[test]
fn routes_share_one_client_and_hear_of_their_own_records_only() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("out", 3).unwrap();
    let properties = properties(&mock);
    let (one, two) = (share(&properties), share(&properties));
    assert!(Arc::ptr_eq(&one.shared, &two.shared));
    for ticket in 0..100 {
        one.send(&record(Some(1)), Ticket(ticket)).unwrap();
        two.send(&record(Some(2)), Ticket(2 * ticket)).unwrap();
    }
    for (share, partition, step) in [(&one, 1, 1), (&two, 2, 2)] {
        let told: Vec<u64> = reports(share, 100)
            .into_iter()
            .map(|report| match report {
                SenderReport::Delivered {
                    ticket,
                    partition: at,
                    ..
                } => {
                    assert_eq!(at, partition);
                    ticket.0
                }
                failed => panic!("{failed:?}"),
            })
            .collect();
        let sent: Vec<u64> = (0..100).map(|ticket| step * ticket).collect();
        assert_eq!(told, sent, "in the order in which they were sent");
    }
    assert!(!one.is_waited_for() && !two.is_waited_for());
    // The descriptor says nothing more: a route that sleeps on it sleeps.
    assert!(!wait_readable(one.mailbox.wake.as_fd(), Some(Instant::now())).unwrap());
}

#[test]
fn a_partition_that_is_not_there_is_an_error_and_no_other_is_taken() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("out", 3).unwrap();
    let share = share(&properties(&mock));
    share.send(&record(Some(0)), Ticket(0)).unwrap();
    assert!(matches!(reports(&share, 1)[..], [SenderReport::Delivered { .. }]));
    // Known by now, or soon.
    let code = match share.send(&record(Some(3)), Ticket(1)) {
        Err(error) => error.code(),
        Ok(()) => match reports(&share, 1)[..] {
            [SenderReport::Failed { code, .. }] => Some(code),
            ref other => panic!("{other:?}"),
        },
    };
    assert_eq!(code, Some(ErrorCode::UNKNOWN_PARTITION));
}

#[test]
fn the_client_ends_with_its_last_share_and_the_next_is_another() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("out", 1).unwrap();
    let properties = properties(&mock);
    let (one, two) = (share(&properties), share(&properties));
    let first = Arc::downgrade(&one.shared);
    drop(one);
    two.send(&record(None), Ticket(7)).unwrap();
    assert_eq!(reports(&two, 1).len(), 1);
    drop(two);
    let deadline = Instant::now() + Duration::from_secs(30);
    while first.strong_count() > 0 {
        assert!(Instant::now() < deadline, "its thread does not end");
        std::thread::yield_now();
    }
    let three = share(&properties);
    three.send(&record(None), Ticket(8)).unwrap();
    assert_eq!(reports(&three, 1).len(), 1);
}
