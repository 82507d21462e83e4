//! A reload at work: new settings, or new plugin files, are proven whole, and only then is anything started, stopped,
//! swapped or restarted, on changed routes alone. One at a time; those that come meanwhile become one. The start is a
//! reload from nothing. Ends in a [`Receipt`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Supervisor,
    plan::{Plan, PlanFinding},
    prove::{self, From, Proven, Reader, Refused, Subject},
    receipt::{Became, Outcome, Reason, Receipt, RouteReceipt},
    reload::{Change, diff},
    route::{AfterEnd, State, Supervised, Unplanned},
    stop_route, tell_findings,
};
use crate::{
    settings::{RouteName, Settings},
    time::{now_ms, utc},
    worker::Command,
};

/// The reloads of a daemon.
pub(super) struct Reloads {
    /// Where settings are read; none for a command that runs once.
    pub reader: Option<Reader>,
    /// The one at work.
    now: Option<Reload>,
    /// What has been asked for since.
    next: Option<Wanted>,
    tell: mpsc::UnboundedSender<Proven>,
    pub proven: mpsc::UnboundedReceiver<Proven>,
    /// What the last one did.
    pub last: Option<Receipt>,
}

/// A reload that is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    reason: Reason,
    /// Who waits for the receipt.
    waiters: Vec<oneshot::Sender<Receipt>>,
}

struct Reload {
    wanted: Wanted,
    began: Instant,
    at: String,
    /// Not before everything is proven.
    acting: Option<Acting>,
}

/// What was proven, and is being made so.
#[derive(Default)]
struct Acting {
    settled: BTreeMap<RouteName, RouteReceipt>,
    /// Routes of which it is not known yet what became of them.
    open: BTreeMap<RouteName, Open>,
    /// Routes that get a new client, one after the other: the others of their group are to stay.
    restarts: VecDeque<(RouteName, Plan)>,
}

#[derive(Clone, Copy)]
struct Open {
    change: Change,
    since: Instant,
}

// === impl Wanted ===

impl Wanted {
    pub(super) fn new(reason: Reason) -> Self {
        Self {
            reason,
            waiters: Vec::new(),
        }
    }

    /// Somebody waits for what it does.
    pub(super) fn and_tell(mut self, waiter: oneshot::Sender<Receipt>) -> Self {
        self.waiters.push(waiter);
        self
    }

    /// Two that wait become one, which reads the settings if one of them does.
    fn join(&mut self, other: Self) {
        if self.reason == Reason::Plugins {
            self.reason = other.reason;
        }
        self.waiters.extend(other.waiters);
    }
}

// === impl Reloads ===

impl Reloads {
    pub(super) fn new() -> Self {
        let (tell, proven) = mpsc::unbounded_channel();
        Self {
            reader: None,
            now: None,
            next: None,
            tell,
            proven,
            last: None,
        }
    }

