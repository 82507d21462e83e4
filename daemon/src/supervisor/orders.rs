//! What a person orders over the control socket: pause, resume, stop, start, restart. An order for all routes is carried out
//! for those that it fits; one that holds (`pause`, `stop`) is written down before it is carried out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    Supervisor,
    apply::Wanted,
    by_hand::Hold,
    control::answer,
    receipt::{Became, Reason, Receipt},
    route::{AfterEnd, Due, State, Supervised},
    stop_route,
};
use crate::{
    admin::Answer,
    settings::RouteName,
    worker::{Command, Reply},
};

/// What became of an order for one route: what there is to say, or why it was not done.
pub(super) type Outcome = Result<Value, String>;

/// Who waits for a route to get somewhere.
pub(super) struct Waiter {
    until: Until,
    tell: oneshot::Sender<Outcome>,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Its plugin digests.
    Up,
    /// Its worker has ended.
    Stopped,
}

/// An order on its way.
enum Ordered {
    /// It needs no time.
    Now(Outcome),
    /// The route says when it is done.
    Later(oneshot::Receiver<Outcome>),
    /// A reload says whether it can run.
    Proof(oneshot::Receiver<Receipt>),
    /// The order stands; a route's thread that is busy hears of it when it is not any more.
    Soon(oneshot::Receiver<Outcome>),
}

/// What a new client or plugin is ordered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The plugin.
    Plugin,
    /// The Kafka client, and with it the plugin.
    Client,
}

/// How long a route's thread may take to say that it has heard.
const SOON: Duration = Duration::from_secs(5);

// === impl Supervisor ===

impl Supervisor {
    /// `devourd pause`.
    pub(super) fn pause(&mut self, only: Option<&str>, reply: oneshot::Sender<Answer>) {
        let fits = |route: &Supervised| match route.held() {
            Some(Hold::Stopped) => Err("it is stopped by hand; `devourd start` starts it".to_owned()),
            _ => Ok(()),
        };
        self.hold(
            "paused",
            only,
            Hold::Paused,
            fits,
            reply,
            |supervisor, name, now| {
                let Some(route) = supervisor.routes.get_mut(name) else {
                    return Ordered::Now(Err("it is gone".to_owned()));
                };
                route.settle(now);
                match &route.worker {
                    Some(worker) if route.state != State::Draining => {
                        let (told, heard) = oneshot::channel();
                        worker.tell(Command::Pause(Reply::new(move |in_hand: usize| {
                            // Who asked may have gone.
                            let _ = told.send(Ok(json!({"in_hand": in_hand})));
                        })));
                        Ordered::Soon(heard)
                    }
                    _ => Ordered::Now(Ok(json!({"in_hand": 0}))),
                }
            },
        );
    }

    /// `devourd stop`.
    pub(super) fn stop_by_hand(&mut self, only: Option<&str>, reply: oneshot::Sender<Answer>) {
        self.hold(
            "stopped",
            only,
            Hold::Stopped,
            |_| Ok(()),
            reply,
            |supervisor, name, now| {
                let deadline = now + supervisor.settings.shutdown_timeout;
                let Some(route) = supervisor.routes.get_mut(name) else {
                    return Ordered::Now(Err("it is gone".to_owned()));
                };
                if matches!(route.then, AfterEnd::Again) {
                    route.then = AfterEnd::AsItEnded;
                }
                if route.worker.is_none() {
                    stop_route(route, deadline, true, now);
                    route.lock = None;
                    return Ordered::Now(Ok(json!({"left": 0})));
                }
                if route.state != State::Draining {
                    // Its partitions are for others.
                    stop_route(route, deadline, true, now);
                }
                Ordered::Later(route.wait(Until::Stopped))
            },
        );
    }

