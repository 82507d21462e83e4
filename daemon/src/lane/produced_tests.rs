#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        mpsc::{channel, sync_channel},
    },
    time::Duration,
};

use abi_stable::std_types::ROption;
use devour_abi::HeaderView;
use proptest::prelude::*;

use super::*;

type OwnedHeaders = Vec<(String, Option<Vec<u8>>)>;

fn record<'a>(
    topic: &'a str,
    key: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
    headers: &'a [HeaderView<'a>],
) -> ProduceRecord<'a> {
    ProduceRecord {
        topic: topic.into(),
        partition: 3,
        key: key.map(Into::into).into(),
        payload: payload.map(Into::into).into(),
        headers: headers.into(),
        timestamp_ms: 7,
    }
}

fn views(headers: &OwnedHeaders) -> Vec<HeaderView<'_>> {
    headers
        .iter()
        .map(|(name, value)| HeaderView {
            name: name.as_str().into(),
            value: match value {
                Some(value) => ROption::RSome(value.as_slice().into()),
                None => ROption::RNone,
            },
        })
        .collect()
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100))
}

fn headers() -> impl Strategy<Value = OwnedHeaders> {
    proptest::collection::vec(("[a-z]{0,9}", bytes()), 0..4)
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(
        all in proptest::collection::vec(("[a-z]{1,20}", bytes(), bytes(), headers(), any::<(u64, u32, u64)>()), 0..5),
    ) {
        let (mut written, mut sum) = (Vec::new(), 0);
        for (topic, key, payload, headers, (call, index, asker)) in &all {
            let headers = views(headers);
            let record = record(topic, key.as_deref(), payload.as_deref(), &headers);
            let cause = Cause::Message(MessageId { call: *call, index: *index });
            let before = written.len();
            write(&mut written, &Head { cause, asker: *asker, receipt: *call }, &record);
            prop_assert_eq!(written.len() - before, length(&record));
            sum += cost(length(&record));
        }
        let mut receipts = Vec::new();
        prop_assert_eq!(check(&written, |number| receipts.push(number)), Ok(sum));
        let expected: Vec<u64> = all.iter().map(|all| all.4.0).filter(|number| *number != 0).collect();
        prop_assert_eq!(receipts, expected);
        let produced = Produced::of(written, 9);
        prop_assert_eq!(produced.iter().count(), all.len());
        for (read, (topic, key, payload, headers, (call, index, asker))) in produced.iter().zip(&all) {
            prop_assert_eq!((read.topic, read.key, read.payload), (topic.as_str(), key.as_deref(), payload.as_deref()));
            prop_assert_eq!(read.cause, Cause::Message(MessageId { call: *call, index: *index }));
            prop_assert_eq!(read.asker, (*asker != 0).then_some(Asker { life: 9, number: *asker }));
            prop_assert_eq!((read.partition, read.timestamp_ms), (Some(3), Some(7)));
            let expected: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            prop_assert_eq!(read.headers().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn noise_and_what_is_cut_is_refused_without_a_panic(
        noise in proptest::collection::vec(any::<u8>(), 1..300),
        cut in 1..80usize,
    ) {
        let _ = check(&noise, |_| {});
        let mut written = Vec::new();
        write(&mut written, &Head { cause: Cause::All, asker: 0, receipt: 0 }, &record("t", None, Some(b"payload"), &[]));
        written.truncate(written.len().saturating_sub(cut).max(1));
        prop_assert_eq!(check(&written, |_| {}), Err(Unreadable));
    }
}

#[test]
fn who_needs_more_room_than_there_is_waits_for_their_turn_and_no_record_is_too_large_for_all_of_it() {
    let room = Arc::new(Room::default());
    room.grant(100, 100);
    room.take(60, || panic!("there is room")).unwrap();
    let (waits, waited) = channel();
    let (took, taken) = sync_channel(2);
    let waiter = |bytes: usize, name: &'static str| {
        let (room, waits, took) = (Arc::clone(&room), waits.clone(), took.clone());
        std::thread::spawn(move || {
            room.take(bytes, || waits.send(name).unwrap()).unwrap();
            took.send(name).unwrap();
        })
    };
    let large = waiter(5000, "large");
    assert_eq!(waited.recv(), Ok("large"));
    // There would be room for this one, but its turn comes later.
    let small = waiter(10, "small");
    assert_eq!(waited.recv(), Ok("small"));
    room.grant(59, 100);
    assert!(taken.recv_timeout(Duration::from_millis(50)).is_err());
    room.grant(1, 100);
    assert_eq!(taken.recv(), Ok("large"));
    assert!(taken.recv_timeout(Duration::from_millis(50)).is_err());
    room.grant(100, 100);
    assert_eq!(taken.recv(), Ok("small"));
    large.join().unwrap();
    small.join().unwrap();
}

#[test]
fn nobody_waits_for_a_plugin_that_ends() {
    let (room, waiters) = (Arc::new(Room::default()), Waiters::default());
    let blocked = {
        let room = Arc::clone(&room);
        std::thread::spawn(move || room.take(1, || {}))
    };
    room.close();
    assert_eq!(blocked.join().unwrap(), Err(HostFailure::given_up()));
    let (told, heard) = channel();
    let again = told.clone();
    waiters.add(Delivery::new(move |outcome| told.send(outcome).unwrap()));
    waiters.close();
    assert_eq!(heard.recv().unwrap(), Err(HostFailure::given_up()));
    waiters.add(Delivery::new(move |outcome| again.send(outcome).unwrap()));
    assert_eq!(heard.recv().unwrap(), Err(HostFailure::given_up()));
}
