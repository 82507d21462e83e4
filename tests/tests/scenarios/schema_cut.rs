//! A route's `schema` leaves its plugin the attributes that it names, as they were written; what is no JSON takes the
//! route's `then` with topic, partition, offset and byte in the log, and holds up nothing but its own order. Dead letters
//! are the messages as they were, also of what was cut before its digest failed.

use devour_tests::{
    control::control,
    daemon::{Route, SOON, Settings},
    kafka::{Kafka, Kept, Record, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{DIGESTING, Stage},
    wait,
    witness::Statements,
};
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("process", |kafka| dead_letters(kafka, Isolation::Process)),
    Run::Shared("thread", |kafka| dead_letters(kafka, Isolation::Thread)),
    Run::Shared("stop", stop),
];

/// What is sent, and what the plugin sees of it.
const GOOD: [(&str, &str); 5] = [
    (
        r#"{"secret":{"card":["4111",{"deep":[[]]}]},"id":1,"text":"\u00e4","customer":{"id":7,"card":"4111"}}"#,
        r#"{"id":1,"text":"\u00e4","customer":{"id":7}}"#,
    ),
    (r#" { "id" : 2 } "#, r#" { "id" : 2 } "#),
    (
        r#"{"i\u0064":3,"list":[1e400,123456789012345678901234567890],"x":1e400}"#,
        r#"{"i\u0064":3,"list":[1e400,123456789012345678901234567890]}"#,
    ),
    (
        r#"{"id":4,"customer":[{"id":1,"x":2},{"x":3}],"x":null}"#,
        r#"{"id":4,"customer":[{"id":1},{}]}"#,
    ),
    (r#"[{"id":5,"x":1}]"#, r#"[{"id":5}]"#),
];
const BAD: [&str; 3] = [r#"{"id":6,"secret":tru}"#, r#"{"id":7"#, "secret"];
/// Good JSON that the digest does not take: it has no `id`.
const UNFIT: &str = r#"{"text":"no id","secret":"4111"}"#;

fn value(text: &str) -> Record {
    Record {
        key: Some(b"k".to_vec()),
        payload: Some(text.as_bytes().to_vec()),
        ..Record::default()
    }
}

fn schema() -> Value {
    json!({"attributes": ["id", "text", "list", {"customer": ["id"]}]})
}

fn dead_letters(kafka: &Kafka, isolation: Isolation) -> Outcome {
    let stage = Stage::new(kafka, "cut", 2)?;
    let (objects, fields) = (unique("cut-dead"), unique("cut-dead"));
    stage.admin.create_topic(&objects, 1)?;
    stage.admin.create_topic(&fields, 1)?;
    let tombstone = Record {
        payload: None,
        ..value("")
    };
    let mut mixed: Vec<Record> = Vec::new();
    for (at, (text, _)) in GOOD.iter().enumerate() {
        mixed.extend(BAD.get(at).map(|bad| value(bad)));
        mixed.push(value(text));
    }
    mixed.push(tombstone);
    kafka.producer()?.send(&stage.topic, 0, &mixed)?;
    kafka
        .producer()?
        .send(&stage.topic, 1, &[value(UNFIT), value(r#"{"x":0,"id":8}"#)])?;

    let on_error = |topic: &str| {
        let backoff = json!({"initial": "50ms", "max": "50ms"});
        json!({"backoff": backoff, "then": "dead_letter", "dead_letter": {"topic": topic}})
    };
    let route = |symbol: &str, group: &str, dead: &str| {
        let file = stage.home.file(symbol);
        Route::of(symbol, isolation, &stage.topic, group, &file)
            .with("schema", schema())
            .with("on_error", on_error(dead))
            .with("config", json!({"auto_commit_interval_ms": 100}))
    };
    let group = unique("cut-fields");
    let settings = Settings::of(kafka.bootstrap())
        .route("objects", route("WitnessObject", &stage.group, &objects))
        .route("fields", route("WitnessJson", &group, &fields));
    let daemon = stage.home.start(&settings)?;

    let seen = Statements::of(&stage.home.file("WitnessObject"), GOOD.len() + 3, DIGESTING)?;
    let of_partition = |partition: i32| -> Vec<&Value> {
        let all = seen.all.iter().filter(|one| one["partition"] == json!(partition));
        all.map(|one| &one["value"]).collect()
    };
    let mut expected: Vec<Value> = GOOD.iter().map(|(_, left)| json!(left)).collect();
    expected.push(Value::Null);
    assert_eq!(of_partition(0), expected.iter().collect::<Vec<_>>(), "in their order");
    assert_eq!(
        of_partition(1),
        [&json!(r#"{"text":"no id"}"#), &json!(r#"{"id":8}"#)]
    );
    Statements::of(&stage.home.file("WitnessJson"), 4, DIGESTING)?;

    // What is no JSON, as it was; and beside it, where the digest takes fields, what was cut and did not fit.
    let letters = |topic: &str, count: usize| {
        wait::until_told("all dead letters", SOON, || {
            let kept = kafka.read(topic, 1).map_err(|error| error.to_string())?;
            let mut values: Vec<String> = kept.iter().map(text).collect();
            values.sort();
            match values.len() {
                there if there >= count => Ok(values),
                there => Err(format!("{there} of {count}: {values:?}")),
            }
        })
    };
    let sorted = |texts: &[&str]| {
        let mut sorted: Vec<String> = texts.iter().map(ToString::to_string).collect();
        sorted.sort();
        sorted
    };
    assert_eq!(letters(&objects, 3)?, sorted(&BAD));
    let not_of_fields = [BAD[0], BAD[1], BAD[2], UNFIT, GOOD[2].0, GOOD[4].0];
    assert_eq!(letters(&fields, not_of_fields.len())?, sorted(&not_of_fields));

    let said = daemon.wait_for("the first bad message", SOON, |line| {
        line.number("offset") == Some(0) && line.text("route") == Some("objects") && line.raw.contains("not JSON")
    })?;
    assert_eq!(said.text("topic"), Some(stage.topic.as_str()));
    assert_eq!(said.number("partition"), Some(0));
    assert!(
        said.raw.contains("expected a value, found `}` at byte 20"),
        "{}",
        said.raw
    );
    daemon.stop()?;
    stage.all_is_committed()?;
    let committed = stage.admin.committed(&group, &stage.topic, 2)?;
    assert_eq!(
        committed.into_iter().collect::<Vec<_>>(),
        [(0, mixed.len() as i64), (1, 2)]
    );
    Ok(())
}

fn text(letter: &Kept) -> String {
    String::from_utf8_lossy(letter.payload.as_deref().unwrap_or_default()).into_owned()
}

/// A message that is no JSON stops its partition after all before it, and no other; skipped by hand, the rest follows.
fn stop(kafka: &Kafka) -> Outcome {
    let stage = Stage::new(kafka, "cut-stop", 2)?;
    let first: Vec<Record> = (0..200).map(|id| value(&format!(r#"{{"id":{id},"x":0}}"#))).collect();
    let producer = kafka.producer()?;
    producer.send(&stage.topic, 0, &first)?;
    producer.send(&stage.topic, 0, &[value(BAD[0]), value(r#"{"id":201}"#)])?;
    producer.send(&stage.topic, 1, &[value(BAD[1]), value(r#"{"id":301}"#)])?;
    let file = stage.home.file("seen");
    let route = Route::of("WitnessJson", Isolation::Process, &stage.topic, &stage.group, &file)
        .with("schema", schema())
        .with("on_error", json!({"then": "stop"}))
        .with("config", json!({"auto_commit_interval_ms": 100}));
    let daemon = stage
        .home
        .start(&Settings::of(kafka.bootstrap()).route("cut", route))?;
    let stopped = |partition: i64, offset: i64| {
        daemon.wait_for("the stopped message", SOON, |line| {
            line.number("offset") == Some(offset)
                && line.number("partition") == Some(partition)
                && line.raw.contains("not JSON")
        })
    };
    stopped(0, 200)?;
    stopped(1, 0)?;
    let seen = Statements::of(&file, 200, DIGESTING)?;
    assert!(seen.all.iter().all(|one| one["id"].as_u64() < Some(200)), "{seen:?}");
    for place in [format!("{}/0@200", stage.topic), format!("{}/1@0", stage.topic)] {
        control(&stage.home, &["skip", "cut", &place])?.expect("skip", 0);
    }
    let seen = Statements::of(&file, 202, DIGESTING)?;
    assert_eq!(seen.all.len(), 202);
    daemon.stop()?;
    stage.all_is_committed()?;
    Ok(())
}
