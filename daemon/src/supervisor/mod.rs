//! The life of routes: it starts a worker for each, keeps it alive, and changes exactly what new settings change.
//! A start is a reload from nothing. All of it runs in one thread; the workers tell it what happens.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

mod announce;
mod apply;
mod autoload;
pub mod by_hand;
pub mod control;
pub mod descriptors;
pub mod membership;
mod meter;
mod orders;
pub mod plan;
mod prove;
pub mod receipt;
pub mod reload;
pub mod restart;
pub mod route;
mod status;
mod vigil;
pub mod watch;
mod watching;

use announce::Announcer;
use apply::{Reloads, Wanted};
use by_hand::{Hold, Orders};
use control::Control;
use membership::MemberLock;
use orders::Until;
use plan::{Plan, PlanFinding, Planner};
pub use prove::Reader;
use receipt::Reason;
use restart::Next;
use route::{AfterEnd, Ails, Due, State, Supervised, Unplanned};
use watching::Watching;

use crate::{
    lane::DownCause,
    settings::{RouteName, Settings},
    signals::Signal,
    systemd::Systemd,
    worker::{Command, Ended, Event, Remedy, Reply, WorkerHandle},
};

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was finished.
    Done,
    /// The deadline of the stop passed with messages in hand.
    Left,
    /// The only route of `consume` could not run.
    Failed,
}

/// The daemon at work.
pub struct Supervisor {
    settings: Settings,
    planner: Arc<Planner>,
    systemd: Systemd,
    announcer: Announcer,
    routes: BTreeMap<RouteName, Supervised>,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    reloads: Reloads,
    watching: Watching,
    control: Control,
    /// What was ordered by hand and holds.
    orders: Orders,
    stopping: Option<Instant>,
    ready: bool,
    /// Routes of the settings that cannot run and have no plan.
    unplanned: BTreeMap<RouteName, Unplanned>,
    left: bool,
    /// The routes that ended by themselves, when that ends the daemon (`consume`, `demo`).
    ends_with_routes: bool,
    failed: bool,
}

