//! The ledger whose digests are futures.

use std::{
    future::pending,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use devour::{prelude::*, tokio::time::sleep};

use crate::{
    book::Book,
    fault::{Fault, Kind},
};

/// Settings of an [`AsyncLedger`].
#[settings]
#[derive(Clone, Debug)]
pub struct AsyncLedgerSettings {
    /// Where every digest is appended.
    pub file: PathBuf,
    /// How long each digest waits before it is written down, in microseconds; timers tick in milliseconds.
    #[serde(default)]
    pub wait_us: u64,
    /// Threads of the runtime; one unless it is said.
    #[serde(default)]
    pub workers: Option<usize>,
    /// The first rule that fits a message decides. `block` is a future that never ends, and blocks no thread.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Writes down every digest after a while, many at once, and fails or dies on order.
pub struct AsyncLedger {
    wait: Duration,
    book: Mutex<Book>,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = AsyncLedgerSettings)]
impl AsyncLedger {
    fn construct(settings: AsyncLedgerSettings) -> Result<Self, DigestError> {
        Ok(Self {
            wait: Duration::from_micros(settings.wait_us),
            book: Mutex::new(Book::open(settings.file, settings.faults)?),
        })
    }

    fn describe(settings: &AsyncLedgerSettings, attributes: Attributes) -> Attributes {
        match settings.workers {
            Some(workers) => attributes.workers(workers),
            None => attributes,
        }
    }

    async fn digest(&self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        if !self.wait.is_zero() {
            sleep(self.wait).await;
        }
        match self.write_down(offset, &message)? {
            None => Ok(()),
            Some(fault) if fault.kind == Kind::Block => pending().await,
            Some(fault) if fault.kind == Kind::Hold => self.hold(&message),
            Some(fault) => fault.happen(),
        }
    }
}

// === impl AsyncLedger ===

impl AsyncLedger {
    /// Keeps the thread: dropping the instance does not end it.
    fn hold(&self, message: &Message<'_>) -> Result<(), DigestError> {
        let seen = |message: &Message<'_>| {
            (
                message.key().map(<[u8]>::to_vec),
                message.payload().map(<[u8]>::to_vec),
            )
        };
        let before = seen(message);
        let file = |extension: &str| {
            let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.file().with_extension(extension)
        };
        std::fs::write(file("holding"), "")?;
        while !file("release").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        let same = seen(message) == before;
        std::fs::write(file("held"), if same { "same" } else { "changed" })?;
        Err(DigestError::retry("held on order"))
    }

    fn write_down(&self, offset: i64, message: &Message<'_>) -> Result<Option<Fault>, DigestError> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let (record, fault) = book.enter(offset, message)?;
        book.write(&record)?;
        Ok(fault)
    }
}
