//! The consumer against librdkafka's mock cluster: batches, commits, rebalances, the end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::embedded::Cluster as Mock;
use super::*;
use crate::settings::{Cluster, ConsumerConfig, ConsumerType, RouteName};

/// What the handler saw.
#[derive(Default)]
struct Seen {
    assigned: Vec<(Arc<str>, i32)>,
    revoked: Vec<(usize, Revocation)>,
    start: Option<StartOffset>,
    commit_on_revoke: Vec<CommitOffset>,
    panic: Option<&'static str>,
    slow: Duration,
}

use std::sync::Arc;

impl Rebalance for Seen {
    fn assigned(&mut self, _: &Consumer, partitions: Vec<TopicPartition>) -> Vec<Start> {
        if let Some(text) = self.panic {
            panic!("{text}");
        }
        self.assigned
            .extend(partitions.iter().map(|p| (p.topic.clone(), p.partition)));
        let start = self.start;
        let starts = partitions.into_iter().filter_map(|partition| {
            start.map(|offset| Start {
                partition,
                offset,
                leader_epoch: None,
            })
        });
        starts.collect()
    }

    fn revoked(&mut self, consumer: &Consumer, partitions: Vec<TopicPartition>, why: Revocation) {
        self.revoked.push((partitions.len(), why));
        std::thread::sleep(self.slow);
        if !self.commit_on_revoke.is_empty() && why == Revocation::Ordered {
            let ticket = consumer.commit(&self.commit_on_revoke).unwrap();
            let result = consumer
                .wait_commit(ticket, Instant::now() + Duration::from_secs(5))
                .unwrap();
            assert_eq!(result.advice(), CommitAdvice::Done, "{result:?}");
        }
    }
}

fn properties(
    bootstrap: &str,
    kind: ConsumerType,
    group: Option<&str>,
    more: &[(&str, &str)],
) -> ClientProperties {
    properties_of(bootstrap, kind, group, more, None)
}

fn properties_of(
    bootstrap: &str,
    kind: ConsumerType,
    group: Option<&str>,
    more: &[(&str, &str)],
    membership: Option<String>,
) -> ClientProperties {
    let cluster = Cluster {
        librdkafka: more
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..Cluster::of(&[bootstrap])
    };
    let config = ConsumerConfig {
        consumer_group: group.map(Into::into),
        ..Default::default()
    };
    consumer_properties(
        &cluster,
        kind,
        &config,
        &RouteName::new("test").unwrap(),
        membership,
    )
    .unwrap()
}

#[test]
fn a_client_that_cannot_be_made_is_an_error_and_nothing_else() {
    // librdkafka finds it only when it has taken its configuration over.
    let missing = [("security.protocol", "ssl"), ("ssl.ca.location", "/nonexistent")];
    let properties = properties("127.0.0.1:1", ConsumerType::Balanced, Some("g"), &missing);
    for _ in 0..3 {
        let made = Consumer::create(&properties, RouteName::new("test").unwrap());
        let refused = made.err().unwrap();
        assert!(matches!(refused, ClientError::Create(_)), "{refused}");
    }
}

fn consumer(mock: &Mock, group: &str) -> Consumer {
    // A mock group waits for the session timeout, less a second, before each further rebalance.
    let quick = [
        ("session.timeout.ms", "2500"),
        ("heartbeat.interval.ms", "300"),
        ("max.poll.interval.ms", "60000"),
    ];
    let properties = properties(&mock.bootstrap(), ConsumerType::Balanced, Some(group), &quick);
    Consumer::create(&properties, RouteName::new("test").unwrap()).unwrap()
}

