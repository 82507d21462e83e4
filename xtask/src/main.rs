//! What a developer of devourd runs: `cargo demo`, `cargo xtask ...`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod demo;
mod dist;
mod kafka;
mod soak;
mod tool;

#[derive(Parser)]
#[command(name = "xtask", about = "What a developer of devourd runs.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds devourd and its sample plugins, and runs `devourd demo` with the arguments given.
    #[command(disable_help_flag = true)]
    Demo {
        /// As for `devourd demo`; a leading `--` is passed over.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Builds devourd for release, measures it on a real Kafka and compares it with librdkafka's bare loop.
    #[command(disable_help_flag = true)]
    Bench {
        /// `--json`, `--quick`, `--runs N`, names of benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The real Kafka of the scenarios, by hand.
    #[command(subcommand)]
    Kafka(kafka::Command),
    /// Builds the Debian package, target/dist/devourd.deb.
    Dist(dist::Options),
    /// Runs the scenarios at full counts.
    Soak {
        /// Only those whose names contain this.
        scenario: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo { args } => demo::run(&args),
        Command::Bench { args } => bench::run(&args),
        Command::Kafka(command) => kafka::run(&command),
        Command::Dist(options) => dist::run(&options),
        Command::Soak { scenario } => soak::run(scenario.as_deref()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}
