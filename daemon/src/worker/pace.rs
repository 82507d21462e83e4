//! How many messages go into one call: as many as take about 5 ms at the measured cost of a digest, so that a slow
//! digest travels alone and a cut, a revoke or a death never waits for a long batch. Pure.

use std::time::Duration;

/// What one call should take.
const AIM: Duration = Duration::from_millis(5);
/// What a call takes at least where it is one of several that share what is ready: handing it over and waking its lane
/// takes tens of microseconds.
const WORTH: Duration = Duration::from_micros(200);

/// The size of a route's next call.
#[derive(Clone, Debug)]
pub struct Pace {
    max: usize,
    next: usize,
    /// Messages that take [`WORTH`].
    worth: usize,
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
            worth: 1,
            fixed: false,
        }
    }

    /// Calls of `max` messages whatever they cost: the digest takes them all at once, and many may cost what one does.
    #[must_use]
    pub fn fixed(max: usize) -> Self {
        Self {
            max,
            next: max,
            worth: 1,
            fixed: true,
        }
    }

    /// Messages that the next call may hold, at least one.
    #[must_use]
    pub fn size(&self) -> usize {
        self.next
    }

    /// As many messages as are worth a call of their own: with fewer, another lane costs more than it saves.
    #[must_use]
    pub fn worth(&self) -> usize {
        self.worth
    }

    /// A call digested `messages` in `took`.
    pub fn measured(&mut self, messages: usize, took: Duration) {
        if messages == 0 || self.fixed {
            return;
        }
        let each = took.as_nanos().max(1) / messages as u128;
        let in_time = |time: Duration| usize::try_from(time.as_nanos() / each.max(1)).unwrap_or(usize::MAX);
        let fits = in_time(AIM);
        // Up by doubling, so that one lucky call does not fill three with slow messages; down at once.
        self.next = fits.clamp(1, self.next.saturating_mul(2)).min(self.max);
        self.worth = in_time(WORTH).clamp(1, self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_digests_are_shared_one_by_one_and_fast_ones_in_calls_that_are_worth_it() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.worth(), 1, "nothing is known yet");
        for _ in 0..10 {
            pace.measured(pace.size(), Duration::from_micros(1) * pace.size() as u32);
        }
        assert_eq!((pace.size(), pace.worth()), (1000, 200));
        pace.measured(10, Duration::from_millis(100));
        assert_eq!((pace.size(), pace.worth()), (1, 1));
        assert_eq!(Pace::fixed(500).worth(), 1);
    }

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
