//! Letters in Kafka: the producer of a route's dead letters, made when the first one comes, and made again when
//! librdkafka gives it up.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    time::Instant,
};

use super::{
    DeadLetters, Letter, LetterId, Post, PostError,
    headers::{Origin, Story, write},
};
use crate::{
    kafka::{ClientError, ClientProperties, Record, Sender, SenderReport, Ticket},
    os::EventFd,
    settings::DeadLetter,
    worker::transaction::Link,
};

/// The dead letters of a route, as its thread has them.
pub type Letters = DeadLetters<KafkaPost>;

/// What a route's dead letters are made of.
#[derive(Clone)]
pub struct DeadLetterConfig {
    /// Their topic, and the names of their headers.
    pub to: DeadLetter,
    /// Who gives messages up.
    pub origin: Origin,
    /// Properties of the producer.
    pub properties: ClientProperties,
}

/// The dead-letter topic.
pub struct KafkaPost {
    config: DeadLetterConfig,
    sender: Option<Sender>,
    on_their_way: BTreeSet<LetterId>,
    /// Letters go into the transaction of their messages, not by a producer of their own.
    transaction: Option<Rc<Link>>,
    /// Readable when there are outcomes.
    wake: EventFd,
}

// === impl KafkaPost ===

impl KafkaPost {
    /// Letters say from now on that this gave them up.
    pub fn come_from(&mut self, origin: Origin) {
        self.config.origin = origin;
    }

    /// Nothing is contacted before the first letter.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(config: DeadLetterConfig) -> io::Result<Self> {
        Ok(Self {
            config,
            sender: None,
            on_their_way: BTreeSet::new(),
            transaction: None,
            wake: EventFd::new()?,
        })
    }

    /// Readable when there are outcomes.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        match &self.transaction {
            Some(link) => link.wake().as_fd(),
            None => self.wake.as_fd(),
        }
    }

    /// Makes the descriptor unreadable again.
    pub fn clear_wake(&self) {
        match &self.transaction {
            Some(link) => link.hear(),
            None => {
                self.wake.drain();
            }
        }
    }

    /// Letters belong to transactions from now on.
    pub(in crate::worker) fn join(&mut self, link: &Rc<Link>) {
        self.transaction = Some(Rc::clone(link));
    }

    /// The dead-letter topic's name.
    pub fn topic(&self) -> &str {
        &self.config.to.topic
    }

    /// Ends the producer; what is on its way is given up.
    pub fn close(&mut self, deadline: Instant) {
        self.on_their_way.clear();
        if let Some(sender) = self.sender.take()
            && !sender.close(deadline)
        {
            tracing::debug!(route = %self.config.origin.route, "the producer of dead letters is left to its own thread");
        }
    }

    fn sender(&mut self) -> Result<&Sender, ClientError> {
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => Sender::create(
                &self.config.properties,
                self.config.origin.route.clone(),
                &self.wake,
            )?,
        };
        Ok(self.sender.insert(sender))
    }
}

impl Post for KafkaPost {
    fn post(&mut self, id: LetterId, letter: &Letter) -> Result<(), PostError> {
        let record = &letter.record;
        let story = Story {
            topic: letter.topic.to_string(),
            partition: letter.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            timestamp_type: record.timestamp_type,
            attempts: letter.attempts,
            first_failure_ms: letter.first_failure_ms,
            last_failure_ms: letter.last_failure_ms,
            kind: letter.kind.to_owned(),
            error: letter.error.clone(),
        };
        let headers = write(
            self.config.to.headers,
            &self.config.origin,
            &story,
            &record.headers,
        );
        let headers: Vec<(&str, Option<&[u8]>)> = headers
            .iter()
            .map(|(name, value)| (&**name, value.as_deref()))
            .collect();
        let topic = self.config.to.topic.clone();
        let record = Record {
            topic: &topic,
            partition: Some(letter.partition),
            key: record.key.as_deref(),
            payload: record.payload.as_deref(),
            headers: &headers,
            timestamp: Some(record.timestamp_ms),
        };
        let sent = match &self.transaction {
            Some(link) => link.send_letter(&record, Ticket(id)),
            None => self.sender().and_then(|sender| sender.send(&record, Ticket(id))),
        };
        match sent {
            Ok(()) => {
                self.on_their_way.insert(id);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn outcomes(&mut self) -> Vec<(LetterId, Result<(), PostError>)> {
        let reports = match (&self.transaction, &self.sender) {
            (Some(link), _) => link.take_letters(),
            (None, Some(sender)) => sender.take(),
            (None, None) => Vec::new(),
        };
        let mut outcomes = Vec::new();
        for report in reports {
            let (ticket, outcome) = match report {
                SenderReport::Delivered { ticket, .. } => (ticket, Ok(())),
                SenderReport::Failed { ticket, code } => {
                    let text = code.text();
                    (
                        ticket,
                        Err(PostError {
                            text,
                            code: Some(code),
                        }),
                    )
                }
            };
            if self.on_their_way.remove(&ticket.0) {
                outcomes.push((ticket.0, outcome));
            }
        }
        if let Some(error) = self.sender.as_ref().and_then(Sender::fatal_error) {
            // Nothing more comes of this producer. (An idempotent one ends so where it is refused the right to write.)
            let error = PostError::from(error);
            let left = std::mem::take(&mut self.on_their_way);
            outcomes.extend(left.into_iter().map(|id| (id, Err(error.clone()))));
            for (_, outcome) in &mut outcomes {
                // What it purged says so only; this is why.
                if outcome.is_err() {
                    *outcome = Err(error.clone());
                }
            }
            self.sender = None;
        }
        outcomes
    }
}

impl From<ClientError> for PostError {
    fn from(error: ClientError) -> Self {
        let code = error.code();
        let text = match error {
            ClientError::Call { text, .. } | ClientError::Fatal { text, .. } => text,
            other => other.to_string(),
        };
        Self { text, code }
    }
}
