//! Against a recorded contract: what Apicurio Registry 3.0.9 answered at its `/apis/ccompat/v7`, which speaks Confluent's
//! protocol. With DEVOUR_TEST_REGISTRY naming such a URL, the same against that registry.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use super::*;
use crate::{os::wait_readable, settings::Deserializer};

const AVRO: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;
const PROTOBUF: &str =
    "syntax = \"proto3\";\nmessage Order {\n  int64 id = 1;\n  string order_note = 2;\n}\n";
const JSON: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"id":{"type":"integer"}},"required":["id"]}"#;
const MISSING: u32 = 99_999;

/// Answers as the registry did.
struct Recorded {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
}

impl Recorded {
    fn start(at: &str) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        thread::spawn({
            let (requests, ends) = (Arc::clone(&requests), Arc::clone(&ends));
            move || {
                for stream in listener.incoming() {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut stream = stream.unwrap();
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let (status, body) = answer(&head);
                    let body = body.to_string();
                    requests.lock().unwrap().push(head);
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                }
            }
        });
        Self {
            address,
            requests,
            ends,
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Ends the wait for the next.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn answer(head: &str) -> (&'static str, Value) {
    let schema = |schema: &str, kind: &str| json!({"schema": schema, "schemaType": kind, "references": []});
    match head.split_whitespace().nth(1).unwrap_or_default() {
        "/schemas/ids/1?deleted=true" => ("200 OK", schema(AVRO, "AVRO")),
        "/schemas/ids/2?deleted=true" => ("200 OK", schema(PROTOBUF, "PROTOBUF")),
        "/schemas/ids/3?deleted=true" => ("200 OK", schema(JSON, "JSON")),
        "/schemas/ids/7?deleted=true" => (
            "401 Unauthorized",
            json!({"error_code": 401, "message": "Unauthorized"}),
        ),
        _ => (
            "404 Not Found",
            json!({"message": "No content with ID '99999' was found.", "error_code": 40403}),
        ),
    }
}

/// The registry that was asked for, and the ids of the three schemas.
fn registry() -> (Option<Recorded>, String, [u32; 3]) {
    let Ok(url) = std::env::var("DEVOUR_TEST_REGISTRY") else {
        let recorded = Recorded::start("127.0.0.1:0");
        let url = format!("http://{}", recorded.address);
        return (Some(recorded), url, [1, 2, 3]);
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let register = |subject: &str, kind: &str, schema: &str| {
        let body = json!({"schemaType": kind, "schema": schema}).to_string();
        let answer = client
            .post(format!("{url}/subjects/devour-test-{subject}/versions"))
            .header("content-type", "application/vnd.schemaregistry.v1+json")
            .body(body)
            .send()
            .unwrap();
        let answer: Value = serde_json::from_str(&answer.text().unwrap()).unwrap();
        u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
    };
    let ids = [
        register("avro", "AVRO", AVRO),
        register("protobuf", "PROTOBUF", PROTOBUF),
        register("json", "JSON", JSON),
    ];
    (None, url, ids)
}

fn asking(url: &str, deserializer: Deserializer, credentials: Option<&str>) -> Registry {
    let config = RegistryConfig {
        deserializer,
        urls: vec![url.to_owned()],
        credentials: credentials.map(crate::settings::Secret::new),
    };
    Registry::new(config, "test".parse().unwrap()).unwrap()
}

fn message(id: u32, rest: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], rest].concat()
}

/// What becomes of a value once its schema is known.
fn decode(registry: &mut Registry, value: &[u8]) -> Result<Value, String> {
    for _ in 0..100 {
        match registry.decode(value) {
            Ok(json) => return Ok(serde_json::from_slice(json).unwrap()),
            Err(Unshaped::Rejected(why)) => return Err(why),
            Err(Unshaped::Waits { .. }) => {
                let _ = wait_readable(registry.wake_fd(), Some(Instant::now() + Duration::from_secs(10)));
                registry.take_answers();
            }
        }
    }
    panic!("the schema does not come");
}

#[test]
fn values_become_json_by_the_schemas_that_they_name() {
    let (_recorded, url, [avro, protobuf, json_schema]) = registry();
    let mut registry = asking(&url, Deserializer::Avro, None);
    let value = message(avro, &[14, 2, 4, b'h', b'i']);
    assert!(
        matches!(registry.decode(&value), Err(Unshaped::Waits { id }) if id == avro),
        "the first does not wait for the registry"
    );
    assert_eq!(decode(&mut registry, &value), Ok(json!({"id": 7, "note": "hi"})));
    assert_eq!(
        decode(&mut registry, &message(avro, &[1, 0])),
        Ok(json!({"id": -1, "note": null}))
    );

    let mut registry = asking(&url, Deserializer::Protobuf, None);
    // Message index 0, then id = 2^53 + 1.
    let value = message(protobuf, &[0, 8, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
    assert_eq!(
        decode(&mut registry, &value),
        Ok(json!({"id": 9_007_199_254_740_993_i64, "order_note": ""}))
    );

    let mut registry = asking(&url, Deserializer::JsonSchema, None);
    let value = message(json_schema, br#"{"id": 7, "more": 1e2}"#);
    assert_eq!(decode(&mut registry, &value), Ok(json!({"id": 7, "more": 1e2})));
    let why = decode(&mut registry, &message(json_schema, br#"{"id": "seven"}"#)).unwrap_err();
    assert!(why.contains("does not fit its schema"), "{why}");
}

#[test]
fn what_is_not_what_it_should_be_is_rejected_and_says_why() {
    let (_recorded, url, [avro, protobuf, _]) = registry();
    let mut registry = asking(&url, Deserializer::Avro, None);
    let why = decode(&mut registry, b"{}").unwrap_err();
    assert!(why.contains("not in the registry's wire format"), "{why}");
    let why = decode(&mut registry, &message(MISSING, &[0])).unwrap_err();
    assert!(why.contains("the registry has no such schema"), "{why}");
    let why = decode(&mut registry, &message(protobuf, &[0])).unwrap_err();
    assert!(why.contains("cannot be used"), "a schema of another kind: {why}");
    // A string that says it is longer than the message, and one of 2^60 bytes.
    for rest in [
        &[14, 2, 40, b'h'][..],
        &[14, 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
    ] {
        let why = decode(&mut registry, &message(avro, rest)).unwrap_err();
        assert!(why.contains("does not fit its schema"), "{why}");
    }
}

#[test]
fn schemas_are_asked_for_once_with_the_credentials_and_waited_for_while_the_registry_is_away() {
    // A port that is free until the registry comes.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut registry = asking(
        &format!("http://{address}/"),
        Deserializer::Avro,
        Some("ada:secret"),
    );
    let value = message(1, &[14, 0]);
    assert!(matches!(registry.decode(&value), Err(Unshaped::Waits { id: 1 })));
    let told = wait_readable(
        registry.wake_fd(),
        Some(Instant::now() + Duration::from_millis(600)),
    );
    assert!(registry.take_answers().is_empty(), "{told:?}");
    assert!(matches!(registry.decode(&value), Err(Unshaped::Waits { id: 1 })));
    let recorded = Recorded::start(&address.to_string());
    assert_eq!(decode(&mut registry, &value), Ok(json!({"id": 7, "note": null})));
    for _ in 0..10 {
        assert_eq!(decode(&mut registry, &value), Ok(json!({"id": 7, "note": null})));
    }
    let requests = recorded.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0]
            .to_lowercase()
            .contains("authorization: basic ywrhonnly3jlda=="),
        "{requests:?}"
    );
    // A refused password says nothing of the message: it waits.
    assert!(matches!(
        registry.decode(&message(7, &[0])),
        Err(Unshaped::Waits { id: 7 })
    ));
    let _ = wait_readable(
        registry.wake_fd(),
        Some(Instant::now() + Duration::from_millis(600)),
    );
    assert!(registry.take_answers().is_empty());
    assert!(matches!(
        registry.decode(&message(7, &[0])),
        Err(Unshaped::Waits { id: 7 })
    ));
}
