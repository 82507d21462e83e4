//! The ledger whose digests are futures.

use std::{
    future::pending,
    path::PathBuf,
    sync::{Mutex, PoisonError},
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

    async fn digest(&self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        if !self.wait.is_zero() {
            sleep(self.wait).await;
        }
        match self.write_down(offset, &message)? {
            None => Ok(()),
            Some(fault) if fault.kind == Kind::Block => pending().await,
            Some(fault) => fault.happen(),
        }
    }
}

// === impl AsyncLedger ===

impl AsyncLedger {
    fn write_down(&self, offset: i64, message: &Message<'_>) -> Result<Option<Fault>, DigestError> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let (record, fault) = book.enter(offset, message)?;
        book.write(&record)?;
        Ok(fault)
    }
}