    /// `devourd resume`: ends a pause, and tries again what is parked.
    pub(super) fn resume(&mut self, only: Option<&str>, reply: oneshot::Sender<Answer>) {
        let now = Instant::now();
        let names = match self.addressed(only, |route| match route.held() {
            Some(Hold::Stopped) => Err("it is stopped by hand; `devourd start` starts it".to_owned()),
            Some(Hold::Paused) => Ok(()),
            None => match &route.worker {
                Some(_) if route.state == State::Draining => Err("it is stopping".to_owned()),
                Some(_) => Ok(()),
                None => Err(route.does_not_run()),
            },
        }) {
            Ok(names) => names,
            Err(error) => return answer(reply, Answer::failed(error)),
        };
        let held: Vec<RouteName> = names
            .iter()
            .filter(|name| self.orders.of(name).is_some())
            .cloned()
            .collect();
        if let Err(error) = self.take_back(&held) {
            return answer(reply, Answer::failed(error));
        }
        let mut waits = Vec::new();
        for name in names {
            let Some(route) = self.routes.get_mut(&name) else {
                continue;
            };
            let was_paused = held.contains(&name);
            route.settle(now);
            let ordered = match &route.worker {
                Some(worker) if route.state != State::Draining => {
                    let (told, heard) = oneshot::channel();
                    worker.tell(Command::Resume(Reply::new(move |resumed: Vec<String>| {
                        let _ = told.send(Ok(json!({"was_paused": was_paused, "resumed": resumed})));
                    })));
                    Ordered::Soon(heard)
                }
                _ => Ordered::Now(Ok(json!({"was_paused": was_paused, "resumed": []}))),
            };
            waits.push((name, ordered));
        }
        gather("resumed", waits, reply);
    }

    /// `devourd start`.
    pub(super) fn start_by_hand(&mut self, only: Option<&str>, reply: oneshot::Sender<Answer>) {
        let unplanned = self.unplanned_of(only);
        let fits = |route: &Supervised| match (only, route.state) {
            (None, State::Stopped | State::Draining | State::Failed) => Ok(()),
            (None, _) => Err("it runs".to_owned()),
            (Some(_), _) => Ok(()),
        };
        let names = match self.addressed(only.filter(|_| unplanned.is_empty()), fits) {
            Ok(names) if only.is_none() || unplanned.is_empty() => names,
            Ok(_) => Vec::new(),
            Err(error) => return answer(reply, Answer::failed(error)),
        };
        let held: Vec<RouteName> = names
            .iter()
            .chain(&unplanned)
            .filter(|name| {
                self.orders
                    .of(name)
                    .is_some_and(|order| order.hold == Hold::Stopped)
            })
            .cloned()
            .collect();
        if let Err(error) = self.take_back(&held) {
            return answer(reply, Answer::failed(error));
        }
        let mut waits = Vec::new();
        for name in names {
            let ordered = self.start_one(&name);
            waits.push((name, ordered));
        }
        waits.extend(self.prove_again(unplanned));
        gather("started", waits, reply);
    }

    /// `devourd restart`.
    pub(super) fn restart(&mut self, only: Option<&str>, what: What, reply: oneshot::Sender<Answer>) {
        let unplanned = self.unplanned_of(only);
        let fits = |route: &Supervised| match (route.held(), route.state) {
            (Some(Hold::Stopped), _) => Err("it is stopped by hand; `devourd start` starts it".to_owned()),
            (_, State::Draining) => Err("it is stopping".to_owned()),
            (_, State::Stopped) if only.is_none() => Err("it is stopped".to_owned()),
            _ => Ok(()),
        };
        let names = match self.addressed(only.filter(|_| unplanned.is_empty()), fits) {
            Ok(names) if only.is_none() || unplanned.is_empty() => names,
            Ok(_) => Vec::new(),
            Err(error) => return answer(reply, Answer::failed(error)),
        };
        let mut waits = Vec::new();
        for name in names {
            let ordered = self.restart_one(&name, what);
            waits.push((name, ordered));
        }
        waits.extend(self.prove_again(unplanned));
        gather("restarted", waits, reply);
    }

    // === one route ===

