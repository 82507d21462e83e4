//! The scenarios' plugins.
//!
//! | symbol | dump mode | writes down |
//! |---|---|---|
//! | `Ledger` | `dump_obj` | every digest, and fails or dies on order: see [`record`] and [`fault`] |
//! | `WitnessRaw` | `dump_raw` | length and checksum of the value |
//! | `WitnessObject` | `dump_obj` | the whole message |
//! | `WitnessJson` | `dump_json` | the fields that it takes |
//!
//! None names a topic or a group: the route does.

pub mod fault;
mod ledger;
pub mod record;
mod witness;

pub use ledger::{Ledger, LedgerSettings};
pub use witness::{WitnessJson, WitnessObject, WitnessRaw, WitnessSettings, checksum};
