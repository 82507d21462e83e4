//! What the headers of a dead letter say, in Kafka Connect's names or Spring's, and how it is read again. Pure.
//!
//! The message's own headers come first, as they were. Then come ours, beginning with [`ROUTE`]: what stands from there
//! on under a name of ours is ours, so a message that is dead-lettered again does not grow.

use devour_abi::TimestampType;

use crate::{
    lane::record::Header,
    settings::{HeaderStyle, RouteName},
};

/// The route that gave the message up: the first of our headers, and what marks a dead letter as one.
pub const ROUTE: &str = "devour.route";
const ATTEMPTS: &str = "devour.attempts";
const FIRST_FAILURE: &str = "devour.first.failure.timestamp";
const LAST_FAILURE: &str = "devour.last.failure.timestamp";
const KIND: &str = "devour.failure.kind";
const TIMESTAMP: &str = "devour.original.timestamp";
const GROUP: &str = "devour.consumer.group";
const PLUGIN: &str = "devour.plugin";
const PLUGIN_VERSION: &str = "devour.plugin.version";
const SYMBOL: &str = "devour.plugin.symbol";

const OURS: &str = "devour.";
const CONNECT: &str = "__connect.errors.";
const SPRING: &str = "kafka_dlt-";

/// A failure's text may be a whole message: the letter must not become much larger than the message was.
const LONGEST_TEXT: usize = 8 * 1024;

/// Who gave a message up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The route.
    pub route: RouteName,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// The plugin's crate.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The consumer in it.
    pub symbol: String,
}

/// Where a message stood and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, -1 for none.
    pub timestamp_ms: i64,
    /// Where that comes from.
    pub timestamp_type: u32,
    /// Attempts made.
    pub attempts: u32,
    /// When the first failed, milliseconds since the epoch.
    pub first_failure_ms: i64,
    /// When the last failed.
    pub last_failure_ms: i64,
    /// The last failure's kind: `retry`, `reject`, `undecodable`, `fatal`, `panic`, `poison`.
    pub kind: String,
    /// Its text.
    pub error: String,
}

/// What a dead letter's headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The route that gave it up; `RouteName` has no place for what another program may have written.
    pub route: String,
    /// Where it stood, and what happened.
    pub story: Story,
    /// The plugin that failed, and its version.
    pub plugin: Option<String>,
}

/// The headers of a letter: the message's own, then ours in this style.
#[must_use]
pub fn write(style: HeaderStyle, origin: &Origin, story: &Story, own: &[Header]) -> Vec<Header> {
    let mut headers = strip(own);
    let mut text = |name: &str, value: &str| put(&mut headers, name, value.as_bytes());
    text(ROUTE, origin.route.as_str());
    text(ATTEMPTS, &story.attempts.to_string());
    text(FIRST_FAILURE, &story.first_failure_ms.to_string());
    text(LAST_FAILURE, &story.last_failure_ms.to_string());
    text(KIND, &story.kind);
    text(TIMESTAMP, &story.timestamp_ms.to_string());
    if let Some(group) = &origin.group {
        text(GROUP, group);
    }
    text(PLUGIN, &origin.plugin);
    text(PLUGIN_VERSION, &origin.version);
    text(SYMBOL, &origin.symbol);
    match style {
        HeaderStyle::Connect => connect(&mut headers, origin, story),
        HeaderStyle::Spring => spring(&mut headers, origin, story),
    }
    headers
}

/// As Kafka Connect's dead letter queue: all of it text.
fn connect(headers: &mut Vec<Header>, origin: &Origin, story: &Story) {
    let stage = if story.kind == "undecodable" {
        "VALUE_CONVERTER"
    } else {
        "TASK_PUT"
    };
    for (name, value) in [
        ("topic", story.topic.as_str()),
        ("partition", &story.partition.to_string()),
        ("offset", &story.offset.to_string()),
        ("connector.name", origin.route.as_str()),
        ("task.id", "0"),
        ("stage", stage),
        ("class.name", &origin.symbol),
        ("exception.class.name", &story.kind),
        ("exception.message", cut(&story.error)),
    ] {
        put(headers, &format!("{CONNECT}{name}"), value.as_bytes());
    }
}