fn produce(mock: &Mock, topic: &str, partition: i32, range: std::ops::Range<u64>) {
    let cluster = properties(&mock.bootstrap(), ConsumerType::Simple, None, &[]);
    let producer = Producer::create(&cluster).unwrap();
    for n in range {
        let payload = n.to_string();
        let record = Record {
            topic,
            partition: Some(partition),
            payload: Some(payload.as_bytes()),
            headers: &[("n", Some(b"1")), ("null", None)],
            timestamp: Some(1234),
            ..Record::default()
        };
        producer.send(&record, Duration::from_secs(10)).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    assert_eq!(producer.failed(), 0);
}

/// Polls until `enough` says so, and fails after ten seconds.
fn poll(consumer: &Consumer, seen: &mut Seen, mut each: impl FnMut(&Batch, &mut Seen) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    let mut batch = Batch::default();
    while Instant::now() < end {
        consumer
            .batch(1000, Duration::from_millis(50), seen, &mut batch)
            .unwrap();
        if each(&batch, seen) {
            return;
        }
    }
    panic!("it did not come within twenty seconds");
}

fn one(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: topic.into(),
        partition,
    }
}

fn commit(topic: &str, offset: i64, metadata: &str) -> CommitOffset {
    CommitOffset {
        partition: one(topic, 0),
        offset,
        leader_epoch: None,
        metadata: metadata.into(),
    }
}

#[test]
fn messages_come_in_order_with_all_their_parts() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    produce(&mock, "t", 0, 0..500);
    let (consumer, mut seen, mut next) = (consumer(&mock, "parts"), Seen::default(), 0);
    consumer.subscribe(&["t".into()]).unwrap();
    poll(&consumer, &mut seen, |batch, _| {
        for message in batch.iter() {
            assert_eq!(message.offset(), next);
            assert_eq!(message.payload().unwrap(), next.to_string().as_bytes());
            assert_eq!(message.key(), None);
            assert_eq!(message.timestamp(), Timestamp::Created(1234));
            assert_eq!(message.headers(), [("n", Some(b"1".as_slice())), ("null", None)]);
            assert_eq!(&*consumer.topic_name(&message), "t");
            next += 1;
        }
        next == 500
    });
    assert_eq!(seen.assigned, [("t".into(), 0)]);
    assert_eq!(
        consumer.watermarks(&one("t", 0)),
        Some(Watermarks { low: 0, high: 500 })
    );
    assert_eq!(consumer.connectivity(), Connectivity::Up);
    let member = consumer.group_member().unwrap();
    assert_eq!(member.group, "parts");
    assert!(member.generation > 0 && Some(member.member) == consumer.member_id());
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
    assert_eq!(seen.revoked, [(1, Revocation::Ordered)]);
}

