//! Proves settings before anything is touched: reads them, finds and probes every plugin, checks every property. In a
//! thread of its own, because a plugin may take seconds to say what it is; the supervisor hears signals meanwhile.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    autoload,
    plan::{Plan, PlanFinding, Planner},
    receipt::Reason,
};
use crate::settings::{Isolation, RouteName, Settings};

/// Where settings are read again from.
pub type Reader = Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// What is wrong with the routes of a file.
pub(super) type Refused = Vec<(RouteName, Vec<PlanFinding>)>;

/// What is to be proven.
pub(super) struct Subject {
    /// The settings.
    pub settings: From,
    /// Why.
    pub reason: Reason,
    /// What runs now, or is about to.
    pub runs: BTreeMap<RouteName, Plan>,
}

/// Where settings come from.
pub(super) enum From {
    /// What the settings file says now.
    File(Reader),
    /// These settings, against the plugins' files of now.
    Settings(Box<Settings>),
}

/// What came of it.
pub(super) enum Proven {
    /// The settings cannot be read; every finding is in the text.
    Unreadable(String),
    /// They can, and this is what their routes would run.
    Routes {
        settings: Box<Settings>,
        plans: BTreeMap<RouteName, Plan>,
        refused: Refused,
        /// Routes that go on as they are although their library's file is another, and why.
        staying: Refused,
    },
}

/// Proves in a thread; the result comes over `tell`, always.
pub(super) fn prove(planner: &Arc<Planner>, subject: Subject, tell: mpsc::UnboundedSender<Proven>) {
    let work = {
        let (planner, tell) = (Arc::clone(planner), tell.clone());
        move || {
            let proven = catch_unwind(AssertUnwindSafe(|| proven(&planner, subject)));
            let proven =
                proven.unwrap_or_else(|_| Proven::Unreadable("a bug: the proof panicked".to_owned()));
            // Nobody listens any more only when the daemon is ending.
            let _ = tell.send(proven);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("prover".to_owned()).spawn(work) {
        let _ = tell.send(Proven::Unreadable(format!(
            "the system has no thread for the proof: {error}"
        )));
    }
}

fn proven(planner: &Planner, subject: Subject) -> Proven {
    let Subject {
        settings,
        reason,
        runs,
    } = subject;
    let mut settings = match settings {
        From::File(reader) => match reader() {
            Ok(settings) => settings,
            Err(error) => return Proven::Unreadable(error),
        },
        From::Settings(settings) => *settings,
    };
    let is_of_file = |findings: &[PlanFinding]| findings.iter().all(|finding| finding.is_of_file);
    let (mut plans, mut refused, mut staying) = (BTreeMap::new(), Refused::new(), Refused::new());
    for (name, findings) in planner.autoload(&mut settings) {
        let of_library: Vec<&Plan> = runs
            .values()
            .filter(|plan| autoload::is_from(&plan.route, Path::new(name.as_str())))
            .collect();
        if reason != Reason::Plugins || !is_of_file(&findings) || of_library.is_empty() {
            refused.push((name, findings));
            continue;
        }
        for plan in of_library {
            let name = plan.route.name.clone();
            settings.routes.push(plan.route.clone());
            plans.insert(name.clone(), plan.clone());
            staying.push((name, findings.clone()));
        }
    }
    for route in &settings.routes {
        if plans.contains_key(&route.name) {
            continue;
        }
        let running = runs.get(&route.name);
        let plan = planner
            .plan(&settings, route, reason == Reason::Start)
            .and_then(|plan| within_generations(plan, running, settings.max_generations));
        match (plan, running) {
            (Ok(plan), _) => {
                plans.insert(route.name.clone(), plan);
            }
            // Its file is gone, or half of it is there, or it is not the one that it may run: nothing to change, and no
            // reason to keep others from their new code.
            (Err(findings), Some(running)) if reason == Reason::Plugins && is_of_file(&findings) => {
                plans.insert(route.name.clone(), running.clone());
                staying.push((route.name.clone(), findings));
            }
            (Err(findings), _) => refused.push((route.name.clone(), findings)),
        }
    }
    Proven::Routes {
        settings: Box::new(settings),
        plans,
        refused,
        staying,
    }
}

/// In thread isolation the code of every version stays in the daemon's memory, so there is a limit to them.
fn within_generations(plan: Plan, running: Option<&Plan>, most: u64) -> Result<Plan, Vec<PlanFinding>> {
    let Some(running) = running else {
        return Ok(plan);
    };
    let is_new_code = plan.library.hash != running.library.hash;
    let runs = running.worker.home.construct.generation;
    if !is_new_code || plan.route.isolation != Isolation::Thread || runs < most {
        return Ok(plan);
    }
    let mut finding = PlanFinding::new(
        "path",
        format!(
            "this route runs version {runs} of its plugin in thread isolation, and `max_generations` is {most}: the code of \
             every version stays in the daemon's memory. It goes on as it is; a restart of the daemon helps (`systemctl \
             restart devourd`), and `isolation: process` has no such limit"
        ),
    );
    finding.is_of_file = true;
    Err(vec![finding])
}
