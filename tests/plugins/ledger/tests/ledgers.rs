//! The ledgers write down what they say they do, and fail where they are told to.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use devour::{
    abi::FailureKind,
    plugin::Exported,
    serde_json::{Value, json},
    testing::{Outcome, TestMessage, Tester},
};
use devour_test_ledger::{AsyncLedger, BufferLedger, Ledger, record};

fn tester<C: Exported>(file: &Path, more: Value) -> Tester<C> {
    let mut settings = json!({"file": file});
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    assert_eq!(Tester::<C>::check(&settings).unwrap(), Vec::<String>::new());
    Tester::builder().settings(settings).build().unwrap()
}

fn numbered(n: i32) -> TestMessage {
    TestMessage::json(&format!(r#"{{"n":{n}}}"#)).partition(n)
}

/// Number and outcome of each line.
fn lines(file: &Path) -> Vec<(u64, record::Outcome)> {
    let text = fs::read_to_string(file).unwrap();
    let records = text.lines().filter_map(record::Record::parse);
    records
        .map(|record| {
            assert!(record.at > 0 && record.pid == std::process::id());
            (record.n.unwrap(), record.outcome)
        })
        .collect()
}

#[test]
fn every_ledger_fails_in_its_digest_and_once() {
    fn fails<C: Exported>(name: &str) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ledger");
        let faults =
            json!({"faults": [{"kind": "retry", "numbers": [1]}, {"kind": "reject", "numbers": [2]}]});
        let mut tester = tester::<C>(&file, faults);
        tester.feed((0..4).map(numbered));
        tester.settle();
        tester.flush().unwrap();
        tester.feed_again();
        tester.settle();
        tester.flush().unwrap();
        let mut written = lines(&file);
        written.sort_by_key(|(n, _)| *n);
        let expected = [
            (0, record::Outcome::Ok),
            (1, record::Outcome::Retry),
            (1, record::Outcome::Ok),
            (2, record::Outcome::Reject),
            (3, record::Outcome::Ok),
        ];
        assert_eq!(written, expected, "{name}");
    }
    fails::<Ledger>("Ledger");
    fails::<AsyncLedger>("AsyncLedger");
    fails::<BufferLedger>("BufferLedger");
}

#[test]
fn an_async_ledger_waits_and_blocks_without_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledger");
    let more = json!({"wait_us": 2_000, "faults": [
        {"kind": "block", "numbers": [0]},
        {"kind": "panic", "numbers": [2], "after": true},
    ]});
    let mut tester = tester::<AsyncLedger>(&file, more);
    tester.feed([numbered(0), numbered(1)]);
    let begin = Instant::now();
    while tester.completed().is_empty() || lines(&file).len() < 2 {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "the second did not pass the first"
        );
        std::thread::yield_now();
    }
    tester.feed([numbered(2)]);
    let mut completed = tester.settle();
    completed.sort_by_key(|(partition, ..)| *partition);
    let ended: Vec<_> = completed.iter().map(|(_, _, outcome)| outcome.name()).collect();
    assert_eq!(ended, ["retry", "done", "broken"]);
    assert!(matches!(
        &completed[2].2,
        Outcome::Broken {
            kind: FailureKind::PANIC,
            ..
        }
    ));
    let mut written = lines(&file);
    written.sort_by_key(|(n, _)| *n);
    let expected = [
        (0, record::Outcome::Died),
        (1, record::Outcome::Ok),
        (2, record::Outcome::OkThenDied),
    ];
    assert_eq!(written, expected);
}

#[test]
fn a_buffer_ledger_writes_at_a_flush_and_fails_in_it() {
    use record::Outcome::{Died, Fatal, Ok, OkThenDied};
    for (fault, expected) in [
        (
            json!({"kind": "panic", "numbers": [2]}),
            vec![(0, Ok), (1, Died), (1, Ok), (2, Ok)],
        ),
        (
            json!({"kind": "retry", "numbers": [2]}),
            vec![(0, Ok), (1, Fatal), (1, Ok), (2, Ok)],
        ),
        (
            json!({"kind": "panic", "numbers": [2], "at": "middle"}),
            vec![(0, Ok), (1, OkThenDied), (1, Ok), (2, Ok)],
        ),
        (
            json!({"kind": "fatal", "numbers": [2], "at": "end"}),
            vec![(0, Ok), (1, OkThenDied), (2, OkThenDied), (1, Ok), (2, Ok)],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ledger");
        let mut tester = tester::<BufferLedger>(&file, json!({"flush_faults": [fault]}));
        tester.feed([numbered(0)]);
        assert_eq!(lines(&file), []);
        tester.flush().unwrap();
        tester.flush().unwrap();
        tester.feed([numbered(1), numbered(2)]);
        tester.flush().unwrap_err();
        tester.restart().unwrap();
        tester.feed_again();
        tester.flush().unwrap();
        tester.stopped().unwrap();
        assert_eq!(lines(&file), expected, "{fault}");
    }
}

#[test]
fn a_buffer_ledger_says_when_it_was_not_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledger");
    let mut tester = tester::<BufferLedger>(&file, json!({"max_messages": 10, "max_wait_ms": 500}));
    tester.feed([numbered(0), numbered(1)]);
    let text = tester.revoked(&[("test", 1)]).unwrap_err().message;
    assert!(text.starts_with("1 messages were revoked"), "{text}");
    let text = tester.stopped().unwrap_err().message;
    assert!(text.starts_with("1 messages were not flushed"), "{text}");
    let settings = json!({"file": file, "max_messages": 10, "max_wait_ms": 500});
    let descriptor = Tester::<BufferLedger>::descriptor(settings).unwrap();
    assert_eq!(
        (descriptor.flush_max_messages, descriptor.flush_max_wait_ms),
        (Some(10), Some(500))
    );
    let settings = json!({"file": file, "faults": [{"kind": "kill", "every": 2, "after": true}]});
    assert!(Tester::<BufferLedger>::check(&settings).unwrap()[0].contains("use `flush_faults`"));
}
