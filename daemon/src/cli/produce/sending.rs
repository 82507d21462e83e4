//! Sends the messages of an input: not faster than asked, not more on their way than fits, and knows of each what became
//! of it.

use std::{
    collections::BTreeMap,
    fmt,
    io::IsTerminal,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{
    Failed, Target, client,
    input::{Entry, Input, Stop},
};
use crate::{
    cli::where_silent,
    kafka::{ErrorCode, Record, Sender, SenderReport, Ticket, sender_properties},
    os::{EventFd, wait_readable},
    settings::RateLimit,
};

/// Messages and bytes that may be on their way: enough to keep the brokers busy, little enough that an error is not
/// told a long time after its line.
const MOST_MESSAGES: usize = 10_000;
const MOST_BYTES: usize = 32 << 20;

/// How long is waited for the rest when a message was not delivered.
const REST: Duration = Duration::from_secs(2);

/// How often it is said how far it is, to a person.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What was sent to a topic.
pub(super) struct Sending {
    sender: Sender,
    wake: EventFd,
    topic: String,
    hosts: Vec<String>,
    /// The input's name.
    name: String,
    rate: Option<RateLimit>,
    /// By number: line and size of what is on its way.
    on_its_way: BTreeMap<u64, (u64, usize)>,
    bytes: usize,
    delivered: u64,
    failed: u64,
    /// What was not delivered first, and why.
    first_failed: Option<Undelivered>,
    says: bool,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    delivered: u64,
    /// Also what nobody knows of whether it is there.
    failed: u64,
}

/// A message that was not delivered.
struct Undelivered {
    line: u64,
    size: usize,
    code: Option<ErrorCode>,
    why: String,
}

// === impl Sending ===

impl Sending {
    pub(super) fn new(target: &Target<'_>, name: &str, rate: Option<RateLimit>) -> Result<Self, Failed> {
        let properties = sender_properties(target.cluster).map_err(Failed::Properties)?;
        let wake = EventFd::new()?;
        let sender = Sender::create(&properties, target.name.clone(), &wake)
            .map_err(client("cannot make a Kafka producer"))?;
        Ok(Self {
            sender,
            wake,
            topic: target.topic.clone(),
            hosts: target.cluster.hosts.clone(),
            name: name.to_owned(),
            rate,
            on_its_way: BTreeMap::new(),
            bytes: 0,
            delivered: 0,
            failed: 0,
            first_failed: None,
            says: std::io::stderr().is_terminal(),
        })
    }

    /// Sends all of it, and waits until the brokers have it. After a message that they do not take none is sent.
    pub(super) fn send_all(&mut self, input: &mut Input) -> Result<(), Stop> {
        let begin = Instant::now();
        let mut said = begin;
        let mut number = 0;
        let stopped = loop {
            let entry = match input.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break None,
                Err(stop) => break Some(stop),
            };
            if let Some(rate) = self.rate {
                let due = rate.per.mul_f64(number as f64 / f64::from(rate.messages));
                self.wait_until(begin + due);
            }
            self.send(&entry, number);
            number += 1;
            if self.first_failed.is_some() {
                break None;
            }
            if self.says && said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                eprintln!("{} of {number} messages delivered", self.delivered);
            }
        };
        self.wait_while(|sending| !sending.on_its_way.is_empty() && sending.first_failed.is_none());
        // What the brokers have taken may still be told; what came behind a message that failed may wait for long.
        let soon = Instant::now() + REST;
        while !self.on_its_way.is_empty() && Instant::now() < soon {
            self.wait(Some(soon));
        }
        self.failed += self.on_its_way.len() as u64;
        match &self.first_failed {
            Some(Undelivered { line, why, code, .. }) => Err(Stop {
                place: format!("{}:{line}", self.name),
                why: format!(
                    "not delivered to {}: {why}{}",
                    self.topic,
                    where_silent(*code, &self.hosts)
                ),
            }),
            None => stopped.map_or(Ok(()), Err),
        }
    }

    /// Ends the producer.
    pub(super) fn close(self) -> Progress {
        self.sender.close(Instant::now() + Duration::from_secs(5));
        Progress {
            delivered: self.delivered,
            failed: self.failed,
        }
    }

    /// Queues one message, once there is room.
    fn send(&mut self, entry: &Entry, number: u64) {
        let headers: Vec<(&str, Option<&[u8]>)> = entry
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let topic = self.topic.clone();
        let record = Record {
            topic: &topic,
            partition: entry.partition,
            key: entry.key.as_deref(),
            payload: entry.value.as_deref(),
            headers: &headers,
            timestamp: entry.timestamp,
        };
        let size = record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
        loop {
            self.wait_while(|sending| {
                let full = sending.on_its_way.len() >= MOST_MESSAGES || sending.bytes + size > MOST_BYTES;
                full && !sending.on_its_way.is_empty()
            });
            if self.first_failed.is_some() {
                return;
            }
            match self.sender.send(&record, Ticket(number)) {
                Ok(()) => {
                    self.on_its_way.insert(number, (entry.line, size));
                    self.bytes += size;
                    self.take();
                    return;
                }
                // The settings made librdkafka's queue smaller than ours.
                Err(error) if error.code() == Some(ErrorCode::QUEUE_FULL) && !self.on_its_way.is_empty() => {
                    let before = self.on_its_way.len();
                    self.wait_while(|sending| sending.on_its_way.len() == before);
                }
                Err(error) => {
                    self.fail((entry.line, size), error.code(), error.to_string());
                    return;
                }
            }
        }
    }

    /// Waits until `moment`, or until something was not delivered.
    fn wait_until(&mut self, moment: Instant) {
        while self.first_failed.is_none() && Instant::now() < moment {
            self.wait(Some(moment));
        }
    }

    /// Waits as long as `condition` holds. librdkafka gives every message up in the end, so this ends.
    fn wait_while(&mut self, condition: impl Fn(&Self) -> bool) {
        self.take();
        while condition(self) {
            self.wait(None);
            if let Some(error) = self.sender.fatal_error() {
                for message in std::mem::take(&mut self.on_its_way).into_values() {
                    self.fail(message, error.code(), error.to_string());
                }
                self.bytes = 0;
            }
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) {
        // What ends a client is no report: it is looked for now and then.
        let soon = Instant::now() + Duration::from_secs(1);
        let deadline = deadline.map_or(soon, |deadline| deadline.min(soon));
        // A failed wait only means another turn.
        let _ = wait_readable(self.wake.as_fd(), Some(deadline));
        self.take();
    }

    fn take(&mut self) {
        self.wake.drain();
        for report in self.sender.take() {
            let (Ticket(number), failure) = match report {
                SenderReport::Delivered { ticket, .. } => (ticket, None),
                SenderReport::Failed { ticket, code } => (ticket, Some(code)),
            };
            let Some(message) = self.on_its_way.remove(&number) else {
                continue;
            };
            self.bytes -= message.1;
            match failure {
                None => self.delivered += 1,
                Some(code) => self.fail(message, Some(code), format!("{} ({code})", code.text())),
            }
        }
    }

    fn fail(&mut self, (line, size): (u64, usize), code: Option<ErrorCode>, why: String) {
        self.failed += 1;
        let is_told = match &self.first_failed {
            None => true,
            // Brokers refuse a batch as a whole for the one message that is too large.
            Some(told) if code == Some(ErrorCode::MSG_SIZE_TOO_LARGE) => {
                told.code == code && told.size < size
            }
            Some(_) => false,
        };
        if is_told {
            self.first_failed = Some(Undelivered {
                line,
                size,
                code,
                why,
            });
        }
    }
}

// === impl Progress ===

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delivered {
            1 => f.write_str("1 message was delivered")?,
            count => write!(f, "{count} messages were delivered")?,
        }
        match self.failed {
            0 => Ok(()),
            count => write!(f, ", {count} were not"),
        }
    }
}
