//! `devourd status`: what the supervisor knows of its routes, and what their threads say of themselves. No thread is
//! waited for longer than a moment: of one that is busy the last that it said is shown, and said to be old.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::oneshot;

use super::{
    Supervisor,
    control::answer,
    receipt::Reason,
    route::{State, Supervised, Unplanned},
};
use crate::{
    admin::{
        Answer, ByHandStatus, CountStatus, OutputStatus, ParkedStatus, PartitionStatus, RestartStatus,
        RouteStatus, Status, ThreadStatus, TransactionStatus,
    },
    settings::{Isolation, Route},
    time::utc,
    worker::{Command, Parked, PartitionReport, Reply, Report},
};

/// What a route's thread said last of itself, and when.
#[derive(Clone, Default)]
pub(super) struct LastReport(Arc<Mutex<Option<(Report, SystemTime)>>>);

/// A route whose thread was asked.
struct Asked {
    status: RouteStatus,
    last: LastReport,
    /// `None`: there is no thread to be asked.
    answers: Option<oneshot::Receiver<()>>,
}

/// How long routes' threads may take to answer, all together.
const PATIENCE: Duration = Duration::from_millis(500);

// === impl LastReport ===

impl LastReport {
    fn set(&self, report: Report) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((report, SystemTime::now()));
    }

    fn get(&self) -> Option<(Report, SystemTime)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new worker begins with nothing.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Notes how much was digested, for the rates.
    pub(super) fn sample(&mut self) {
        let now = Instant::now();
        for route in self.routes.values_mut() {
            route.meter.note(now, route.stats.digested.load(Relaxed));
        }
    }

    /// The receipt of the last reload; the start is none.
    fn last_reload(&self) -> Option<serde_json::Value> {
        let last = self.reloads.last.as_ref();
        last.filter(|receipt| receipt.reason != Reason::Start)
            .map(|receipt| serde_json::json!(receipt))
    }

    /// Answers with the state of one route, or of all.
    pub(super) fn status(&self, only: Option<&str>, reply: oneshot::Sender<Answer>) {
        let is_wanted = |name: &str| only.is_none_or(|only| only == name);
        let mut asked: Vec<Asked> = self
            .routes
            .iter()
            .filter(|(name, _)| is_wanted(name.as_str()))
            .map(|(_, route)| ask(route))
            .collect();
        let unplanned = self.unplanned.iter().filter(|(name, _)| is_wanted(name.as_str()));
        asked.extend(unplanned.filter_map(|(name, unplanned)| {
            let settings = self.settings.route(name)?;
            Some(Asked {
                status: of_unplanned(settings, unplanned),
                last: LastReport::default(),
                answers: None,
            })
        }));
        if let Some(name) = only.filter(|_| asked.is_empty()) {
            return answer(reply, Answer::failed(self.no_such_route(name)));
        }
        asked.sort_by(|a, b| a.status.name.cmp(&b.status.name));
        let mut status = Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            routes: Vec::new(),
            last_reload: self.last_reload(),
        };
        // Beside the supervisor's loop: what one route is slow to say holds nobody up.
        tokio::spawn(async move {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            for route in asked {
                status.routes.push(route.complete(deadline).await);
            }
            answer(reply, Answer::Done(serde_json::json!(status)));
        });
    }
}

// === impl Asked ===

impl Asked {
    async fn complete(mut self, deadline: tokio::time::Instant) -> RouteStatus {
        if let Some(answers) = self.answers.take() {
            let answered = tokio::time::timeout_at(deadline, answers).await;
            self.status.thread = match answered {
                Ok(Ok(())) => ThreadStatus::Answered,
                Ok(Err(_)) => ThreadStatus::Ending,
                Err(_) => ThreadStatus::Silent,
            };
        }
        let has_assignment = self.status.assignment.is_some();
        if self.status.thread != ThreadStatus::None
            && let Some((report, at)) = self.last.get()
        {
            self.status.as_of = Some(at_time(at));
            fill(&mut self.status, report);
            if !has_assignment {
                self.status.assignment = None;
            }
        } else {
            self.status.assignment = None;
        }
        self.status
    }
}

