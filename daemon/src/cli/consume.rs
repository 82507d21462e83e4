//! `devourd consume NAME`: the seed's `consume`, one route in the foreground. What its plugin prints goes to standard
//! output unchanged; the log goes to standard error.

use std::path::Path;

use super::{BAD_SETTINGS, run};
use crate::{lane::Printed, systemd::Systemd, telemetry};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the route.
    name: String,
}

pub(super) fn run(flag: Option<&Path>, args: &Args) -> u8 {
    let mut settings = match run::load(flag) {
        Ok(settings) => settings,
        Err(status) => return status,
    };
    if settings.route(&args.name).is_none() {
        let names: Vec<String> = settings
            .routes
            .iter()
            .map(|route| route.name.to_string())
            .collect();
        let near = names.iter().max_by(|a, b| {
            strsim::jaro_winkler(a, &args.name).total_cmp(&strsim::jaro_winkler(b, &args.name))
        });
        let hint = near
            .map(|name| format!(" Did you mean `{name}`?"))
            .unwrap_or_default();
        let known = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        eprintln!(
            "devourd consume: {} has no route `{}` (its routes: {known}).{hint}",
            settings.file.display(),
            args.name
        );
        return BAD_SETTINGS;
    }
    settings
        .routes
        .retain(|route| route.name.to_string() == args.name);
    telemetry::start(settings.log);
    let run = run::Run {
        printed: Printed::PassThrough,
        voice: telemetry::voice(),
        reloads: false,
        ends_with_routes: true,
        has_control_socket: false,
    };
    run::supervise(settings, run, Systemd::none())
}
