//! How many messages may be digested now, where the route limits their rate. Pure: time comes as an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::settings::RateLimit;

/// A bucket that fills at the route's rate and holds a tenth of a second's worth, so that what was not used in a quiet time
/// does not come as a burst; and a log of what was handed out, so that no window of the rate's own length has more than the
/// rate says.
#[derive(Clone, Debug)]
pub struct Rate {
    limit: usize,
    per: Duration,
    a_second: f64,
    most: f64,
    tokens: f64,
    filled: Instant,
    /// What was handed out within the last window, oldest first.
    handed: VecDeque<Handed>,
    in_window: usize,
}

/// Messages that were handed out together, or nearly.
#[derive(Clone, Copy, Debug)]
struct Handed {
    /// The first of them.
    from: Instant,
    /// The last of them: they count for one window from then on.
    to: Instant,
    messages: usize,
}

/// A window is counted in so many parts.
const PARTS: u32 = 100;

// === impl Rate ===

impl Rate {
    /// Full.
    #[must_use]
    pub fn new(limit: RateLimit, now: Instant) -> Self {
        let a_second = f64::from(limit.messages) / limit.per.as_secs_f64();
        let most = (a_second / 10.0).max(1.0);
        Self {
            limit: limit.messages as usize,
            per: limit.per,
            a_second,
            most,
            tokens: most,
            filled: now,
            handed: VecDeque::new(),
            in_window: 0,
        }
    }

    /// Messages that may be digested now.
    pub fn allowed(&mut self, now: Instant) -> usize {
        let since = now.saturating_duration_since(self.filled);
        self.filled = now;
        self.tokens = (self.tokens + since.as_secs_f64() * self.a_second).min(self.most);
        while let Some(first) = self.handed.front().filter(|first| first.to + self.per <= now) {
            self.in_window -= first.messages;
            self.handed.pop_front();
        }
        // Not negative, and far below what a usize holds.
        let tokens = self.tokens.max(0.0) as usize;
        tokens.min(self.limit.saturating_sub(self.in_window))
    }

    /// So many are handed out.
    pub fn spend(&mut self, messages: usize, now: Instant) {
        self.tokens -= messages as f64;
        self.in_window += messages;
        match self.handed.back_mut() {
            Some(last) if last.from + self.per / PARTS > now => {
                last.to = now;
                last.messages += messages;
            }
            _ => self.handed.push_back(Handed {
                from: now,
                to: now,
                messages,
            }),
        }
    }

    /// When the next one is allowed.
    #[must_use]
    pub fn next(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0);
        let filled = self.filled + Duration::from_secs_f64(missing / self.a_second);
        let first = self.handed.front().filter(|_| self.in_window >= self.limit);
        first.map_or(filled, |first| filled.max(first.to + self.per))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
                rate.spend(allowed, now);
                handed += allowed;
            }
            let most = 60 * per_second as usize;
            // What is counted in parts of a window may come a part late in each.
            assert!(
                (most - most / 50 - 1..=most).contains(&handed),
                "{handed} of {most}"
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
        rate.spend(1, start);
        assert_eq!(rate.allowed(start), 0);
        let next = rate.next();
        assert!(next > start + Duration::from_secs(9) && next < start + Duration::from_secs(11));
        assert_eq!(rate.allowed(next + Duration::from_millis(1)), 1);
    }

    proptest! {
        /// However often and whenever it is asked, and whether all that is allowed is used or not.
        #[test]
        fn no_window_has_more_than_the_limit(
            messages in 1_u32..500,
            per_ms in 10_u64..5_000,
            turns in proptest::collection::vec((0_u64..400, 1_usize..60), 1..400),
        ) {
            let start = Instant::now();
            let per = Duration::from_millis(per_ms);
            let mut rate = Rate::new(RateLimit { messages, per }, start);
            let mut now = start;
            let mut handed: Vec<Instant> = Vec::new();
            for (wait, most) in turns {
                now += Duration::from_millis(wait);
                let some = rate.allowed(now).min(most);
                if some > 0 {
                    rate.spend(some, now);
                }
                handed.extend(std::iter::repeat_n(now, some));
            }
            for (first, last) in handed.iter().zip(handed.iter().skip(messages as usize)) {
                prop_assert!(*last - *first >= per, "{messages} in {:?}", *last - *first);
            }
        }
    }
}
