//! The ledger that may exist only once, as what holds a port or an embedded database does.

use std::{
    fs::{File, TryLockError},
    time::Duration,
};

use devour::prelude::*;

use crate::ledger::{Ledger, LedgerSettings};

/// A [`Ledger`] beside whose file a lock lies: its constructor fails while another lives.
pub struct OnlyLedger {
    ledger: Ledger,
    _place: File,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = LedgerSettings, swap = "after")]
impl OnlyLedger {
    fn construct(settings: LedgerSettings) -> Result<Self, DigestError> {
        let place = File::create(settings.file.with_extension("lock")).or_fatal()?;
        match place.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DigestError::fatal("another one lives")),
            Err(TryLockError::Error(error)) => return Err(DigestError::fatal(error.to_string())),
        }
        // Long enough that one which is built too early would meet the one before it.
        std::thread::sleep(Duration::from_millis(5));
        Ok(Self {
            ledger: Ledger::construct(settings)?,
            _place: place,
        })
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        self.ledger.digest(offset, message)
    }
}
