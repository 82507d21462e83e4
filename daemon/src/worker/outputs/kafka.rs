//! Outputs in Kafka: a route's share of the producer of its cluster, taken when the first record comes, and taken again when
//! librdkafka gives the producer up.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use devour_abi::Delivered;

use super::{Outcomes, Outlet, OutputError, OutputErrorKind, OutputId};
use crate::{
    kafka::{ClientError, ClientProperties, ErrorCode, Record, SenderReport, SenderShare, Ticket},
    os::EventFd,
};

/// The producer of a route's cluster.
pub struct KafkaOutlet {
    properties: ClientProperties,
    share: Option<SenderShare>,
    /// Told of once it is finished: what is left of its records is still to be heard.
    finished: Vec<SenderShare>,
    /// Readable when there is something to hear.
    wake: Arc<EventFd>,
    /// The topics of those on their way that are not of `topic`, for what may be said of them.
    topics: HashMap<OutputId, Arc<str>>,
    /// The topic of most.
    topic: Arc<str>,
}

// === impl KafkaOutlet ===

impl KafkaOutlet {
    /// Nothing is contacted before the first record.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(properties: ClientProperties) -> io::Result<Self> {
        Ok(Self {
            properties,
            share: None,
            finished: Vec::new(),
            wake: Arc::new(EventFd::new()?),
            topics: HashMap::new(),
            topic: Arc::from(""),
        })
    }

    fn share(&mut self) -> Result<&SenderShare, ClientError> {
        let share = match self.share.take() {
            Some(share) => share,
            None => SenderShare::join(&self.properties, &self.wake)?,
        };
        Ok(self.share.insert(share))
    }
}

impl Outlet for KafkaOutlet {
    fn send(&mut self, id: OutputId, record: &Record<'_>) -> Result<(), OutputError> {
        if self.topic.is_empty() {
            self.topic = Arc::from(record.topic);
        }
        if self
            .share
            .as_ref()
            .is_some_and(|share| share.fatal_error().is_some())
        {
            self.finished.extend(self.share.take());
        }
        let sent = self.share().and_then(|share| share.send(record, Ticket(id)));
        match sent {
            Ok(()) => {
                if *self.topic != *record.topic {
                    self.topics.insert(id, Arc::from(record.topic));
                }
                Ok(())
            }
            Err(error) => Err(of_client(record.topic, error)),
        }
    }

    fn outcomes(&mut self, into: &mut Outcomes) {
        let Self {
            share,
            finished,
            topics,
            topic,
            wake,
            ..
        } = self;
        if !finished.iter().chain(share.iter()).any(SenderShare::has_reports) {
            return;
        }
        for share in finished.iter().chain(share.iter()) {
            let fatal = share.fatal_error();
            for report in share.take() {
                let (ticket, outcome) = match report {
                    SenderReport::Delivered {
                        ticket,
                        partition,
                        offset,
                    } => (ticket, Ok(Delivered { partition, offset })),
                    SenderReport::Failed { ticket, code } => (ticket, Err(code)),
                };
                let of = if topics.is_empty() {
                    None
                } else {
                    topics.remove(&ticket.0)
                };
                let of = of.as_ref().unwrap_or(topic);
                let outcome = outcome.map_err(|code| match (code, fatal) {
                    // What it purged says so only; this is why.
                    (ErrorCode::PURGE_QUEUE | ErrorCode::PURGE_INFLIGHT | ErrorCode::FATAL, Some(error)) => {
                        of_client(of, error.clone())
                    }
                    _ => OutputError::of_code(of, code, code.text()),
                });
                into.push((ticket.0, outcome));
            }
        }
        // All its records are told of by then; what is not, nobody waits for: the first look after that finds it.
        finished.retain(SenderShare::is_waited_for);
        if !finished.is_empty() {
            // Taking from one may have silenced another.
            wake.signal();
        }
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn of_client(topic: &str, error: ClientError) -> OutputError {
    match error {
        ClientError::Call { code, text, .. } => OutputError::of_code(topic, code, text),
        ClientError::Fatal { code, text } => OutputError {
            kind: OutputErrorKind::Failed,
            topic: topic.to_owned(),
            text,
            code: Some(code),
        },
        ClientError::Name(name) => OutputError {
            kind: OutputErrorKind::Refused,
            topic: topic.to_owned(),
            text: format!("{name:?} is not the name of a topic"),
            code: None,
        },
        other => OutputError {
            kind: OutputErrorKind::Failed,
            topic: topic.to_owned(),
            text: other.to_string(),
            code: None,
        },
    }
}
