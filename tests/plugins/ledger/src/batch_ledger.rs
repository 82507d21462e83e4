//! The ledger that takes a call's messages at once.

use devour::prelude::*;

use crate::{
    LedgerSettings,
    book::Book,
    record::{Outcome, Record},
};

/// Writes down a whole batch, or, where a message of it is struck, that message alone: nothing of such a batch is digested.
/// `retry` and `reject` are that message's; what ends its process, or its instance, is the batch's.
pub struct BatchLedger(Book);

#[consumer(consumer_type = "balanced_consumer", dump_obj, settings = LedgerSettings)]
impl BatchLedger {
    fn construct(settings: LedgerSettings) -> Result<Self, DigestError> {
        Book::open(settings.file, settings.faults).map(Self)
    }

    fn digest_batch(&mut self, batch: &mut Batch<Message<'_>>) -> Result<(), DigestError> {
        let mut digested: Vec<Record> = Vec::with_capacity(batch.len());
        for entry in batch.iter() {
            let (record, fault) = self.0.enter(entry.offset, &entry.message)?;
            let Some(fault) = fault else {
                digested.push(record);
                continue;
            };
            self.0.write(&record)?;
            match (fault.happen(), record.outcome) {
                (Err(error), Outcome::Retry | Outcome::Reject) => batch.fail(entry.place, error),
                (happened, _) => return happened,
            }
        }
        for record in &digested {
            self.0.write(record)?;
        }
        Ok(())
    }
}
