//! Taking a while for every message: on the lane's thread, or in a future. All instances of a process count together, so
//! that lanes and futures are measured in one way.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use devour::{prelude::*, tokio::time::sleep};

use crate::moment::{self, Meter};

/// What [`Wait`] and [`WaitAsync`] do and measure.
#[derive(Clone, Debug, Deserialize, JsonSchema, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct WaitSettings {
    /// What one digest waits, microseconds. A future waits by a timer that ticks in milliseconds.
    pub wait_us: u64,
    /// Messages before the measured ones, in all instances of the process.
    pub warm_up: u64,
    /// Messages to measure.
    pub measured: u64,
    /// The file that the result is written to, once.
    pub report: PathBuf,
    /// The parent process is the daemon, and its CPU time counts too.
    pub beside_daemon: bool,
}

/// Waits on the thread of its lane.
#[derive(Debug)]
pub struct Wait(WaitSettings);

/// Waits in a future.
#[derive(Debug)]
pub struct WaitAsync(WaitSettings);

/// What all instances of this process have seen; what is waited for is counted when it was.
static SEEN: Mutex<Seen> = Mutex::new(Seen {
    messages: 0,
    bytes: 0,
    meter: None,
});

struct Seen {
    messages: u64,
    bytes: u64,
    meter: Option<Meter>,
}

// === impl Wait ===

impl Consumer for Wait {
    type Settings = WaitSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: WaitSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self(settings))
    }

    fn digest(&mut self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        // Not a wait for a state: the time that a digest takes is what this plugin is for.
        thread::sleep(Duration::from_micros(self.0.wait_us));
        Seen::add(value, &self.0)
    }
}

export_consumer!(Wait);

// === impl WaitAsync ===

impl AsyncConsumer for WaitAsync {
    type Settings = WaitSettings;
    type Message<'m> = Raw<'m>;

    fn construct(settings: WaitSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self(settings))
    }

    async fn digest(&self, _: i64, Raw(value): Raw<'_>) -> Result<(), DigestError> {
        if self.0.wait_us > 0 {
            sleep(Duration::from_micros(self.0.wait_us)).await;
        }
        Seen::add(value, &self.0)
    }
}

export_async_consumer!(WaitAsync);

// === impl Seen ===

impl Seen {
    /// Counts a message.
    fn add(value: Option<&[u8]>, settings: &WaitSettings) -> Result<(), DigestError> {
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        seen.messages += 1;
        seen.bytes += value.map_or(0, <[u8]>::len) as u64;
        let measured = settings.warm_up + settings.measured;
        if seen.messages == settings.warm_up || seen.messages == measured {
            seen.mark(settings)?;
        }
        Ok(())
    }

    #[cold]
    fn mark(&mut self, settings: &WaitSettings) -> Result<(), DigestError> {
        let daemon = || settings.beside_daemon.then(moment::parent);
        let meter = self.meter.get_or_insert_with(|| Meter::new(daemon()));
        if let Some(measured) = meter.mark(self.messages, self.bytes).or_reject()? {
            measured.write(&settings.report).or_reject()?;
        }
        Ok(())
    }
}
