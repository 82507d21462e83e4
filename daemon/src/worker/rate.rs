//! How many messages may be digested now, where the route limits their rate. Pure: time comes as an argument.

use std::time::{Duration, Instant};

use crate::settings::RateLimit;

/// A bucket that fills at the route's rate. It holds a tenth of a second's worth, so that what was not used in a quiet
/// time does not come as a burst.
#[derive(Clone, Debug)]
pub struct Rate {
    a_second: f64,
    most: f64,
    tokens: f64,
    filled: Instant,
}

// === impl Rate ===

impl Rate {
    /// Full.
    #[must_use]
    pub fn new(limit: RateLimit, now: Instant) -> Self {
        let a_second = f64::from(limit.messages) / limit.per.as_secs_f64();
        let most = (a_second / 10.0).max(1.0);
        Self {
            a_second,
            most,
            tokens: most,
            filled: now,
        }
    }

    /// Messages that may be digested now.
    pub fn allowed(&mut self, now: Instant) -> usize {
        let since = now.saturating_duration_since(self.filled);
        self.filled = now;
        self.tokens = (self.tokens + since.as_secs_f64() * self.a_second).min(self.most);
        // Not negative, and far below what a usize holds.
        self.tokens.max(0.0) as usize
    }

    /// So many are handed out.
    pub fn spend(&mut self, messages: usize) {
        self.tokens -= messages as f64;
    }

    /// When the next one is allowed.
    #[must_use]
    pub fn next(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0);
        self.filled + Duration::from_secs_f64(missing / self.a_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_a_minutes_worth_whatever_the_turns() {
        let start = Instant::now();
        for per_second in [3_u32, 200, 50_000] {
            let limit = RateLimit {
                messages: per_second,
                per: Duration::from_secs(1),
            };
            let mut rate = Rate::new(limit, start);
            let mut handed = 0;
            for turn in 0..60_000 {
                let now = start + Duration::from_millis(turn);
                let allowed = rate.allowed(now);
                rate.spend(allowed);
                handed += allowed;
            }
            let most = 60 * per_second as usize + per_second as usize / 10 + 1;
            assert!(
                (60 * per_second as usize - 1..=most).contains(&handed),
                "{handed}"
            );
        }
    }

    #[test]
    fn the_next_is_allowed_when_it_is_said_to_be() {
        let start = Instant::now();
        let limit = RateLimit {
            messages: 6,
            per: Duration::from_secs(60),
        };
        let mut rate = Rate::new(limit, start);
        assert_eq!(rate.allowed(start), 1);
        rate.spend(1);
        assert_eq!(rate.allowed(start), 0);
        let next = rate.next();
        assert!(next > start + Duration::from_secs(9) && next < start + Duration::from_secs(11));
        assert_eq!(rate.allowed(next + Duration::from_millis(1)), 1);
    }
}
