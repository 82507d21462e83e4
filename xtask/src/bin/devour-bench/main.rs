//! The benchmarks of devourd, as a program of release build: `cargo xtask bench` builds and runs it. Every figure is
//! taken five times inside one run and compared inside that run; see `lane`, `abi` and `restart` for what is measured.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod abi;
mod bare;
mod daemon;
mod data;
mod figure;
mod lane;
mod restart;

use figure::Figure;

/// An error in words, for the person at the terminal.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(
    name = "devour-bench",
    about = "Measures devourd.",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    /// One JSON line a figure instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs of 2 s instead of 10, for a first look.
    #[arg(long)]
    quick: bool,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these figures; all if none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Subcommand)]
enum Inner {
    /// The loop that devourd is compared with, in a process of its own.
    #[command(hide = true)]
    Bare {
        /// As for the daemon.
        settings: std::path::PathBuf,
    },
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
struct Effort {
    runs: u32,
    seconds: f64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.inner {
        Some(Inner::Bare { settings }) => bare::run(settings),
        None => measure(&cli),
    };
    done.map_or_else(
        |error| {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn measure(cli: &Cli) -> Result<()> {
    let known: Vec<&str> = lane::NAMES
        .into_iter()
        .chain([abi::NAME, restart::NAME])
        .collect();
    if let Some(name) = cli.names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no benchmark `{name}`; there are {}", known.join(", ")).into());
    }
    let wanted = |name: &str| cli.names.is_empty() || cli.names.iter().any(|asked| asked == name);
    let effort = Effort {
        runs: cli.runs,
        seconds: if cli.quick { 2.0 } else { 10.5 },
    };
    let show = |figure: Figure| {
        if cli.json {
            println!("{}", figure.json())
        } else {
            println!("{}", figure.row())
        }
    };
    if !cli.json {
        println!("{}", figure::HEAD);
    }
    if wanted(abi::NAME) {
        show(abi::measure(effort)?);
    }
    if lane::NAMES.into_iter().any(wanted) || wanted(restart::NAME) {
        let data = data::Data::open()?;
        if lane::NAMES.into_iter().any(wanted) {
            let figures = lane::measure(&data, effort, &wanted)?;
            figures
                .into_iter()
                .filter(|figure| wanted(figure.bench))
                .for_each(show);
        }
        if wanted(restart::NAME) {
            show(restart::measure(&data, effort)?);
        }
    }
    Ok(())
}
