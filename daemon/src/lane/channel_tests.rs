//! Frames are read as they were written, and noise is refused without a panic.
#![allow(clippy::unwrap_used)]

use devour_abi::FailureKind;
use proptest::prelude::*;

use super::*;

fn failure() -> impl Strategy<Value = Failure> {
    (any::<u32>(), any::<u64>(), ".{0,40}").prop_map(|(kind, delay_ms, message)| {
        let mut failure = Failure::new(FailureKind(kind), message);
        failure.delay_ms = delay_ms;
        failure
    })
}

proptest! {
    #[test]
    fn outcomes_are_read_as_written(
        (call, a, b) in any::<(u64, u32, u32)>(),
        failure in failure(),
        broken in any::<bool>(),
        text in ".{0,60}",
    ) {
        let broken = broken.then(|| failure.clone());
        let mut buffer = Vec::new();
        for said in [
            FromLane::Up,
            FromLane::NotBuilt(&text),
            FromLane::Failed { call, index: a, failure: failure.clone() },
            FromLane::NotBegun { call, first: a, count: b },
            FromLane::Returned { call, finished: a, took: call.rotate_left(7), broken },
            FromLane::Answered(&text),
            FromLane::StepFailed(failure),
            FromLane::ProducedBeside,
        ] {
            said.encode(&mut buffer);
            prop_assert_eq!(FromLane::decode(&buffer), Ok(said));
            buffer.push(0);
            prop_assert!(FromLane::decode(&buffer).is_err());
            prop_assert!(FromLane::decode(&buffer[..buffer.len() - 2]).is_err());
        }
        FromLane::Produced(text.as_bytes()).encode(&mut buffer);
        prop_assert_eq!(FromLane::decode(&buffer), Ok(FromLane::Produced(text.as_bytes())));
    }

    #[test]
    fn what_becomes_of_records_is_read_as_written(
        (number, partition, offset, kind) in any::<(u64, i32, i64, u32)>(),
        text in ".{0,60}",
    ) {
        let mut buffer = Vec::new();
        for said in [
            ToTalk::Stop,
            ToTalk::Room { bytes: number, most: 7 },
            ToTalk::Received { number },
            ToTalk::Delivered { number, delivered: Delivered { partition, offset } },
            ToTalk::NotDelivered { number, failure: HostFailure::new(HostErrorKind(kind), text) },
        ] {
            said.encode(&mut buffer);
            prop_assert_eq!(ToTalk::decode(&buffer), Ok(said));
            buffer.push(0);
            prop_assert!(ToTalk::decode(&buffer).is_err());
        }
    }

    #[test]
    fn talk_is_read_as_written(level in 1..6u32, at in any::<Option<(u32, i64)>>(), n in any::<(u64, u64, u64)>(), text in ".{0,60}") {
        let mut buffer = Vec::new();
        for said in [
            FromTalk::Log { level: LogLevel(level), at, target: &text, message: &text, fields: "{}" },
            FromTalk::Count { name: &text, by: n.0 },
            FromTalk::Time { name: &text, durations: Durations { count: n.0, sum: n.1, max: n.2 } },
            FromTalk::Lost { logs: n.0, metrics: n.1 },
        ] {
            said.encode(&mut buffer);
            prop_assert_eq!(FromTalk::decode(&buffer), Ok(said));
        }
    }

    #[test]
    fn calls_are_read_as_written((number, start, bytes, count) in any::<(u64, u64, u64, u32)>(), tags in any::<Vec<u64>>(), slots in proptest::collection::vec((any::<u32>(), any::<i32>(), "[a-z]{1,20}"), 0..9)) {
        let mut buffer = Vec::new();
        let call = CallFrame { number, start, bytes, count, place: PlaceKind::Beside };
        ToLane::call(&mut buffer, &call);
        prop_assert_eq!(ToLane::decode(&buffer), Ok(ToLane::Call(call)));
        ToLane::held(&mut buffer, &tags);
        let Ok(ToLane::Held(read)) = ToLane::decode(&buffer) else { panic!("not tags") };
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), tags);
        ToLane::learn(&mut buffer, slots.iter().map(|(slot, partition, topic)| (*slot, *partition, topic.as_str())));
        let Ok(ToLane::Learn(read)) = ToLane::decode(&buffer) else { panic!("not names") };
        let read: Vec<_> = read.map(|(slot, partition, topic)| (slot, partition, topic.to_owned())).collect();
        prop_assert_eq!(read, slots);
    }

    #[test]
    fn noise_is_refused_without_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..64u8) {
        let mut frame = noise;
        let _ = (FromLane::decode(&frame).is_ok(), FromTalk::decode(&frame).is_ok());
        frame.insert(0, kind);
        let _ = (FromLane::decode(&frame).is_ok(), FromTalk::decode(&frame).is_ok());
        if let Ok(ToLane::Learn(names)) = ToLane::decode(&frame) {
            prop_assert!(names.count() <= frame.len());
        }
        let _ = ToTalk::decode(&frame);
    }
}

#[test]
fn long_texts_are_cut_so_that_every_frame_fits() {
    let long = "ä".repeat(MAX_FRAME);
    let mut buffer = Vec::new();
    FromTalk::Log {
        level: LogLevel::INFO,
        at: None,
        target: &long,
        message: &long,
        fields: &long,
    }
    .encode(&mut buffer);
    assert!(buffer.len() <= MAX_FRAME);
    let Ok(FromTalk::Log { message, fields, .. }) = FromTalk::decode(&buffer) else {
        panic!("not a log")
    };
    assert_eq!((message.len(), fields), (MAX_TEXT, "{}"));
    FromLane::Failed {
        call: 1,
        index: 1,
        failure: Failure::new(FailureKind::RETRY, long),
    }
    .encode(&mut buffer);
    assert!(buffer.len() <= MAX_FRAME && FromLane::decode(&buffer).is_ok());
    ToTalk::Stop.encode(&mut buffer);
    assert_eq!(ToTalk::decode(&buffer), Ok(ToTalk::Stop));
}