#[test]
fn a_report_says_how_far_each_partition_is_fetched() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    produce(&mock, "t", 0, 0..100);
    let (consumer, mut seen) = (consumer(&mock, "report"), Seen::default());
    consumer.subscribe(&["t".into()]).unwrap();
    let mut read = 0;
    let mut reports: Vec<Statistics> = Vec::new();
    poll(&consumer, &mut seen, |batch, _| {
        read += batch.len();
        let report = consumer.take_statistics();
        reports.extend(report.filter(|report| report.partitions.iter().any(|at| at.active)));
        read == 100 && reports.len() >= 2
    });
    let at = |report: &Statistics| report.partitions[0].clone();
    let (first, last) = (at(&reports[0]), at(reports.last().unwrap()));
    assert_eq!(last.partition, one("t", 0));
    assert_eq!(
        (last.next_offset, last.app_offset, last.ls_offset, last.hi_offset),
        (Some(100), Some(100), Some(100), Some(100))
    );
    assert_eq!(
        (last.consumer_lag, last.fetchq_cnt),
        (None, 0),
        "nothing is committed"
    );
    assert!(last.reachable && last.broker >= 0, "{last:?}");
    assert!(last.fetches > first.fetches + 1, "{first:?} {last:?}");
    assert_eq!(
        reports[0].changes,
        reports.last().unwrap().changes,
        "nothing was changed since"
    );
    // What was reported before a change is not told after it.
    consumer.pause(&[one("t", 0)]).unwrap();
    assert_eq!(consumer.take_statistics(), None);
    consumer.resume(&[one("t", 0)]).unwrap();
    let mut report = None;
    poll(&consumer, &mut seen, |_, _| {
        report = consumer.take_statistics();
        report.is_some()
    });
    assert!(report.unwrap().changes > reports[0].changes);
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn what_the_revoke_commits_is_where_the_next_one_starts() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    produce(&mock, "t", 0, 0..100);
    let (first, mut seen) = (consumer(&mock, "resume"), Seen::default());
    seen.commit_on_revoke = vec![commit("t", 40, "aGVsbG8=")];
    first.subscribe(&["t".into()]).unwrap();
    poll(&first, &mut seen, |batch, _| !batch.is_empty());
    assert_eq!(
        first.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );

    let (second, mut seen) = (consumer(&mock, "resume"), Seen::default());
    let committed = second.committed(&[one("t", 0)], Duration::from_secs(10)).unwrap();
    assert_eq!(
        (committed[0].offset, &*committed[0].metadata),
        (Some(40), b"aGVsbG8=".as_slice())
    );
    second.subscribe(&["t".into()]).unwrap();
    let mut first_offset = None;
    poll(&second, &mut seen, |batch, _| {
        first_offset = batch.get(0).map(|message| message.offset());
        first_offset.is_some()
    });
    assert_eq!(first_offset, Some(40));
    // the same offset with other metadata is written too, and a lower offset as well
    for commit in [commit("t", 40, "more"), commit("t", 7, "less")] {
        let ticket = second.commit(std::slice::from_ref(&commit)).unwrap();
        let result = second
            .wait_commit(ticket, Instant::now() + Duration::from_secs(5))
            .unwrap();
        assert_eq!(result.partitions[0].offset, commit.offset);
        let committed = second.committed(&[one("t", 0)], Duration::from_secs(10)).unwrap();
        assert_eq!(committed[0].offset, Some(commit.offset));
        assert_eq!(committed[0].metadata, commit.metadata.as_bytes());
    }
    assert_eq!(
        second.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn the_handler_says_where_to_start() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    produce(&mock, "t", 0, 0..100);
    let (consumer, mut seen) = (consumer(&mock, "start"), Seen::default());
    seen.start = Some(StartOffset::At(90));
    consumer.subscribe(&["t".into()]).unwrap();
    let mut offsets = Vec::new();
    poll(&consumer, &mut seen, |batch, _| {
        offsets.extend(batch.iter().map(|message| message.offset()));
        offsets.len() >= 10
    });
    assert_eq!(offsets, (90..100).collect::<Vec<_>>());
    let back = Start {
        partition: one("t", 0),
        offset: StartOffset::At(5),
        leader_epoch: None,
    };
    consumer.seek(&[back], Duration::from_secs(5)).unwrap();
    offsets.clear();
    poll(&consumer, &mut seen, |batch, _| {
        offsets.extend(batch.iter().map(|message| message.offset()));
        offsets.len() >= 95
    });
    assert_eq!(offsets, (5..100).collect::<Vec<_>>());
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn a_second_member_takes_its_share_and_gives_it_back() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 4).unwrap();
    let (first, mut seen) = (consumer(&mock, "share"), Seen::default());
    first.subscribe(&["t".into()]).unwrap();
    poll(&first, &mut seen, |_, seen| seen.assigned.len() == 4);
    let (second, mut others) = (consumer(&mock, "share"), Seen::default());
    second.subscribe(&["t".into()]).unwrap();
    let mut batch = Batch::default();
    poll(&first, &mut seen, |_, _| {
        second.batch(10, Duration::ZERO, &mut others, &mut batch).unwrap();
        others.assigned.len() == 2
    });
    assert_eq!(seen.revoked, [(2, Revocation::Ordered)]);
    assert_eq!((first.assignment().len(), second.assignment().len()), (2, 2));
    assert_eq!(
        second.close(Duration::from_secs(5), &mut others),
        CloseOutcome::Closed
    );
    poll(&first, &mut seen, |_, _| first.assignment().len() == 4);
    assert_eq!(
        first.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn a_paused_partition_is_silent_and_loses_nothing() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 2).unwrap();
    let properties = properties(&mock.bootstrap(), ConsumerType::Simple, None, &[]);
    let consumer = Consumer::create(&properties, RouteName::new("test").unwrap()).unwrap();
    let mut seen = Seen::default();
    let topics = consumer
        .topics(&["t".into(), "absent".into()], Duration::from_secs(10))
        .unwrap();
    assert_eq!(topics[0].partitions, [0, 1]);
    let start = |partition| Start {
        partition: one("t", partition),
        offset: StartOffset::Beginning,
        leader_epoch: None,
    };
    consumer.assign_all(&[start(0)]).unwrap();
    consumer.assign_more(&[start(1)]).unwrap();
    consumer.pause(&[one("t", 0)]).unwrap();
    produce(&mock, "t", 0, 0..10);
    produce(&mock, "t", 1, 0..10);
    let mut counts = [0, 0];
    poll(&consumer, &mut seen, |batch, _| {
        batch
            .iter()
            .for_each(|message| counts[message.partition() as usize] += 1);
        counts[1] == 10
    });
    assert_eq!(counts, [0, 10]);
    consumer.resume(&[one("t", 0)]).unwrap();
    poll(&consumer, &mut seen, |batch, _| {
        batch
            .iter()
            .for_each(|message| counts[message.partition() as usize] += 1);
        counts[0] == 10
    });
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
    assert_eq!(seen.revoked, [(2, Revocation::Ordered)]);
}

