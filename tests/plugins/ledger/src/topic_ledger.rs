//! The ledger that needs no route: it declares a topic and a group. A settings' `defaults` may name others.

use devour::prelude::*;

use crate::ledger::{Ledger, LedgerSettings};

/// A [`Ledger`] of a topic of its own.
pub struct TopicLedger(Ledger);

#[consumer(
    topic = "ledger",
    consumer_type = "balanced_consumer",
    config(consumer_group = "ledger_consumers"),
    dump_obj,
    settings = LedgerSettings
)]
impl TopicLedger {
    fn construct(settings: LedgerSettings) -> Result<Self, DigestError> {
        Ledger::construct(settings).map(Self)
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        self.0.digest(offset, message)
    }
}
