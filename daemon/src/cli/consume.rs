//! `devourd consume NAME`: the seed's `consume`, one route in the foreground. What its plugin prints goes to standard
//! output unchanged; the log goes to standard error.

use std::path::Path;

use super::{BAD_SETTINGS, INTERNAL, plugins, run};
use crate::{lane::Printed, systemd::Systemd, telemetry};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the route.
    name: String,
}

pub(super) fn run(flag: Option<&Path>, args: &Args) -> u8 {
    let begun = run::listen().and_then(|signals| Ok((signals, run::load(flag)?)));
    let (signals, mut settings) = match begun {
        Ok(begun) => begun,
        Err(status) => return status,
    };
    if settings.route(&args.name).is_none()
        && let Err(error) = plugins::autoload(&mut settings)
    {
        eprintln!("devourd consume: no child process can be started: {error}");
        return INTERNAL;
    }
    if let Err(error) = run::find_route(&settings, &args.name) {
        eprintln!("devourd consume: {error}");
        return BAD_SETTINGS;
    }
    settings
        .routes
        .retain(|route| route.name.to_string() == args.name);
    // This one route and no other, be it written down or not.
    settings.autoload = None;
    for route in &mut settings.routes {
        route.autoloaded = false;
    }
    telemetry::start(settings.log);
    let run = run::Run {
        printed: Printed::PassThrough,
        voice: telemetry::voice(),
        reloads: false,
        ends_with_routes: true,
        has_control_socket: false,
    };
    run::supervise(settings, run, Systemd::from_environment(), signals)
}
