//! Taking a while for every message: on the lane's thread, or in a future. All instances of a process count together, so
//! that lanes and futures are measured in one way.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use devour::{prelude::*, tokio::time::sleep};

use crate::seen::{Count, Seen, Span};

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

/// What is waited for is counted when it was.
static SEEN: Mutex<Seen> = Mutex::new(Seen::new());

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
        count(value, &self.0)
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
        count(value, &self.0)
    }
}

export_async_consumer!(WaitAsync);

/// Counts a message.
fn count(value: Option<&[u8]>, settings: &WaitSettings) -> Result<(), DigestError> {
    let one = Count {
        messages: 1,
        bytes: value.map_or(0, <[u8]>::len) as u64,
        header_bytes: 0,
    };
    let span = Span {
        warm_up: settings.warm_up,
        measured: settings.measured,
        report: &settings.report,
        beside_daemon: settings.beside_daemon,
    };
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.add(one, span).or_reject()
}
