//! `devourd`: the daemon. Also what `consume` and `demo` share with it.

use std::{io::IsTerminal, path::Path, sync::Arc};

use tokio::sync::mpsc;

use super::{BAD_SETTINGS, DONE, FAILED, INTERNAL, LEFT};
use crate::{
    admin::{ControlSocket, SocketError},
    lane::{PluginVoice, Printed},
    os::{Spawner, process},
    plugin::{Prober, Store, child_environment},
    settings::{self, Environment, Findings, ProcessEnvironment, Route, Settings},
    signals::{self, Signal},
    supervisor::{Exit, Supervisor, by_hand::Orders, control::socket_path, descriptors, plan::Planner},
    systemd::Systemd,
    telemetry,
};

/// How a run differs from the daemon's.
pub(super) struct Run {
    /// What becomes of what plugins print.
    pub printed: Printed,
    /// Whose ear for what plugins say.
    pub voice: Arc<dyn PluginVoice>,
    /// Read the settings again on SIGHUP.
    pub reloads: bool,
    /// End when every route has ended.
    pub ends_with_routes: bool,
    /// Listen to a control socket.
    pub has_control_socket: bool,
}

pub(super) fn run(flag: Option<&Path>) -> u8 {
    let begun = listen().and_then(|signals| Ok((signals, load(flag)?)));
    let (signals, settings) = match begun {
        Ok(begun) => begun,
        Err(status) => return status,
    };
    telemetry::start(settings.log);
    let run = Run {
        printed: Printed::Log,
        voice: telemetry::voice(),
        reloads: true,
        ends_with_routes: false,
        has_control_socket: true,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), settings = %settings.file.display(), routes = settings.routes.len(), "devourd");
    supervise(settings, run, Systemd::from_environment(), signals)
}

/// The signals that come from now on, or the status to end with.
pub(super) fn listen() -> Result<mpsc::UnboundedReceiver<Signal>, u8> {
    let (tell, told) = mpsc::unbounded_channel();
    signals::listen(tell, LEFT).map_err(|error| {
        eprintln!("devourd: cannot listen to signals: {error}");
        INTERNAL
    })?;
    Ok(told)
}

/// Finds and reads the settings; what is wrong goes to standard error.
pub(super) fn load(flag: Option<&Path>) -> Result<Settings, u8> {
    let environment = ProcessEnvironment;
    let found = settings::locate(flag, &environment);
    match settings::load(&found.path, &environment) {
        Ok(settings) => {
            let warnings = settings.findings();
            if !warnings.is_empty() {
                eprintln!("{}", draw(&warnings));
            }
            Ok(settings)
        }
        Err(findings) => {
            eprintln!("{}", draw(&findings));
            eprintln!(
                "devourd: {} (named by {}) cannot be used",
                found.path.display(),
                found.named_by
            );
            Err(BAD_SETTINGS)
        }
    }
}

/// The route of this name, or the nearest names.
pub(super) fn find_route<'a>(settings: &'a Settings, name: &str) -> Result<&'a Route, String> {
    settings.route(name).ok_or_else(|| {
        let names: Vec<String> = settings
            .routes
            .iter()
            .map(|route| route.name.to_string())
            .collect();
        let near = names
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        let hint = near
            .map(|name| format!(" Did you mean `{name}`?"))
            .unwrap_or_default();
        let known = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        format!(
            "{} has no route `{name}` (its routes: {known}).{hint}",
            settings.file.display()
        )
    })
}

/// Findings for a person: with colour where standard error is a terminal.
pub(super) fn draw(findings: &Findings) -> String {
    if std::io::stderr().is_terminal() {
        findings.render_coloured()
    } else {
        findings.render()
    }
}

/// Runs the settings' routes until a signal, or until they have ended.
pub(super) fn supervise(
    settings: Settings,
    run: Run,
    systemd: Systemd,
    signals: mpsc::UnboundedReceiver<Signal>,
) -> u8 {
    let socket = match run
        .has_control_socket
        .then(|| control_socket(&settings))
        .transpose()
    {
        Ok(socket) => socket.flatten(),
        Err(error) => {
            tracing::error!(%error, "devourd cannot run");
            return BAD_SETTINGS;
        }
    };
    match try_supervise(settings, run, systemd, signals, socket) {
        Ok(Exit::Done) => DONE,
        Ok(Exit::Left) => LEFT,
        Ok(Exit::Failed) => FAILED,
        Err(error) => {
            tracing::error!(%error, "devourd cannot run");
            INTERNAL
        }
    }
}

/// The daemon's control socket. One that nobody named may be missing: the daemon works without.
fn control_socket(settings: &Settings) -> Result<Option<ControlSocket>, SocketError> {
    let (path, is_named) = socket_path(settings.control_socket.as_ref());
    match ControlSocket::bind(&path) {
        Ok(socket) => Ok(Some(socket)),
        Err(error @ SocketError::Io { .. }) if !is_named => {
            tracing::warn!(%error, "no control socket: `devourd resume` and its like cannot reach this daemon. Name a \
                file for it by `control_socket`");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What proves the routes of `settings`.
pub(super) fn planner(
    settings: &Settings,
    store: Store,
    spawner: Spawner,
    voice: Arc<dyn PluginVoice>,
    printed: Printed,
) -> Planner {
    let prober = Prober::new(
        spawner.clone(),
        child_environment(&settings.substituted_variables),
    );
    Planner {
        store,
        prober,
        spawner,
        voice,
        printed,
    }
}

fn try_supervise(
    settings: Settings,
    run: Run,
    systemd: Systemd,
    signals: mpsc::UnboundedReceiver<Signal>,
    socket: Option<ControlSocket>,
) -> std::io::Result<Exit> {
    if !settings.core_dumps {
        // Else a plugin's process of the same user could open this one's memory and environment.
        process::not_dumpable()?;
    }
    let (_, limit) = process::raise_open_files()?;
    if let Some(warning) = descriptors::warning(&settings.routes, limit) {
        tracing::warn!("{warning}");
    }
    let spawner = Spawner::start()?;
    spawner.adopt_orphans()?;
    let planner = planner(
        &settings,
        Store::at(&settings.state_dir),
        spawner,
        run.voice,
        run.printed,
    );
    let file = settings.file.clone();
    // A route that a person runs in the foreground runs whatever was ordered of the daemon's.
    let orders = run
        .has_control_socket
        .then(|| Orders::load(&settings.state_dir, &settings.file));
    let mut supervisor = Supervisor::new(settings, planner, systemd);
    if run.reloads {
        supervisor = supervisor.reloading(Arc::new(move || {
            let environment: &dyn Environment = &ProcessEnvironment;
            settings::load(&file, environment)
                .map_err(|findings| format!("{file}\n{findings}", file = file.display()))
        }));
    }
    if run.ends_with_routes {
        supervisor = supervisor.ending_with_routes();
    }
    if let Some(orders) = orders {
        supervisor = supervisor.remembering(orders);
    }
    if let Some(socket) = socket {
        supervisor = supervisor.controlled_by(socket);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .enable_io()
        .build()?;
    Ok(runtime.block_on(supervisor.run(signals)))
}
