//! `devourd dead-letter list`: reads the dead-letter topic from its beginning to its present end. No group, no commit.

use std::{ops::ControlFlow, time::Duration};

use serde_json::{Value, json};

use super::{Failed, Letter, TIMEOUT, client};
use crate::{
    cli::DONE,
    kafka::{Reader, reader_properties},
    settings::{DeadLetter, Route},
    time::utc,
};

pub(super) fn list(route: &Route, to: &DeadLetter, limit: usize, as_json: bool) -> Result<u8, Failed> {
    let topic = &to.topic;
    let properties = reader_properties(&route.cluster, &route.name, None).map_err(Failed::Properties)?;
    let reader =
        Reader::create(&properties, route.name.clone()).map_err(client("cannot make a Kafka client"))?;
    let extents = reader
        .extents(topic, TIMEOUT)
        .map_err(client(format!("cannot look at {topic}")))?;
    let (mut letters, mut others, mut shown): (Vec<Value>, usize, usize) = (Vec::new(), 0, 0);
    let read = reader.read(topic, &extents, |messages| {
        for message in messages {
            let Some(letter) = Letter::of(message, route) else {
                others += 1;
                continue;
            };
            if shown == limit {
                return ControlFlow::Break(());
            }
            shown += 1;
            if as_json {
                letters.push(as_value(topic, &letter));
            } else {
                println!("{}", as_line(topic, &letter));
            }
        }
        ControlFlow::Continue(())
    });
    reader.close(Duration::from_secs(1));
    read.map_err(client(format!("cannot read {topic}")))?;
    if as_json {
        let list = json!({"route": route.name, "topic": topic, "letters": letters, "others": others});
        println!("{list}");
    } else if shown == 0 {
        println!("route `{}` has no dead letters in {topic}", route.name);
    }
    if others > 0 && !as_json {
        eprintln!("{topic} holds {others} more messages: letters of other routes, or none of devourd's");
    }
    Ok(DONE)
}

fn as_line(topic: &str, letter: &Letter) -> String {
    let story = &letter.told.story;
    let key = letter
        .key_text()
        .map_or("no key".to_owned(), |key| format!("key {key:?}"));
    format!(
        "{topic}/{}@{}  from {}  {}  {}  attempt {}: {}: {}",
        letter.partition,
        letter.offset,
        letter.from(),
        utc(story.last_failure_ms),
        key,
        story.attempts,
        story.kind,
        story.error,
    )
}

fn as_value(topic: &str, letter: &Letter) -> Value {
    let story = &letter.told.story;
    json!({
        "topic": topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "from": {"topic": story.topic, "partition": story.partition, "offset": story.offset},
        "key": letter.key_text(),
        "bytes": letter.payload.as_ref().map(|payload| payload.len()),
        "timestamp": letter.timestamp,
        "attempts": story.attempts,
        "first_failure": story.first_failure_ms,
        "last_failure": story.last_failure_ms,
        "kind": story.kind,
        "error": story.error,
        "plugin": letter.told.plugin,
    })
}
