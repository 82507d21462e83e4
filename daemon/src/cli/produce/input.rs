//! Lines to messages: as they are, or JSON objects that name the parts. What does not fit is said with its line.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Bytes, Format};

/// What a message is sent with that does not say otherwise.
pub(super) struct Defaults {
    pub format: Format,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub partition: Option<i32>,
    /// How many there are, where that is known.
    pub partitions: Option<i32>,
}

pub(super) type Header = (String, Option<Vec<u8>>);

/// A file or standard input, line by line.
pub(super) struct Input {
    bytes: Bytes,
    name: String,
    defaults: Defaults,
    line: u64,
    buffer: Vec<u8>,
}

/// A message and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub line: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
}

/// Why no more is sent, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub place: String,
    pub why: String,
}

/// No message can be longer: librdkafka's own limit.
const LONGEST: u64 = 1_000_000_000;

/// A line of `--format json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(borrow)]
    value: &'l RawValue,
    #[serde(borrow, default)]
    key: Option<&'l RawValue>,
    #[serde(borrow, default)]
    headers: Headers<'l>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<i64>,
}

/// `{"name": "value"}`, or `[["name", "value"]]`, in their order; a name may stand more than once in either.
#[derive(Default)]
struct Headers<'l>(Vec<(String, &'l RawValue)>);

// === impl Input ===

impl Input {
    pub(super) fn new(read: Box<dyn Read>, name: &str, defaults: Defaults) -> Self {
        Self {
            bytes: BufReader::with_capacity(64 * 1024, read),
            name: name.to_owned(),
            defaults,
            line: 0,
            buffer: Vec::new(),
        }
    }

    /// The next message; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Stop> {
        loop {
            if !self
                .read_line()
                .map_err(|error| self.stop(self.line + 1, error))?
            {
                return Ok(None);
            }
            self.line += 1;
            let text = &self.buffer[..];
            let entry = match self.defaults.format {
                Format::Lines => Entry {
                    line: self.line,
                    key: self.defaults.key.clone(),
                    value: Some(text.to_vec()),
                    headers: self.defaults.headers.clone(),
                    partition: self.defaults.partition,
                    timestamp: None,
                },
                Format::Json if text.trim_ascii().is_empty() => continue,
                Format::Json => self.parse(text).map_err(|why| self.stop(self.line, why))?,
            };
            if let (Some(partition), Some(count)) = (entry.partition, self.defaults.partitions)
                && partition >= count
            {
                let why = format!("there is no partition {partition}: the topic has {count}, from 0");
                return Err(self.stop(self.line, why));
            }
            return Ok(Some(entry));
        }
    }

    /// Reads a line without its end; `false` if there is none.
    fn read_line(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let mut bounded = (&mut self.bytes).take(LONGEST + 1);
        if bounded.read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(false);
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if self.buffer.len() as u64 > LONGEST {
            return Err(io::Error::other(format!(
                "a line of more than {LONGEST} bytes is no message"
            )));
        }
        Ok(true)
    }

    fn parse(&self, text: &[u8]) -> Result<Entry, String> {
        let line: Line<'_> = serde_json::from_slice(text).map_err(|error| explain(&error))?;
        if line.partition.is_some_and(|partition| partition < 0) {
            return Err("`partition` is a number from 0".to_owned());
        }
        if line.timestamp.is_some_and(|at| at < 0) {
            return Err("`timestamp` is milliseconds since 1970".to_owned());
        }
        let mut headers = self.defaults.headers.clone();
        for (name, value) in line.headers.0 {
            headers.push((name, bytes(value)?));
        }
        let key = line.key.map(bytes).transpose()?.flatten();
        Ok(Entry {
            line: self.line,
            key: key.or_else(|| self.defaults.key.clone()),
            value: bytes(line.value)?,
            headers,
            partition: line.partition.or(self.defaults.partition),
            timestamp: line.timestamp,
        })
    }

    fn stop(&self, line: u64, why: impl fmt::Display) -> Stop {
        Stop {
            place: format!("{}:{line}", self.name),
            why: why.to_string(),
        }
    }
}

/// A text is sent as its bytes, null as none, anything else as it is written.
fn bytes(value: &RawValue) -> Result<Option<Vec<u8>>, String> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
            Ok(Some(text.into_bytes()))
        }
        _ => Ok(Some(text.as_bytes().to_vec())),
    }
}

