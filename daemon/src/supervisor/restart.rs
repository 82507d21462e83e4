//! When something that failed is started again: the first time at once, then after an exponential back-off with full
//! jitter, forgotten after it ran for a while. Never gives up. Pure: time and chance are arguments.

use std::time::Duration;

use crate::settings::Backoff;

/// A run that lasts this long was no failure to start: what was counted before it is forgotten.
const STABLE: Duration = Duration::from_secs(60);

/// The restarts of one plugin, or of one client.
#[derive(Clone, Debug)]
pub struct Restarts {
    policy: Backoff,
    first_at_once: bool,
    in_a_row: u32,
    total: u64,
}

// === impl Restarts ===

impl Restarts {
    /// A plugin: its first restart is immediate.
    #[must_use]
    pub fn of_plugin(policy: Backoff) -> Self {
        Self {
            policy,
            first_at_once: true,
            in_a_row: 0,
            total: 0,
        }
    }

    /// A Kafka client: a new one asks the brokers for much, so even the first waits.
    #[must_use]
    pub fn of_client(policy: Backoff) -> Self {
        Self {
            policy,
            first_at_once: false,
            in_a_row: 0,
            total: 0,
        }
    }

    /// It failed after it had run for `lived`: how long to wait before it is started again. `chance` is 0 to 1.
    pub fn failed(&mut self, lived: Duration, chance: f64) -> Duration {
        if lived >= STABLE {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.total += 1;
        let doublings = match (self.first_at_once, self.in_a_row) {
            (true, 1) => return Duration::ZERO,
            (true, n) => n - 2,
            (false, n) => n - 1,
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let ceiling = self.policy.initial.saturating_mul(factor).min(self.policy.max);
        ceiling.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// How often it was started again in its life.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Backoff = Backoff {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    #[test]
    fn the_first_restart_is_immediate_and_the_next_ones_double() {
        let mut restarts = Restarts::of_plugin(POLICY);
        let waits: Vec<u64> = (0..9)
            .map(|_| restarts.failed(Duration::ZERO, 1.0).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(restarts.total(), 9);
    }

    #[test]
    fn a_run_that_was_stable_is_a_new_beginning() {
        let mut restarts = Restarts::of_plugin(POLICY);
        for _ in 0..5 {
            restarts.failed(Duration::ZERO, 1.0);
        }
        assert_eq!(restarts.failed(STABLE, 1.0), Duration::ZERO);
        assert_eq!(restarts.failed(Duration::ZERO, 1.0), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_maximum(
            steps in proptest::collection::vec((0_u64..120, 0.0_f64..=1.0), 1..200),
        ) {
            let mut restarts = Restarts::of_client(POLICY);
            for (lived, chance) in steps {
                prop_assert!(restarts.failed(Duration::from_secs(lived), chance) <= POLICY.max);
            }
        }
    }
}
