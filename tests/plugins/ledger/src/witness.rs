//! Consumers that write down what they were given, one JSON object a line, for scenarios about a message's content.

use std::{fs::File, io::Write, path::PathBuf};

use devour::{
    prelude::*,
    serde_json::{Value, json},
};

/// Settings of every witness.
#[settings]
#[derive(Clone, Debug)]
pub struct WitnessSettings {
    /// Where every message is appended.
    pub file: PathBuf,
}

/// Writes down length and checksum of the value.
pub struct WitnessRaw(Statement);

/// Writes down the whole message.
pub struct WitnessObject(Statement);

/// Writes down the fields that it takes.
pub struct WitnessJson(Statement);

struct Statement(File);

#[consumer(consumer_type = "balanced_consumer", dump_raw, settings = WitnessSettings)]
impl WitnessRaw {
    fn construct(settings: WitnessSettings) -> Result<Self, DigestError> {
        Statement::open(&settings).map(Self)
    }

    fn digest(&mut self, offset: i64, value: Raw<'_>) -> Result<(), DigestError> {
        let seen = value
            .0
            .map(|bytes| json!({"length": bytes.len(), "checksum": checksum(bytes)}));
        self.0.write(&json!({"offset": offset, "value": seen}))
    }
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = WitnessSettings)]
impl WitnessObject {
    fn construct(settings: WitnessSettings) -> Result<Self, DigestError> {
        Statement::open(&settings).map(Self)
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        let headers: Vec<Value> = message
            .headers()
            .map(|header| json!([header.name, text(header.value)]))
            .collect();
        self.0.write(&json!({
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": offset,
            "key": text(message.key()),
            "value": text(message.payload()),
            "headers": headers,
            "timestamp": message.timestamp_ms(),
            "attempt": message.attempt(),
        }))
    }
}

#[consumer(consumer_type = "balanced_consumer", settings = WitnessSettings)]
impl WitnessJson {
    fn construct(settings: WitnessSettings) -> Result<Self, DigestError> {
        Statement::open(&settings).map(Self)
    }

    fn digest(
        &mut self,
        offset: i64,
        id: u64,
        text: Option<&str>,
        list: Option<Vec<i64>>,
        small: Option<u8>,
    ) -> Result<(), DigestError> {
        self.0
            .write(&json!({"offset": offset, "id": id, "text": text, "list": list, "small": small}))
    }
}

/// Bytes as text, as the scenarios send nothing else where they look at it.
fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// FNV-1a over 64 bits.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

// === impl Statement ===

impl Statement {
    fn open(settings: &WitnessSettings) -> Result<Self, DigestError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&settings.file)
            .or_fatal()?;
        Ok(Self(file))
    }

    fn write(&mut self, seen: &Value) -> Result<(), DigestError> {
        let line = format!("{seen}\n");
        self.0.write_all(line.as_bytes())?;
        Ok(())
    }
}
