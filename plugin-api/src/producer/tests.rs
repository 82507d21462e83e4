//! Producers on a host that writes down what it is asked, and how.

use std::sync::{Arc, Mutex, PoisonError};

use devour_abi::{
    ConstructRequest, Delivered, Delivery, FailureKind, Host, HostErrorKind, HostFailure, HostServices,
    LogLevel, MessageId, ProduceRecord,
};
use serde_json::json;

use super::*;
use crate::{Attribute, DigestError};

#[derive(Default)]
struct FakeHost {
    asked: Mutex<Vec<Asked>>,
    refuses: Option<HostErrorKind>,
}

#[derive(Clone, Debug, PartialEq)]
struct Asked {
    waited: bool,
    topic: String,
    key: Option<String>,
    payload: Value,
    headers: Vec<(String, Option<Vec<u8>>)>,
    partition: i32,
    timestamp_ms: i64,
}

impl FakeHost {
    fn note(&self, record: &ProduceRecord<'_>, waited: bool) -> Result<Delivered, HostFailure> {
        if let Some(kind) = self.refuses {
            return Err(HostFailure::new(kind, "larger than the broker takes"));
        }
        let headers = record.headers.iter();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(Asked {
            waited,
            topic: record.topic.to_string(),
            key: record
                .key
                .into_option()
                .map(|key| String::from_utf8_lossy(key.as_slice()).into_owned()),
            payload: record.payload.into_option().map_or(Value::Null, |value| {
                serde_json::from_slice(value.as_slice()).expect("JSON")
            }),
            headers: headers
                .map(|header| {
                    let value = header.value.into_option();
                    (
                        header.name.to_string(),
                        value.map(|value| value.as_slice().to_vec()),
                    )
                })
                .collect(),
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
        });
        Ok(Delivered {
            partition: 0,
            offset: asked.len() as i64,
        })
    }
}

impl HostServices for FakeHost {
    fn log(&self, _: LogLevel, _: &str, _: &str, _: &str) {}
    fn log_enabled(&self, _: LogLevel) -> bool {
        false
    }
    fn count(&self, _: &str, _: u64) {}
    fn time(&self, _: &str, _: u64) {}
    fn settings(&self) -> String {
        "{}".to_owned()
    }
    fn stop_requested(&self) -> bool {
        false
    }
    fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), String> {
        self.note(record, false)
            .map(drop)
            .map_err(|failure| failure.message.into_string())
    }
    fn produce_for(&self, record: &ProduceRecord<'_>, _: MessageId) -> Result<(), HostFailure> {
        self.note(record, false).map(drop)
    }
    fn produce_then(&self, record: &ProduceRecord<'_>, _: MessageId, delivery: Delivery) {
        delivery.tell(self.note(record, true));
    }
    fn pause(&self, _: &str, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn resume(&self, _: &str, _: i32) -> Result<(), String> {
        Ok(())
    }
}

/// What the host was asked while `run` ran in a consumer of it.
fn asked<T>(run: impl FnOnce() -> T) -> (T, Vec<Asked>) {
    on(FakeHost::default(), run)
}

fn on<T>(host: FakeHost, run: impl FnOnce() -> T) -> (T, Vec<Asked>) {
    let services = Arc::new(host);
    let context = ConsumerContext::new(Host::new(Arc::clone(&services)), &ConstructRequest::default());
    let entered = context.enter();
    let result = run();
    drop(entered);
    let asked = services.asked.lock().unwrap_or_else(PoisonError::into_inner);
    (result, asked.clone())
}

/// The attributes `id` and `customer`.
struct Brief;

impl Schema for Brief {
    const NAME: &'static str = "Brief";
    const ATTRIBUTES: Option<&'static [Attribute]> = Some(&[
        Attribute {
            name: "id",
            type_name: "u64",
            schema: None,
        },
        Attribute {
            name: "customer",
            type_name: "Customer",
            schema: None,
        },
    ]);
}

/// One that says nothing.
struct PlainNote(Value);

impl Producer for PlainNote {
    type Payload = Value;
    fn new(payload: Value) -> Self {
        Self(payload)
    }
    fn payload(&self) -> &Value {
        &self.0
    }
}

/// One that says all.
struct Orders(Value);

impl Producer for Orders {
    type Payload = Value;
    fn new(payload: Value) -> Self {
        Self(payload)
    }
    fn payload(&self) -> &Value {
        &self.0
    }
    fn config() -> ProducerConfig {
        ProducerConfig::new()
            .topic("orders")
            .schema_class::<Brief>()
            .producer_type(ProducerType::Producer)
            .partition_key("customer.region")
    }
}

/// One whose hooks choose by the context.
struct Hooked(Value);

impl Producer for Hooked {
    type Payload = Value;
    fn new(payload: Value) -> Self {
        Self(payload)
    }
    fn payload(&self) -> &Value {
        &self.0
    }
    fn config() -> ProducerConfig {
        ProducerConfig::new().topic("hooked").partition_key("id")
    }
    fn topic(&self, context: &ProduceContext) -> String {
        match context.get("tenant") {
            Some(Value::String(tenant)) => format!("hooked-{tenant}"),
            _ => "hooked".to_owned(),
        }
    }
    fn schema(&self, context: &ProduceContext) -> Option<AnySchema> {
        (context.event() == Some(Event::Delete)).then(AnySchema::of::<Brief>)
    }
    fn partition_key(&self, context: &ProduceContext) -> Option<PartitionKey> {
        let key = context.get("key")?.as_str()?;
        Some(PartitionKey::Value(key.into()))
    }
}

