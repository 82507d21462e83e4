//! When something that failed is started again: the first time at once, then after an exponential back-off with full
//! jitter, forgotten after it ran for a while. It never gives up, unless it has a budget and that is spent. Pure: time
//! and chance are arguments.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use crate::settings::{Backoff, Restart, RestartBudget};

/// A run that lasts this long was no failure to start: what was counted before it is forgotten.
const STABLE: Duration = Duration::from_secs(60);

/// The restarts of one plugin, or of one client.
#[derive(Clone, Debug)]
pub struct Restarts {
    backoff: Backoff,
    budget: Option<RestartBudget>,
    first_at_once: bool,
    in_a_row: u32,
    total: u64,
    /// When those were that the budget still counts, the oldest first.
    counted: VecDeque<Instant>,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is started again after so long.
    After(Duration),
    /// It has been started as often as it may be.
    Spent(RestartBudget),
}

// === impl Restarts ===

impl Restarts {
    /// A plugin: its first restart is immediate.
    #[must_use]
    pub fn of_plugin(policy: Restart) -> Self {
        Self {
            backoff: policy.backoff,
            budget: policy.budget,
            first_at_once: true,
            in_a_row: 0,
            total: 0,
            counted: VecDeque::new(),
        }
    }

    /// A Kafka client: a new one asks the brokers for much, so even the first waits. It has no budget: what ails it is
    /// seldom its own.
    #[must_use]
    pub fn of_client(policy: Restart) -> Self {
        Self {
            budget: None,
            first_at_once: false,
            ..Self::of_plugin(policy)
        }
    }

    /// Another plugin takes over: what its predecessor did is forgotten, and this says how it is treated.
    pub fn follow(&mut self, policy: Restart) {
        (self.backoff, self.budget) = (policy.backoff, policy.budget);
        self.in_a_row = 0;
        self.counted.clear();
    }

    /// It failed after it had run for `lived`: whether it is started again, and after how long. `chance` is 0 to 1. What a
    /// person, a reload or a stop has ended did not fail, and is not told here.
    pub fn failed(&mut self, lived: Duration, now: Instant, chance: f64) -> Next {
        if lived >= STABLE {
            self.in_a_row = 0;
            self.counted.clear();
        }
        if let Some(budget) = self.budget {
            let counts = |at: &Instant| now.saturating_duration_since(*at) < budget.per;
            while self.counted.front().is_some_and(|at| !counts(at)) {
                self.counted.pop_front();
            }
            if self.counted.len() >= budget.restarts as usize {
                return Next::Spent(budget);
            }
            self.counted.push_back(now);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.total += 1;
        Next::After(self.wait(chance))
    }

    fn wait(&self, chance: f64) -> Duration {
        let doublings = match (self.first_at_once, self.in_a_row) {
            (true, 1) => return Duration::ZERO,
            (true, n) => n - 2,
            (false, n) => n - 1,
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let ceiling = self.backoff.initial.saturating_mul(factor).min(self.backoff.max);
        ceiling.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// How often it was started again in its life.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

// === impl Next ===

impl Next {
    /// The wait; none if there is no next time.
    #[must_use]
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::After(wait) => Some(wait),
            Self::Spent(_) => None,
        }
    }
}

impl fmt::Display for RestartBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} restarts in {:?}", self.restarts, self.per)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Restart = Restart {
        backoff: Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        budget: None,
    };

    fn budget(restarts: u32, per: u64) -> Restart {
        let per = Duration::from_secs(per);
        Restart {
            budget: Some(RestartBudget { restarts, per }),
            ..POLICY
        }
    }

    #[test]
    fn the_first_restart_of_a_plugin_is_immediate_and_the_later_ones_wait_longer_and_longer() {
        let (mut restarts, now) = (Restarts::of_plugin(POLICY), Instant::now());
        let waits: Vec<u64> = (0..9)
            .filter_map(|_| restarts.failed(Duration::ZERO, now, 1.0).wait())
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(restarts.total(), 9);
    }

    #[test]
    fn a_run_that_was_stable_is_a_new_beginning() {
        let (mut restarts, now) = (Restarts::of_plugin(budget(5, 600)), Instant::now());
        for _ in 0..5 {
            restarts.failed(Duration::ZERO, now, 1.0);
        }
        assert_eq!(restarts.failed(STABLE, now, 1.0), Next::After(Duration::ZERO));
        let second = restarts.failed(Duration::ZERO, now, 1.0);
        assert_eq!(second, Next::After(Duration::from_secs(1)));
    }

    #[test]
    fn a_budget_that_is_spent_comes_back_with_time() {
        let (mut restarts, now) = (Restarts::of_plugin(budget(2, 10)), Instant::now());
        let at = |seconds: u64| now + Duration::from_secs(seconds);
        assert!(restarts.failed(Duration::ZERO, at(0), 0.0).wait().is_some());
        assert!(restarts.failed(Duration::ZERO, at(4), 0.0).wait().is_some());
        assert!(restarts.failed(Duration::ZERO, at(9), 0.0).wait().is_none());
        assert!(restarts.failed(Duration::ZERO, at(10), 0.0).wait().is_some());
        assert!(restarts.failed(Duration::ZERO, at(13), 0.0).wait().is_none());
        assert_eq!(restarts.total(), 3, "what was not done is not counted");
    }

    proptest! {
        /// Waits have a bound, a client never gives up, and so does no plugin without a budget.
        #[test]
        fn no_wait_is_longer_than_the_maximum_and_without_a_budget_there_is_no_end(
            steps in proptest::collection::vec((0_u64..120, 0.0_f64..=1.0), 1..200),
            limit in 1_u32..4,
        ) {
            let mut all = [Restarts::of_client(budget(limit, 600)), Restarts::of_plugin(POLICY)];
            let now = Instant::now();
            for (lived, chance) in steps {
                for restarts in &mut all {
                    let wait = restarts.failed(Duration::from_secs(lived), now, chance).wait();
                    prop_assert!(wait.is_some_and(|wait| wait <= POLICY.backoff.max));
                }
            }
        }

        /// Against a plain model: of the restarts since the last stable run no window holds more than the budget, and none is
        /// refused that the budget had room for.
        #[test]
        fn no_window_has_more_restarts_than_the_budget(
            steps in proptest::collection::vec((0_u64..90, 0_u64..40), 1..200),
            limit in 1_u32..6,
            per in 1_u64..120,
        ) {
            let mut restarts = Restarts::of_plugin(budget(limit, per));
            let (mut clock, start) = (0, Instant::now());
            let mut done: Vec<u64> = Vec::new();
            for (lived, down) in steps {
                clock += lived + down;
                if Duration::from_secs(lived) >= STABLE {
                    done.clear();
                }
                let now = start + Duration::from_secs(clock);
                let in_window = done.iter().filter(|at| clock - **at < per).count();
                let next = restarts.failed(Duration::from_secs(lived), now, 0.5);
                prop_assert_eq!(next.wait().is_some(), in_window < limit as usize);
                if next.wait().is_some() {
                    done.push(clock);
                }
            }
        }
    }
}
