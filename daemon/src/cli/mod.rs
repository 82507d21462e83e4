//! The command line: one file per subcommand.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::kafka::ErrorCode;

mod check;
mod consume;
mod control;
mod dead_letter;
mod demo;
mod hidden;
mod plugins;
mod produce;
mod reload;
mod run;
mod schema;
mod status;
mod table;

/// Nothing is left to do.
pub(crate) const DONE: u8 = 0;
/// An action failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// The daemon itself failed.
pub(crate) const INTERNAL: u8 = 70;
/// The deadline of a stop passed with messages in hand.
pub(crate) const LEFT: u8 = 75;
/// The settings are wrong.
pub(crate) const BAD_SETTINGS: u8 = 78;

/// What to look at where no broker was heard; else nothing.
fn where_silent(code: Option<ErrorCode>, hosts: &[String]) -> String {
    if code.is_some_and(ErrorCode::is_silence) {
        format!(
            ". Is a broker up, and reached from here, at {} (`hosts`)?",
            hosts.join(", ")
        )
    } else {
        String::new()
    }
}

#[derive(Parser)]
#[command(
    name = "devourd",
    version,
    about = "Turns compiled plugins into supervised Kafka consumers.",
    after_help = "Exit status: 0 done, 1 an action failed, 2 usage, 70 internal failure, 75 the stop's deadline passed with \
                  messages in hand, 78 bad settings."
)]
struct Cli {
    /// The settings file; else $KAFKA_SETTINGS_PATH, else settings.yaml in the working directory.
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reports everything that is wrong with a settings file and its plugins. Contacts no Kafka.
    Check(check::Args),
    /// Runs one route of the settings in the foreground.
    Consume(consume::Args),
    /// What a route gave up, and the way back.
    #[command(subcommand)]
    DeadLetter(dead_letter::Command),
    /// Sends lines or JSON from a file or standard input to a route's topic, or to any topic.
    Produce(produce::Args),
    /// Tells a running daemon to read its settings and plugins again.
    Reload(reload::Args),
    /// Shows how a running daemon's routes stand.
    Status(status::Args),
    /// Has a running daemon fetch and digest nothing more of a route, or of all; partitions and plugin stay. Holds until
    /// `resume`, also over restarts.
    Pause(control::Routes),
    /// Ends a pause, and tries again what a route's `on_error.then: stop` has parked.
    Resume(control::Routes),
    /// Has a running daemon stop a route: it leaves its group, its plugin ends. Holds until `start`, also over restarts.
    Stop(control::Stop),
    /// Starts what is stopped, and tries again what failed.
    Start(control::Routes),
    /// Puts a new plugin process, or with `--client` a new Kafka client, in place of a route's present one.
    Restart(control::Restart),
    /// Tells a running daemon to pass a parked message by.
    Skip(control::Skip),
    /// Shows it all on an embedded broker: real messages through the sample plugins, and a result.
    Demo(demo::Args),
    /// What plugin libraries offer.
    #[command(subcommand)]
    Plugins(plugins::Command),
    /// Prints the JSON Schema of the settings.
    Schema,
    /// What a plugin's process runs; nobody calls it by hand.
    #[command(hide = true)]
    Host,
    /// What opens a library to read its descriptors; nobody calls it by hand.
    #[command(hide = true)]
    Probe,
    /// The broker behind `demo` and the tests.
    #[command(hide = true)]
    EmbeddedBroker(hidden::EmbeddedBroker),
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = cli.settings.as_deref();
    ExitCode::from(match cli.command {
        None => run::run(settings),
        Some(Command::Check(args)) => check::run(settings, &args),
        Some(Command::Consume(args)) => consume::run(settings, &args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::DeadLetter(command)) => dead_letter::run(settings, &command),
        Some(Command::Produce(args)) => produce::run(settings, &args),
        Some(Command::Reload(args)) => reload::run(settings, &args),
        Some(Command::Status(args)) => status::status(settings, &args),
        Some(Command::Pause(args)) => control::pause(settings, &args),
        Some(Command::Resume(args)) => control::resume(settings, &args),
        Some(Command::Stop(args)) => control::stop(settings, &args),
        Some(Command::Start(args)) => control::start(settings, &args),
        Some(Command::Restart(args)) => control::restart(settings, &args),
        Some(Command::Skip(args)) => control::skip(settings, &args),
        Some(Command::Plugins(command)) => plugins::run(settings, &command),
        Some(Command::Schema) => schema::run(),
        Some(Command::Host) => hidden::host(),
        Some(Command::Probe) => hidden::probe(),
        Some(Command::EmbeddedBroker(args)) => hidden::embedded_broker(&args),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_answered_is_told_where_it_was_asked() {
        let hosts = ["a:9092".to_owned(), "b:9092".to_owned()];
        let told = where_silent(Some(ErrorCode::TRANSPORT), &hosts);
        assert!(told.contains("a:9092, b:9092 (`hosts`)"), "{told}");
        assert_eq!(
            where_silent(Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), &hosts),
            ""
        );
        assert_eq!(where_silent(None, &hosts), "");
    }
}
