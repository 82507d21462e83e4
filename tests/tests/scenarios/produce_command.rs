//! `devourd produce` sends lines and JSON to a route's topic, named by the route or by its plugin: with key, headers,
//! partition and timestamp, not faster than asked, and all of it is digested once. A line that cannot be sent is named,
//! and what stands before it is there.

use std::{fmt::Write as _, fs, time::Duration};

use devour_tests::{
    command::{self, Finished},
    daemon::{Route, SOON},
    kafka::{Kafka, Kept, unique},
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("digested", digested),
    Run::Shared("json", json_lines),
    Run::Shared("errors", errors),
];

const PARTITIONS: i32 = 3;
const COUNT: u64 = 500;

/// `devourd produce` with these words, and this on its standard input.
fn produce(stage: &Stage<'_>, words: &[&str], input: &str) -> Result<Finished, Failed> {
    let mut command = stage.home.command()?;
    command
        .arg("--settings")
        .arg(stage.home.settings_file())
        .arg("produce")
        .args(words);
    Ok(command::run_fed(&mut command, input, SOON)?)
}

fn digested(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "produce", PARTITIONS)?;
    let daemon = stage.home.start(&stage.settings(stage.route(Isolation::Process)))?;
    let file = stage.home.file("numbers.txt");
    let mut text = String::new();
    for n in 0..COUNT {
        writeln!(text, "{{\"n\": {n}}}")?;
    }
    fs::write(&file, &text)?;
    let file = file.to_string_lossy();
    produce(&stage, &[ROUTE, &file], "")?
        .expect("a file", 0)
        .says("a file", [&*format!("500 messages were delivered to {}", stage.topic)]);
    // By the topic's name, from standard input, slowly.
    let more = "{\"n\": 500}\n{\"n\": 501}\n{\"n\": 502}\n{\"n\": 503}\n{\"n\": 504}\n{\"n\": 505}";
    let words = [&*stage.topic, "--rate", "10/s", "--key", "k", "--header", "by=hand", "--header", "to=you"];
    let slow = produce(&stage, &words, more)?;
    slow.expect("standard input", 0);
    assert!(slow.took >= Duration::from_millis(500), "six at 10 a second in {:?}", slow.took);

    let kept = kafka.read(&stage.topic, PARTITIONS)?;
    let mut last = Vec::new();
    for message in &kept {
        let number: serde_json::Value = serde_json::from_slice(message.payload.as_deref().unwrap_or_default())?;
        let n = number["n"].as_u64().ok_or("a number")?;
        stage.expected.add(&stage.topic, message.partition, message.offset, n);
        if n >= COUNT {
            last.push(message);
        }
    }
    assert_eq!((kept.len(), last.len()), (506, 6), "each line once");
    for message in &last {
        assert_eq!(message.partition, last[0].partition, "one key, one partition");
        assert_eq!(message.key.as_deref(), Some(&b"k"[..]));
        let headers = [("by", "hand"), ("to", "you")];
        assert_eq!(message.headers, headers.map(|(name, value)| (name.to_owned(), Some(value.into()))));
    }
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn json_lines(kafka: &Kafka) -> Outcome {
    let stage = Stage::new(kafka, "produce-json", PARTITIONS)?;
    stage.home.write(&stage.settings(stage.route(Isolation::Process)))?;
    let lines = [
        json!({"key": "a", "value": {"n": 1}, "partition": 2, "timestamp": 1_700_000_000_123_i64}),
        json!({"key": {"id": 7}, "value": null, "partition": 2, "headers": {"x": "1", "none": null}}),
        json!({"value": "text \u{1F600}\n", "partition": 2, "headers": [["x", "1"], ["x", "2"]]}),
        json!({"value": "", "partition": 2}),
    ];
    let text = lines.map(|line| format!("{line}\n")).concat();
    produce(&stage, &[ROUTE, "--format", "json", "--key", "k", "--header", "by=hand"], &text)?.expect("json", 0);
    let kept = kafka.read(&stage.topic, PARTITIONS)?;
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(|value| value.as_bytes().to_vec()));
    let by = || header("by", Some("hand"));
    let part = |offset: i64, key: &str, payload: Option<&str>, headers: Vec<_>| Kept {
        partition: 2,
        offset,
        key: Some(key.into()),
        payload: payload.map(Into::into),
        headers,
        timestamp: None,
    };
    assert_eq!(kept.first().and_then(|first| first.timestamp), Some(1_700_000_000_123));
    let without_time: Vec<Kept> = kept.into_iter().map(|one| Kept { timestamp: None, ..one }).collect();
    let expected = [
        part(0, "a", Some("{\"n\":1}"), vec![by()]),
        part(1, "{\"id\":7}", None, vec![by(), header("none", None), header("x", Some("1"))]),
        part(2, "k", Some("text \u{1F600}\n"), vec![by(), header("x", Some("1")), header("x", Some("2"))]),
        part(3, "k", Some(""), vec![by()]),
    ];
    assert_eq!(without_time, expected);
    Ok(())
}

