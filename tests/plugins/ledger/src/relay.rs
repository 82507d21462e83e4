//! Ledgers that produce: what they read goes on to another topic, with its offset in a header.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use devour::{prelude::*, tokio::time::sleep};

use crate::{book::Book, fault::Fault};

/// Settings of a [`Relay`] and an [`AsyncRelay`].
#[settings]
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Where every digest is appended.
    pub file: PathBuf,
    /// The topic that it goes on to, into the partition that it came from; whoever only looks at the plugin names none.
    #[serde(default)]
    pub to: String,
    /// How it is produced.
    #[serde(default)]
    pub how: How,
    /// How often.
    #[serde(default = "once")]
    pub copies: usize,
    /// How long each digest takes, in microseconds.
    #[serde(default)]
    pub work_us: u64,
    /// The messages with these numbers in their payload...
    #[serde(default)]
    pub large: Vec<u64>,
    /// ...go on with so many bytes more.
    #[serde(default)]
    pub large_bytes: usize,
    /// The first rule that fits a message decides, once it is produced.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// How a record is produced.
#[settings]
#[serde(rename_all = "kebab-case")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// Handed over.
    #[default]
    Handed,
    /// Waited for.
    Awaited,
    /// The same, and what becomes of it is of no consequence for the digest.
    Tried,
    /// Handed over on a thread of the plugin's own, which the digest waits for.
    Elsewhere,
}

/// Passes on what it reads.
pub struct Relay {
    settings: RelaySettings,
    context: ConsumerContext,
    book: Book,
}

/// The same from futures.
pub struct AsyncRelay {
    settings: RelaySettings,
    context: ConsumerContext,
    book: Mutex<Book>,
}

/// The same at every flush, all at once.
pub struct BufferRelay {
    settings: RelaySettings,
    context: ConsumerContext,
    book: Book,
    records: Vec<Record>,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = RelaySettings)]
impl Relay {
    fn construct(settings: RelaySettings, context: ConsumerContext) -> Result<Self, DigestError> {
        let book = Book::open(settings.file.clone(), settings.faults.clone())?;
        Ok(Self {
            settings,
            context,
            book,
        })
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        if self.settings.work_us > 0 {
            std::thread::sleep(Duration::from_micros(self.settings.work_us));
        }
        let (line, fault) = self.book.enter(offset, &message)?;
        let record = self.settings.record(offset, &message, line.n);
        for _ in 0..self.settings.copies {
            match self.settings.how {
                How::Handed => self.context.produce(&record)?,
                How::Awaited => {
                    let at = self.context.produce_sync(&record)?;
                    if at.partition != message.partition() {
                        return Err(DigestError::fatal(format!(
                            "it went to partition {}",
                            at.partition
                        )));
                    }
                }
                How::Tried => {
                    let _whatever = self.context.produce_sync(&record);
                }
                How::Elsewhere => std::thread::scope(|threads| {
                    let produced = threads.spawn(|| self.context.produce(&record)).join();
                    produced
                        .map_err(|_| DigestError::fatal("it panicked"))?
                        .map_err(DigestError::from)
                })?,
            }
        }
        self.book.write(&line)?;
        fault.as_ref().map_or(Ok(()), Fault::happen)
    }
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = RelaySettings)]
impl AsyncRelay {
    fn construct(settings: RelaySettings, context: ConsumerContext) -> Result<Self, DigestError> {
        let book = Mutex::new(Book::open(settings.file.clone(), settings.faults.clone())?);
        Ok(Self {
            settings,
            context,
            book,
        })
    }

    async fn digest(&self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        if self.settings.work_us > 0 {
            sleep(Duration::from_micros(self.settings.work_us)).await;
        }
        let enter = |book: &Mutex<Book>| {
            book.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .enter(offset, &message)
        };
        let (line, fault) = enter(&self.book)?;
        let record = self.settings.record(offset, &message, line.n);
        for _ in 0..self.settings.copies {
            match self.settings.how {
                How::Handed | How::Elsewhere => self.context.produce(&record)?,
                How::Awaited => {
                    self.context.produce_async(&record).await?;
                }
                How::Tried => {
                    let _whatever = self.context.produce_async(&record).await;
                }
            }
        }
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(&line)?;
        fault.as_ref().map_or(Ok(()), Fault::happen)
    }
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = RelaySettings, buffering)]
impl BufferRelay {
    fn construct(settings: RelaySettings, context: ConsumerContext) -> Result<Self, DigestError> {
        let book = Book::open(settings.file.clone(), settings.faults.clone())?;
        Ok(Self {
            settings,
            context,
            book,
            records: Vec::new(),
        })
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        let (line, _) = self.book.enter(offset, &message)?;
        self.records.push(self.settings.record(offset, &message, line.n));
        self.book.write(&line)
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        for record in self.records.drain(..) {
            self.context.produce(&record)?;
        }
        Ok(())
    }
}

// === impl RelaySettings ===

impl RelaySettings {
    fn record(&self, offset: i64, message: &Message<'_>, n: Option<u64>) -> Record {
        let mut payload = message.payload().unwrap_or_default().to_vec();
        if n.is_some_and(|n| self.large.contains(&n)) {
            // What cannot be made smaller on the way.
            payload
                .extend((0..self.large_bytes as u64).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8));
        }
        let record = Record::to(self.to.as_str())
            .payload(payload)
            .partition(message.partition())
            .header("offset", offset.to_string())
            .header("pid", std::process::id().to_string());
        match message.key() {
            Some(key) => record.key(key),
            None => record,
        }
    }
}

fn once() -> usize {
    1
}
