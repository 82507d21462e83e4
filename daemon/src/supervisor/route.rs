//! The states of a route, and what moves it from one to the next.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    by_hand::{ByHand, Hold},
    membership::MemberLock,
    meter::Meter,
    orders::Waiter,
    plan::Plan,
    restart::Restarts,
    status::LastReport,
};
use crate::worker::{RouteStats, WorkerHandle};

/// Where a route is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its client is being made, its plugin is being built, or the group has not answered yet.
    Starting,
    /// It polls and its plugin digests.
    Running,
    /// As running, but a person ordered that nothing is fetched and digested.
    Paused,
    /// Its plugin or its client failed and is started again after a wait.
    Backoff,
    /// It finishes what is in hand, to stop.
    Draining,
    /// It stopped by order.
    Stopped,
    /// It cannot run as it is; a reload tries again.
    Failed,
}

/// One route under supervision.
pub struct Supervised {
    /// What it runs.
    pub plan: Plan,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Its thread, while it has one.
    pub worker: Option<WorkerHandle>,
    /// What all its workers have done.
    pub stats: Arc<RouteStats>,
    /// Counts its workers: what an older one says late is passed over.
    pub incarnation: u64,
    /// Restarts of the plugin.
    pub plugin_restarts: Restarts,
    /// Restarts of the client.
    pub client_restarts: Restarts,
    /// When the present worker was started.
    pub worker_since: Instant,
    /// What is to be done later.
    pub due: Option<(Instant, Due)>,
    /// The plugin digests.
    pub plugin_up: bool,
    /// The plugin's process.
    pub pid: Option<u32>,
    /// Partitions it has; `None` before the group answered.
    pub partitions: Option<usize>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What the route is in back-off for.
    pub ails: Ails,
    /// It left its group because it could not digest for too long.
    pub released: bool,
    /// Nobody else on this host is its static member.
    pub lock: Option<MemberLock>,
    /// What happens when the worker has ended.
    pub then: AfterEnd,
    /// What its worker was told to go on as, until it says that it does.
    pub swap: Option<Box<Plan>>,
    /// What a person ordered of it.
    pub by_hand: Option<ByHand>,
    /// Who waits for what becomes of it.
    pub(super) waiters: Vec<Waiter>,
    /// How fast it digests.
    pub(super) meter: Meter,
    /// What its worker said last of itself.
    pub(super) last_report: LastReport,
}

/// A route of the settings that cannot run and has no plan.
pub struct Unplanned {
    /// Since when.
    pub since: Instant,
    /// What is wrong with it.
    pub error: String,
}

/// What failed and is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ails {
    /// The plugin.
    Plugin,
    /// The Kafka client.
    Client,
}

/// What waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The plugin is started again.
    Plugin,
    /// A new worker, with a new client, is started.
    Worker,
}

/// What a route becomes when its worker has ended.
#[derive(Default)]
pub enum AfterEnd {
    /// What the way it ended asks for.
    #[default]
    AsItEnded,
    /// It is forgotten: a reload removed it, or the daemon stops.
    Forgotten,
    /// It starts again as it is, with a new client: somebody ordered that.
    Again,
    /// It is `failed`: its budget of restarts is spent.
    Failed,
    /// It starts again with another plan: a reload changed it.
    Replaced(Box<Plan>),
}

// === impl State ===

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Backoff => "backoff",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

// === impl Ails ===

impl fmt::Display for Ails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plugin => "plugin",
            Self::Client => "client",
        })
    }
}

// === impl Supervised ===

impl Supervised {
    /// A route that is about to be started.
    #[must_use]
    pub fn new(plan: Plan, now: Instant) -> Self {
        let policy = plan.route.restart;
        Self {
            plan,
            state: State::Starting,
            since: now,
            worker: None,
            stats: Arc::default(),
            incarnation: 0,
            plugin_restarts: Restarts::of_plugin(policy),
            client_restarts: Restarts::of_client(policy),
            worker_since: now,
            due: None,
            plugin_up: false,
            pid: None,
            partitions: None,
            last_error: None,
            ails: Ails::Plugin,
            released: false,
            lock: None,
            then: AfterEnd::default(),
            swap: None,
            by_hand: None,
            waiters: Vec::new(),
            meter: Meter::default(),
            last_report: LastReport::default(),
        }
    }

    /// The number of the plugin's version in the life of the route.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.plan.worker.home.construct.generation
    }

    /// The number that `plan` has as its next version: one more where the code is another.
    #[must_use]
    pub fn next_generation(&self, plan: &Plan) -> u64 {
        self.generation() + u64::from(plan.library.hash != self.plan.library.hash)
    }

    /// Moves to `state`, and says so once.
    pub fn enter(&mut self, state: State, now: Instant) {
        if self.state == state {
            return;
        }
        let after_ms = now.saturating_duration_since(self.since).as_millis() as u64;
        tracing::info!(
            route = %self.plan.route.name,
            state = %state,
            from = %self.state,
            after_ms,
            pid = self.pid,
            partitions = self.partitions,
            why = self.why_in(state),
            "route state"
        );
        self.state = state;
        self.since = now;
    }

    /// It waits until what failed is started again.
    pub fn back_off(&mut self, ails: Ails, now: Instant) {
        self.ails = ails;
        self.enter(State::Backoff, now);
    }

    /// The state with what a person has to know of it: `backoff (plugin, 3 restarts, killed by SIGSEGV)`.
    #[must_use]
    pub fn shows(&self) -> String {
        match self.why() {
            Some(why) => format!("{} ({why})", self.state),
            None => self.state.to_string(),
        }
    }

    /// What a person has to know of the present state.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.why_in(self.state)
    }

    fn why_in(&self, state: State) -> Option<String> {
        let error = self.last_error.as_deref().unwrap_or("not known why");
        match state {
            State::Failed => Some(error.to_owned()),
            State::Backoff => {
                let restarts = match self.ails {
                    Ails::Plugin => self.plugin_restarts.total(),
                    Ails::Client => self.client_restarts.total(),
                };
                let released = if self.released { ", it left its group" } else { "" };
                Some(format!("{}, {restarts} restarts, {error}{released}", self.ails))
            }
            _ => None,
        }
    }

    /// `running` means that it polls, has an answer from its group, and its plugin digests; `paused` that it would.
    pub fn settle(&mut self, now: Instant) {
        let runs = self.plugin_up && self.partitions.is_some();
        match self.state {
            State::Starting | State::Backoff | State::Running | State::Paused if runs => {
                let is_paused = self.by_hand.is_some_and(|order| order.hold == Hold::Paused);
                self.enter(if is_paused { State::Paused } else { State::Running }, now);
            }
            _ => {}
        }
    }

    /// Something is to be done after `wait`.
    pub fn later(&mut self, due: Due, wait: Duration, now: Instant) {
        self.due = Some((now + wait, due));
    }
}