fn errors(kafka: &Kafka) -> Outcome {
    let topic = unique("produce-errors");
    let small = [("max.message.bytes", "100000")];
    kafka.admin()?.create_topic_with(&topic, PARTITIONS, &small)?;
    let stage = Stage::without_topic(kafka, "produce-errors", topic, PARTITIONS)?;
    let named = Route::from_library("libdevour_test_ledger.so", "TopicLedger", Isolation::Process, "x", "g");
    let file = stage.ledger.path();
    let several = stage.route(Isolation::Process).with("topic", json!(["orders", "bills"]));
    let settings = stage
        .settings(stage.route(Isolation::Process))
        .route("several", several)
        .route("by_plugin", named.without("topic").with("settings", json!({"file": file})));
    stage.home.write(&settings)?;
    let refused = |what: &str, words: &[&str], input: &str, status: i32, says: &[&str]| -> Outcome {
        produce(&stage, words, input)?.expect(what, status).says(what, says.iter().copied());
        Ok(())
    };

    let bad = "{\"value\": 1}\n\n{\"value\": 2}\n{\"valu\": 3}\n{\"value\": 4}\n";
    let says = ["standard input:4: ", "unknown field `valu`", "2 messages were delivered"];
    refused("a bad line", &[ROUTE, "--format", "json"], bad, 1, &says)?;
    assert_eq!(kafka.read(&stage.topic, PARTITIONS)?.len(), 2, "what stands before it is there");

    // All go to one partition, so in one batch, which the broker refuses as a whole: the culprit is named.
    let large = format!("small\n{}\nsmall\n", "x".repeat(200_000));
    let says = ["standard input:2: not delivered to", "too large", "; 0 messages were delivered, "];
    refused("a large message", &[ROUTE, "--key", "k"], &large, 1, &says)?;
    assert_eq!(kafka.read(&stage.topic, PARTITIONS)?.len(), 2);

    let partition = "{\"value\": 1, \"partition\": 3}\n";
    let says = ["standard input:1: there is no partition 3: the topic has 3, from 0"];
    refused("a partition", &[ROUTE, "--format", "json"], partition, 1, &says)?;

    let says = ["has no route `ledgr`", "Did you mean `ledger`?", "no topic of that name either"];
    refused("no such route or topic", &["ledgr"], "x", 78, &says)?;
    refused("a name that was mistyped makes no topic", &["ledgr"], "x", 78, &says)?;
    refused("several topics", &["several"], "x", 78, &["reads orders, bills: say by `--topic NAME`"])?;
    refused("another topic", &["several", "--topic", "x"], "x", 78, &["does not read `x`"])?;
    refused("no file", &[ROUTE, "no-such-file"], "", 1, &["no-such-file: No such file"])?;
    // The plugin says which topic it reads.
    refused("the plugin's topic", &["by_plugin"], "", 0, &["0 messages were delivered to ledger"])?;
    Ok(())
}
