//! What a developer of devourd runs: `cargo demo`, `cargo xtask ...`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod demo;
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
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo { args } => demo::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}