/// The parser's words, and what to do about them. Its line is always the first.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (what, column) = match text.rsplit_once(" at line 1 column ") {
        Some((what, column)) => (what, Some(column)),
        None => (text.as_str(), None),
    };
    let place = column
        .map(|column| format!("column {column}: "))
        .unwrap_or_default();
    let form = "expected an object such as {\"key\": \"k\", \"value\": {..}, \"headers\": {\"h\": \"v\"}}; a line that \
                is the message itself is sent by `--format lines`";
    format!("{place}{what}; {form}")
}

// === impl Headers ===

impl<'de: 'l, 'l> Deserialize<'de> for Headers<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as an object, or as a list of pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some(header) = map.next_entry::<String, &RawValue>()? {
                    headers.push(header);
                }
                Ok(Headers(headers))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some(header) = seq.next_element::<(String, &RawValue)>()? {
                    headers.push(header);
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn input(format: Format, text: &'static str) -> Input {
        let defaults = Defaults {
            format,
            key: Some(b"k".to_vec()),
            headers: vec![("by".to_owned(), Some(b"hand".to_vec()))],
            partition: None,
            partitions: Some(3),
        };
        Input::new(Box::new(text.as_bytes()), "orders.txt", defaults)
    }

    fn only(text: &'static str) -> Entry {
        let mut input = input(Format::Json, text);
        let entry = input.next().unwrap().unwrap();
        assert_eq!(input.next().unwrap(), None);
        entry
    }

    fn refused(text: &'static str) -> Stop {
        input(Format::Json, text).next().unwrap_err()
    }

    #[test]
    fn a_line_is_sent_as_it_is() {
        let mut input = input(Format::Lines, "{\"id\": 1}\n\n last");
        let mut values = Vec::new();
        while let Some(entry) = input.next().unwrap() {
            assert_eq!(entry.key.as_deref(), Some(&b"k"[..]));
            assert_eq!(entry.headers.len(), 1);
            values.push((entry.line, entry.value.unwrap()));
        }
        assert_eq!(
            values,
            [
                (1, b"{\"id\": 1}".to_vec()),
                (2, Vec::new()),
                (3, b" last".to_vec())
            ]
        );
    }

    #[test]
    fn a_json_line_names_the_parts() {
        let entry = only(
            r#"{"key": "a\n", "value": {"b": 1, "a": [ 2 ]}, "headers": {"x": "1", "n": null, "x": 2}, "partition": 2, "timestamp": 5}"#,
        );
        assert_eq!(entry.key.unwrap(), b"a\n");
        assert_eq!(
            entry.value.unwrap(),
            br#"{"b": 1, "a": [ 2 ]}"#,
            "as it is written"
        );
        let header =
            |name: &str, value: Option<&str>| (name.to_owned(), value.map(|v| v.as_bytes().to_vec()));
        let headers = [
            header("by", Some("hand")),
            header("x", Some("1")),
            header("n", None),
            header("x", Some("2")),
        ];
        assert_eq!(entry.headers, headers);
        assert_eq!((entry.partition, entry.timestamp), (Some(2), Some(5)));
        let listed = only(r#"{"value": "v", "headers": [["x", "1"], ["x", null]]}"#);
        assert_eq!(listed.headers[1..], [header("x", Some("1")), header("x", None)]);
    }

    #[test]
    fn null_is_a_tombstone_and_a_key_of_its_own_wins() {
        let entry = only("\n  \n{\"value\": null, \"key\": 7}\n");
        assert_eq!((entry.line, entry.value), (3, None));
        assert_eq!(entry.key.unwrap(), b"7");
        assert_eq!(only(r#"{"value": ""}"#).value.unwrap(), b"", "empty is not null");
        assert_eq!(only(r#"{"value": "v", "key": null}"#).key.unwrap(), b"k");
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_line() {
        let stop = refused(r#"{"id": 1}"#);
        assert_eq!(stop.place, "orders.txt:1");
        assert!(stop.why.contains("unknown field `id`"), "{}", stop.why);
        assert!(stop.why.contains("--format lines"), "{}", stop.why);
        assert!(refused("{}").why.contains("missing field `value`"));
        assert!(refused("[1").why.contains("column"));
        assert!(
            refused(r#"{"value": 1, "partition": 3}"#)
                .why
                .contains("the topic has 3")
        );
        assert!(refused(r#"{"value": 1, "partition": -1}"#).why.contains("from 0"));
        assert!(
            refused(r#"{"value": 1, "headers": 5}"#)
                .why
                .contains("headers as an object")
        );
        assert!(refused("\u{feff}{}").why.contains("column 1"));
    }
}
