//! What systemd hears of the routes: when the daemon is ready, how many are in which state, which are in trouble, and that
//! the supervisor lives.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    Supervisor,
    route::{State, Supervised},
    vigil::Vigil,
};
use crate::settings::RouteName;

/// What was seen of the routes at the last look.
#[derive(Default)]
pub(super) struct Announcer {
    vigil: Vigil,
    next_look: Option<Instant>,
    /// Routes whose thread does not look after its plugin.
    late: Vec<RouteName>,
    restarts: BTreeMap<RouteName, Restarted>,
}

/// A route's plugin was restarted.
#[derive(Clone, Copy)]
struct Restarted {
    times: u64,
    /// What the route had digested by then.
    digested: u64,
    at: Instant,
}

/// A route that does not do what it should.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble<'a> {
    Late,
    Failed(Option<&'a str>),
    Backoff(Option<&'a str>),
    /// It runs, but nothing was digested since its plugin was restarted, a while ago at most.
    NoDigest(Option<&'a str>),
}

/// A topic that is idle for so long after a restart is no sign of trouble.
const RECENT: Duration = Duration::from_secs(15 * 60);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Routes that a status names, and how much of an error it tells.
const NAMED: usize = 3;
const ERROR: usize = 120;

// === impl Supervisor ===

impl Supervisor {
    /// Tells systemd what is so: ready once every route has its first outcome.
    pub(super) fn announce(&mut self) {
        let starting = |route: &&Supervised| route.state == State::Starting && !waits_for_kafka(route);
        let begun = self.reloads.last.is_some() || self.routes.len() + self.unplanned.len() > 0;
        let waits = !begun || self.routes.values().any(|route| starting(&route));
        if !self.ready && !waits && self.stopping.is_none() {
            self.ready = true;
            tracing::info!(routes = self.routes.len(), "ready");
            self.systemd.ready();
        }
        if !self.systemd.listens() {
            return;
        }
        let now = Instant::now();
        if self.announcer.next_look.is_none_or(|at| at <= now) {
            self.look(now);
        }
        let line = self.status_line();
        self.systemd.status(&line);
        self.systemd.tick(now, self.announcer.late.is_empty());
    }

    /// When the next word to systemd is due.
    pub(super) fn announcement_due(&self) -> Option<Instant> {
        let sign = self.systemd.due()?;
        Some(self.announcer.next_look.map_or(sign, |look| look.min(sign)))
    }

    fn look(&mut self, now: Instant) {
        // One that stops has the stop's own deadline.
        let at_work = self
            .routes
            .iter()
            .filter(|(_, route)| route.worker.is_some() && route.state != State::Draining);
        let late = self
            .announcer
            .vigil
            .look(now, at_work.map(|(name, route)| (name, route.stats.turns())));
        let late: Vec<RouteName> = late.into_iter().cloned().collect();
        for name in late.iter().filter(|name| !self.announcer.late.contains(name)) {
            tracing::error!(route = %name, "the route's thread does not look after its plugin any more; systemd is to restart \
                the daemon");
        }
        self.announcer.late = late;
        self.announcer.next_look = Some(now + LOOK_EVERY);
        self.announcer
            .restarts
            .retain(|name, _| self.routes.contains_key(name));
        for (name, route) in &self.routes {
            let times = route.plugin_restarts.total();
            let digested = route.stats.digested.load(Ordering::Relaxed);
            let seen = self.announcer.restarts.entry(name.clone());
            let first = Restarted {
                times: 0,
                digested,
                at: now,
            };
            let seen = seen.or_insert(first);
            if seen.times != times {
                *seen = Restarted {
                    times,
                    digested,
                    at: now,
                };
            }
        }
    }

    fn status_line(&self) -> String {
        if !self.ready && self.routes.is_empty() && self.stopping.is_none() {
            return "starting".to_owned();
        }
        let counted = |state: State| self.routes.values().filter(|route| route.state == state).count();
        let counts = [
            (counted(State::Running), "running"),
            (counted(State::Paused), "paused"),
            (counted(State::Starting), "starting"),
            (counted(State::Backoff), "in backoff"),
            (counted(State::Failed) + self.unplanned.len(), "failed"),
            (counted(State::Draining), "draining"),
            (counted(State::Stopped), "stopped"),
        ];
        let unplanned = self
            .unplanned
            .iter()
            .map(|(name, unplanned)| (Trouble::Failed(Some(&unplanned.error)), name));
        let routes = self
            .routes
            .iter()
            .filter_map(|(name, route)| Some((self.trouble(name, route)?, name)));
        let mut troubles: Vec<_> = routes.chain(unplanned).collect();
        troubles.sort();
        line(&counts, &troubles)
    }

    fn trouble<'a>(&self, name: &RouteName, route: &'a Supervised) -> Option<Trouble<'a>> {
        let error = route.last_error.as_deref();
        let restarted = self
            .announcer
            .restarts
            .get(name)
            .filter(|seen| seen.times > 0 && seen.at.elapsed() < RECENT);
        let digested = route.stats.digested.load(Ordering::Relaxed);
        match route.state {
            _ if self.announcer.late.contains(name) => Some(Trouble::Late),
            State::Failed => Some(Trouble::Failed(error)),
            State::Backoff => Some(Trouble::Backoff(error)),
            State::Running | State::Starting if restarted.is_some_and(|seen| seen.digested == digested) => {
                Some(Trouble::NoDigest(error))
            }
            _ => None,
        }
    }
}

