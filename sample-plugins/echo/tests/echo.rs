//! The echoes through the shim that the daemon uses.
#![allow(clippy::unwrap_used)]

use devour::{
    abi::DumpMode,
    plugin::Exported,
    serde_json::json,
    testing::{TestMessage, Tester},
};
use devour_echo::{EchoJson, EchoObject, EchoRaw};

fn ledger_of<C: Exported>(messages: [TestMessage; 3]) -> (Vec<&'static str>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let mut tester = Tester::<C>::builder()
        .settings(json!({"ledger": path, "print": true}))
        .build()
        .unwrap();
    let report = tester.feed(messages);
    (
        report.outcomes.iter().map(|outcome| outcome.name()).collect(),
        std::fs::read_to_string(path).unwrap(),
    )
}

fn messages() -> [TestMessage; 3] {
    [
        TestMessage::json(r#"{"number": 5, "text": "a\nb"}"#)
            .key("k")
            .header("h", "1")
            .null_header("n"),
        TestMessage::raw("plain 6").timestamp_ms(1),
        TestMessage::tombstone(),
    ]
}

#[test]
fn each_echo_takes_what_its_dump_mode_gives() {
    let all = (
        vec!["done", "done", "done"],
        "test 0 0 5\ntest 0 1 6\ntest 0 2 -\n".to_owned(),
    );
    assert_eq!(ledger_of::<EchoRaw>(messages()), all);
    assert_eq!(ledger_of::<EchoObject>(messages()), all);
    let json = (vec!["done", "undecodable", "passed"], "test 0 0 5\n".to_owned());
    assert_eq!(ledger_of::<EchoJson>(messages()), json);
}

#[test]
fn each_echo_says_its_dump_mode_and_group() {
    let said = |descriptor: devour::abi::Descriptor| {
        let digest = &descriptor.digests[0];
        (
            descriptor.symbol,
            digest.dump,
            digest.reads_headers,
            descriptor.config["consumer_group"].clone(),
        )
    };
    let raw = Tester::<EchoRaw>::descriptor(json!({})).unwrap();
    assert_eq!(
        said(raw),
        (
            "EchoRaw".into(),
            DumpMode::Raw,
            false,
            json!("echo_raw_consumers")
        )
    );
    let object = Tester::<EchoObject>::descriptor(json!({})).unwrap();
    assert_eq!(
        said(object),
        (
            "EchoObject".into(),
            DumpMode::Object,
            true,
            json!("echo_object_consumers")
        )
    );
    let json = Tester::<EchoJson>::descriptor(json!({})).unwrap();
    assert_eq!(
        said(json),
        (
            "EchoJson".into(),
            DumpMode::Json,
            false,
            json!("echo_json_consumers")
        )
    );
}