#[test]
fn a_pattern_reads_no_topic_of_kafkas_own() {
    let mock = Mock::new(1).unwrap();
    for topic in ["orders.a", "orders.b", "__internal", "other"] {
        mock.make_topic(topic, 1).unwrap();
    }
    let (consumer, mut seen) = (consumer(&mock, "pattern"), Seen::default());
    consumer.subscribe(&["^(orders|__).*".into()]).unwrap();
    poll(&consumer, &mut seen, |_, seen| seen.assigned.len() == 2);
    let mut topics: Vec<_> = seen.assigned.iter().map(|(topic, _)| topic.to_string()).collect();
    topics.sort();
    assert_eq!(topics, ["orders.a", "orders.b"]);
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn a_panic_of_the_handler_ends_the_client_and_not_the_program() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    let (consumer, mut seen) = (consumer(&mock, "panic"), Seen::default());
    seen.panic = Some("boom");
    consumer.subscribe(&["t".into()]).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let mut batch = Batch::default();
    let error = loop {
        assert!(Instant::now() < end, "no error within twenty seconds");
        if let Err(error) = consumer.batch(10, Duration::from_millis(50), &mut seen, &mut batch) {
            break error;
        }
    };
    assert!(error.is_fatal() && error.to_string().contains("boom"), "{error}");
    seen.panic = None;
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn closing_is_bounded_when_the_broker_is_gone() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    produce(&mock, "t", 0, 0..10);
    let (consumer, mut seen) = (consumer(&mock, "gone"), Seen::default());
    consumer.subscribe(&["t".into()]).unwrap();
    poll(&consumer, &mut seen, |batch, _| !batch.is_empty());
    mock.broker_down(1);
    poll(&consumer, &mut seen, |_, _| {
        consumer.connectivity() == Connectivity::Down
    });
    let refused = consumer.commit(&[commit("t", 5, "")]).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::WAIT_COORD));
    let start = Instant::now();
    assert_eq!(
        consumer.close(Duration::from_secs(2), &mut seen),
        CloseOutcome::Abandoned
    );
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(seen.revoked, [(1, Revocation::Lost)]);
}

/// It gave two answers, to the partition that came and to its loss: librdkafka lost the second now and then, and the caller
/// waited for ever.
#[test]
fn a_client_closes_while_its_first_partition_is_on_its_way() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    for group in ["static", "dynamic"] {
        let more = [("session.timeout.ms", "2500"), ("heartbeat.interval.ms", "300")];
        let membership = (group == "static").then(|| "one".to_owned());
        let properties = properties_of(
            &mock.bootstrap(),
            ConsumerType::Balanced,
            Some(group),
            &more,
            membership,
        );
        let consumer = Consumer::create(&properties, RouteName::new("test").unwrap()).unwrap();
        consumer.subscribe(&["t".into()]).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while consumer.group_member().is_none_or(|member| member.generation < 1) {
            assert!(Instant::now() < end, "{group}: it did not join");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The answer to its SyncGroup, which nothing shows before somebody reads.
        std::thread::sleep(Duration::from_millis(300));
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut seen = Seen {
                slow: Duration::from_millis(200),
                ..Seen::default()
            };
            let outcome = consumer.close(Duration::from_secs(5), &mut seen);
            tell.send((outcome, seen.assigned.len())).unwrap();
        });
        let outcome = told.recv_timeout(Duration::from_secs(10));
        // A dynamic member says goodbye first, and hears of the partition then.
        assert_eq!(
            outcome,
            Ok((CloseOutcome::Closed, usize::from(group == "dynamic"))),
            "{group}"
        );
    }
}

