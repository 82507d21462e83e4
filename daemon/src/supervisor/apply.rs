//! A reload: new settings are read and proven whole, and only then is anything started, stopped or restarted.

use std::{collections::BTreeMap, time::Instant};

use super::{
    Supervisor,
    plan::{Plan, PlanFinding},
    reload::{Change, diff},
    route::{AfterEnd, State},
    stop_route, tell_findings,
};
use crate::settings::{RouteName, Settings};

/// What is wrong with the routes of a file.
type Refused = Vec<(RouteName, Vec<PlanFinding>)>;

// === impl Supervisor ===

impl Supervisor {
    /// Reads the settings again, proves every route, and only then acts, on changed routes alone.
    pub(super) fn reload(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let Some(reader) = &self.reader else { return };
        let now = Instant::now();
        self.systemd.reloading();
        let result = reader().and_then(|settings| match self.prove(&settings) {
            Ok(plans) => Ok((settings, plans)),
            Err(refused) => {
                for (route, findings) in &refused {
                    tell_findings(route, findings);
                }
                Err(format!("{} of its routes cannot run", refused.len()))
            }
        });
        match result {
            Ok((settings, plans)) => self.apply(settings, plans, now),
            Err(error) => {
                tracing::error!(error, "reload refused: nothing was changed");
            }
        }
        self.systemd.ready();
    }

    fn prove(&self, settings: &Settings) -> Result<BTreeMap<RouteName, Plan>, Refused> {
        let mut plans = BTreeMap::new();
        let mut refused = Vec::new();
        for route in &settings.routes {
            match self.planner.plan(settings, route, false) {
                Ok(plan) => {
                    plans.insert(route.name.clone(), plan);
                }
                Err(findings) => refused.push((route.name.clone(), findings)),
            }
        }
        if refused.is_empty() {
            Ok(plans)
        } else {
            Err(refused)
        }
    }

    fn apply(&mut self, settings: Settings, mut plans: BTreeMap<RouteName, Plan>, now: Instant) {
        // A route that is going already counts as what it will be.
        let runs: BTreeMap<RouteName, Plan> = self
            .routes
            .iter()
            .filter(|(_, route)| route.state != State::Failed)
            .filter_map(|(name, route)| match &route.then {
                AfterEnd::AsItEnded => Some((name.clone(), route.plan.clone())),
                AfterEnd::Replaced(plan) => Some((name.clone(), (**plan).clone())),
                AfterEnd::Forgotten => None,
            })
            .collect();
        let changes = diff(&runs, &plans);
        let deadline = now + settings.shutdown_timeout;
        // A failed route that the file no longer names is forgotten, and its lock with it.
        self.routes.retain(|name, route| {
            route.state != State::Failed || route.worker.is_some() || plans.contains_key(name)
        });
        for (name, change) in &changes {
            tracing::info!(route = %name, change = ?change, "reload");
            let plan = plans.remove(name);
            match (change, plan) {
                (Change::Kept, _) => {}
                (Change::Removed, _) => {
                    if let Some(route) = self.routes.get_mut(name) {
                        route.then = AfterEnd::Forgotten;
                        stop_route(route, deadline, true, now);
                    }
                }
                (Change::Added | Change::Restarted, Some(plan)) => match self.routes.get_mut(name) {
                    Some(route) if route.worker.is_some() => {
                        // Another group, topic or client: the old member leaves, or its partitions wait for it.
                        let leave = is_other_member(&route.plan, &plan);
                        route.then = AfterEnd::Replaced(Box::new(plan));
                        stop_route(route, deadline, leave, now);
                    }
                    _ => {
                        self.routes.remove(name);
                        self.add(plan, now);
                    }
                },
                (Change::Added | Change::Restarted, None) => {}
            }
        }
        self.routes
            .retain(|_, route| !(route.worker.is_none() && matches!(route.then, AfterEnd::Forgotten)));
        let count = |wanted: Change| changes.values().filter(|change| **change == wanted).count();
        tracing::info!(
            kept = count(Change::Kept),
            restarted = count(Change::Restarted),
            added = count(Change::Added),
            removed = count(Change::Removed),
            took_ms = now.elapsed().as_millis() as u64,
            "reloaded"
        );
        self.unplanned.clear();
        self.settings = settings;
    }
}

/// Whether a route's new client is not the member that its old one is.
fn is_other_member(old: &Plan, new: &Plan) -> bool {
    let (old, new) = (&old.worker, &new.worker);
    let differs = |key: &&str| old.properties.get(key) != new.properties.get(key);
    old.consumer_type != new.consumer_type
        || ["group.id", "group.instance.id", "bootstrap.servers"]
            .iter()
            .any(differs)
}
