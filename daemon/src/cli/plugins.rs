//! `devourd plugins list` and `devourd plugins inspect FILE`: what libraries offer. A library is read first, and run
//! only in throw-away children.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;

use super::{DONE, FAILED, INTERNAL, run};
use crate::{
    lane::Printed,
    os::Spawner,
    plugin::{self, Inspector, Listing, Prober, Store},
    settings::{FileChecks, Settings},
    telemetry,
};

/// How long a library may take to say what it is.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub(super) enum Command {
    /// The libraries of directories and their consumers, read without running them.
    List {
        /// Directories; else `plugin_dirs` of the settings.
        dirs: Vec<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What a library says of itself.
    Inspect {
        /// The library's file.
        file: String,
        /// Construct each consumer too.
        #[arg(long)]
        construct: bool,
        /// Settings that the consumers are given, as JSON.
        #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
        with: serde_json::Value,
        /// Take files that others may write.
        #[arg(long)]
        trust: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(flag: Option<&Path>, command: &Command) -> u8 {
    match command {
        Command::List { dirs, json } => list(flag, dirs, *json),
        Command::Inspect {
            file,
            construct,
            with,
            trust,
            json,
        } => {
            let checks = if *trust {
                FileChecks::Off
            } else {
                FileChecks::Enforce
            };
            inspect(file, *construct, with, checks, *json)
        }
    }
}

/// What stands on the command line as settings. (`Value` itself would be made of any text, as a string.)
fn object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object, such as {\"file\": \"/tmp/x\"}".to_owned()),
        Err(error) => Err(format!("this is not JSON: {error}")),
    }
}

fn list(flag: Option<&Path>, dirs: &[PathBuf], json: bool) -> u8 {
    let (dirs, checks, routes) = if dirs.is_empty() {
        let mut settings = match run::load(flag) {
            Ok(settings) => settings,
            Err(status) => return status,
        };
        if let Err(error) = autoload(&mut settings) {
            eprintln!("devourd plugins list: no child process can be started: {error}");
            return INTERNAL;
        }
        (settings.plugin_dirs, settings.plugin_file_checks, settings.routes)
    } else {
        (dirs.to_vec(), FileChecks::Enforce, Vec::new())
    };
    let listed = plugin::list(&dirs, checks);
    let autoloaded = |listing: &Listing| {
        let from = routes.iter().filter(|route| {
            route.autoloaded && plugin::locate(&route.path, &dirs).as_ref() == Ok(&listing.file)
        });
        from.map(|route| (route.symbol.clone(), route.name.to_string()))
            .collect::<BTreeMap<_, _>>()
    };
    if json {
        let listed: Vec<serde_json::Value> = listed
            .iter()
            .map(|listing| {
                let mut library = serde_json::json!(listing);
                library["autoloaded"] = serde_json::json!(autoloaded(listing));
                library
            })
            .collect();
        println!("{}", serde_json::json!(listed));
    } else if listed.is_empty() {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        println!("no libraries in {}", dirs.join(", "));
    } else {
        for library in &listed {
            println!("{library}");
            for (symbol, route) in autoloaded(library) {
                println!("  autoload: {route} runs {symbol}");
            }
        }
    }
    DONE
}

/// Adds the autoloaded routes. Only then is anything run, in throw-away children.
pub(super) fn autoload(settings: &mut Settings) -> std::io::Result<()> {
    if settings.autoload.is_none() {
        return Ok(());
    }
    let spawner = Spawner::start()?;
    spawner.adopt_orphans()?;
    let planner = run::planner(
        settings,
        Store::in_memory(),
        spawner,
        telemetry::voice(),
        Printed::Log,
    );
    for (name, findings) in planner.autoload(settings) {
        for finding in findings {
            eprintln!("`{name}`: {}", finding.message);
        }
    }
    Ok(())
}

fn inspect(file: &str, construct: bool, settings: &serde_json::Value, checks: FileChecks, json: bool) -> u8 {
    let started = Spawner::start().and_then(|spawner| spawner.adopt_orphans().map(|()| spawner));
    let spawner = match started {
        Ok(spawner) => spawner,
        Err(error) => {
            eprintln!("devourd plugins inspect: no child process can be started: {error}");
            return INTERNAL;
        }
    };
    let prober = Prober::new(spawner, plugin::child_environment(&BTreeSet::new()));
    let inspector = Inspector {
        plugin_dirs: &[],
        checks,
        prober: &prober,
        settings,
        construct,
        timeout: TIMEOUT,
    };
    // A bare name is a file of this directory here, not a search.
    let path = if file.contains('/') {
        file.to_owned()
    } else {
        format!("./{file}")
    };
    match plugin::inspect(&path, &inspector) {
        Ok(inspection) => {
            if json {
                println!("{}", serde_json::json!(inspection));
            } else {
                println!("{inspection}");
            }
            if inspection.first_error().is_some() {
                FAILED
            } else {
                DONE
            }
        }
        Err(error) => {
            eprintln!("{error}");
            FAILED
        }
    }
}