    /// Whether one is at work or waits.
    pub(super) fn is_busy(&self) -> bool {
        self.now.is_some() || self.next.is_some()
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// A plugin's file changed: the settings last applied are proven against the files of now. The settings file is not
    /// read, so that one that somebody edits meanwhile is not applied.
    pub(super) fn reload_plugins(&mut self) {
        self.reload(Wanted::new(Reason::Plugins));
    }

    /// Reloads, as soon as the reload at work has ended.
    pub(super) fn reload(&mut self, wanted: Wanted) {
        if self.stopping.is_some() {
            let refused = refusal(&wanted, utc(now_ms()), "the daemon is stopping".to_owned());
            wanted.answer(&refused);
        } else if self.reloads.now.is_none() {
            self.begin(wanted);
        } else if let Some(next) = &mut self.reloads.next {
            next.join(wanted);
        } else {
            self.reloads.next = Some(wanted);
        }
    }

    fn begin(&mut self, wanted: Wanted) {
        let settings = match (&self.reloads.reader, wanted.reason) {
            (Some(reader), Reason::Signal | Reason::Command) => From::File(reader.clone()),
            (_, Reason::Start | Reason::Plugins) => From::Settings(Box::new(self.settings.clone())),
            (None, _) => {
                let why = "this command runs with the settings that it began with".to_owned();
                let refused = refusal(&wanted, utc(now_ms()), why);
                return wanted.answer(&refused);
            }
        };
        if self.ready {
            self.systemd.reloading();
        }
        let subject = Subject {
            settings,
            reason: wanted.reason,
            runs: self.runs(),
        };
        prove::prove(&self.planner, subject, self.reloads.tell.clone());
        self.reloads.now = Some(Reload {
            wanted,
            began: Instant::now(),
            at: utc(now_ms()),
            acting: None,
        });
    }

    /// It is known whether what is asked for can be.
    pub(super) fn hear_proof(&mut self, proven: Proven) {
        let Some(reload) = &self.reloads.now else { return };
        let reason = reload.wanted.reason;
        match proven {
            _ if self.stopping.is_some() => {
                self.refuse(Some("the daemon is stopping".to_owned()), Vec::new())
            }
            Proven::Unreadable(error) => {
                tracing::error!(error, "reload refused: nothing was changed");
                self.failed |= reason == Reason::Start;
                self.refuse(Some(error), Vec::new());
            }
            Proven::Routes {
                settings,
                plans,
                refused,
                staying,
            } => {
                let staying = tell_staying(staying);
                let refused = self.tell_refused(reason, refused);
                let stays = |name: &RouteName| match reason {
                    Reason::Start => true,
                    // What could not run before does not keep the others from their new code.
                    Reason::Plugins => self.unplanned.contains_key(name),
                    Reason::Signal | Reason::Command => false,
                };
                if refused.iter().all(|(name, _)| stays(name)) {
                    self.act(*settings, plans, refused, staying);
                } else {
                    let error = format!("{} of its routes cannot run", refused.len());
                    tracing::error!(error, "reload refused: nothing was changed");
                    let refused = refused.into_iter().map(|(_, receipt)| receipt).collect();
                    self.refuse(None, refused);
                }
            }
        }
        self.mind_reload();
    }

    /// Says what is wrong with routes, and keeps it for the receipt.
    fn tell_refused(&self, reason: Reason, refused: Refused) -> Vec<(RouteName, RouteReceipt)> {
        let mut receipts = Vec::new();
        for (name, findings) in refused {
            // Said already, and nothing about it has changed.
            if reason != Reason::Plugins || !self.unplanned.contains_key(&name) {
                tell_findings(&name, &findings);
            }
            let receipt = RouteReceipt::failed(&name, text_of(findings));
            receipts.push((name, receipt));
        }
        receipts
    }

    /// Nothing is changed; all routes that are not named are as they were.
    fn refuse(&mut self, error: Option<String>, mut routes: Vec<RouteReceipt>) {
        for name in self.routes.keys() {
            if !routes.iter().any(|route| route.name == name.as_str()) {
                routes.push(RouteReceipt::new(name, Became::Kept));
            }
        }
        routes.sort_by(|a, b| a.name.cmp(&b.name));
        self.end_reload(Outcome::Refused, error, routes);
    }

    /// What runs. A route that is going already counts as what it will be.
    fn runs(&self) -> BTreeMap<RouteName, Plan> {
        self.routes
            .iter()
            .filter(|(_, route)| route.state != State::Failed)
            .filter_map(|(name, route)| match &route.then {
                AfterEnd::AsItEnded | AfterEnd::Again => Some((name.clone(), route.plan.clone())),
                AfterEnd::Replaced(plan) => Some((name.clone(), (**plan).clone())),
                AfterEnd::Forgotten | AfterEnd::Failed => None,
            })
            .collect()
    }

    /// Does what the difference asks for; [`Supervisor::mind_reload`] follows it.
    fn act(
        &mut self,
        settings: Settings,
        mut plans: BTreeMap<RouteName, Plan>,
        refused: Vec<(RouteName, RouteReceipt)>,
        staying: Vec<(RouteName, String)>,
    ) {
        let now = Instant::now();
        let changes = diff(&self.runs(), &plans);
        let deadline = now + settings.shutdown_timeout;
        crate::telemetry::set_level(settings.log.level);
        let mut acting = Acting::default();
        for (name, receipt) in refused {
            if self.failed_to_plan(&name, receipt.error.as_deref(), now) {
                tracing::error!(route = %name, state = %State::Failed, from = "none", "route state");
            }
            acting.settled.insert(name, receipt);
        }
        let is_refused = |name: &RouteName| acting.settled.contains_key(name);
        // A failed route that the settings no longer name is forgotten, and its lock with it.
        self.routes.retain(|name, route| {
            route.state != State::Failed
                || route.worker.is_some()
                || plans.contains_key(name)
                || is_refused(name)
        });
        self.unplanned.retain(|name, _| is_refused(name));
        for (name, change) in changes {
            let plan = plans.remove(&name);
            if change == Change::Removed && is_refused_now(&acting, &name) {
                continue;
            }
            let open = Open { change, since: now };
            match (change, plan) {
                (Change::Removed, _) => {
                    if let Some(route) = self.routes.get_mut(&name) {
                        route.then = AfterEnd::Forgotten;
                        stop_route(route, deadline, true, now);
                    }
                    acting.open.insert(name, open);
                }
                (Change::Added, Some(plan)) => {
                    self.replace(&name, plan, deadline, now);
                    acting.open.insert(name, open);
                }
                (Change::Swapped, Some(plan)) => match self.swap(&name, plan) {
                    Ok(()) => {
                        acting.open.insert(name, open);
                    }
                    // Without a worker there is nothing to keep.
                    Err(plan) => acting.restarts.push_back((name, *plan)),
                },
                (Change::Restarted, Some(plan)) => acting.restarts.push_back((name, plan)),
                (Change::Kept | Change::Added | Change::Swapped | Change::Restarted, _) => {
                    acting
                        .settled
                        .insert(name.clone(), RouteReceipt::new(&name, Became::Kept));
                }
            }
        }
        self.routes
            .retain(|_, route| !(route.worker.is_none() && matches!(route.then, AfterEnd::Forgotten)));
        for (name, why) in staying {
            if let Some(receipt) = acting.settled.get_mut(&name) {
                receipt.error = Some(why);
            }
        }
        self.settings = settings;
        self.watch_what_is_set();
        if let Some(reload) = &mut self.reloads.now {
            reload.acting = Some(acting);
        }
    }

    /// Notes a route that has no plan. Whether that is new.
    fn failed_to_plan(&mut self, name: &RouteName, why: Option<&str>, now: Instant) -> bool {
        let error = why.unwrap_or_default().to_owned();
        if let Some(known) = self.unplanned.get_mut(name) {
            known.error = error;
            return false;
        }
        self.failed = true;
        self.unplanned
            .insert(name.clone(), Unplanned { since: now, error });
        true
    }

    /// Tells a route's worker to go on with another plugin; the plan comes back where none could.
    fn swap(&mut self, name: &RouteName, mut plan: Plan) -> Result<(), Box<Plan>> {
        let route = self
            .routes
            .get_mut(name)
            .filter(|route| route.state != State::Draining && matches!(route.then, AfterEnd::AsItEnded));
        let Some((route, worker)) = route.and_then(|route| {
            let worker = route.worker.take()?;
            Some((route, worker))
        }) else {
            return Err(Box::new(plan));
        };
        plan.worker.home.construct.generation = route.next_generation(&plan);
        plan.worker.reset_to = None;
        worker.tell(Command::Swap(Box::new(plan.worker.clone())));
        route.worker = Some(worker);
        route.swap = Some(Box::new(plan));
        Ok(())
    }

    /// A route has another plugin.
    pub(super) fn swapped(&mut self, name: &RouteName, pause: Duration) {
        self.settle_swap(
            name,
            RouteReceipt::new(name, Became::Swapped).not_digesting(pause),
        );
    }

    /// A route's client ended before its plugin was swapped: the next one begins with the new plugin.
    pub(super) fn restarted_instead(&mut self, name: &RouteName) {
        self.settle_swap(name, RouteReceipt::new(name, Became::Restarted));
    }

    /// A route has its old plugin still, or again.
    pub(super) fn not_swapped(&mut self, name: &RouteName, error: String) {
        self.settle_swap(name, RouteReceipt::failed(name, error));
    }

    fn settle_swap(&mut self, name: &RouteName, receipt: RouteReceipt) {
        let acting = self
            .reloads
            .now
            .as_mut()
            .and_then(|reload| reload.acting.as_mut());
        if let Some(acting) = acting
            && acting.open.remove(name).is_some()
        {
            acting.settled.insert(name.clone(), receipt);
        }
    }

    /// Stops the route, if it runs, and starts it again with another plan.
    fn replace(&mut self, name: &RouteName, mut plan: Plan, deadline: Instant, now: Instant) {
        if let Some(route) = self.routes.get(name) {
            plan.worker.home.construct.generation = route.next_generation(&plan);
        }
        match self.routes.get_mut(name) {
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
        }
    }

    /// Follows a reload that is acted on: settles what can be, starts what is next, and ends it.
    pub(super) fn mind_reload(&mut self) {
        let Some(mut acting) = self.reloads.now.as_mut().and_then(|reload| reload.acting.take()) else {
            return self.begin_next();
        };
        let now = Instant::now();
        let open = std::mem::take(&mut acting.open);
        for (name, open) in open {
            match self.became(&name, open, now) {
                Some(receipt) => {
                    acting.settled.insert(name, receipt);
                }
                None => {
                    acting.open.insert(name, open);
                }
            }
        }
        let restarting = |acting: &Acting| acting.open.values().any(|open| open.change == Change::Restarted);
        if self.stopping.is_some() {
            for (name, _) in acting.restarts.drain(..) {
                let receipt = RouteReceipt::failed(&name, "the daemon was stopped before it was restarted");
                acting.settled.insert(name, receipt);
            }
        }
        while !restarting(&acting)
            && let Some((name, plan)) = acting.restarts.pop_front()
        {
            let deadline = now + self.settings.shutdown_timeout;
            self.replace(&name, plan, deadline, now);
            let open = Open {
                change: Change::Restarted,
                since: now,
            };
            match self.became(&name, open, now) {
                Some(receipt) => {
                    acting.settled.insert(name, receipt);
                }
                None => {
                    acting.open.insert(name, open);
                }
            }
        }
        if acting.open.is_empty() {
            let failed = |receipt: &RouteReceipt| receipt.change == Became::Failed;
            let outcome = if acting.settled.values().any(failed) {
                Outcome::Failed
            } else {
                Outcome::Done
            };
            let routes: Vec<RouteReceipt> = acting.settled.into_values().collect();
            self.end_reload(outcome, None, routes);
            self.begin_next();
        } else if let Some(reload) = &mut self.reloads.now {
            reload.acting = Some(acting);
        }
    }

    fn begin_next(&mut self) {
        if self.reloads.now.is_none()
            && let Some(wanted) = self.reloads.next.take()
        {
            self.reload(wanted);
        }
    }

    /// What became of a route, once that is known.
    fn became(&self, name: &RouteName, open: Open, now: Instant) -> Option<RouteReceipt> {
        let done = || Some(RouteReceipt::new(name, open.change.into()));
        let Some(route) = self.routes.get(name) else {
            return match open.change {
                Change::Removed => done(),
                _ => Some(RouteReceipt::failed(name, "it was removed meanwhile")),
            };
        };
        if self.stopping.is_some() {
            return Some(RouteReceipt::failed(name, "the daemon was stopped meanwhile"));
        }
        if open.change == Change::Removed
            || !matches!(route.then, AfterEnd::AsItEnded)
            || route.swap.is_some()
        {
            return None;
        }
        if open.change == Change::Swapped {
            // Its client ended before its plugin was swapped: it begins with both.
            let open = Open {
                change: Change::Restarted,
                ..open
            };
            return self.became(name, open, now);
        }
        match route.state {
            State::Failed | State::Backoff => {
                let why = route.last_error.as_deref().unwrap_or("it does not run");
                Some(RouteReceipt::failed(name, why))
            }
            State::Starting if !waits_for_kafka(route) => None,
            State::Draining => None,
            _ if open.change == Change::Restarted => {
                done().map(|receipt| receipt.not_digesting(now.saturating_duration_since(open.since)))
            }
            _ => done(),
        }
    }

    /// Writes the receipt, for everybody who wants it.
    fn end_reload(&mut self, outcome: Outcome, error: Option<String>, routes: Vec<RouteReceipt>) {
        let Some(reload) = self.reloads.now.take() else {
            return;
        };
        let receipt = Receipt {
            at: reload.at,
            reason: reload.wanted.reason,
            outcome,
            error,
            took_ms: u64::try_from(reload.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            routes,
        };
        if reload.wanted.reason != Reason::Start {
            tell_receipt(&receipt);
        }
        if self.ready && self.stopping.is_none() {
            self.systemd.ready();
        }
        self.sweep_copies();
        reload.wanted.answer(&receipt);
        self.reloads.last = Some(receipt);
    }
}

/// Says why routes go on as they are.
fn tell_staying(staying: Refused) -> Vec<(RouteName, String)> {
    let staying = staying.into_iter().map(|(name, findings)| {
        let why = text_of(findings);
        tracing::warn!(route = %name, "the route goes on with the plugin that it has: {why}");
        (name, why)
    });
    staying.collect()
}

fn text_of(findings: Vec<PlanFinding>) -> String {
    let texts = findings.into_iter().map(|finding| match finding.key.join(".") {
        key if key.is_empty() => finding.message,
        key => format!("{key}: {}", finding.message),
    });
    texts.collect::<Vec<_>>().join("\n")
}

impl Wanted {
    fn answer(self, receipt: &Receipt) {
        for waiter in self.waiters {
            // Who asked may be gone.
            let _ = waiter.send(receipt.clone());
        }
    }
}

fn is_refused_now(acting: &Acting, name: &RouteName) -> bool {
    acting
        .settled
        .get(name)
        .is_some_and(|receipt| receipt.change == Became::Failed)
}

/// Its plugin digests; only the group has not answered.
fn waits_for_kafka(route: &Supervised) -> bool {
    route.plugin_up
}

fn tell_receipt(receipt: &Receipt) {
    for route in receipt.routes.iter().filter(|route| route.change != Became::Kept) {
        tracing::info!(
            route = route.name,
            change = route.change.name(),
            not_digesting_ms = route.not_digesting_ms,
            error = route.error,
            "reload"
        );
    }
    if receipt.outcome == Outcome::Refused {
        // What is wrong was said already.
        return;
    }
    tracing::info!(
        reason = ?receipt.reason,
        kept = receipt.count(Became::Kept),
        swapped = receipt.count(Became::Swapped),
        restarted = receipt.count(Became::Restarted),
        added = receipt.count(Became::Added),
        removed = receipt.count(Became::Removed),
        failed = receipt.count(Became::Failed),
        took_ms = receipt.took_ms,
        "reloaded"
    );
}

fn refusal(wanted: &Wanted, at: String, error: String) -> Receipt {
    Receipt {
        at,
        reason: wanted.reason,
        outcome: Outcome::Refused,
        error: Some(error),
        took_ms: 0,
        routes: Vec::new(),
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
