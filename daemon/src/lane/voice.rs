//! Where what a plugin says goes. The daemon's telemetry implements it.

use devour_abi::LogLevel;

use crate::settings::RouteName;

/// Hears what plugins say. Called from the routes' threads, in thread isolation from any thread of a plugin too; must
/// not block.
pub trait PluginVoice: Send + Sync {
    /// The last level that is kept. Asked when an instance is built.
    fn level(&self) -> LogLevel;
    /// A line of the plugin's log.
    fn log(&self, route: &RouteName, log: &PluginLog<'_>);
    /// A line that its process printed, without its end, cut at 8 KiB.
    fn printed(&self, route: &RouteName, stream: Stream, line: &str);
    /// So much of what it said did not come through.
    fn lost(&self, route: &RouteName, what: Lost, count: u64);
    /// Adds to a counter.
    fn count(&self, route: &RouteName, name: &str, by: u64);
    /// Adds to the durations of a name.
    fn time(&self, route: &RouteName, name: &str, durations: Durations);
}

/// A line of a plugin's log.
#[derive(Clone, Copy, Debug)]
pub struct PluginLog<'a> {
    /// How much it matters.
    pub level: LogLevel,
    /// The module that says it.
    pub target: &'a str,
    /// What it says.
    pub message: &'a str,
    /// More, a JSON object (not checked).
    pub fields: &'a str,
    /// The message that was being digested.
    pub at: Option<Position<'a>>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// What a process prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// What becomes of what a plugin's process prints to stdout. (In a thread it is the daemon's own stdout.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// Each line is a record of the log.
    Log,
    /// It goes to the daemon's stdout unchanged.
    PassThrough,
}

/// What was dropped because it came too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Lines printed.
    Printed,
    /// Lines of the log.
    Logs,
    /// Counts and durations.
    Metrics,
}

/// Many durations of one name, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The longest.
    pub max: u64,
}

// === impl Durations ===

impl Durations {
    pub(super) fn one(nanoseconds: u64) -> Self {
        Self {
            count: 1,
            sum: nanoseconds,
            max: nanoseconds,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

// === impl Lost ===

impl Lost {
    /// For the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Printed => "printed lines",
            Self::Logs => "log lines",
            Self::Metrics => "metrics",
        }
    }
}