/// What a worker says, and which of a route's workers says it.
struct Told {
    route: RouteName,
    incarnation: u64,
    event: Event,
}

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor of nothing yet.
    #[must_use]
    pub fn new(settings: Settings, planner: Planner, systemd: Systemd) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            settings,
            planner: Arc::new(planner),
            systemd,
            announcer: Announcer::default(),
            routes: BTreeMap::new(),
            tell,
            told,
            reloads: Reloads::new(),
            watching: Watching::new(),
            control: Control::new(),
            orders: Orders::default(),
            stopping: None,
            ready: false,
            unplanned: BTreeMap::new(),
            left: false,
            ends_with_routes: false,
            failed: false,
        }
    }

    /// Reads settings again on SIGHUP and by command.
    #[must_use]
    pub fn reloading(mut self, reader: Reader) -> Self {
        self.reloads.reader = Some(reader);
        self
    }

    /// Knows what was ordered by hand before it started.
    #[must_use]
    pub fn remembering(mut self, orders: Orders) -> Self {
        self.orders = orders;
        self
    }

    /// Ends when every route has ended.
    #[must_use]
    pub fn ending_with_routes(mut self) -> Self {
        self.ends_with_routes = true;
        self
    }

    /// Works until it is told to stop and all routes have ended.
    pub async fn run(mut self, mut signals: mpsc::UnboundedReceiver<Signal>) -> Exit {
        self.control.start();
        self.begin_watching();
        self.reload(Wanted::new(Reason::Start));
        loop {
            let due = self.next_due();
            tokio::select! {
                Some(signal) = signals.recv() => match signal {
                    Signal::Stop if self.stopping.is_some() => {
                        tracing::warn!("a second signal: stopping at once, what is in hand is read again later");
                        return Exit::Left;
                    }
                    Signal::Stop => self.stop(),
                    // The terminal of a command in the foreground is gone.
                    Signal::Reload if self.reloads.reader.is_none() && self.stopping.is_none() => self.stop(),
                    Signal::Reload => self.reload(Wanted::new(Reason::Signal)),
                    Signal::Dump => self.dump(),
                },
                Some(told) = self.told.recv() => self.hear(told),
                Some(proven) = self.reloads.proven.recv() => self.hear_proof(proven),
                Some(changed) = self.watching.changed.recv() => self.plugins_changed(&changed),
                Some(asked) = self.control.told.recv() => self.obey(asked),
                () = tokio::time::sleep_until(due.into()) => self.do_what_is_due(),
            }
            self.mind_reload();
            self.announce();
            self.sample();
            if self.is_over() {
                return match (self.left, self.failed && self.ends_with_routes) {
                    (true, _) => Exit::Left,
                    (_, true) => Exit::Failed,
                    _ => Exit::Done,
                };
            }
        }
    }

    fn is_over(&self) -> bool {
        let all_ended = self
            .routes
            .values()
            .all(|route| route.worker.is_none() && route.due.is_none());
        let over = self.stopping.is_some() || (self.ends_with_routes && !self.reloads.is_busy());
        over && all_ended
    }

    fn next_due(&self) -> Instant {
        let soonest = self
            .routes
            .values()
            .filter_map(|route| route.due)
            .map(|(at, _)| at)
            .min();
        let idle = Instant::now() + meter::LOOK;
        soonest
            .into_iter()
            .chain(self.announcement_due())
            .fold(idle, Instant::min)
    }

    fn add(&mut self, plan: Plan, now: Instant) {
        let name = plan.route.name.clone();
        let worker = &plan.worker;
        tracing::info!(
            route = %name,
            state = %State::Starting,
            from = "none",
            plugin = %plan.library.file.display(),
            symbol = plan.route.symbol,
            version = plan.descriptor.version,
            topics = worker.topics.join(","),
            consumer_type = %worker.consumer_type,
            group = worker.properties.get("group.id").filter(|_| worker.has_group),
            "route state"
        );
        let mut route = Supervised::new(plan, now);
        route.by_hand = self.orders.of(&name);
        if route.held() == Some(Hold::Stopped) {
            route.enter(State::Stopped, now);
        } else {
            self.start_worker(&mut route, now);
        }
        self.routes.insert(name, route);
    }

    fn start_worker(&mut self, route: &mut Supervised, now: Instant) {
        if let Some(member) = route.plan.worker.properties.get("group.instance.id")
            && route.lock.is_none()
        {
            match MemberLock::take(&self.settings.state_dir, member) {
                Ok(lock) => route.lock = Some(lock),
                Err(error) => {
                    tracing::error!(route = %route.plan.route.name, %error, "route cannot run");
                    route.last_error = Some(error.to_string());
                    self.failed = true;
                    route.enter(State::Failed, now);
                    return;
                }
            }
        }
        route.incarnation += 1;
        route.worker_since = now;
        route.last_report.forget();
        route.plugin_up = false;
        route.partitions = None;
        route.released = false;
        let (name, incarnation, tell) = (
            route.plan.route.name.clone(),
            route.incarnation,
            self.tell.clone(),
        );
        let listener = Arc::new(move |event| {
            // Nobody listens any more only when the daemon is ending at once.
            let _ = tell.send(Told {
                route: name.clone(),
                incarnation,
                event,
            });
        });
        let stats = Arc::clone(&route.stats);
        match WorkerHandle::start(route.plan.worker.clone(), stats, listener) {
            Ok(worker) => {
                if route.held() == Some(Hold::Paused) {
                    worker.tell(Command::Pause(Reply::new(|_| ())));
                }
                worker.tell(Command::StartPlugin);
                route.worker = Some(worker);
            }
            Err(error) => {
                tracing::error!(route = %route.plan.route.name, %error, "the system has no thread for this route");
                route.last_error = Some(error.to_string());
                let next = route.client_restarts.failed(Duration::ZERO, now, chance());
                route.back_off(Ails::Client, now);
                route.later(Due::Worker, next.wait().unwrap_or_default(), now);
            }
        }
    }

    fn hear(
        &mut self,
        Told {
            route: name,
            incarnation,
            event,
        }: Told,
    ) {
        let now = Instant::now();
        let Some(mut route) = self.routes.remove(&name) else {
            return;
        };
        if route.incarnation != incarnation {
            self.routes.insert(name, route);
            return;
        }
        match event {
            Event::Polling => {}
            Event::Assigned(partitions) => {
                if partitions > 0 {
                    // It acts at the first assignment after the daemon starts, and at no later one.
                    route.plan.worker.reset_to = None;
                }
                route.partitions = Some(partitions);
                route.settle(now);
            }
            Event::PluginUp { pid } => {
                tracing::info!(route = %name, pid, restarts = route.plugin_restarts.total(), "plugin up");
                route.plugin_up = true;
                route.pid = pid;
                route.settle(now);
                route.tell_waiters(Until::Up, &Ok(serde_json::json!({"pid": pid})));
            }
            Event::Swapped { pid, pause } => {
                route.plugin_up = true;
                route.pid = pid;
                route.due = None;
                if let Some(plan) = route.swap.take() {
                    let reset_to = route.plan.worker.reset_to;
                    route.plan = *plan;
                    route.plan.worker.reset_to = reset_to;
                }
                route.plugin_restarts.follow(route.plan.route.restart);
                let pause_ms = pause.as_secs_f64() * 1000.0;
                tracing::info!(route = %name, pid, generation = route.generation(), pause_ms, "plugin swapped");
                route.settle(now);
                route.tell_waiters(Until::Up, &Ok(serde_json::json!({"pid": pid})));
                self.swapped(&name, pause);
            }
            Event::SwapFailed(error) => {
                route.swap = None;
                tracing::error!(route = %name, error, "plugin not swapped: the old one goes on, or is started again");
                self.not_swapped(&name, error);
            }
            Event::PluginStuck(why) => {
                tracing::error!(route = %name, error = why, "plugin stuck in the daemon's own thread; its partitions are \
                    given up. Only a restart of the daemon frees it; `isolation: process` would have");
                route.plugin_up = false;
                route.tell_waiters(Until::Up, &Err(why.clone()));
                route.last_error = Some(why);
                route.back_off(Ails::Plugin, now);
            }
            Event::Stalled {
                topic,
                partition,
                offset,
                waited,
                remedy,
            } => {
                let waited_ms = waited.as_millis() as u64;
                let then = match remedy {
                    Remedy::Seek => "it is read again from there",
                    Remedy::NewClient => "a new client is made",
                };
                tracing::warn!(route = %name, topic, partition, offset, waited_ms,
                    seeks = route.stats.stall_seeks.load(std::sync::atomic::Ordering::Relaxed),
                    restarts = route.stats.stall_restarts.load(std::sync::atomic::Ordering::Relaxed),
                    "partition stalled: it has messages and brings none; {then}");
            }
            Event::PluginDown { cause, lived } => {
                route.plugin_up = false;
                let pid = route.pid.take();
                if route.state != State::Draining && cause != DownCause::Ordered {
                    self.plugin_failed(&mut route, pid, &cause, lived, now);
                } else if cause != DownCause::Ordered {
                    tracing::warn!(route = %name, pid, cause = %cause, "plugin down while its route stops");
                    route.last_error = Some(cause.to_string());
                } else if matches!(route.state, State::Running | State::Paused) {
                    // Its successor is on its way.
                    route.enter(State::Starting, now);
                }
            }
            Event::Released { released } => route.released = released,
            Event::Ended(ended) => {
                if let Some(worker) = route.worker.take() {
                    worker.join();
                }
                route.due = None;
                if let Some(route) = self.ended(route, ended, now) {
                    self.routes.insert(name, route);
                }
                return;
            }
        }
        self.routes.insert(name, route);
        self.do_what_is_due();
    }

    /// A plugin failed: it is started again, unless that has happened too often.
    fn plugin_failed(
        &mut self,
        route: &mut Supervised,
        pid: Option<u32>,
        cause: &DownCause,
        lived: Duration,
        now: Instant,
    ) {
        let name = &route.plan.route.name;
        match route.plugin_restarts.failed(lived, now, chance()) {
            Next::After(wait) => {
                let (wait_ms, restarts) = (wait.as_millis() as u64, route.plugin_restarts.total());
                tracing::warn!(route = %name, pid, cause = %cause, restart_in_ms = wait_ms, restarts,
                    "plugin down; its partitions stay, and it is started again");
                route.tell_waiters(Until::Up, &Err(cause.to_string()));
                route.last_error = Some(cause.to_string());
                route.back_off(Ails::Plugin, now);
                route.later(Due::Plugin, wait, now);
            }
            Next::Spent(budget) => {
                tracing::error!(route = %name, pid, cause = %cause, budget = %budget,
                    "plugin down, and its budget of restarts is spent: the route is failed and leaves its group. Mend the \
                     plugin and reload");
                let error = format!("{cause}; its budget of {budget} is spent");
                route.tell_waiters(Until::Up, &Err(error.clone()));
                route.last_error = Some(error);
                self.failed = true;
                route.then = AfterEnd::Failed;
                let deadline = now + self.settings.shutdown_timeout;
                stop_route(route, deadline, true, now);
            }
        }
    }

    /// A worker is over. Gives the route back if it is still one.
    fn ended(&mut self, mut route: Supervised, ended: Ended, now: Instant) -> Option<Supervised> {
        let name = route.plan.route.name.clone();
        if let Ended::Left { messages, blocked_by } = &ended {
            self.left |= self.stopping.is_some();
            tracing::error!(route = %name, messages, blocked_by, "stopped with messages in hand; they are read again");
        }
        if let Some(plan) = route.swap.take() {
            // Its client ended meanwhile: the next one begins with the new plugin.
            route.plan = *plan;
            self.restarted_instead(&name);
        }
        match std::mem::take(&mut route.then) {
            AfterEnd::Forgotten => {
                route.enter(State::Stopped, now);
                return None;
            }
            AfterEnd::Replaced(plan) if self.stopping.is_none() => {
                route.enter(State::Stopped, now);
                let waiters = std::mem::take(&mut route.waiters);
                // The member's lock is free before its successor takes it.
                drop(route);
                self.add(*plan, now);
                if let Some(route) = self.routes.get_mut(&name) {
                    route.waiters = waiters;
                    if route.worker.is_none() {
                        route.tell_waiters(Until::Stopped, &Ok(serde_json::json!({"left": 0})));
                    }
                }
                return None;
            }
            AfterEnd::Again if self.stopping.is_none() => {
                route.enter(State::Starting, now);
                self.start_worker(&mut route, now);
                return Some(route);
            }
            AfterEnd::Failed if route.held() != Some(Hold::Stopped) => {
                // Its member's lock is another's to take.
                route.lock = None;
                route.enter(State::Failed, now);
                return Some(route);
            }
            AfterEnd::Replaced(_) | AfterEnd::Again | AfterEnd::Failed | AfterEnd::AsItEnded => {}
        }
        if route.held() == Some(Hold::Stopped) {
            // However it ended: it is not started again. Its member may be another's.
            let left = match &ended {
                Ended::Left { messages, .. } => *messages,
                _ => 0,
            };
            route.lock = None;
            route.enter(State::Stopped, now);
            route.tell_waiters(Until::Stopped, &Ok(serde_json::json!({"left": left})));
            route.tell_waiters(Until::Up, &Err("it was stopped".to_owned()));
            return Some(route);
        }
        if let Ended::ClientFailed(error) | Ended::Panicked(error) | Ended::Misconfigured(error) = &ended {
            route.tell_waiters(Until::Up, &Err(error.clone()));
        }
        match ended {
            Ended::Drained | Ended::Left { .. } | Ended::Idle => route.enter(State::Stopped, now),
            Ended::ClientFailed(error) | Ended::Panicked(error) => {
                let lived = now.saturating_duration_since(route.worker_since);
                let next = route.client_restarts.failed(lived, now, chance());
                let wait = next.wait().unwrap_or_default();
                tracing::error!(route = %name, error, restart_in_ms = wait.as_millis() as u64,
                    restarts = route.client_restarts.total(), "client failed; a new one is made");
                route.last_error = Some(error);
                if self.stopping.is_some() {
                    route.enter(State::Stopped, now);
                } else {
                    route.back_off(Ails::Client, now);
                    route.later(Due::Worker, wait, now);
                }
            }
            Ended::Misconfigured(error) => {
                tracing::error!(route = %name, error, "route cannot run; mend its settings and reload");
                route.last_error = Some(error);
                self.failed = true;
                route.enter(State::Failed, now);
            }
        }
        Some(route)
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        let mut routes = std::mem::take(&mut self.routes);
        for route in routes.values_mut() {
            let Some((_, due)) = route.due.take_if(|(at, _)| *at <= now) else {
                continue;
            };
            match (due, &route.worker) {
                (Due::Plugin, Some(worker)) => worker.tell(Command::StartPlugin),
                (Due::Plugin, None) => {}
                (Due::Worker, _) => {
                    route.enter(State::Starting, now);
                    self.start_worker(route, now);
                }
            }
        }
        self.routes = routes;
    }

    fn stop(&mut self) {
        let now = Instant::now();
        let deadline = now + self.settings.shutdown_timeout;
        tracing::info!(
            routes = self.routes.len(),
            timeout_ms = self.settings.shutdown_timeout.as_millis() as u64,
            "stopping"
        );
        self.systemd.stopping(deadline);
        self.stopping = Some(deadline);
        for route in self.routes.values_mut() {
            stop_route(route, deadline, false, now);
        }
    }

    fn dump(&self) {
        for name in self.unplanned.keys() {
            tracing::info!(route = %name, state = %State::Failed, "dump");
        }
        for (name, route) in &self.routes {
            let stats = route.worker.as_ref().map(|worker| &worker.stats);
            let count = |read: fn(&crate::worker::RouteStats) -> u64| stats.map(|stats| read(stats));
            use std::sync::atomic::Ordering::Relaxed;
            tracing::info!(
                route = %name,
                state = %route.state,
                why = route.why(),
                for_ms = route.since.elapsed().as_millis() as u64,
                pid = route.pid,
                digested = count(|stats| stats.digested.load(Relaxed)),
                failed = count(|stats| stats.failed.load(Relaxed)),
                skipped = count(|stats| stats.skipped.load(Relaxed)),
                dead_lettered = count(|stats| stats.dead_lettered.load(Relaxed)),
                produced = count(|stats| stats.produced.load(Relaxed)),
                acknowledged = count(|stats| stats.acknowledged.load(Relaxed)),
                output_failures = count(|stats| stats.output_failures.load(Relaxed)),
                output_bytes = count(|stats| stats.output_bytes.load(Relaxed)),
                commits = count(|stats| stats.commits.load(Relaxed)),
                aborts = count(|stats| stats.aborts.load(Relaxed)),
                stall_seeks = count(|stats| stats.stall_seeks.load(Relaxed)),
                stall_restarts = count(|stats| stats.stall_restarts.load(Relaxed)),
                plugin_restarts = route.plugin_restarts.total(),
                client_restarts = route.client_restarts.total(),
                last_error = route.last_error,
                metrics = crate::telemetry::PLUGIN_METRICS.describe(name),
                "dump"
            );
            if let Some(worker) = &route.worker {
                worker.tell(Command::Dump);
            }
        }
    }

    /// The routes' names and states, for who runs the supervisor in its own process.
    #[must_use]
    pub fn settings_file(&self) -> PathBuf {
        self.settings.file.clone()
    }
}

fn stop_route(route: &mut Supervised, deadline: Instant, leave: bool, now: Instant) {
    route.due = None;
    match &route.worker {
        Some(worker) => {
            worker.tell(Command::Stop { deadline, leave });
            route.enter(State::Draining, now);
        }
        None => route.enter(State::Stopped, now),
    }
}

fn tell_findings(route: &RouteName, findings: &[PlanFinding]) {
    for finding in findings {
        tracing::error!(route = %route, key = finding.key.join("."), "{}", finding.message);
    }
}

/// 0 to 1, from the kernel: restarts that failed together do not come back together.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}