    fn start_one(&mut self, name: &RouteName) -> Ordered {
        let now = Instant::now();
        let Some(mut route) = self.routes.remove(name) else {
            return Ordered::Now(Err("it is gone".to_owned()));
        };
        let ordered = match &route.worker {
            Some(_) if route.state == State::Draining => {
                if matches!(route.then, AfterEnd::AsItEnded | AfterEnd::Failed) {
                    route.then = AfterEnd::Again;
                }
                Ordered::Later(route.wait(Until::Up))
            }
            Some(_) if route.plugin_up => Ordered::Now(Ok(json!({"pid": route.pid}))),
            Some(worker) => {
                // What waits for its back-off is tried now.
                if route.due.take_if(|(_, due)| *due == Due::Plugin).is_some() {
                    worker.tell(Command::StartPlugin);
                }
                Ordered::Later(route.wait(Until::Up))
            }
            None => {
                route.due = None;
                // A person thinks that it is mended.
                route.plugin_restarts.follow(route.plan.route.restart);
                route.enter(State::Starting, now);
                let waits = route.wait(Until::Up);
                self.start_worker(&mut route, now);
                match &route.last_error {
                    Some(error) if route.worker.is_none() => Ordered::Now(Err(error.clone())),
                    _ => Ordered::Later(waits),
                }
            }
        };
        self.routes.insert(name.clone(), route);
        ordered
    }

    fn restart_one(&mut self, name: &RouteName, what: What) -> Ordered {
        let now = Instant::now();
        let deadline = now + self.settings.shutdown_timeout;
        let Some(route) = self.routes.get_mut(name) else {
            return Ordered::Now(Err("it is gone".to_owned()));
        };
        let Some(worker) = &route.worker else {
            return self.start_one(name);
        };
        match what {
            What::Plugin => {
                route.due = None;
                let (told, heard) = oneshot::channel();
                worker.tell(Command::RestartPlugin(Reply::new(
                    move |restarted: crate::worker::Restarted| {
                        let _ = told.send(restarted.map(|pid| json!({"pid": pid})));
                    },
                )));
                Ordered::Later(heard)
            }
            What::Client => {
                tracing::info!(route = %name, "client restarts by order");
                route.then = AfterEnd::Again;
                stop_route(route, deadline, false, now);
                Ordered::Later(route.wait(Until::Up))
            }
        }
    }

    /// Routes that could not be planned are proven again, as when a plugin's file has changed.
    fn prove_again(&mut self, names: Vec<RouteName>) -> Vec<(RouteName, Ordered)> {
        let mut waits = Vec::new();
        for name in names {
            let (tell, receipt) = oneshot::channel();
            self.reload(Wanted::new(Reason::Plugins).and_tell(tell));
            waits.push((name, Ordered::Proof(receipt)));
        }
        waits
    }

    // === which routes ===

    /// The route of that name, if the order fits it; or all that it fits.
    fn addressed(
        &self,
        only: Option<&str>,
        fits: impl Fn(&Supervised) -> Result<(), String>,
    ) -> Result<Vec<RouteName>, String> {
        if self.stopping.is_some() {
            return Err("the daemon is stopping".to_owned());
        }
        let Some(only) = only else {
            let fitting = self.routes.iter().filter(|(_, route)| fits(route).is_ok());
            return Ok(fitting.map(|(name, _)| name.clone()).collect());
        };
        match self.routes.iter().find(|(name, _)| name.as_str() == only) {
            Some((name, route)) => {
                fits(route).map_err(|why| format!("route `{name}`: {why}"))?;
                Ok(vec![name.clone()])
            }
            None => Err(self.no_such_route(only)),
        }
    }

    /// Routes that could not be planned, which an order to start means too.
    fn unplanned_of(&self, only: Option<&str>) -> Vec<RouteName> {
        self.unplanned
            .keys()
            .filter(|name| only.is_none_or(|only| only == name.as_str()))
            .cloned()
            .collect()
    }

