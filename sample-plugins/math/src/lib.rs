//! Digests lists of integers into their least common multiple.
//!
//! A message is `{"id": 7, "variables": [4, 6, 8]}`, or `{"id": 7, "variables": "4, 6, 8"}`, with an optional `note`.
//! The result is logged at debug level and counted as `multiples`. One that does not fit 64 bits is rejected, as is an
//! empty list, which has none; with a zero among the numbers the result is 0, the only multiple of zero.

use std::path::PathBuf;

use devour::prelude::*;
use devour_seen::Ledger;

mod integers;

pub use integers::{Integers, least_common_multiple};

/// Settings of `Math`.
#[settings]
#[derive(Debug, Default)]
pub struct MathSettings {
    /// File to which every digested message is appended, as `topic partition offset id`.
    #[serde(default)]
    ledger: Option<PathBuf>,
}

/// The consumer.
pub struct Math {
    context: ConsumerContext,
    ledger: Option<Ledger>,
}

#[consumer(
    topic = "math",
    consumer_type = "balanced_consumer",
    config(consumer_group = "math_consumers"),
    settings = MathSettings
)]
impl Math {
    fn construct(settings: MathSettings, context: ConsumerContext) -> Result<Self, DigestError> {
        let ledger = settings
            .ledger
            .as_deref()
            .map(Ledger::open)
            .transpose()
            .or_fatal()?;
        Ok(Self { context, ledger })
    }

    // The parameters after `offset` are the fields of the JSON message; `message` is the message itself.
    fn digest(
        &mut self,
        offset: i64,
        message: Message<'_>,
        id: u64,
        variables: Integers,
        note: Option<&str>,
    ) -> Result<(), DigestError> {
        let multiple = least_common_multiple(&variables.0).or_reject()?;
        debug!(offset, id, multiple, note, "the least common multiple");
        self.context.count("multiples", 1);
        if let Some(ledger) = &mut self.ledger {
            ledger.saw(message.topic(), message.partition(), offset, Some(id))?;
        }
        Ok(())
    }
}
