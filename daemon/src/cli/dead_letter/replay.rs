//! `devourd dead-letter replay`: sends letters back to the topic and partition that they came from, as they were. What
//! was sent is remembered as the committed offsets of a group of its own, so each letter goes back once.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Failed, Letter, TIMEOUT, client};
use crate::{
    cli::DONE,
    kafka::{
        ErrorCode, Extent, Message, Reader, Record, Sender, SenderReport, Ticket, reader_properties,
        sender_properties,
    },
    os::{EventFd, wait_readable},
    settings::{DeadLetter, Route},
    worker::dead_letter::headers,
};

/// Whether anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Send,
    OnlySay,
}

/// How long the brokers may take to take what was sent; librdkafka itself gives up before.
const DELIVERY: Duration = Duration::from_secs(60);

struct Replay<'a> {
    route: &'a Route,
    topic: &'a str,
    reader: &'a Reader,
    sender: Option<Sending>,
    limit: usize,
    sent: Vec<Sent>,
    /// Letters of other routes, and what is no letter.
    others: usize,
    /// It is said as it is done.
    says: bool,
}

/// The producer of a replay.
struct Sending {
    sender: Sender,
    wake: EventFd,
}

/// A letter that went back.
struct Sent {
    letter: String,
    partition: i32,
    offset: i64,
    from: String,
    to_topic: String,
    to_partition: i32,
    /// `None` in a dry run.
    to_offset: Option<i64>,
}

