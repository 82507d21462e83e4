//! What `#[consumer]` makes of an impl block: digests in each dump mode, JSON parameters, attributes and life.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use devour::{
    abi::{ConsumerType, DumpMode, FailureKind, IsolationDemand, SwapMode, Topics},
    prelude::*,
    testing::{Outcome, TestMessage, Tester},
};
use serde_json::json;

/// The example of the design, as it stands there.
#[derive(Default)]
pub struct DesignExample;

#[consumer(
    topic = "math",
    consumer_type = "balanced_consumer",
    config(consumer_group = "math_consumers")
)]
impl DesignExample {
    // the parameters after `offset` are the fields of the JSON message, as Python's keyword arguments were
    fn digest(
        &mut self,
        offset: i64,
        id: u64,
        variables: Vec<u64>,
        note: Option<&str>,
    ) -> Result<(), DigestError> {
        info!(offset, id, sum = variables.iter().sum::<u64>(), note, "digested");
        Ok(())
    }
}

fn undecodable(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Undecodable { message } => message,
        other => panic!("{other:?} is not undecodable"),
    }
}

#[test]
fn the_parameters_are_the_fields_of_the_object() {
    let mut tester = Tester::<DesignExample>::new().unwrap();
    let report = tester.feed([
        TestMessage::json(r#"{"id": 1, "variables": [2, 3], "note": "a \"b\" \u00e4", "more": {"x": [1]}}"#),
        TestMessage::json(r#"{"variables": [], "id": 18446744073709551615}"#),
        TestMessage::json(r#"{"variables": [1], "id": 3, "note": null}"#),
    ]);
    assert!(report.all_done(), "{report:?}");
    let logs = tester.logs();
    assert_eq!(
        logs[0].fields,
        json!({"offset": 0, "id": 1, "sum": 5, "note": "a \"b\" ä"})
    );
    assert_eq!(logs[0].message, "digested");
    assert_eq!(logs[1].fields, json!({"offset": 1, "id": u64::MAX, "sum": 0}));
}

#[test]
fn what_does_not_fit_names_field_type_value_and_position() {
    let mut tester = Tester::<DesignExample>::new().unwrap();
    let report = tester.feed([
        TestMessage::json(r#"{"variables": [1]}"#),
        TestMessage::json(r#"{"id": "one", "variables": [1]}"#),
        TestMessage::json(r#"{"id": 1, "variables": [1, -2]}"#),
        TestMessage::json(r#"{"id": 99999999999999999999999, "variables": []}"#),
        TestMessage::json(r#"{"id": 1, "variables": null}"#),
        TestMessage::json("[1, 2]"),
        TestMessage::json("null"),
        TestMessage::json(r#"{"id": 1"#),
        TestMessage::raw(vec![0xff, 0xfe]),
        TestMessage::raw(""),
    ]);
    let texts: Vec<&str> = report.outcomes.iter().map(undecodable).collect();
    assert_eq!(
        texts[0],
        "the field `id` is missing, expected u64 at line 1 column 18 (byte 17)"
    );
    assert_eq!(
        texts[1],
        "field `id`: invalid type: string \"one\", expected u64 at line 1 column 12 (byte 7)"
    );
    assert_eq!(
        texts[2],
        "field `variables[1]`: invalid value: integer `-2`, expected u64 at line 1 column 29 (byte 27)"
    );
    assert!(
        texts[3].starts_with("field `id`: invalid type: floating point `1e+23`, expected u64"),
        "{}",
        texts[3]
    );
    assert!(
        texts[4].starts_with("field `variables`: invalid type: null, expected a sequence"),
        "{}",
        texts[4]
    );
    assert!(
        texts[5].contains("expected a JSON object with `id`, `variables`, `note`"),
        "{}",
        texts[5]
    );
    assert!(
        texts[6].contains("invalid type: null, expected a JSON object"),
        "{}",
        texts[6]
    );
    assert!(texts[7].starts_with("not JSON: "), "{}", texts[7]);
    assert!(texts[8].starts_with("not JSON: "), "{}", texts[8]);
    assert_eq!(texts[9], "the value is empty, expected JSON");
}

#[test]
fn a_descriptor_says_what_the_attribute_said() {
    let descriptor = Tester::<DesignExample>::descriptor(json!({})).unwrap();
    assert_eq!(descriptor.symbol, "DesignExample");
    assert_eq!(descriptor.package, "devour");
    assert_eq!(descriptor.abi, devour::abi::ABI_VERSION);
    assert_eq!(descriptor.topic, Some(Topics::One("math".into())));
    assert_eq!(descriptor.consumer_type, Some(ConsumerType::BalancedConsumer));
    assert_eq!(descriptor.config["consumer_group"], "math_consumers");
    assert_eq!(descriptor.digests.len(), 1);
    assert_eq!(descriptor.digests[0].name, "digest");
    assert_eq!(descriptor.digests[0].dump, DumpMode::Json);
    assert!(!descriptor.digests[0].reads_headers);
    assert!(!descriptor.asynchronous && !descriptor.buffering);
    assert_eq!(
        (descriptor.flush_max_wait_ms, descriptor.flush_max_messages),
        (None, None)
    );
}

/// Every shape of a JSON parameter.
#[derive(Default)]
pub struct Shapes;

#[derive(Deserialize)]
#[serde(crate = "devour::serde")]
struct Point {
    x: i32,
}

#[consumer(topic = ["shapes", "^more-.*"], strict, schema_class = "Point", headers)]
impl Shapes {
    #[allow(clippy::too_many_arguments)]
    fn digest<'a>(
        &mut self,
        offset: i64,
        message: Message<'_>,
        text: &'a str,
        list: &[u32],
        point: &Point,
        optional_list: Option<&[u32]>,
        optional_point: Option<&Point>,
        cow: Cow<'_, str>,
        cows: Vec<Cow<'_, str>>,
        optional_cow: Option<Cow<'a, str>>,
        #[field("type")] kind: Option<String>,
        r#move: bool,
    ) -> Result<(), std::num::TryFromIntError> {
        let borrowed = matches!(cow, Cow::Borrowed(_));
        let header = message
            .header("h")
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        info!(offset, text, list = ?list, x = point.x, optional_list = ?optional_list, borrowed, header);
        info!(optional_point = optional_point.map(|p| p.x), cows = ?cows, optional_cow = ?optional_cow, kind, r#move);
        u32::try_from(point.x).map(drop)
    }
}

#[test]
fn parameters_may_be_borrowed_optional_and_renamed() {
    let mut tester = Tester::<Shapes>::new().unwrap();
    let value = json!({"text": "a\n", "list": [1], "point": {"x": 3}, "cow": "plain", "cows": ["\"", "b"],
        "optional_point": {"x": 4}, "type": "t", "move": true});
    let message = TestMessage::json(&value.to_string())
        .header("h", "1")
        .header("h", "2");
    let report = tester.feed([message]);
    assert!(report.all_done(), "{report:?}");
    let logs = tester.logs();
    let expected = json!({"offset": 0, "text": "a\n", "list": "[1]", "x": 3, "optional_list": "None", "borrowed": true,
        "header": "2"});
    assert_eq!(logs[0].fields, expected);
    let expected = json!({"optional_point": 4, "cows": "[\"\\\"\", \"b\"]", "optional_cow": "None", "kind": "t",
        "move": true});
    assert_eq!(logs[1].fields, expected);
}

#[test]
fn a_strict_digest_rejects_unknown_fields_and_its_errors_are_retries() {
    let mut tester = Tester::<Shapes>::new().unwrap();
    let mut value = json!({"text": "", "list": [], "point": {"x": -1}, "cow": "", "cows": [], "move": false});
    let unconvertible = TestMessage::json(&value.to_string());
    value["extra"] = json!(1);
    let report = tester.feed([TestMessage::json(&value.to_string()).partition(1), unconvertible]);
    assert!(
        undecodable(&report.outcomes[0]).contains("unknown field `extra`, expected one of `text`"),
        "{report:?}"
    );
    assert!(
        matches!(&report.outcomes[1], Outcome::Retry { message, delay: None } if message.contains("out of range"))
    );
    let descriptor = Tester::<Shapes>::descriptor(json!({})).unwrap();
    assert_eq!(descriptor.topic.unwrap().names(), ["shapes", "^more-.*"]);
    assert_eq!(descriptor.schema_class.as_deref(), Some("Point"));
    assert!(descriptor.digests[0].reads_headers);
}

/// Several digests, each with its own dump mode.
#[derive(Default)]
pub struct Several;

#[consumer(
    digests(fields, typed),
    digest_name = "bytes",
    swap = "after",
    isolation = "process",
    keeps_offsets
)]
impl Several {
    fn fields(&mut self, _offset: i64, id: u64) {
        info!(id, "fields");
    }

    fn typed(&self, _: i64, Json(id): Json<Option<u64>>) {
        info!(id, "typed");
    }

    // raw beats object
    #[digest(dump_raw, dump_obj)]
    fn bytes(&mut self, offset: i64, bytes: &[u8]) -> Result<(), DigestError> {
        info!(offset, len = bytes.len(), "bytes");
        Ok(())
    }

    #[digest(dump_raw)]
    fn text(&mut self, _offset: i64, text: &str) {
        info!(text, "text");
    }

    #[digest]
    fn raw(&mut self, _offset: i64, raw: Raw<'_>) {
        info!(tombstone = raw.is_tombstone(), "raw");
    }

    #[digest(dump_obj)]
    fn whole(&mut self, _offset: i64, message: Message) {
        info!(key = ?message.key(), partition = message.partition(), attempt = message.attempt(), "whole");
    }

    #[digest]
    fn any(&mut self, _offset: i64, dumped: Dumped<'_>) {
        info!(any = ?dumped, "any");
    }

    fn assigned(&mut self, partitions: &[AssignedPartition]) -> Vec<StartOffset> {
        let begin = |p: &AssignedPartition| StartOffset {
            topic: p.topic.clone(),
            partition: p.partition,
            offset: 7,
        };
        partitions.iter().map(begin).collect()
    }
}

#[test]
fn each_digest_has_a_dump_mode_of_its_own() {
    let descriptor = Tester::<Several>::descriptor(json!({})).unwrap();
    let digests: Vec<_> = descriptor
        .digests
        .iter()
        .map(|d| (d.name.as_str(), d.dump, d.reads_headers))
        .collect();
    assert_eq!(
        digests,
        [
            ("bytes", DumpMode::Raw, false),
            ("fields", DumpMode::Json, false),
            ("typed", DumpMode::Json, false),
            ("text", DumpMode::Raw, false),
            ("raw", DumpMode::Raw, false),
            ("whole", DumpMode::Object, true),
            ("any", DumpMode::Json, true),
        ]
    );
    assert_eq!(descriptor.swap, SwapMode::After);
    assert_eq!(descriptor.isolation, IsolationDemand::Process);
    assert!(descriptor.keeps_offsets);
}

fn outcome_of(digest: &str, message: TestMessage) -> (Outcome, Option<serde_json::Value>) {
    let mut tester = Tester::<Several>::builder().digest_name(digest).build().unwrap();
    let report = tester.feed([message]);
    (
        report.outcomes[0].clone(),
        tester.logs().first().map(|line| line.fields.clone()),
    )
}

#[test]
fn a_tombstone_reaches_those_that_have_a_value_for_it() {
    let tombstone = TestMessage::tombstone;
    assert_eq!(outcome_of("fields", tombstone()), (Outcome::Passed, None));
    assert_eq!(outcome_of("typed", tombstone()), (Outcome::Done, Some(json!({}))));
    assert_eq!(outcome_of("bytes", tombstone()), (Outcome::Passed, None));
    assert_eq!(outcome_of("text", tombstone()), (Outcome::Passed, None));
    assert_eq!(
        outcome_of("raw", tombstone()),
        (Outcome::Done, Some(json!({"tombstone": true})))
    );
    let whole = json!({"key": "Some([107])", "partition": 2, "attempt": 1});
    assert_eq!(
        outcome_of("whole", tombstone().key("k").partition(2)),
        (Outcome::Done, Some(whole))
    );
}

#[test]
fn passed_tombstones_are_counted_or_rejected_if_the_route_says_so() {
    let tombstones = || {
        [
            TestMessage::tombstone(),
            TestMessage::json(r#"{"id":1}"#),
            TestMessage::tombstone(),
        ]
    };
    let mut tester = Tester::<Several>::builder()
        .digest_name("fields")
        .build()
        .unwrap();
    assert_eq!(
        tester.feed(tombstones()).counts(),
        [("done", 1), ("passed", 2)].into()
    );
    assert_eq!(tester.counter(devour::shim::TOMBSTONES_PASSED), 2);
    let mut tester = Tester::<Several>::builder()
        .digest_name("fields")
        .reject_tombstones()
        .build()
        .unwrap();
    assert_eq!(
        tester.feed(tombstones()).counts(),
        [("done", 1), ("rejected", 2)].into()
    );
}

#[test]
fn text_that_is_no_utf_8_is_undecodable() {
    let (outcome, _) = outcome_of("text", TestMessage::raw(vec![0xff]));
    assert!(undecodable(&outcome).starts_with("expected UTF-8 text"));
}

#[test]
fn a_dump_mode_of_the_route_works_where_the_digest_accepts_it() {
    for (dump, expected) in [
        (DumpMode::Raw, "Raw("),
        (DumpMode::Object, "Object("),
        (DumpMode::Json, "Json("),
    ] {
        let mut tester = Tester::<Several>::builder()
            .digest_name("any")
            .dump(dump)
            .build()
            .unwrap();
        assert!(tester.feed([TestMessage::json("1")]).all_done());
        let any = tester.logs()[0].fields["any"].as_str().unwrap().to_owned();
        assert!(any.starts_with(expected), "{any}");
    }
    let error = Tester::<Several>::builder()
        .digest_name("fields")
        .dump(DumpMode::Raw)
        .build()
        .err()
        .unwrap();
    assert_eq!(error.kind, FailureKind::FATAL);
    assert_eq!(
        error.message,
        "the digest `fields` takes dump_json, which its parameters decide; it cannot take dump_raw"
    );
}

#[test]
fn an_unknown_digest_is_refused_with_those_there_are() {
    let error = Tester::<Several>::builder()
        .digest_name("feilds")
        .build()
        .err()
        .unwrap();
    assert!(
        error
            .message
            .starts_with("it has no digest named `feilds`; it has `bytes`, `fields`"),
        "{error}"
    );
}

#[test]
fn start_offsets_that_assigned_answers_come_back() {
    let mut tester = Tester::<Several>::new().unwrap();
    let offsets = tester.assigned(&[("orders", 3)]).unwrap();
    assert_eq!(
        offsets,
        [StartOffset {
            topic: "orders".into(),
            partition: 3,
            offset: 7
        }]
    );
}

/// Settings of a consumer.
#[settings]
#[derive(Debug)]
pub struct LimitSettings {
    /// What may come at most.
    limit: u64,
    #[serde(default)]
    topic: Option<String>,
}

/// A consumer with settings and a whole life.
pub struct Limited {
    settings: LimitSettings,
    context: ConsumerContext,
}

#[consumer(
    settings = LimitSettings,
    topic = "limited",
    symbol = "limited_numbers",
    buffering(max_wait = "1500ms", max_messages = 1_000)
)]
impl Limited {
    fn construct(settings: LimitSettings, context: ConsumerContext) -> Result<Self, DigestError> {
        if settings.limit == 13 {
            return Err(DigestError::fatal("not with 13"));
        }
        info!(?settings, "made");
        Ok(Self { settings, context })
    }

    fn check(settings: &LimitSettings) -> Vec<String> {
        if settings.limit == 0 {
            vec!["`limit` is 0: nothing would pass".into()]
        } else {
            vec![]
        }
    }

    fn describe(settings: &LimitSettings, attributes: Attributes) -> Attributes {
        match &settings.topic {
            Some(topic) => attributes.topic(topic.clone()),
            None => attributes,
        }
    }

    fn digest(&mut self, _offset: i64, number: u64) -> Result<(), DigestError> {
        if number > self.settings.limit {
            self.context.count("refused", 1);
            return Err(DigestError::reject(format!("{number} is above the limit")));
        }
        self.context.produce(
            &Record::to("passed")
                .key("n")
                .payload(number.to_string())
                .header("from", "limited"),
        )?;
        self.context
            .time("passed", std::time::Duration::from_millis(number));
        Ok(())
    }

    fn started(&mut self) {
        info!(
            route = self.context.route(),
            lane = self.context.lane(),
            "started"
        );
    }

    fn revoked(&mut self, revoked: &Revoked) {
        info!(
            partitions = revoked.partitions.len(),
            lost = revoked.lost,
            "revoked"
        );
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        Err(DigestError::retry_after(
            "not yet",
            std::time::Duration::from_secs(1),
        ))
    }

    fn stopped(&mut self) -> Result<(), DigestError> {
        info!(asked = self.context.stop_requested(), "stopped");
        Ok(())
    }
}

#[test]
fn settings_are_checked_and_described() {
    let check = |settings| Tester::<Limited>::check(&settings).unwrap();
    assert_eq!(check(json!({"limit": 1})), Vec::<String>::new());
    assert_eq!(check(json!({"limit": 0})), ["`limit` is 0: nothing would pass"]);
    assert_eq!(check(json!(null)), ["its settings: missing field `limit`"]);
    assert!(check(json!({"limit": 1, "limt": 2}))[0].contains("unknown field `limt`"));
    let descriptor = Tester::<Limited>::descriptor(json!({"limit": 1, "topic": "other"})).unwrap();
    assert_eq!(descriptor.topic.unwrap().names(), ["limited", "other"]);
    assert_eq!(descriptor.symbol, "limited_numbers");
    assert!(descriptor.buffering && !descriptor.asynchronous);
    assert_eq!(descriptor.flush_max_wait_ms, Some(1_500));
    assert_eq!(descriptor.flush_max_messages, Some(1_000));
    let schema = descriptor.settings_schema.unwrap();
    assert_eq!(
        schema["properties"]["limit"]["description"],
        "What may come at most."
    );
    assert_eq!(schema["additionalProperties"], json!(false));
    // Without settings that fit it still says what it is.
    assert_eq!(
        Tester::<Limited>::descriptor(json!({}))
            .unwrap()
            .topic
            .unwrap()
            .names(),
        ["limited"]
    );
    assert!(Tester::<DesignExample>::check(&json!({"x": 1})).unwrap()[0].contains("unknown field `x`"));
}

#[test]
fn a_consumer_lives_from_construct_to_stopped() {
    let mut tester = Tester::<Limited>::builder()
        .settings(json!({"limit": 5}))
        .lane(1, 2)
        .build()
        .unwrap();
    tester.started().unwrap();
    assert_eq!(tester.assigned(&[("limited", 0)]).unwrap(), []);
    let report = tester.feed([
        TestMessage::json(r#"{"number": 6}"#),
        TestMessage::json(r#"{"number": 5}"#),
    ]);
    assert_eq!(
        report.outcomes,
        [
            Outcome::Rejected {
                message: "6 is above the limit".into()
            },
            Outcome::Taken
        ]
    );
    assert_eq!(tester.counter("refused"), 1);
    assert_eq!(tester.timings("passed"), [std::time::Duration::from_millis(5)]);
    let produced = tester.produced();
    assert_eq!(
        (produced[0].topic.as_str(), produced[0].payload.as_deref()),
        ("passed", Some(b"5".as_slice()))
    );
    assert_eq!(
        produced[0].headers,
        [("from".to_owned(), Some(b"limited".to_vec()))]
    );
    assert_eq!(tester.flush().unwrap_err().message, "not yet");
    // A flush that fails ends the instance.
    tester.restart().unwrap();
    tester.revoked(&[("limited", 0)]).unwrap();
    tester.stopped().unwrap();
    let lines: Vec<_> = tester
        .logs()
        .into_iter()
        .map(|line| (line.message, line.fields))
        .collect();
    assert_eq!(lines[1], ("started".into(), json!({"route": "test", "lane": 1})));
    assert_eq!(lines[2].0, "made");
    assert_eq!(
        lines[3],
        ("revoked".into(), json!({"partitions": 1, "lost": false}))
    );
    assert_eq!(lines[4], ("stopped".into(), json!({"asked": true})));
}

#[test]
fn what_a_constructor_refuses_is_said() {
    let error = Tester::<Limited>::builder()
        .settings(json!({"limit": 13}))
        .build()
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "fatal: not with 13");
    let error = Tester::<Limited>::new().err().unwrap();
    assert_eq!(error.message, "its settings: missing field `limit`");
}
