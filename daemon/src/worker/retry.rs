//! How long a message that failed waits before it is tried again. Pure.

use std::time::Duration;

use crate::settings::Backoff;

/// The wait after failed attempt `attempt` (from 1): doubling from `initial` to `max`, then up to half of it taken off
/// by `chance` (0 to 1), so that partitions that failed together do not come back together.
#[must_use]
pub fn backoff(policy: &Backoff, attempt: u32, chance: f64) -> Duration {
    let doubled = policy
        .initial
        .saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled
        .min(policy.max)
        .mul_f64(1.0 - 0.5 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_to_its_maximum_and_never_overflows() {
        let policy = Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
        };
        assert_eq!(backoff(&policy, 1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(&policy, 4, 0.0), Duration::from_secs(8));
        assert_eq!(backoff(&policy, 4, 1.0), Duration::from_secs(4));
        assert_eq!(backoff(&policy, u32::MAX, 0.0), Duration::from_secs(30));
    }
}