#[test]
fn a_broker_that_comes_back_is_found_again() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    let (consumer, mut seen) = (consumer(&mock, "back"), Seen::default());
    consumer.subscribe(&["t".into()]).unwrap();
    poll(&consumer, &mut seen, |_, seen| !seen.assigned.is_empty());
    mock.broker_down(1);
    poll(&consumer, &mut seen, |_, _| {
        consumer.connectivity() == Connectivity::Down
    });
    mock.broker_up(1);
    produce(&mock, "t", 0, 0..10);
    poll(&consumer, &mut seen, |batch, _| !batch.is_empty());
    assert_eq!(consumer.connectivity(), Connectivity::Up);
    // Its connection as the coordinator is another one, with a back-off of its own.
    poll(&consumer, &mut seen, |_, _| {
        consumer.coordinator_answers(Duration::from_secs(1))
    });
    let ticket = consumer.commit(&[commit("t", 10, "")]).unwrap();
    let result = consumer
        .wait_commit(ticket, Instant::now() + Duration::from_secs(5))
        .unwrap();
    assert_eq!(result.advice(), CommitAdvice::Done);
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}

#[test]
fn a_batch_outlives_its_consumer() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    produce(&mock, "t", 0, 0..10);
    let (consumer, mut seen, mut batch) = (consumer(&mock, "outlive"), Seen::default(), Batch::default());
    consumer.subscribe(&["t".into()]).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while batch.is_empty() {
        assert!(Instant::now() < end, "no message within twenty seconds");
        consumer
            .batch(100, Duration::from_millis(50), &mut seen, &mut batch)
            .unwrap();
    }
    assert_eq!(
        consumer.close(Duration::from_secs(1), &mut seen),
        CloseOutcome::Leaked
    );
    assert_eq!(batch.get(0).unwrap().payload(), Some(b"0".as_slice()));
    std::thread::spawn(move || drop(batch)).join().unwrap();
}

#[test]
fn the_wake_descriptor_tells_of_messages_and_of_commits() {
    let mock = Mock::new(1).unwrap();
    mock.make_topic("t", 1).unwrap();
    let (consumer, mut seen, mut batch) = (consumer(&mock, "wake"), Seen::default(), Batch::default());
    consumer.subscribe(&["t".into()]).unwrap();
    let mut offsets = Vec::new();
    let mut commits = 0;
    produce(&mock, "t", 0, 0..10);
    let end = Instant::now() + Duration::from_secs(20);
    let mut asked = false;
    while commits == 0 {
        assert!(Instant::now() < end, "no wake-up within twenty seconds");
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            consumer.wake_fd(),
            rustix::event::PollFlags::IN,
        )];
        let timeout = rustix::event::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1);
        consumer.clear_wake();
        while !consumer
            .batch(3, Duration::ZERO, &mut seen, &mut batch)
            .unwrap()
            .drained
        {
            offsets.extend(batch.iter().map(|message| message.offset()));
        }
        offsets.extend(batch.iter().map(|message| message.offset()));
        if offsets.len() == 10 && !asked {
            asked = true;
            consumer.commit(&[commit("t", 10, "")]).unwrap();
        }
        commits += consumer.take_commit_results().len();
    }
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    batch.clear();
    drop(batch);
    assert_eq!(
        consumer.close(Duration::from_secs(5), &mut seen),
        CloseOutcome::Closed
    );
}
