//! `--settings`, `KAFKA_SETTINGS_PATH` and `settings.yaml` in the working directory start the same routes, in this
//! order of precedence; without a broker the daemon says so once for each route, and SIGTERM still ends it with status 0.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::OwnedFd,
    process::Command,
    time::{Duration, Instant},
};

use devour_tests::{
    daemon::{Daemon, Home, Line, Log, Route, Settings, Signal},
    process::Exit,
    scenario::{Isolation, Outcome, Run},
    wait,
};
use libtest_mimic::Failed;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

pub const RUNS: &[Run] = &[
    Run::Alone("same_routes", three_ways_start_the_same_routes),
    Run::Alone(
        "precedence",
        the_flag_wins_over_the_variable_and_that_over_the_directory,
    ),
    Run::Alone("no_broker", a_broker_that_is_down_is_named_once),
];

const VARIABLE: &str = "KAFKA_SETTINGS_PATH";
/// How long the daemon may take to prove and start two routes.
const START: Duration = Duration::from_secs(30);
/// How long it may take to stop with nothing in hand and nobody to answer.
const STOP: Duration = Duration::from_secs(10);

/// A port of the loopback that refuses connections, and stays so while this lives.
struct Refusing {
    _socket: OwnedFd,
    address: SocketAddr,
}

/// What names the settings file.
#[derive(Clone, Copy, Debug)]
enum Told {
    Flag,
    Variable,
    Directory,
}

fn three_ways_start_the_same_routes() -> Outcome {
    let broker = Refusing::new()?;
    let home = Home::new("same-routes")?;
    home.write(
        &broker
            .settings()
            .route("orders", route(&home))
            .route("payments", route(&home)),
    )?;
    for told in [Told::Flag, Told::Variable, Told::Directory] {
        assert_eq!(
            started(told.command(&home)?, 2)?,
            ["orders", "payments"],
            "{told:?}"
        );
    }
    Ok(())
}

fn the_flag_wins_over_the_variable_and_that_over_the_directory() -> Outcome {
    let broker = Refusing::new()?;
    let homes = [
        Home::new("by-flag")?,
        Home::new("by-variable")?,
        Home::new("by-directory")?,
    ];
    for (home, name) in homes.iter().zip(["by_flag", "by_variable", "by_directory"]) {
        home.write(&broker.settings().route(name, route(home)))?;
    }
    let [by_flag, by_variable, by_directory] = &homes;
    let mut command = by_directory.command()?;
    command
        .env(VARIABLE, by_variable.settings_file())
        .arg("--settings")
        .arg(by_flag.settings_file());
    assert_eq!(started(command, 1)?, ["by_flag"]);
    let mut command = by_directory.command()?;
    command.env(VARIABLE, by_variable.settings_file());
    assert_eq!(started(command, 1)?, ["by_variable"]);
    let mut command = by_directory.command()?;
    command.env(VARIABLE, "");
    assert_eq!(
        started(command, 1)?,
        ["by_directory"],
        "an empty variable names nothing"
    );
    Ok(())
}

fn a_broker_that_is_down_is_named_once() -> Outcome {
    let broker = Refusing::new()?;
    let home = Home::new("no-broker")?;
    let simple = Route::of("WitnessRaw", Isolation::Thread, "t", "g", &home.file("seen"))
        .with("consumer_type", "simple_consumer".into());
    home.write(
        &broker
            .settings()
            .route("balanced", route(&home))
            .route("simple", simple),
    )?;
    let daemon = Daemon::spawn(&mut Told::Directory.command(&home)?)?;
    let complaint =
        |line: &Line| line.raw.contains(&broker.address.to_string()) && line.says("the Kafka broker");
    for name in ["balanced", "simple"] {
        let named = daemon.wait_for("the broker to be named", START, |line| {
            complaint(line) && line.text("route") == Some(name)
        })?;
        assert_eq!(named.level(), "WARN", "{}", named.raw);
    }
    // librdkafka tries again after 100 ms, then after up to 10 s: in this time it is refused many times.
    let (begin, before) = (Instant::now(), daemon.log().len());
    wait::until("5 s without a broker", Duration::from_secs(30), || {
        (begin.elapsed().as_secs() >= 5).then_some(())
    })?;
    let log = daemon.log().clone();
    let lines = log.all(complaint);
    assert_eq!(lines.len(), 2, "{}", log.tail());
    assert!(
        log.len() - before <= 6,
        "{} lines in 5 s: {}",
        log.len() - before,
        log.tail()
    );
    stop(daemon)?;
    Ok(())
}

/// Starts a daemon, waits for so many routes, stops it, and names the routes it started.
fn started(mut command: Command, count: usize) -> Result<Vec<String>, Failed> {
    let daemon = Daemon::spawn(&mut command)?;
    let starting = |line: &Line| line.says("route state") && line.text("state") == Some("starting");
    let mut seen = 0;
    daemon.wait_for("every route to start", START, |line| {
        seen += usize::from(starting(line));
        seen == count
    })?;
    daemon.wait_for("the daemon to be ready", START, |line| line.says("ready"))?;
    let mut names: Vec<_> = stop(daemon)?
        .all(starting)
        .iter()
        .filter_map(|line| line.text("route").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// SIGTERM, and status 0 promptly.
fn stop(mut daemon: Daemon) -> Result<Log, Failed> {
    daemon.signal(Signal::TERM)?;
    assert_eq!(daemon.wait(STOP)?, Exit::Status(0), "{}", daemon.log().tail());
    Ok(daemon.log().clone())
}

fn route(home: &Home) -> Route {
    Route::of("WitnessRaw", Isolation::Process, "t", "g", &home.file("seen"))
}

// === impl Refusing ===

impl Refusing {
    /// Bound, but nobody listens.
    fn new() -> Result<Self, Failed> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = getsockname(&socket)?.try_into()?;
        Ok(Self {
            _socket: socket,
            address,
        })
    }

    fn settings(&self) -> Settings {
        Settings::of(&self.address.to_string())
    }
}

// === impl Told ===

impl Told {
    fn command(self, home: &Home) -> Result<Command, Failed> {
        let mut command = home.command()?;
        match self {
            Self::Flag => command.arg("--settings").arg(home.settings_file()),
            Self::Variable => command.current_dir("/").env(VARIABLE, home.settings_file()),
            Self::Directory => &mut command,
        };
        Ok(command)
    }
}
