//! Whether every route's thread does its part: while a deadline of its plugin runs, the thread has to look at it. One that
//! does not cannot act on a missed deadline either, and then only a restart of the daemon helps. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{settings::RouteName, worker::Turns};

/// What the supervisor has seen of the threads.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    seen: BTreeMap<RouteName, Seen>,
    last_look: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    turns: Turns,
    /// How long the thread has not turned.
    stood: Duration,
}

/// A client's own calls take up to 10 s (a broker that does not answer), two of them in a row.
const GRACE: Duration = Duration::from_secs(30);
/// A look that comes later counts as this: the daemon itself slept meanwhile, or was stopped, and the threads with it.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

// === impl Vigil ===

impl Vigil {
    /// Takes what the threads show now. The routes whose thread has not looked after its plugin's deadline in time.
    pub(super) fn look<'a>(
        &mut self,
        now: Instant,
        routes: impl Iterator<Item = (&'a RouteName, Turns)>,
    ) -> Vec<&'a RouteName> {
        let since = self.last_look.replace(now);
        let passed = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let passed = passed.min(LONGEST_LOOK);
        let mut before = std::mem::take(&mut self.seen);
        let mut late = Vec::new();
        for (name, turns) in routes {
            let stood = match before.remove(name) {
                Some(seen) if turns.under_deadline && seen.turns == turns => seen.stood + passed,
                _ => Duration::ZERO,
            };
            if stood >= GRACE {
                late.push(name);
            }
            self.seen.insert(name.clone(), Seen { turns, stood });
        }
        late
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn turns(count: u64, under_deadline: bool) -> Turns {
        Turns {
            count,
            under_deadline,
        }
    }

    /// The first second at which the route is late, of so many.
    fn late_at(seconds: u64, shows: impl Fn(u64) -> Turns) -> Option<u64> {
        let name: RouteName = "orders".parse().unwrap();
        let (mut vigil, begin) = (Vigil::default(), Instant::now());
        (0..seconds).find(|second| {
            let now = begin + Duration::from_secs(*second);
            !vigil
                .look(now, std::iter::once((&name, shows(*second))))
                .is_empty()
        })
    }

    #[test]
    fn a_thread_that_turns_is_never_late_and_one_that_stands_is_after_its_grace() {
        assert_eq!(late_at(500, |second| turns(second / 20, true)), None);
        assert_eq!(late_at(500, |second| turns(second.min(10), true)), Some(40));
    }

    #[test]
    fn a_thread_without_a_deadline_may_stand() {
        assert_eq!(late_at(500, |_| turns(7, false)), None);
    }

    #[test]
    fn a_daemon_that_slept_finds_nobody_late() {
        let name: RouteName = "orders".parse().unwrap();
        let (mut vigil, begin) = (Vigil::default(), Instant::now());
        for hour in 0..5 {
            let now = begin + Duration::from_secs(hour * 3600);
            let late = vigil.look(now, std::iter::once((&name, turns(7, true))));
            assert!(late.is_empty());
        }
    }
}