/// As Spring Kafka's dead-letter publisher: numbers are big-endian bytes.
fn spring(headers: &mut Vec<Header>, origin: &Origin, story: &Story) {
    let timestamp_type = match TimestampType(story.timestamp_type) {
        TimestampType::CREATE_TIME => "CreateTime",
        TimestampType::LOG_APPEND_TIME => "LogAppendTime",
        _ => "NoTimestampType",
    };
    let mut add = |name: &str, value: &[u8]| put(headers, &format!("{SPRING}{name}"), value);
    add("original-topic", story.topic.as_bytes());
    add("original-partition", &story.partition.to_be_bytes());
    add("original-offset", &story.offset.to_be_bytes());
    add("original-timestamp", &story.timestamp_ms.to_be_bytes());
    add("original-timestamp-type", timestamp_type.as_bytes());
    if let Some(group) = &origin.group {
        add("original-consumer-group", group.as_bytes());
    }
    add("exception-fqcn", story.kind.as_bytes());
    add("exception-message", cut(&story.error).as_bytes());
}

fn put(headers: &mut Vec<Header>, name: &str, value: &[u8]) {
    headers.push((name.into(), Some(value.into())));
}

/// The text, or as much of it as a header should hold.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The headers that the message had before it was a dead letter.
#[must_use]
pub fn strip(headers: &[Header]) -> Vec<Header> {
    let (own, rest) = headers.split_at(ours_from(headers));
    let others = rest.iter().filter(|(name, _)| !is_ours(name));
    own.iter().chain(others).cloned().collect()
}

