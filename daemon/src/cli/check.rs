//! `devourd check`: every finding of a settings file, of its plugins and of librdkafka, each with its place. No Kafka
//! is contacted; plugins are read, and opened in throw-away children only.

use std::path::Path;

use super::{BAD_SETTINGS, DONE, INTERNAL, run};
use crate::{
    lane::Printed,
    os::Spawner,
    plugin::Store,
    settings::{self, Findings, KeyPath, ProcessEnvironment, Settings, Severity},
    supervisor::plan::{PlanFinding, bounds},
    telemetry,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Do not look at the plugins.
    #[arg(long)]
    no_plugins: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flag: Option<&Path>, args: &Args) -> u8 {
    let environment = ProcessEnvironment;
    let found = settings::locate(flag, &environment);
    let (findings, routes) = match settings::load(&found.path, &environment) {
        Err(findings) => (findings, 0),
        Ok(settings) if args.no_plugins => (settings.findings(), settings.routes.len()),
        Ok(settings) => match with_plugins(&settings) {
            Ok(findings) => (findings, settings.routes.len()),
            Err(error) => {
                eprintln!("devourd check: no child process can be started: {error}");
                return INTERNAL;
            }
        },
    };
    let bad = findings.has_errors();
    if args.json {
        let report = serde_json::json!({ "file": found.path, "ok": !bad, "findings": findings.sorted() });
        println!("{report}");
    } else {
        if !findings.is_empty() {
            eprintln!("{}", run::draw(&findings));
        }
        if !bad {
            println!("{}: {routes} routes, nothing wrong", found.path.display());
        }
    }
    if bad { BAD_SETTINGS } else { DONE }
}

/// What is wrong with each route, with its plugin and its client.
fn with_plugins(settings: &Settings) -> std::io::Result<Findings> {
    let spawner = Spawner::start()?;
    spawner.adopt_orphans()?;
    let planner = run::planner(
        settings,
        Store::in_memory(),
        spawner,
        telemetry::voice(),
        Printed::Log,
    );
    let mut findings = settings.findings();
    for route in &settings.routes {
        for PlanFinding { key, message } in bounds::warnings(route) {
            let path = key
                .iter()
                .fold(KeyPath::route(route.name.as_str()), |path, segment| {
                    path.key(segment)
                });
            findings.add_at(
                Severity::Warning,
                &path,
                format!("route `{}`: {message}", route.name),
            );
        }
        for PlanFinding { key, message } in planner.plan(settings, route, true).err().unwrap_or_default() {
            let route_key = KeyPath::route(route.name.as_str());
            let path = key.iter().fold(route_key, |path, segment| path.key(segment));
            findings.add_at(
                Severity::Error,
                &path,
                format!("route `{}`: {message}", route.name),
            );
        }
    }
    Ok(findings)
}
