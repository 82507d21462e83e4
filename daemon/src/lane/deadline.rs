//! How long a plugin has been at one thing, counted in the daemon's own ticks: each counts at most twice its period, so
//! that a daemon which slept (SIGSTOP, a suspended machine) blames nobody. Pure.

use std::time::Duration;

/// Watches one thing after the other.
#[derive(Debug)]
pub(super) struct Watch<S> {
    period: Duration,
    subject: Option<S>,
    waited: Duration,
}

// === impl Watch ===

impl<S: PartialEq> Watch<S> {
    /// Ticks fine enough for the shortest of `limits`.
    pub(super) fn new(limits: impl IntoIterator<Item = Duration>) -> Self {
        let shortest = limits.into_iter().min().unwrap_or(Duration::MAX);
        let period = (shortest / 8).clamp(Duration::from_millis(2), Duration::from_millis(500));
        Self {
            period,
            subject: None,
            waited: Duration::ZERO,
        }
    }

    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// The timer fired `times` since the last tick, and the plugin is at `subject`; for how long it has been so.
    pub(super) fn tick(&mut self, subject: S, times: u64) -> Duration {
        if self.subject.as_ref() == Some(&subject) {
            self.waited += self.period * u32::try_from(times.min(2)).unwrap_or(2);
        } else {
            self.subject = Some(subject);
            self.waited = Duration::ZERO;
        }
        self.waited
    }

    /// The timer stands still.
    pub(super) fn stop(&mut self) {
        self.subject = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_slept_blames_nobody() {
        let mut watch = Watch::new([Duration::from_secs(30), Duration::from_millis(80)]);
        assert_eq!(watch.period(), Duration::from_millis(10));
        assert_eq!(watch.tick("digest 1", 1), Duration::ZERO);
        assert_eq!(watch.tick("digest 1", 1), Duration::from_millis(10));
        assert_eq!(watch.tick("digest 1", 360_000), Duration::from_millis(30));
        assert_eq!(watch.tick("digest 2", 1), Duration::ZERO);
        watch.stop();
        assert_eq!(watch.tick("digest 2", 1), Duration::ZERO);
    }
}
