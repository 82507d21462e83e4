//! The scenarios' plugins.
//!
//! | symbol | dump mode | writes down |
//! |---|---|---|
//! | `Ledger` | `dump_obj` | every digest, and fails or dies on order: see [`record`] and [`fault`] |
//! | `AsyncLedger` | `dump_obj` | the same, from futures |
//! | `BatchLedger` | `dump_obj` | the same, from a `digest_batch`: all of it, or nothing but the message that is struck |
//! | `BufferLedger` | `dump_obj` | the same, at every flush |
//! | `OnlyLedger` | `dump_obj` | as `Ledger`; may exist only once, so that another is built after it has gone |
//! | `Relay`, `AsyncRelay`, `BufferRelay` | `dump_obj` | every digest, and produces what it read to another topic |
//! | `TopicLedger` | `dump_obj` | as `Ledger`; declares a topic and a group |
//! | `WitnessRaw` | `dump_raw` | length and checksum of the value |
//! | `WitnessObject` | `dump_obj` | the whole message |
//! | `WitnessJson` | `dump_json` | the fields that it takes |
//!
//! The others name no topic and no group: the route does.

mod async_ledger;
mod batch_ledger;
mod book;
mod buffer_ledger;
pub mod fault;
mod ledger;
mod only_ledger;
pub mod record;
mod relay;
mod topic_ledger;
mod witness;

pub use async_ledger::{AsyncLedger, AsyncLedgerSettings};
pub use batch_ledger::BatchLedger;
pub use buffer_ledger::{BufferLedger, BufferLedgerSettings};
pub use ledger::{Ledger, LedgerSettings};
pub use only_ledger::OnlyLedger;
pub use relay::{AsyncRelay, BufferRelay, RelaySettings};
pub use topic_ledger::TopicLedger;
pub use witness::{WitnessJson, WitnessObject, WitnessRaw, WitnessSettings, checksum};