    /// Writes down what holds from now on, then carries it out for each route.
    fn hold(
        &mut self,
        done: &'static str,
        only: Option<&str>,
        hold: Hold,
        fits: impl Fn(&Supervised) -> Result<(), String>,
        reply: oneshot::Sender<Answer>,
        mut carry_out: impl FnMut(&mut Self, &RouteName, Instant) -> Ordered,
    ) {
        let now = Instant::now();
        let names = match self.addressed(only, fits) {
            Ok(names) => names,
            Err(error) => return answer(reply, Answer::failed(error)),
        };
        if let Err(error) = self.orders.order(&names, Some(hold)) {
            return answer(reply, Answer::failed(error.to_string()));
        }
        let mut waits = Vec::new();
        for name in names {
            tracing::info!(route = %name, order = hold.name(), "ordered by hand");
            if let Some(route) = self.routes.get_mut(&name) {
                route.by_hand = self.orders.of(&name);
            }
            let ordered = carry_out(self, &name, now);
            waits.push((name, ordered));
        }
        gather(done, waits, reply);
    }

    /// What held for these routes holds no more.
    fn take_back(&mut self, names: &[RouteName]) -> Result<(), String> {
        self.orders
            .order(names, None)
            .map_err(|error| error.to_string())?;
        for name in names {
            tracing::info!(route = %name, "an order by hand was taken back");
            if let Some(route) = self.routes.get_mut(name) {
                route.by_hand = None;
            }
        }
        Ok(())
    }
}

// === impl Supervised ===

impl Supervised {
    /// What a person ordered of it.
    pub(super) fn held(&self) -> Option<Hold> {
        self.by_hand.map(|order| order.hold)
    }

    /// Why nothing can be asked of it.
    fn does_not_run(&self) -> String {
        let why = self.last_error.as_deref().unwrap_or("it was stopped");
        format!("it does not run now, it is {}: {why}", self.state)
    }

    /// Hears when the route is there.
    fn wait(&mut self, until: Until) -> oneshot::Receiver<Outcome> {
        let (tell, heard) = oneshot::channel();
        self.waiters.push(Waiter { until, tell });
        heard
    }

    /// It is there, or will not be.
    pub(super) fn tell_waiters(&mut self, until: Until, outcome: &Outcome) {
        for waiter in self.waiters.extract_if(.., |waiter| waiter.until == until) {
            // Who asked may have gone.
            let _ = waiter.tell.send(outcome.clone());
        }
    }
}

// === impl Ordered ===

impl Ordered {
    async fn outcome(self, name: &RouteName) -> Outcome {
        let gone = || Err("it was changed or ended before that was done: look at its state".to_owned());
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(outcome) => outcome.await.unwrap_or_else(|_| gone()),
            Self::Proof(receipt) => match receipt.await {
                Ok(receipt) => proven(&receipt, name),
                Err(_) => gone(),
            },
            Self::Soon(outcome) => match tokio::time::timeout(SOON, outcome).await {
                Ok(outcome) => outcome.unwrap_or_else(|_| gone()),
                Err(_) => Ok(json!({"busy": true})),
            },
        }
    }
}

/// What a reload says of a route that could not run before it.
fn proven(receipt: &Receipt, name: &RouteName) -> Outcome {
    let route = receipt.routes.iter().find(|route| route.name == name.as_str());
    match route {
        Some(route) if route.change != Became::Failed => Ok(json!({})),
        Some(route) => Err(route.error.clone().unwrap_or_default()),
        None => Err(receipt
            .error
            .clone()
            .unwrap_or_else(|| "the daemon has no such route any more".to_owned())),
    }
}

/// Answers when all routes have.
fn gather(done: &'static str, waits: Vec<(RouteName, Ordered)>, reply: oneshot::Sender<Answer>) {
    tokio::spawn(async move {
        let (mut routes, mut errors) = (Vec::new(), Vec::new());
        for (name, ordered) in waits {
            match ordered.outcome(&name).await {
                Ok(mut said) => {
                    said["route"] = json!(name);
                    routes.push(said);
                }
                Err(error) => errors.push(format!("route `{name}`: {error}")),
            }
        }
        let answered = if errors.is_empty() {
            Answer::Done(json!({ done: routes }))
        } else {
            if !routes.is_empty() {
                let names: Vec<&str> = routes.iter().filter_map(|said| said["route"].as_str()).collect();
                errors.push(format!("{done}: {}", names.join(", ")));
            }
            Answer::failed(errors.join("; "))
        };
        answer(reply, answered);
    });
}