pub(super) fn replay(
    route: &Route,
    to: &DeadLetter,
    limit: usize,
    how: How,
    as_json: bool,
) -> Result<u8, Failed> {
    let topic = to.topic.as_str();
    let group = group(route);
    let properties =
        reader_properties(&route.cluster, &route.name, Some(group.clone())).map_err(Failed::Properties)?;
    let reader =
        Reader::create(&properties, route.name.clone()).map_err(client("cannot make a Kafka client"))?;
    let extents = reader
        .extents(topic, TIMEOUT)
        .map_err(client(format!("cannot look at {topic}")))?;
    let partitions: Vec<i32> = extents.iter().map(|extent| extent.partition).collect();
    let committed = reader.committed(topic, &partitions, TIMEOUT);
    let committed = committed.map_err(client(format!("cannot read what group {group} has replayed")))?;
    let rest: Vec<Extent> = extents
        .into_iter()
        .map(|extent| Extent {
            // What was replayed may be deleted by now.
            from: committed
                .get(&extent.partition)
                .map_or(extent.from, |next| extent.from.max(*next)),
            ..extent
        })
        .collect();
    let sender = match how {
        How::OnlySay => None,
        How::Send => Some(Sending::new(route)?),
    };
    let mut replay = Replay {
        route,
        topic,
        reader: &reader,
        sender,
        limit,
        sent: Vec::new(),
        others: 0,
        says: !as_json,
    };
    let mut failed = None;
    let read = reader.read(topic, &rest, |messages| match replay.take(messages) {
        Ok(flow) => flow,
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    let Replay {
        sender, sent, others, ..
    } = replay;
    if let Some(sending) = sender {
        sending.sender.close(Instant::now() + Duration::from_secs(5));
    }
    reader.close(Duration::from_secs(2));
    if as_json {
        let sent: Vec<Value> = sent.iter().map(Sent::as_value).collect();
        let dry_run = how == How::OnlySay;
        let done = json!({
            "route": route.name, "topic": topic, "group": group, "dry_run": dry_run, "replayed": sent, "others": others,
        });
        println!("{done}");
    } else {
        let letters = match sent.len() {
            1 => "1 dead letter".to_owned(),
            count => format!("{count} dead letters"),
        };
        match how {
            How::Send => println!("{letters} of route `{}` sent back", route.name),
            How::OnlySay => println!("{letters} of route `{}` to be sent back", route.name),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    read.map_err(client(format!("cannot read {topic}")))?;
    Ok(DONE)
}

/// The group that remembers what was replayed.
fn group(route: &Route) -> String {
    let group = route.config.consumer_group.as_deref();
    format!("{}.replay", group.unwrap_or(route.name.as_str()))
}

// === impl Replay ===

impl Replay<'_> {
    /// Sends the letters among these, waits until the brokers have them, and remembers how far that is.
    fn take(&mut self, messages: &[Message<'_>]) -> Result<ControlFlow<()>, Failed> {
        let mut flow = ControlFlow::Continue(());
        // Offset after the last message of each partition that is done with.
        let mut done: BTreeMap<i32, i64> = BTreeMap::new();
        let mut letters = Vec::new();
        for message in messages {
            match Letter::of(message, self.route) {
                Some(_) if self.sent.len() + letters.len() >= self.limit => {
                    flow = ControlFlow::Break(());
                    break;
                }
                Some(letter) => letters.push(letter),
                None => self.others += 1,
            }
            done.insert(message.partition(), message.offset() + 1);
        }
        let Some(sending) = &self.sender else {
            for letter in &letters {
                let place = (letter.told.story.partition, None);
                self.note(letter, place);
            }
            return Ok(flow);
        };
        let outcomes = sending.send_all(&letters);
        let mut failed = None;
        for (letter, outcome) in letters.iter().zip(outcomes) {
            match outcome {
                Ok((partition, offset)) => self.note(letter, (partition, Some(offset))),
                Err(error) => {
                    // Not beyond it, in its partition.
                    let next = done.entry(letter.partition).or_insert(letter.offset);
                    *next = letter.offset.min(*next);
                    failed.get_or_insert((letter, error));
                }
            }
        }
        let remembered = self.reader.commit(self.topic, &done, TIMEOUT);
        if let Some((letter, error)) = failed {
            let story = &letter.told.story;
            return Err(Failed::Refused {
                done: self.sent.len(),
                letter: self.name(letter),
                to: format!("{}/{}", story.topic, story.partition),
                error,
            });
        }
        remembered.map_err(client(
            "letters were sent back, and that cannot be remembered: the next replay sends them again",
        ))?;
        Ok(flow)
    }

    fn note(&mut self, letter: &Letter, (to_partition, to_offset): (i32, Option<i64>)) {
        let sent = Sent {
            letter: self.name(letter),
            partition: letter.partition,
            offset: letter.offset,
            from: letter.from(),
            to_topic: letter.told.story.topic.clone(),
            to_partition,
            to_offset,
        };
        if self.says {
            println!("{sent}");
        }
        self.sent.push(sent);
    }

    fn name(&self, letter: &Letter) -> String {
        format!("{}/{}@{}", self.topic, letter.partition, letter.offset)
    }
}

// === impl Sending ===

impl Sending {
    fn new(route: &Route) -> Result<Self, Failed> {
        let properties = sender_properties(&route.cluster).map_err(Failed::Properties)?;
        let wake = EventFd::new()?;
        let sender = Sender::create(&properties, route.name.clone(), &wake);
        let sender = sender.map_err(client("cannot make a Kafka producer"))?;
        Ok(Self { sender, wake })
    }

    /// Sends letters to where they came from, and waits: where each is now, or why it is not.
    fn send_all(&self, letters: &[Letter]) -> Vec<Result<(i32, i64), String>> {
        let mut outcomes: Vec<Option<Result<(i32, i64), String>>> = letters.iter().map(|_| None).collect();
        for ((ticket, letter), outcome) in (0..).zip(letters).zip(&mut outcomes) {
            if let Err(error) = self.send(letter, Ticket(ticket)) {
                *outcome = Some(Err(error));
            }
        }
        let deadline = Instant::now() + DELIVERY;
        while outcomes.iter().any(Option::is_none) && Instant::now() < deadline {
            // A failed wait only means another turn of a loop that has a deadline.
            let _ = wait_readable(self.wake.as_fd(), Some(deadline));
            self.wake.drain();
            for report in self.sender.take() {
                let (ticket, told) = match report {
                    SenderReport::Delivered {
                        ticket,
                        partition,
                        offset,
                    } => (ticket, Ok((partition, offset))),
                    SenderReport::Failed { ticket, code } => (ticket, Err(said(code))),
                };
                let place = usize::try_from(ticket.0).ok();
                if let Some(outcome) = place.and_then(|place| outcomes.get_mut(place)) {
                    *outcome = Some(told);
                }
            }
            if let Some(error) = self.sender.fatal_error() {
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
                    *outcome = Some(Err(error.to_string()));
                }
            }
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Err(said(ErrorCode::MSG_TIMED_OUT))))
            .collect()
    }

    fn send(&self, letter: &Letter, ticket: Ticket) -> Result<(), String> {
        let story = &letter.told.story;
        let own = headers::strip(&letter.headers);
        let own: Vec<(&str, Option<&[u8]>)> = own
            .iter()
            .map(|(name, value)| (&**name, value.as_deref()))
            .collect();
        let record = Record {
            topic: &story.topic,
            partition: Some(story.partition),
            key: letter.key.as_deref(),
            payload: letter.payload.as_deref(),
            headers: &own,
            // Its header's: the dead-letter topic may put a time of its own on what it gets.
            timestamp: Some(story.timestamp_ms),
        };
        self.sender
            .send(&record, ticket)
            .map_err(|error| error.to_string())
    }
}

fn said(code: ErrorCode) -> String {
    format!("{} ({code})", code.text())
}

// === impl Sent ===

impl Sent {
    fn as_value(&self) -> Value {
        json!({
            "partition": self.partition,
            "offset": self.offset,
            "from": self.from,
            "to": {"topic": self.to_topic, "partition": self.to_partition, "offset": self.to_offset},
        })
    }
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}/{}", self.letter, self.to_topic, self.to_partition)?;
        match self.to_offset {
            Some(offset) => write!(f, "@{offset}"),
            None => Ok(()),
        }
    }
}
