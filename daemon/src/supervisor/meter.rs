//! How many messages a route digests a second, over the last seconds. Pure: time comes as an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A counter as it stood at a few moments.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Instant, u64)>,
}

/// What happened before is forgotten.
const WINDOW: Duration = Duration::from_secs(10);
/// Samples are at least so far apart.
const APART: Duration = Duration::from_secs(1);

/// How often somebody has to look, so that there always is a sample of the last seconds.
pub const LOOK: Duration = Duration::from_secs(2);

// === impl Meter ===

impl Meter {
    /// The counter stands at `count`.
    pub fn note(&mut self, now: Instant, count: u64) {
        let last = self.samples.back().map(|(at, _)| *at);
        if last.is_some_and(|at| now.saturating_duration_since(at) < APART) {
            return;
        }
        self.samples.push_back((now, count));
        // The oldest that stays is the last one from before the window.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// What was added a second, up to now, where the counter stands at `count`.
    #[must_use]
    pub fn a_second(&self, now: Instant, count: u64) -> f64 {
        let Some((since, before)) = self.samples.front() else {
            return 0.0;
        };
        let passed = now.saturating_duration_since(*since);
        // Of a moment nothing can be said.
        if passed < Duration::from_millis(100) {
            return 0.0;
        }
        count.saturating_sub(*before) as f64 / passed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        assert!(
            meter.a_second(begin, 5).abs() < f64::EPSILON,
            "nothing is known yet"
        );
        meter.note(begin, 0);
        // 1,000 a second for a minute, then nothing.
        for second in 1..=60 {
            meter.note(at(second), second * 1000);
        }
        assert!((meter.a_second(at(60), 60_000) - 1000.0).abs() < 1e-6);
        for second in 61..=75 {
            meter.note(at(second), 60_000);
        }
        assert!(meter.a_second(at(75), 60_000).abs() < f64::EPSILON);
        assert!(meter.samples.len() <= 12, "{}", meter.samples.len());
    }

    #[test]
    fn a_look_every_few_seconds_is_enough() {
        let begin = Instant::now();
        let mut meter = Meter::default();
        for look in 0..30_u32 {
            meter.note(begin + LOOK * look, u64::from(look) * 20);
        }
        let now = begin + LOOK * 29 + Duration::from_millis(500);
        let rate = meter.a_second(now, 29 * 20);
        assert!((9.0..=10.0).contains(&rate), "{rate}");
    }
}
