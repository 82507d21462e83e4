//! A route whose plugin does not run for long keeps its partitions from nobody: it leaves its group, so that healthy
//! instances elsewhere take them, and joins again when its plugin runs. Pure: time and counts are arguments.

use std::time::{Duration, Instant};

/// A plugin that has run so long, though it had nothing to digest, can digest.
const HEALTHY: Duration = Duration::from_secs(10);
/// A plugin that has run so long is worth partitions again.
const STEADY: Duration = Duration::from_secs(1);

/// Since when the route could not digest, and whether it has given its partitions up for that.
#[derive(Debug, Default)]
pub struct Release {
    /// Since when, and how much was settled by then.
    unable: Option<(Instant, u64)>,
    released: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The group is left.
    Leave,
    /// It is joined again.
    Join,
}

// === impl Release ===

impl Release {
    /// Looks at a plugin that has been up since `up`, if it is, and at how many messages the route has settled in its life.
    /// After `after` without any the group is left; `None` is never.
    pub fn look(
        &mut self,
        now: Instant,
        up: Option<Instant>,
        settled: u64,
        after: Option<Duration>,
    ) -> Option<Move> {
        let up_for = up.map(|since| now.saturating_duration_since(since));
        if self.released {
            let is_steady = up_for.is_some_and(|lasted| lasted >= STEADY);
            if !is_steady {
                return None;
            }
            (self.released, self.unable) = (false, None);
            return Some(Move::Join);
        }
        let is_able = up_for.is_some_and(|lasted| lasted >= HEALTHY)
            || self.unable.is_some_and(|(_, before)| settled > before);
        if is_able {
            self.unable = None;
        }
        if up.is_some() {
            return None;
        }
        let (since, _) = *self.unable.get_or_insert((now, settled));
        if after.is_none_or(|after| now.saturating_duration_since(since) < after) {
            return None;
        }
        self.released = true;
        Some(Move::Leave)
    }

    /// The group was left.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// When there is something to look at, as far as that is a matter of time.
    #[must_use]
    pub fn next_look(&self, up: Option<Instant>, after: Option<Duration>) -> Option<Instant> {
        match (self.released, up) {
            (true, up) => up.map(|since| since + STEADY),
            (false, Some(_)) => None,
            (false, None) => Some(self.unable?.0 + after?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Option<Duration> = Some(Duration::from_secs(60));

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_plugin_that_never_comes_up_costs_the_route_its_partitions_and_gets_them_back() {
        let (mut release, start) = (Release::default(), Instant::now());
        assert_eq!(release.look(start, None, 0, AFTER), None);
        assert_eq!(release.next_look(None, AFTER), Some(start + seconds(60)));
        assert_eq!(release.look(start + seconds(59), None, 0, AFTER), None);
        assert_eq!(
            release.look(start + seconds(60), None, 0, AFTER),
            Some(Move::Leave)
        );
        assert_eq!(release.look(start + seconds(90), None, 0, AFTER), None, "once");
        let up = start + seconds(100);
        assert_eq!(release.look(up, Some(up), 0, AFTER), None, "it may die at once");
        assert_eq!(release.next_look(Some(up), AFTER), Some(up + STEADY));
        assert_eq!(release.look(up + STEADY, Some(up), 0, AFTER), Some(Move::Join));
        assert!(!release.is_released());
        assert_eq!(
            release.look(up + seconds(2), None, 0, AFTER),
            None,
            "it begins anew"
        );
    }

    #[test]
    fn coming_up_is_not_digesting() {
        let (mut release, start) = (Release::default(), Instant::now());
        let mut left = None;
        for second in 0..100 {
            let now = start + seconds(second);
            // Up for a second, down for a second, and nothing is ever settled.
            let up = (second % 2 == 1).then_some(now);
            left = left.or_else(|| release.look(now, up, 7, AFTER).map(|_| second));
        }
        assert_eq!(left, Some(60));
    }

    #[test]
    fn one_that_settles_a_message_now_and_then_keeps_its_partitions() {
        let (mut release, start) = (Release::default(), Instant::now());
        for second in 0..1000 {
            let now = start + seconds(second);
            let up = (second % 2 == 1).then_some(now);
            assert_eq!(release.look(now, up, second / 50, AFTER), None);
        }
    }

    #[test]
    fn one_that_runs_without_messages_is_able() {
        let (mut release, start) = (Release::default(), Instant::now());
        release.look(start, None, 0, AFTER);
        let up = start + seconds(50);
        release.look(up + HEALTHY, Some(up), 0, AFTER);
        assert_eq!(release.look(start + seconds(70), None, 0, AFTER), None);
        assert_eq!(Release::default().look(start, None, 0, None), None);
    }
}
