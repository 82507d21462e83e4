//! Each consumer of the benchmarks measures what it was told to, once.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use devour::{
    plugin::Exported,
    testing::{TestMessage, Tester},
};
use devour_test_sum::{Sum, SumHeaders, Wait, WaitAsync, moment::Measured};
use serde_json::{Value, json};

fn settings(report: &Path, more: Value) -> Value {
    let mut settings = json!({"warm_up": 2, "measured": 3, "report": report, "beside_daemon": false});
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    settings
}

/// What is measured of seven messages, each in a partition of its own, with 10 bytes and a header of 4.
fn measured<C: Exported>(more: Value) -> Measured {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut tester = Tester::<C>::builder()
        .settings(settings(&report, more))
        .build()
        .unwrap();
    let message = |partition| TestMessage::raw([7; 10]).header("h", "four").partition(partition);
    tester.feed((0..7).map(message));
    tester.settle();
    assert_eq!(
        tester
            .completed()
            .iter()
            .filter(|(_, _, how)| how.name() != "done")
            .count(),
        0
    );
    serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
}

#[test]
fn sums_are_measured_over_all_instances_of_the_process() {
    // The count is the process's, so this one test makes both: seven messages of each.
    let sum = measured::<Sum>(json!({"step": 1}));
    assert_eq!((sum.messages, sum.bytes, sum.header_bytes), (3, 30, 0));
    let later = json!({"step": 1, "warm_up": 8, "measured": 4});
    let with_headers = measured::<SumHeaders>(later);
    assert_eq!(
        (
            with_headers.messages,
            with_headers.bytes,
            with_headers.header_bytes
        ),
        (4, 40, 16)
    );
    let headers = |descriptor: devour::abi::Descriptor| descriptor.digests[0].reads_headers;
    assert!(!headers(Tester::<Sum>::descriptor(json!({})).unwrap()));
    assert!(headers(Tester::<SumHeaders>::descriptor(json!({})).unwrap()));
}

#[test]
fn waits_are_measured_over_all_instances_of_the_process() {
    // The count is the process's, so this one test makes both: seven messages of each.
    let wait = measured::<Wait>(json!({"wait_us": 1_000}));
    assert_eq!((wait.messages, wait.bytes), (3, 30));
    assert!(wait.wall >= 3_000_000, "{wait:?}");
    let later = json!({"wait_us": 1_000, "warm_up": 8, "measured": 4});
    let wait = measured::<WaitAsync>(later);
    assert_eq!((wait.messages, wait.bytes), (4, 40));
}
