//! Buffering consumers: what their digests took is done when `flush` returns, and comes again when it fails.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use devour::{
    abi::FailureKind,
    prelude::*,
    testing::{Outcome, TestMessage, Tester},
};
use serde_json::json;

/// Writes down what it took at every flush; does what messages say.
#[derive(Default)]
pub struct Buffer {
    numbers: Vec<u64>,
}

#[consumer(topic = "buffered", buffering(max_messages = 3))]
impl Buffer {
    fn digest(
        &mut self,
        _offset: i64,
        message: Message<'_>,
        n: u64,
        say: Option<&str>,
    ) -> Result<(), DigestError> {
        match say {
            Some("retry") if message.attempt() == 1 => return Err(DigestError::retry("once more")),
            Some("fatal") if message.attempt() == 1 => return Err(DigestError::fatal("the end")),
            _ => {}
        }
        self.numbers.push(n);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        if self.numbers.contains(&13) {
            return Err(DigestError::retry("not with 13"));
        }
        assert!(!self.numbers.contains(&17), "nor with 17");
        info!(numbers = ?self.numbers, "flushed");
        self.numbers.clear();
        Ok(())
    }
}

fn number(n: u64, partition: i32) -> TestMessage {
    TestMessage::json(&json!({"n": n}).to_string()).partition(partition)
}

fn say(n: u64, say: &str) -> TestMessage {
    TestMessage::json(&json!({"n": n, "say": say}).to_string())
}

fn names(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(Outcome::name).collect()
}

/// What was flushed, in order.
fn flushed(tester: &Tester<Buffer>) -> Vec<String> {
    let lines = tester.logs().into_iter();
    lines
        .map(|line| line.fields["numbers"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn what_was_taken_is_done_when_flush_returns() {
    let mut tester = Tester::<Buffer>::new().unwrap();
    let report = tester.feed([
        number(1, 0),
        number(2, 1),
        TestMessage::tombstone(),
        TestMessage::json("{"),
    ]);
    assert_eq!(
        names(&report.outcomes),
        ["taken", "taken", "passed", "undecodable"]
    );
    assert_eq!((tester.in_hand(), tester.completed()), (2, vec![]));
    tester.flush().unwrap();
    assert_eq!(tester.in_hand(), 0);
    assert_eq!(tester.completed(), [(0, 0, Outcome::Done), (1, 0, Outcome::Done)]);
    // Nothing is done twice.
    tester.flush().unwrap();
    assert_eq!(tester.completed().len(), 2);
    assert_eq!(flushed(&tester), ["[1, 2]", "[]"]);
}

#[test]
fn a_failed_digest_is_not_taken_and_holds_its_partition() {
    let mut tester = Tester::<Buffer>::new().unwrap();
    let report = tester.feed([number(1, 0), say(2, "retry"), number(3, 0), number(4, 1)]);
    assert_eq!(names(&report.outcomes), ["taken", "retry", "not begun", "taken"]);
    tester.flush().unwrap();
    assert_eq!(tester.completed().len(), 2);
    assert_eq!(names(&tester.feed_again().outcomes), ["taken", "taken"]);
    tester.flush().unwrap();
    assert_eq!(flushed(&tester), ["[1, 4]", "[2, 3]"]);
}

#[test]
fn an_error_and_a_panic_of_flush_end_the_instance_and_nothing_is_done() {
    for (unlucky, kind, message) in [
        (13, FailureKind::RETRY, "not with 13"),
        (17, FailureKind::PANIC, "nor with 17"),
    ] {
        let mut tester = Tester::<Buffer>::new().unwrap();
        tester.feed([number(1, 0), number(unlucky, 1), number(2, 0)]);
        let error = tester.flush().unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
        assert_eq!((tester.in_hand(), tester.completed()), (0, vec![]));
        tester.restart().unwrap();
        // What was in hand comes again before anything else of its partition.
        assert_eq!(
            names(&tester.feed([number(3, 0), number(4, 2)]).outcomes),
            ["not begun", "taken"]
        );
        assert_eq!(names(&tester.feed_again().outcomes), ["taken"; 4]);
        assert_eq!(tester.flush().unwrap_err().kind, kind);
    }
}

#[test]
fn what_was_taken_comes_again_when_a_digest_ends_the_instance() {
    let mut tester = Tester::<Buffer>::new().unwrap();
    tester.feed([number(1, 0), number(2, 1)]);
    let report = tester.feed([number(3, 1), say(4, "fatal"), number(5, 0)]);
    assert_eq!(names(&report.outcomes), ["taken", "broken", "not reached"]);
    tester.restart().unwrap();
    assert_eq!(names(&tester.feed_again().outcomes), ["taken"; 5]);
    tester.flush().unwrap();
    assert_eq!(flushed(&tester), ["[1, 2, 3, 4, 5]"]);
}

/// Takes batches, and by hand.
#[derive(Default)]
pub struct Batches {
    texts: Vec<String>,
}

impl Consumer for Batches {
    type Settings = NoSettings;
    type Message<'m> = &'m str;
    const TAKES_BATCHES: bool = true;

    fn attributes() -> Attributes {
        Attributes::new()
            .buffering()
            .flush_max_wait(Duration::from_secs(5))
            .flush_max_messages(7)
    }

    fn construct(_: NoSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self::default())
    }

    fn digest(&mut self, _: i64, text: &str) -> Result<(), DigestError> {
        if text == "bad" {
            return Err(DigestError::reject("bad"));
        }
        self.texts.push(text.to_owned());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        info!(texts = self.texts.len(), "flushed");
        self.texts.clear();
        Ok(())
    }
}

export_consumer!(Batches);

#[test]
fn batches_are_taken_too() {
    let descriptor = Tester::<Batches>::descriptor(json!({})).unwrap();
    assert!(descriptor.buffering && descriptor.digests[0].takes_batches);
    assert_eq!(
        (descriptor.flush_max_wait_ms, descriptor.flush_max_messages),
        (Some(5_000), Some(7))
    );
    let mut tester = Tester::<Batches>::new().unwrap();
    let report = tester.feed(["a", "bad", "b"].map(TestMessage::raw));
    assert_eq!(names(&report.outcomes), ["taken", "rejected", "taken"]);
    tester.flush().unwrap();
    assert_eq!(tester.completed(), [(0, 0, Outcome::Done), (0, 2, Outcome::Done)]);
    assert_eq!(tester.logs()[0].fields, json!({"texts": 2}));
}