/// What the headers of a dead letter of ours say; `None` for another message.
#[must_use]
pub fn read(headers: &[Header]) -> Option<Told> {
    let ours = &headers[ours_from(headers)..];
    let bytes = |name: &str| {
        let (_, value) = ours.iter().find(|(known, _)| **known == *name)?;
        value.as_deref()
    };
    let text = |name: &str| bytes(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let connect = |name: &str| text(&format!("{CONNECT}{name}"));
    let spring = |name: &str| bytes(&format!("{SPRING}{name}"));
    let spring_text = |name: &str| spring(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let (topic, partition, offset, error) = match connect("topic") {
        Some(topic) => (
            topic,
            connect("partition")?.parse().ok()?,
            connect("offset")?.parse().ok()?,
            connect("exception.message"),
        ),
        None => (
            spring_text("original-topic")?,
            i32::from_be_bytes(spring("original-partition")?.try_into().ok()?),
            i64::from_be_bytes(spring("original-offset")?.try_into().ok()?),
            spring_text("exception-message"),
        ),
    };
    let plugin = text(PLUGIN).map(|plugin| match text(PLUGIN_VERSION) {
        Some(version) => format!("{plugin} {version}"),
        None => plugin.to_owned(),
    });
    Some(Told {
        route: text(ROUTE)?.to_owned(),
        story: Story {
            topic: topic.to_owned(),
            partition,
            offset,
            timestamp_ms: number(TIMESTAMP).unwrap_or(-1),
            timestamp_type: TimestampType::NOT_AVAILABLE.0,
            attempts: number(ATTEMPTS)
                .and_then(|attempts| attempts.try_into().ok())
                .unwrap_or(0),
            first_failure_ms: number(FIRST_FAILURE).unwrap_or(-1),
            last_failure_ms: number(LAST_FAILURE).unwrap_or(-1),
            kind: text(KIND).unwrap_or_default().to_owned(),
            error: error.unwrap_or_default().to_owned(),
        },
        plugin,
    })
}

/// Where ours begin; the length if there are none.
fn ours_from(headers: &[Header]) -> usize {
    let marker = headers.iter().position(|(name, _)| **name == *ROUTE);
    marker.unwrap_or(headers.len())
}

fn is_ours(name: &str) -> bool {
    [OURS, CONNECT, SPRING]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> Origin {
        Origin {
            route: RouteName::new("orders").unwrap(),
            group: Some("billing".to_owned()),
            plugin: "orders-plugin".to_owned(),
            version: "1.2.3".to_owned(),
            symbol: "Orders".to_owned(),
        }
    }

    fn story() -> Story {
        Story {
            topic: "orders".to_owned(),
            partition: 3,
            offset: 77,
            timestamp_ms: 1_700_000_000_123,
            timestamp_type: TimestampType::CREATE_TIME.0,
            attempts: 5,
            first_failure_ms: 1_700_000_001_000,
            last_failure_ms: 1_700_000_009_000,
            kind: "reject".to_owned(),
            error: "no such customer".to_owned(),
        }
    }

    fn header(name: &str, value: Option<&[u8]>) -> Header {
        (name.into(), value.map(Box::from))
    }

    #[test]
    fn connects_headers_are_texts_under_its_names() {
        let written = write(HeaderStyle::Connect, &origin(), &story(), &[]);
        for (name, value) in [
            ("devour.route", "orders"),
            ("devour.attempts", "5"),
            ("devour.first.failure.timestamp", "1700000001000"),
            ("devour.last.failure.timestamp", "1700000009000"),
            ("devour.consumer.group", "billing"),
            ("devour.plugin", "orders-plugin"),
            ("devour.plugin.version", "1.2.3"),
            ("__connect.errors.topic", "orders"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", "77"),
            ("__connect.errors.connector.name", "orders"),
            ("__connect.errors.task.id", "0"),
            ("__connect.errors.stage", "TASK_PUT"),
            ("__connect.errors.class.name", "Orders"),
            ("__connect.errors.exception.class.name", "reject"),
            ("__connect.errors.exception.message", "no such customer"),
        ] {
            assert!(
                written.contains(&header(name, Some(value.as_bytes()))),
                "{name}: {written:?}"
            );
        }
    }

    #[test]
    fn springs_numbers_are_big_endian_bytes() {
        let written = write(HeaderStyle::Spring, &origin(), &story(), &[]);
        for (name, value) in [
            ("kafka_dlt-original-topic", b"orders".as_slice()),
            ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
            ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 77]),
            (
                "kafka_dlt-original-timestamp",
                &1_700_000_000_123_i64.to_be_bytes(),
            ),
            ("kafka_dlt-original-timestamp-type", b"CreateTime"),
            ("kafka_dlt-original-consumer-group", b"billing"),
            ("kafka_dlt-exception-fqcn", b"reject"),
            ("kafka_dlt-exception-message", b"no such customer"),
            ("devour.attempts", b"5"),
        ] {
            assert!(
                written.contains(&header(name, Some(value))),
                "{name}: {written:?}"
            );
        }
    }

    #[test]
    fn headers_of_another_dead_letter_queue_stay_the_messages_own() {
        let own = [
            header("__connect.errors.topic", Some(b"theirs")),
            header("kafka_dlt-original-topic", Some(b"theirs")),
        ];
        let written = write(HeaderStyle::Connect, &origin(), &story(), &own);
        assert_eq!(written[..2], own);
        assert_eq!(read(&written).unwrap().story.topic, "orders");
        assert_eq!(strip(&written), own);
        assert_eq!(read(&own), None, "it is none of ours");
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let story = Story {
            error: "é".repeat(LONGEST_TEXT),
            ..story()
        };
        let written = write(HeaderStyle::Connect, &origin(), &story, &[]);
        let error = read(&written).unwrap().story.error;
        assert_eq!(error, "é".repeat(LONGEST_TEXT / 2));
    }

    fn headers() -> impl Strategy<Value = Vec<Header>> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9));
        let name = "(devour\\.x|__connect\\.errors\\.topic|kafka_dlt-x|[a-z]{0,3})";
        let header = (name, value).prop_map(|(name, value)| (name.into(), value.map(Box::from)));
        proptest::collection::vec(header, 0..6)
    }

    proptest! {
        /// However often a message becomes a dead letter, by whoever it was sent back, its own headers are what they
        /// were, and ours are there once.
        #[test]
        fn a_letter_does_not_grow(own in headers(), added in headers(), spring in any::<bool>()) {
            let style = if spring { HeaderStyle::Spring } else { HeaderStyle::Connect };
            let first = write(style, &origin(), &story(), &own);
            prop_assert_eq!(&strip(&first), &own);
            let mut told = read(&first).unwrap();
            told.story.timestamp_type = story().timestamp_type;
            prop_assert_eq!(told.story, story());
            let other = write(HeaderStyle::Connect, &origin(), &story(), &first);
            let second = write(style, &origin(), &story(), &other);
            prop_assert_eq!(&second, &first);
            // What somebody else added behind them stays too.
            let mut sent_on = first;
            sent_on.extend(added.iter().filter(|(name, _)| !is_ours(name)).cloned());
            let kept = added.into_iter().filter(|(name, _)| !is_ours(name));
            prop_assert_eq!(strip(&sent_on), own.into_iter().chain(kept).collect::<Vec<_>>());
        }
    }
}
