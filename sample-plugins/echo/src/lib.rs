//! Prints what it is given to standard output, one line per message, one consumer per dump mode.
//!
//! | symbol | dump mode | prints |
//! |---|---|---|
//! | `EchoRaw` | `dump_raw` | offset and the value's bytes |
//! | `EchoObject` | `dump_obj` | the whole message |
//! | `EchoJson` | `dump_json` | offset and the object's fields |
//!
//! All read the topic `echo`, each in a group of its own, so that each prints every message.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use devour::{
    prelude::*,
    serde_json::{Map, Value},
};
use devour_seen::{Ledger, number_in};

/// Settings of every consumer of this library.
#[settings]
#[derive(Debug)]
pub struct EchoSettings {
    /// File to which every digested message is appended, as `topic partition offset number`, where the number is the
    /// first in the message's bytes.
    #[serde(default)]
    ledger: Option<PathBuf>,
    /// Whether to print; without, the ledger alone is written.
    #[serde(default = "yes")]
    print: bool,
}

/// Prints offset and bytes.
pub struct EchoRaw(Echo);

/// Prints the whole message.
pub struct EchoObject(Echo);

/// Prints offset and the fields of the JSON object.
pub struct EchoJson(Echo);

/// What the three share.
struct Echo {
    print: bool,
    ledger: Option<Ledger>,
    line: Vec<u8>,
}

#[consumer(
    topic = "echo",
    consumer_type = "balanced_consumer",
    config(consumer_group = "echo_raw_consumers"),
    dump_raw,
    settings = EchoSettings
)]
impl EchoRaw {
    fn construct(settings: EchoSettings) -> Result<Self, DigestError> {
        Echo::new(&settings).map(Self)
    }

    fn digest(&mut self, offset: i64, raw: WithMessage<'_, Raw<'_>>) -> Result<(), DigestError> {
        self.0.echo(&raw.message, |line| {
            write!(line, "{offset} ")?;
            value(line, raw.value.0)
        })
    }
}

#[consumer(
    topic = "echo",
    consumer_type = "balanced_consumer",
    config(consumer_group = "echo_object_consumers"),
    dump_obj,
    settings = EchoSettings
)]
impl EchoObject {
    fn construct(settings: EchoSettings) -> Result<Self, DigestError> {
        Echo::new(&settings).map(Self)
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        self.0.echo(&message, |line| {
            write!(line, "{}/{}@{offset}", message.topic(), message.partition())?;
            if let Some(timestamp) = message.timestamp_ms() {
                write!(line, " at {timestamp} ms")?;
            }
            line.extend_from_slice(b" key ");
            value(line, message.key())?;
            for header in message.headers() {
                write!(line, " header {}=", header.name)?;
                value(line, header.value)?;
            }
            line.extend_from_slice(b" value ");
            value(line, message.payload())
        })
    }
}

#[consumer(
    topic = "echo",
    consumer_type = "balanced_consumer",
    config(consumer_group = "echo_json_consumers"),
    settings = EchoSettings
)]
impl EchoJson {
    fn construct(settings: EchoSettings) -> Result<Self, DigestError> {
        Echo::new(&settings).map(Self)
    }

    // The whole object, because an echo knows no fields; a digest that does takes them as parameters.
    fn digest(
        &mut self,
        offset: i64,
        object: WithMessage<'_, Json<Map<String, Value>>>,
    ) -> Result<(), DigestError> {
        self.0.echo(&object.message, |line| {
            write!(line, "{offset}")?;
            for (name, value) in object.value.iter() {
                write!(line, " {name}={value}")?;
            }
            Ok(())
        })
    }
}

// === impl Echo ===

impl Echo {
    fn new(settings: &EchoSettings) -> Result<Self, DigestError> {
        let ledger = settings
            .ledger
            .as_deref()
            .map(Ledger::open)
            .transpose()
            .or_fatal()?;
        Ok(Self {
            print: settings.print,
            ledger,
            line: Vec::new(),
        })
    }

    /// Prints the line that `describe` writes, in one piece, and writes the message down.
    fn echo(
        &mut self,
        message: &Message<'_>,
        describe: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), DigestError> {
        if self.print {
            self.line.clear();
            describe(&mut self.line)?;
            self.line.push(b'\n');
            io::stdout().lock().write_all(&self.line)?;
        }
        if let Some(ledger) = &mut self.ledger {
            let number = message.payload().and_then(number_in);
            ledger.saw(message.topic(), message.partition(), message.offset(), number)?;
        }
        Ok(())
    }
}

/// Bytes as a person may read them, on one line.
fn value(line: &mut Vec<u8>, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        None => line.write_all(b"null"),
        Some(bytes) => String::from_utf8_lossy(bytes)
            .split_inclusive(['\n', '\r'])
            .try_for_each(|part| match part.strip_suffix(['\n', '\r']) {
                Some(text) if part.ends_with('\n') => write!(line, "{text}\\n"),
                Some(text) => write!(line, "{text}\\r"),
                None => line.write_all(part.as_bytes()),
            }),
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_on_one_line() {
        let mut line = Vec::new();
        assert!(value(&mut line, Some(b"a\nb\r\nc\xff")).is_ok());
        assert_eq!(String::from_utf8_lossy(&line), "a\\nb\\r\\nc\u{fffd}");
    }
}
