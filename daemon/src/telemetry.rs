//! The log, and what plugins say: their lines come out with the route's name, their numbers are kept per route.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
};

use devour_abi::LogLevel as PluginLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::{
    lane::{Durations, Lost, PluginLog, PluginVoice, Stream},
    settings::{Log, LogFormat, LogLevel, RouteName},
};

/// What plugins count and time, by route and name.
#[derive(Debug, Default)]
pub struct PluginMetrics {
    counters: Mutex<BTreeMap<(RouteName, String), u64>>,
    durations: Mutex<BTreeMap<(RouteName, String), Durations>>,
}

/// The numbers of all plugins of this process.
pub static PLUGIN_METRICS: LazyLock<PluginMetrics> = LazyLock::new(PluginMetrics::default);

/// Names of one route are kept up to this number: a plugin that puts an offset into a name must not fill the memory.
const MAX_NAMES: usize = 1000;

/// How the filter of the log that runs is replaced.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log on standard error: text on a terminal and JSON lines for a service, unless the settings say. What
/// `DEVOUR_LOG` says (a filter such as `info,devourd::worker=debug`) wins over the level.
pub fn start(log: Log) {
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let terminal = std::io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if text {
        lines.with_ansi(terminal).with_target(false).boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    // A second start in one process (a test) keeps the first.
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
    if started.is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// Writes lines of another level from now on. Plugins that run already are asked for no more than before; the next ones
/// are. (The form of the lines stays until the next start.)
pub fn set_level(level: LogLevel) {
    if let Some(handle) = FILTER.get() {
        // It fails only where the log is gone.
        let _ = handle.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("DEVOUR_LOG")
        .from_env_lossy()
}

/// The ear for all plugins: their lines go to the log.
#[must_use]
pub fn voice() -> Arc<dyn PluginVoice> {
    Arc::new(LogVoice)
}

struct LogVoice;

impl PluginVoice for LogVoice {
    fn level(&self) -> PluginLevel {
        match LevelFilter::current().into_level() {
            None | Some(tracing::Level::ERROR) => PluginLevel::ERROR,
            Some(tracing::Level::WARN) => PluginLevel::WARN,
            Some(tracing::Level::INFO) => PluginLevel::INFO,
            Some(tracing::Level::DEBUG) => PluginLevel::DEBUG,
            Some(tracing::Level::TRACE) => PluginLevel::TRACE,
        }
    }

    fn log(&self, route: &RouteName, log: &PluginLog<'_>) {
        let (topic, partition, offset) = log.at.map_or((None, None, None), |at| {
            (Some(at.topic), Some(at.partition), Some(at.offset))
        });
        let fields = Some(log.fields).filter(|fields| !fields.is_empty() && *fields != "{}");
        // An event's level is part of its place in the code, so each level has its own.
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: "plugin", tracing::Level::$level, %route, topic, partition, offset,
                    module = log.target, fields, "{}", log.message)
            };
        }
        match log.level {
            PluginLevel::ERROR => event!(ERROR),
            PluginLevel::WARN => event!(WARN),
            PluginLevel::INFO => event!(INFO),
            PluginLevel::DEBUG => event!(DEBUG),
            _ => event!(TRACE),
        }
    }

    fn printed(&self, route: &RouteName, stream: Stream, line: &str) {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        tracing::info!(target: "plugin", %route, stream, "{line}");
    }

    fn lost(&self, route: &RouteName, what: Lost, count: u64) {
        tracing::warn!(target: "plugin", %route, count, "{} were dropped: they came too fast", what.name());
    }

    fn count(&self, route: &RouteName, name: &str, by: u64) {
        PLUGIN_METRICS.count(route, name, by);
    }

    fn time(&self, route: &RouteName, name: &str, durations: Durations) {
        PLUGIN_METRICS.time(route, name, durations);
    }
}

// === impl PluginMetrics ===

impl PluginMetrics {
    fn count(&self, route: &RouteName, name: &str, by: u64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = slot(&mut counters, route, name, 0) {
            *counter = counter.saturating_add(by);
        }
    }

    fn time(&self, route: &RouteName, name: &str, more: Durations) {
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Durations {
            count: 0,
            sum: 0,
            max: 0,
        };
        if let Some(known) = slot(&mut durations, route, name, none) {
            known.count = known.count.saturating_add(more.count);
            known.sum = known.sum.saturating_add(more.sum);
            known.max = known.max.max(more.max);
        }
    }

    /// A route's counters and durations, as one line of text for the log.
    #[must_use]
    pub fn describe(&self, route: &RouteName) -> String {
        let mut parts = Vec::new();
        for ((of, name), count) in self
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            if of == route {
                parts.push(format!("{name}={count}"));
            }
        }
        for ((of, name), time) in self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            if of == route && time.count > 0 {
                let (mean, max) = (time.sum / time.count / 1000, time.max / 1000);
                parts.push(format!(
                    "{name}={} times, {mean} us on average, {max} us at most",
                    time.count
                ));
            }
        }
        parts.join(" ")
    }
}

fn slot<'a, T>(
    map: &'a mut BTreeMap<(RouteName, String), T>,
    route: &RouteName,
    name: &str,
    none: T,
) -> Option<&'a mut T> {
    let key = (route.clone(), name.to_owned());
    let full = map.len() >= MAX_NAMES && !map.contains_key(&key);
    (!full).then(|| map.entry(key).or_insert(none))
}
