//! JSON with escapes, null, a list and a number out of range: what fits is digested as it was meant; what does not is
//! skipped and named under `then: skip`, and stops its partition, and only that, under `then: stop`.

use devour_tests::{
    daemon::{Route, SOON, Settings},
    kafka::{Kafka, Record},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, ROUTE, Stage},
    witness::Statements,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("skip", |kafka| run(kafka, "skip")),
    Run::Shared("stop", |kafka| run(kafka, "stop")),
];

fn run(kafka: &Kafka, then: &str) -> Outcome {
    let stage = Stage::new(kafka, "json", 2)?;
    let record = |payload: &str| Record {
        payload: Some(payload.as_bytes().to_vec()),
        ..Record::default()
    };
    let good = [
        r#"{"id":1,"text":"tab\t quote\" slash\\ \u00e4 \ud83d\ude00","list":[1,-2,3]}"#,
        r#" { "id" : 18446744073709551615 , "text" : null , "more" : {"nested":[{}]} } "#,
        r#"{"id":3,"list":[],"small":255}"#,
        r#"{"list":[9223372036854775807],"id":4,"text":""}"#,
    ];
    let bad = [
        r#"{"id":5,"small":256}"#,
        r#"{"id":18446744073709551616}"#,
        r#"{"id":-1}"#,
        r#"{"text":"no id"}"#,
        r#"[1,2]"#,
        r#"{"id":5"#,
    ];
    let producer = kafka.producer()?;
    let mixed: Vec<_> = good
        .iter()
        .chain(&bad)
        .map(|text| record(text))
        .chain([record(r#"{"id":9}"#)])
        .collect();
    producer.send(&stage.topic, 0, &mixed)?;
    producer.send(&stage.topic, 1, &[record(r#"{"id":10}"#), record(r#"{"id":11}"#)])?;

    let file = stage.home.file("seen");
    let route = Route::of(
        "WitnessJson",
        Isolation::Process,
        &stage.topic,
        &stage.group,
        &file,
    )
    .with("on_error", json!({"then": then}));
    let daemon = stage
        .home
        .start(&Settings::of(kafka.bootstrap()).route(ROUTE, route))?;
    let count = good.len() + 2 + usize::from(then == "skip");
    let seen = Statements::of(&file, count, DIGESTING)?;
    let first_bad = good.len() as i64;
    let named = daemon.wait_for("the undecodable message", SOON, |line| {
        line.number("offset") == Some(first_bad) && line.number("partition") == Some(0)
    })?;
    assert!(
        named.raw.contains("small") && named.raw.contains("256"),
        "{}",
        named.raw
    );
    daemon.stop()?;

    let find = |id: u64| {
        seen.all
            .iter()
            .find(|one| one["id"] == json!(id))
            .ok_or(format!("no message {id}"))
    };
    let none = json!(null);
    assert_eq!(find(1)?["text"], json!("tab\t quote\" slash\\ ä 😀"));
    assert_eq!(find(1)?["list"], json!([1, -2, 3]));
    assert_eq!(
        (&find(u64::MAX)?["text"], &find(u64::MAX)?["list"]),
        (&none, &none)
    );
    assert_eq!((&find(3)?["list"], &find(3)?["small"]), (&json!([]), &json!(255)));
    assert_eq!(
        (&find(4)?["list"], &find(4)?["text"]),
        (&json!([i64::MAX]), &json!(""))
    );
    find(10)?;
    find(11)?;
    let committed = stage.admin.committed(&stage.group, &stage.topic, 2)?;
    if then == "skip" {
        find(9)?;
        stage.all_is_committed()?;
    } else {
        assert_eq!(
            committed.into_iter().collect::<Vec<_>>(),
            [(0, first_bad), (1, 2)]
        );
    }
    Ok(())
}
