//! What a plugin logs, at a bounded rate: the log belongs to all routes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use devour_abi::LogLevel;

use super::{
    printed::Rate,
    voice::{Durations, Lost, PluginLog, PluginVoice, Stream},
};
use crate::settings::RouteName;

/// The voice of one route: what comes too fast is dropped, counted, and said with the next line, or at the end.
pub(super) struct BoundedVoice {
    route: RouteName,
    inner: Arc<dyn PluginVoice>,
    rate: Mutex<Rate>,
}

// === impl BoundedVoice ===

impl BoundedVoice {
    pub(super) fn new(route: RouteName, inner: Arc<dyn PluginVoice>) -> Self {
        Self {
            route,
            inner,
            rate: Mutex::new(Rate::new()),
        }
    }

    fn say_dropped(&self, count: u64) {
        if count > 0 {
            self.inner.lost(&self.route, Lost::Logs, count);
        }
    }
}

impl PluginVoice for BoundedVoice {
    fn level(&self) -> LogLevel {
        self.inner.level()
    }

    fn log(&self, route: &RouteName, log: &PluginLog<'_>) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let (owed, admitted) = rate.admit(Instant::now());
        drop(rate);
        self.say_dropped(owed);
        if admitted {
            self.inner.log(route, log);
        }
    }

    fn printed(&self, route: &RouteName, stream: Stream, line: &str) {
        self.inner.printed(route, stream, line);
    }

    fn lost(&self, route: &RouteName, what: Lost, count: u64) {
        self.inner.lost(route, what, count);
    }

    fn count(&self, route: &RouteName, name: &str, by: u64) {
        self.inner.count(route, name, by);
    }

    fn time(&self, route: &RouteName, name: &str, durations: Durations) {
        self.inner.time(route, name, durations);
    }
}

impl Drop for BoundedVoice {
    fn drop(&mut self) {
        let rate = self.rate.get_mut().unwrap_or_else(PoisonError::into_inner);
        let owed = rate.settle();
        self.say_dropped(owed);
    }
}
