//! `Enrich` through the shim that the daemon uses.
#![allow(clippy::unwrap_used)]

use devour::{
    serde_json::{Value, json},
    testing::{Outcome, TestMessage, Tester},
};
use devour_enrich::Enrich;

fn enrich(message: TestMessage) -> (Outcome, Vec<Value>) {
    let settings = json!({"to": "full", "by": "customer", "table": {"c7": {"country": "AT", "id": 0}, "8": {"country": "CH"}}});
    let mut tester = Tester::<Enrich>::builder().settings(settings).build().unwrap();
    let report = tester.feed([message]);
    let produced = tester.produced();
    let payloads = produced.iter().map(|record| {
        assert_eq!(record.topic, "full");
        devour::serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap()
    });
    (report.outcomes[0].clone(), payloads.collect())
}

#[test]
fn what_the_table_knows_is_added_and_the_messages_own_fields_win() {
    let (outcome, produced) = enrich(TestMessage::json(r#"{"id": 1, "customer": "c7"}"#));
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(produced, [json!({"id": 1, "customer": "c7", "country": "AT"})]);
    let (_, produced) = enrich(TestMessage::json(r#"{"customer": 8}"#));
    assert_eq!(produced, [json!({"customer": 8, "country": "CH"})]);
}

#[test]
fn who_is_not_in_the_table_goes_on_as_it_is() {
    let (_, produced) = enrich(TestMessage::json(r#"{"id": 2}"#));
    assert_eq!(produced, [json!({"id": 2})]);
}

#[test]
fn what_is_no_object_is_rejected_and_nothing_is_produced() {
    let (outcome, produced) = enrich(TestMessage::raw("[1, 2"));
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert_eq!(produced, [] as [Value; 0]);
}