/// What the supervisor knows, and the question to the route's thread.
fn ask(route: &Supervised) -> Asked {
    let now = Instant::now();
    let (settings, worker) = (&route.plan.route, &route.plan.worker);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    let digested = count(&route.stats.digested);
    let mut status = RouteStatus {
        name: settings.name.to_string(),
        state: route.state.to_string(),
        since: ago(route.since.elapsed()),
        isolation: isolation(settings.isolation),
        pid: route.pid,
        plugin: route.plan.library.file.display().to_string(),
        symbol: settings.symbol.clone(),
        package: Some(route.plan.descriptor.package.to_string()),
        version: Some(route.plan.descriptor.version.to_string()),
        generation: Some(worker.home.construct.generation),
        topics: worker.topics.clone(),
        group: worker
            .properties
            .get("group.id")
            .filter(|_| worker.has_group)
            .map(str::to_owned),
        assignment: route.partitions.map(|_| Vec::new()),
        rate: (route.meter.a_second(now, digested) * 10.0).round() / 10.0,
        counts: CountStatus {
            digested,
            failed: count(&route.stats.failed),
            skipped: count(&route.stats.skipped),
            dead_lettered: count(&route.stats.dead_lettered),
        },
        outputs: OutputStatus {
            produced: count(&route.stats.produced),
            acknowledged: count(&route.stats.acknowledged),
            failed: count(&route.stats.output_failures),
            waiting_bytes: count(&route.stats.output_bytes),
        },
        transactions: worker.transaction.as_ref().map(|_| TransactionStatus {
            committed: count(&route.stats.commits),
            aborted: count(&route.stats.aborts),
        }),
        restarts: RestartStatus {
            plugin: route.plugin_restarts.total(),
            client: route.client_restarts.total(),
        },
        by_hand: route.by_hand.map(|order| ByHandStatus {
            state: order.hold.name().to_owned(),
            since: utc(order.since_ms),
        }),
        ails: (route.state == State::Backoff).then(|| route.ails.to_string()),
        released: route.released,
        last_error: route.last_error.clone(),
        ..RouteStatus::default()
    };
    let last = route.last_report.clone();
    let answers = match &route.worker {
        Some(_) if route.state == State::Draining => {
            status.thread = ThreadStatus::Ending;
            None
        }
        Some(worker) => {
            let (told, answers) = oneshot::channel();
            let last = last.clone();
            worker.tell(Command::Report(Reply::new(move |report| {
                last.set(report);
                // Who asked may have waited long enough.
                let _ = told.send(());
            })));
            Some(answers)
        }
        None => None,
    };
    Asked {
        status,
        last,
        answers,
    }
}

fn of_unplanned(route: &Route, unplanned: &Unplanned) -> RouteStatus {
    RouteStatus {
        name: route.name.to_string(),
        state: State::Failed.to_string(),
        since: ago(unplanned.since.elapsed()),
        isolation: isolation(route.isolation),
        plugin: route.path.clone(),
        symbol: route.symbol.clone(),
        last_error: Some(unplanned.error.clone()),
        ..RouteStatus::default()
    }
}

/// What a route's thread said.
fn fill(status: &mut RouteStatus, report: Report) {
    let lags: Vec<i64> = report
        .partitions
        .iter()
        .filter_map(PartitionReport::lag)
        .collect();
    status.lag = (!lags.is_empty()).then(|| lags.iter().sum());
    let partition = |of: PartitionReport| PartitionStatus {
        lag: of.lag(),
        topic: of.topic,
        partition: of.partition,
        offset: of.frontier,
        committed: of.committed,
        end: of.end,
    };
    let parked = |of: Parked| ParkedStatus {
        topic: of.topic,
        partition: of.partition,
        offset: of.offset,
        error: of.error,
    };
    status.assignment = Some(report.partitions.into_iter().map(partition).collect());
    status.parked = report.parked.into_iter().map(parked).collect();
    status.parked_count = report.parked_count as u64;
    status.in_hand = Some(report.in_hand as u64);
    status.queued = Some(report.queued as u64);
    status.at_work = report.at_work;
}

fn isolation(isolation: Isolation) -> String {
    match isolation {
        Isolation::Process => "process",
        Isolation::Thread => "thread",
    }
    .to_owned()
}

/// The time so long ago.
fn ago(passed: Duration) -> String {
    at_time(
        SystemTime::now()
            .checked_sub(passed)
            .unwrap_or(SystemTime::UNIX_EPOCH),
    )
}

pub(super) fn at_time(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    utc(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
