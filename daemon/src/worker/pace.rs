//! How many messages go into one call: as many as take about 5 ms at the measured cost of a digest, so that a slow
//! digest travels alone and a cut, a revoke or a death never waits for a long batch. Pure.

use std::time::Duration;

/// What one call should take.
const AIM: Duration = Duration::from_millis(5);

/// The size of a route's next call.
#[derive(Clone, Debug)]
pub struct Pace {
    max: usize,
    next: usize,
    fixed: bool,
}

// === impl Pace ===

impl Pace {
    /// As a route wants it.
    #[must_use]
    pub fn of(config: &super::WorkerConfig) -> Self {
        let max = config.batch.max_messages;
        if config.fixed_batches {
            Self::fixed(max)
        } else {
            Self::new(max)
        }
    }

    /// Calls of at most `max` messages. The first is small: nothing is known of the digest yet.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            next: max.min(16),
            fixed: false,
        }
    }

    /// Calls of `max` messages whatever they cost: the digest takes them all at once, and many may cost what one does.
    #[must_use]
    pub fn fixed(max: usize) -> Self {
        Self {
            max,
            next: max,
            fixed: true,
        }
    }

    /// Messages that the next call may hold, at least one.
    #[must_use]
    pub fn size(&self) -> usize {
        self.next
    }

    /// A call digested `messages` in `took`.
    pub fn measured(&mut self, messages: usize, took: Duration) {
        if messages == 0 || self.fixed {
            return;
        }
        let each = took.as_nanos().max(1) / messages as u128;
        let fits = usize::try_from(AIM.as_nanos() / each.max(1)).unwrap_or(usize::MAX);
        // Up by doubling, so that one lucky call does not fill three with slow messages; down at once.
        self.next = fits.clamp(1, self.next.saturating_mul(2)).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_digests_reach_the_maximum_and_slow_ones_travel_alone() {
        let mut pace = Pace::new(1000);
        for _ in 0..10 {
            pace.measured(pace.size(), Duration::from_micros(10));
        }
        assert_eq!(pace.size(), 1000);
        pace.measured(1000, Duration::from_secs(1000));
        assert_eq!(pace.size(), 1);
        pace.measured(1, Duration::from_millis(1));
        assert_eq!(pace.size(), 2, "it grows by doubling");
    }
}
