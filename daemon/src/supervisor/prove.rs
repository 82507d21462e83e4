//! Proves settings before anything is touched: reads them, finds and probes every plugin, checks every property. In a
//! thread of its own, because a plugin may take seconds to say what it is; the supervisor hears signals meanwhile.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::plan::{Plan, PlanFinding, Planner};
use crate::settings::{RouteName, Settings};

/// Where settings are read again from.
pub type Reader = Arc<dyn Fn() -> Result<Settings, String> + Send + Sync>;

/// What is wrong with the routes of a file.
pub(super) type Refused = Vec<(RouteName, Vec<PlanFinding>)>;

/// What is to be proven.
pub(super) enum Subject {
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
    },
}

/// Proves in a thread; the result comes over `tell`, always. `first` says that the daemon starts.
pub(super) fn prove(
    planner: &Arc<Planner>,
    subject: Subject,
    first: bool,
    tell: mpsc::UnboundedSender<Proven>,
) {
    let work = {
        let (planner, tell) = (Arc::clone(planner), tell.clone());
        move || {
            let proven = catch_unwind(AssertUnwindSafe(|| proven(&planner, subject, first)));
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

fn proven(planner: &Planner, subject: Subject, first: bool) -> Proven {
    let settings = match subject {
        Subject::File(reader) => match reader() {
            Ok(settings) => settings,
            Err(error) => return Proven::Unreadable(error),
        },
        Subject::Settings(settings) => *settings,
    };
    let (mut plans, mut refused) = (BTreeMap::new(), Vec::new());
    for route in &settings.routes {
        match planner.plan(&settings, route, first) {
            Ok(plan) => {
                plans.insert(route.name.clone(), plan);
            }
            Err(findings) => refused.push((route.name.clone(), findings)),
        }
    }
    Proven::Routes {
        settings: Box::new(settings),
        plans,
        refused,
    }
}
