//! `devourd check`: every finding of a settings file, of its plugins and of librdkafka, each with its place. No Kafka
//! is contacted; plugins are read, and opened in throw-away children only.

use std::path::Path;

use super::{BAD_SETTINGS, DONE, INTERNAL, run};
use crate::{
    lane::Printed,
    os::Spawner,
    plugin::Store,
    settings::{self, Findings, KeyPath, ProcessEnvironment, Route, Settings, Severity},
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
        Err(findings) => (findings, Vec::new()),
        Ok(settings) if args.no_plugins => (settings.findings(), settings.routes),
        Ok(mut settings) => match with_plugins(&mut settings) {
            Ok(findings) => (findings, settings.routes),
            Err(error) => {
                eprintln!("devourd check: no child process can be started: {error}");
                return INTERNAL;
            }
        },
    };
    let bad = findings.has_errors();
    let autoloaded: Vec<&Route> = routes.iter().filter(|route| route.autoloaded).collect();
    if args.json {
        let autoloaded: Vec<serde_json::Value> = autoloaded
            .iter()
            .map(|route| serde_json::json!({ "name": route.name, "library": route.path, "symbol": route.symbol }))
            .collect();
        let report = serde_json::json!({
            "file": found.path, "ok": !bad, "findings": findings.sorted(), "autoloaded": autoloaded,
        });
        println!("{report}");
    } else {
        if !findings.is_empty() {
            eprintln!("{}", run::draw(&findings));
        }
        if !bad {
            let routes = match routes.len() {
                1 => "1 route".to_owned(),
                count => format!("{count} routes"),
            };
            println!("{}: {routes}, nothing wrong", found.path.display());
        }
        for route in autoloaded {
            println!(
                "  autoload: {} runs {} of {}",
                route.name, route.symbol, route.path
            );
        }
    }
    if bad { BAD_SETTINGS } else { DONE }
}

/// What is wrong with each route, with its plugin and its client. The autoloaded routes are added to the settings.
fn with_plugins(settings: &mut Settings) -> std::io::Result<Findings> {
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
    let autoload = KeyPath::root().key("autoload");
    for (name, found) in planner.autoload(settings) {
        for PlanFinding { message, .. } in found {
            findings.add_at(Severity::Error, &autoload, format!("`{name}`: {message}"));
        }
    }
    let settings = &*settings;
    for route in &settings.routes {
        for PlanFinding { key, message, .. } in bounds::warnings(route) {
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
        for PlanFinding { key, message, .. } in planner.plan(settings, route, true).err().unwrap_or_default()
        {
            let route_key = KeyPath::route(route.name.as_str());
            let path = if route.autoloaded {
                autoload.clone()
            } else {
                key.iter().fold(route_key, |path, segment| path.key(segment))
            };
            findings.add_at(
                Severity::Error,
                &path,
                format!("route `{}`: {message}", route.name),
            );
        }
    }
    Ok(findings)
}