#[test]
fn without_a_configuration_the_payload_goes_whole_to_the_generic_topic_and_is_waited_for() {
    let (produced, asked) = asked(|| PlainNote::new(json!({"a": 1})).produce((), ()));
    assert_eq!(produced.ok().flatten().map(|at| at.offset), Some(1));
    let expected = Asked {
        waited: true,
        topic: "topic__plainnote".to_owned(),
        key: None,
        payload: json!({"a": 1}),
        headers: Vec::new(),
        partition: -1,
        timestamp_ms: -1,
    };
    assert_eq!(asked, [expected]);
}

#[test]
fn the_configuration_names_topic_schema_key_and_whether_it_waits() {
    let payload = json!({"id": 7, "customer": {"region": "eu"}, "secret": true});
    let (produced, asked) = asked(|| produce::<Orders>(payload, (), ()));
    assert!(matches!(produced, Ok(None)), "{produced:?}");
    let [order] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert!(!order.waited);
    assert_eq!(
        (order.topic.as_str(), order.key.as_deref()),
        ("orders", Some("eu"))
    );
    assert_eq!(order.payload, json!({"id": 7, "customer": {"region": "eu"}}));
}

#[test]
fn an_event_goes_into_the_message_and_extras_win() {
    let run = |context: ProduceContext, extras: Extras| {
        let (_, asked) =
            asked(|| PlainNote::new(json!({"a": 1, "event": "its own"})).produce(context, extras));
        asked[0].payload.clone()
    };
    let event = |event: Event| json!({"a": 1, "event": event.name()});
    for one in [Event::Create, Event::Update, Event::Delete] {
        assert_eq!(run(one.into(), Extras::new()), event(one));
        assert_eq!(json!(one), json!(one.name()));
    }
    let extras = Extras::new().with("event", "mine").with("a", 2);
    assert_eq!(
        run(Event::Create.into(), extras),
        json!({"a": 2, "event": "mine"})
    );
    assert_eq!(run(ProduceContext::new(), Extras::new())["event"], "its own");
}

#[test]
fn the_hooks_choose_by_the_context() {
    let payload = || json!({"id": 7, "secret": true});
    let (_, asked) = asked(|| {
        let context = ProduceContext::new().with("tenant", "acme").with("key", "k");
        Hooked::new(payload()).produce(context, ())?;
        let context = ProduceContext::from(Event::Delete)
            .header("h", "1")
            .partition(3)
            .timestamp_ms(5);
        Hooked::new(payload()).produce(context, ())
    });
    assert_eq!(
        (asked[0].topic.as_str(), asked[0].key.as_deref()),
        ("hooked-acme", Some("k"))
    );
    assert_eq!(asked[0].payload, payload(), "no schema");
    assert_eq!(
        (asked[1].topic.as_str(), asked[1].key.as_deref()),
        ("hooked", None)
    );
    assert_eq!(asked[1].payload, json!({"id": 7, "event": "delete"}));
    assert_eq!(asked[1].headers, [("h".to_owned(), Some(b"1".to_vec()))]);
    assert_eq!((asked[1].partition, asked[1].timestamp_ms), (3, 5));
}

#[test]
fn a_key_is_a_text_or_json_and_its_attribute_has_to_be_there() {
    let key = |region: Value| {
        let payload = json!({"customer": {"region": region}});
        let (_, asked) = asked(|| produce::<Orders>(payload, (), ()));
        asked[0].key.clone()
    };
    assert_eq!(key(json!("eu")).as_deref(), Some("eu"));
    assert_eq!(key(json!(7)).as_deref(), Some("7"));
    assert_eq!(key(json!([1])).as_deref(), Some("[1]"));
    assert_eq!(key(Value::Null), None);
    let (missing, asked) = asked(|| produce::<Orders>(json!({"id": 7}), (), ()));
    assert!(asked.is_empty());
    let error = missing.expect_err("there is no key");
    assert!(error.to_string().contains("`customer.region`"), "{error}");
    assert_eq!(
        DigestError::from(error).kind(),
        FailureKind::REJECT,
        "it fails again"
    );
}

#[test]
fn what_the_host_refuses_is_a_reject_and_what_fails_a_retry() {
    let run = |kind: HostErrorKind| {
        let host = FakeHost {
            refuses: Some(kind),
            ..FakeHost::default()
        };
        let (produced, _) = on(host, || PlainNote::new(Value::Null).produce((), ()));
        DigestError::from(produced.expect_err("it is refused"))
    };
    assert_eq!(run(HostErrorKind::REFUSED).kind(), FailureKind::REJECT);
    assert!(run(HostErrorKind::REFUSED).message().contains("larger than"));
    assert_eq!(run(HostErrorKind::FAILED).kind(), FailureKind::RETRY);
    assert_eq!(run(HostErrorKind::ABORTED).kind(), FailureKind::RETRY);
}

#[test]
fn an_async_digest_awaits_what_is_acknowledged_only() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers");
    let ((waited, queued), asked) = asked(|| {
        let waited = PlainNote::new(json!(1)).produce_async((), ());
        let queued = Orders::new(json!({"customer": {"region": "eu"}})).produce_async((), ());
        runtime.block_on(async { (waited.await, queued.await) })
    });
    assert_eq!(waited.ok().flatten().map(|at| at.offset), Some(1));
    assert!(matches!(queued, Ok(None)));
    assert_eq!((asked[0].waited, asked[1].waited), (true, false));
}

#[test]
fn a_generic_topic_has_no_path_and_no_generics() {
    struct Of<T>(std::marker::PhantomData<T>);
    assert_eq!(
        generic_topic::<Of<std::collections::HashMap<u8, Brief>>>(),
        "topic__of"
    );
}
