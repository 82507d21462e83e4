//! Passing messages on: what is read is produced to another topic, as it is.

use std::sync::{Mutex, PoisonError};

use devour::prelude::*;

use crate::{
    SumSettings,
    seen::{Count, Seen, Span},
};

/// What [`Pass`] measures, and where it passes messages on to.
#[derive(Clone, Debug, Deserialize, JsonSchema, serde::Serialize)]
pub struct PassSettings {
    /// As for the others.
    #[serde(flatten)]
    pub sum: SumSettings,
    /// The topic.
    pub to: String,
}

/// Produces the value of each message.
#[derive(Debug)]
pub struct Pass {
    context: ConsumerContext,
    since: Count,
    settings: PassSettings,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen::new());

// === impl Pass ===

impl Consumer for Pass {
    type Settings = PassSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: PassSettings, context: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self {
            context,
            since: Count::default(),
            settings,
        })
    }

    fn digest(&mut self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        let value = value.unwrap_or_default();
        self.context
            .produce(&Record::to(self.settings.to.as_str()).payload(value))?;
        self.since.bytes += value.len() as u64;
        self.since.messages += 1;
        if self.since.messages >= self.settings.sum.step {
            return self.tell();
        }
        Ok(())
    }
}

impl Pass {
    #[cold]
    fn tell(&mut self) -> Result<(), DigestError> {
        let asked = &self.settings.sum;
        let span = Span {
            warm_up: asked.warm_up,
            measured: asked.measured,
            report: &asked.report,
            beside_daemon: asked.beside_daemon,
        };
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        seen.add(std::mem::take(&mut self.since), span).or_reject()
    }
}

export_consumer!(Pass);
