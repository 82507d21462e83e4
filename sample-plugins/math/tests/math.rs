//! `Math` through the shim that the daemon uses.
#![allow(clippy::unwrap_used)]

use devour::{
    abi::ConsumerType,
    testing::{Outcome, TestMessage, Tester},
};
use devour_math::Math;
use serde_json::{Value, json};

use devour::serde_json;

fn digest(variables: Value) -> (Outcome, Option<Value>) {
    let mut tester = Tester::<Math>::new().unwrap();
    let report = tester.feed([TestMessage::json(
        &json!({"id": 7, "variables": variables}).to_string(),
    )]);
    (
        report.outcomes[0].clone(),
        tester.logs().first().map(|line| line.fields["multiple"].clone()),
    )
}

#[test]
fn numbers_and_texts_are_the_same() {
    assert_eq!(digest(json!([4, 6, 8])), (Outcome::Done, Some(json!(24))));
    assert_eq!(digest(json!("4, 6,8")), (Outcome::Done, Some(json!(24))));
    assert_eq!(digest(json!([-4, 6])), (Outcome::Done, Some(json!(12))));
    assert_eq!(digest(json!("-4,6")), (Outcome::Done, Some(json!(12))));
    assert_eq!(digest(json!([5, 0])), (Outcome::Done, Some(json!(0))));
}

#[test]
fn what_has_no_multiple_is_rejected() {
    let (outcome, _) = digest(json!([u64::MAX, 2]));
    assert_eq!(
        outcome,
        Outcome::Rejected {
            message: "the least common multiple does not fit 64 bits".into()
        }
    );
    for empty in [json!([]), json!(" ")] {
        let message = "an empty list has no least common multiple".into();
        assert_eq!(digest(empty).0, Outcome::Rejected { message });
    }
}

#[test]
fn what_is_no_list_of_integers_is_undecodable_and_says_where() {
    let text = |variables| match digest(variables).0 {
        Outcome::Undecodable { message } => message,
        other => panic!("{other:?}"),
    };
    assert!(
        text(json!([1, "2"]))
            .starts_with("field `variables[1]`: invalid type: string \"2\", expected an integer")
    );
    assert!(text(json!("1,x")).starts_with("field `variables`: `x` in \"1,x\": invalid digit"));
    assert!(text(json!([1.5])).contains("floating point `1.5`, expected an integer"));
    assert!(text(json!({})).contains("expected a list of integers, or a text"));
}

#[test]
fn every_digested_message_is_in_the_ledger_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let mut tester = Tester::<Math>::builder()
        .settings(json!({"ledger": path}))
        .build()
        .unwrap();
    let message = |id: u64, variables: &str| {
        TestMessage::json(&json!({"id": id, "variables": variables}).to_string())
            .topic("math")
            .partition(2)
    };
    let report = tester.feed([message(1, "2"), message(2, ""), message(3, "3")]);
    assert_eq!(report.counts(), [("done", 2), ("rejected", 1)].into());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "math 2 0 1\nmath 2 2 3\n");
    assert_eq!(tester.counter("multiples"), 2);
}

#[test]
fn it_says_what_it_is() {
    let descriptor = Tester::<Math>::descriptor(json!({})).unwrap();
    assert_eq!(
        (descriptor.symbol.as_str(), descriptor.package.as_str()),
        ("Math", "devour-math")
    );
    assert_eq!(descriptor.topic.unwrap().names(), ["math"]);
    assert_eq!(descriptor.consumer_type, Some(ConsumerType::BalancedConsumer));
    assert_eq!(descriptor.config["consumer_group"], "math_consumers");
    assert!(!descriptor.digests[0].reads_headers);
    let error = Tester::<Math>::builder()
        .settings(json!({"ledger": "/no/such/file"}))
        .build()
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("fatal: the ledger /no/such/file: No such file"),
        "{error}"
    );
}