/// Its plugin digests; only the group has not answered.
fn waits_for_kafka(route: &Supervised) -> bool {
    route.plugin_up
}

/// `2 running, 1 in backoff; orders in backoff: ...`
fn line(counts: &[(usize, &str)], troubles: &[(Trouble<'_>, &RouteName)]) -> String {
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let mut line = if counts.is_empty() {
        "no routes".to_owned()
    } else {
        counts.join(", ")
    };
    for (trouble, name) in troubles.iter().take(NAMED) {
        let (what, error) = match trouble {
            Trouble::Late => ("hangs", Some("its thread does not look after its plugin")),
            Trouble::Failed(error) => ("failed", *error),
            Trouble::Backoff(error) => ("in backoff", *error),
            Trouble::NoDigest(error) => ("has digested nothing since its plugin's restart", *error),
        };
        line.push_str(&format!("; {name} {what}"));
        if let Some(error) = error {
            line.push_str(": ");
            line.extend(error.chars().take(ERROR));
            if error.chars().nth(ERROR).is_some() {
                line.push_str("...");
            }
        }
    }
    if let Some(more) = troubles.len().checked_sub(NAMED).filter(|more| *more > 0) {
        line.push_str(&format!("; and {more} more"));
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_status_counts_and_names_who_is_in_trouble() {
        let names: Vec<RouteName> = ["orders", "bills", "mails", "views"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        assert_eq!(line(&[(0, "running"), (0, "failed")], &[]), "no routes");
        assert_eq!(line(&[(3, "running"), (0, "failed")], &[]), "3 running");
        let long = "x".repeat(200);
        let troubles = [
            (Trouble::Late, &names[3]),
            (Trouble::Failed(None), &names[2]),
            (Trouble::Backoff(Some(&long)), &names[0]),
            (Trouble::NoDigest(Some("killed")), &names[1]),
        ];
        let text = line(&[(1, "running"), (1, "failed")], &troubles);
        assert!(
            text.starts_with("1 running, 1 failed; views hangs: its thread"),
            "{text}"
        );
        assert!(text.contains("; mails failed; orders in backoff: xxx"), "{text}");
        assert!(text.ends_with("xxx...; and 1 more"), "{text}");
        assert!(text.len() < 300, "{text}");
    }
}
