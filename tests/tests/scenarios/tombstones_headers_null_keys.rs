//! Tombstones, headers (repeated, empty, null) and null keys arrive as they were produced, in both isolations; a JSON
//! digest passes over a tombstone and goes on.

use devour_tests::{
    both,
    daemon::{Route, Settings},
    kafka::{Kafka, Record, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
    witness::Statements,
};
use serde_json::{Value, json};

pub const RUNS: &[Run] = both!(Shared, run);

fn run(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let stage = Stage::new(kafka, "shapes", 1)?;
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let header =
        |name: &str, value: Option<&str>| (name.to_owned(), value.map(|text| text.as_bytes().to_vec()));
    let records = [
        Record {
            key: bytes("k"),
            payload: bytes(r#"{"id":1}"#),
            timestamp: Some(1_700_000_000_123),
            ..Record::default()
        },
        Record {
            key: None,
            payload: bytes(r#"{"id":2}"#),
            ..Record::default()
        },
        Record {
            key: bytes("gone"),
            payload: None,
            ..Record::default()
        },
        Record {
            key: bytes(""),
            payload: bytes(r#"{"id":4}"#),
            ..Record::default()
        },
        Record {
            key: None,
            payload: None,
            headers: vec![
                header("a", Some("1")),
                header("a", Some("2")),
                header("empty", Some("")),
                header("null", None),
            ],
            ..Record::default()
        },
        Record {
            key: bytes("last"),
            payload: bytes(r#"{"id":6}"#),
            headers: vec![header("ümlaut", Some("ä"))],
            ..Record::default()
        },
    ];
    kafka.producer()?.send(&stage.topic, 0, &records)?;

    let (objects, jsons) = (stage.home.file("objects"), stage.home.file("jsons"));
    let settings = Settings::of(kafka.bootstrap())
        .route(
            "object",
            Route::of("WitnessObject", isolation, &stage.topic, &stage.group, &objects),
        )
        .route(
            "json",
            Route::of(
                "WitnessJson",
                isolation,
                &stage.topic,
                &unique("shapes-json"),
                &jsons,
            ),
        );
    let daemon = stage.home.start(&settings)?;
    let objects = Statements::of(&objects, records.len(), DIGESTING)?;
    let jsons = Statements::of(&jsons, 4, DIGESTING)?;
    daemon.stop()?;
    stage.all_is_committed()?;

    let seen = |field: &str| {
        objects
            .all
            .iter()
            .map(|one| one[field].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(
        seen("key"),
        [
            json!("k"),
            json!(null),
            json!("gone"),
            json!(""),
            json!(null),
            json!("last")
        ]
    );
    let values = [
        json!("{\"id\":1}"),
        json!("{\"id\":2}"),
        json!(null),
        json!("{\"id\":4}"),
        json!(null),
        json!("{\"id\":6}"),
    ];
    assert_eq!(seen("value"), values);
    let repeated = json!([["a", "1"], ["a", "2"], ["empty", ""], ["null", null]]);
    assert_eq!(
        seen("headers")[3..],
        [json!([]), repeated, json!([["ümlaut", "ä"]])]
    );
    assert_eq!(objects.all[0]["timestamp"], json!(1_700_000_000_123_i64));
    assert!(seen("attempt").iter().all(|attempt| *attempt == json!(1)));
    let ids: Vec<_> = jsons
        .all
        .iter()
        .map(|one| (one["offset"].clone(), one["id"].clone()))
        .collect();
    assert_eq!(
        ids,
        [(0, 1), (1, 2), (3, 4), (5, 6)].map(|(offset, id)| (json!(offset), json!(id)))
    );
    Ok(())
}
