//! The outbox: how a row and the message that tells of it cannot diverge.
//!
//! A plugin that saves a row and then produces dies one day between the two. So it writes the record into a table of the
//! same database, in the transaction of the row: both are there, or neither. A [`Relay`], a thread beside the consumer,
//! takes records out of the table in their order, produces them, and deletes what the broker has acknowledged. Where it is
//! killed in between, the next one sends again what was not deleted: at least once, in order.
//!
//! The table is the plugin's, any database's; [`OutboxStore`] is all that the relay knows of it. Which thread commits does
//! not matter, and only one relay of a database is at work at a time ([`OutboxStore::claim`]).
//!
//! - **Order** is that of the ids. Where transactions run side by side, an id may become visible after a later one. So
//!   write the row first and its record after it: the row's lock then has the records of *one row* commit in the order of
//!   their ids.
//! - **What is refused** (larger than the broker takes) stays first, and what is behind it waits, with an error in the log
//!   and a longer and longer wait between tries: nothing is lost or passed by, and a person decides.
//! - **With `delivery: exactly_once`** it does not go: what the relay produces belongs to no message.

use crate::Record;

mod relay;
#[cfg(test)]
mod tests;

pub use relay::{Relay, RelayOptions, Waker};

/// A table of records that wait for the broker. Its methods are called from the relay's thread alone.
pub trait OutboxStore: Send + 'static {
    /// What can go wrong with the database.
    type Error: std::fmt::Display;

    /// Makes this the only relay of its database, for as long as its connection lives; false if another is. Asked before
    /// every look at the table.
    ///
    /// # Errors
    /// When the database cannot be asked.
    fn claim(&mut self) -> Result<bool, Self::Error>;

    /// The oldest records, by id, so many at most.
    ///
    /// # Errors
    /// When they cannot be read.
    fn oldest(&mut self, most: usize) -> Result<Vec<OutboxEntry>, Self::Error>;

    /// Deletes these records: the broker has them.
    ///
    /// # Errors
    /// When they cannot be deleted; then they are sent again.
    fn delete(&mut self, ids: &[i64]) -> Result<(), Self::Error>;
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Its number in the table; later ones are higher.
    pub id: i64,
    /// What is to be produced.
    pub record: Record,
}
