//! The benchmarks of devourd, as a program of release build: `cargo xtask bench` builds and runs it. Every figure is
//! taken five times inside one run and compared inside that run. See `abi`, `schema`, `lane`, `produce`, `waiting`, `latency`,
//! `restart`, `swap`, `memory` and `idle` for what is measured; what is asked of a figure stands there and in the table.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod abi;
mod bare;
mod daemon;
mod data;
mod figure;
mod ideal;
mod idle;
mod lane;
mod latency;
mod memory;
mod procfs;
mod produce;
mod restart;
mod schema;
mod swap;
mod waiting;
mod zipf;

use figure::{Bench, Figure};

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
    let known: Vec<Bench> = [abi::BENCH, schema::BENCH]
        .into_iter()
        .chain(lane::benches())
        .chain(produce::benches())
        .chain(waiting::benches())
        .chain(latency::BENCHES)
        .chain(restart::BENCHES)
        .chain([swap::BENCH])
        .chain(memory::BENCHES)
        .chain([idle::BENCH])
        .collect();
    let names: Vec<&str> = known.iter().map(|bench| bench.name).collect();
    if let Some(name) = cli.names.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("there is no benchmark `{name}`; there are {}", names.join(", ")).into());
    }
    let wanted = |bench: Bench| cli.names.is_empty() || cli.names.iter().any(|asked| asked == bench.name);
    let effort = Effort {
        runs: cli.runs,
        seconds: if cli.quick { 2.0 } else { 10.5 },
    };
    let show = |figure: Figure| {
        if wanted(figure.bench) {
            let line = if cli.json { figure.json() } else { figure.row() };
            println!("{line}");
        }
    };
    if !cli.json {
        println!("{}", figure::HEAD);
    }
    if wanted(abi::BENCH) {
        show(abi::measure(effort)?);
    }
    if wanted(schema::BENCH) {
        show(schema::measure(effort)?);
    }
    if known
        .iter()
        .all(|bench| [abi::BENCH.name, schema::BENCH.name].contains(&bench.name) || !wanted(*bench))
    {
        return Ok(());
    }
    let data = data::Data::open()?;
    lane::measure(&data, effort, &wanted, &show)?;
    produce::measure(&data, effort, &wanted, &show)?;
    waiting::measure(&data, effort, &wanted, &show)?;
    if latency::BENCHES.into_iter().any(wanted) {
        latency::measure(&data, effort)?.into_iter().for_each(show);
    }
    restart::measure(&data, effort, &wanted, &show)?;
    if wanted(swap::BENCH) {
        show(swap::measure(&data, effort)?);
    }
    if memory::BENCHES.into_iter().any(wanted) {
        memory::measure(&data, effort, &wanted)?
            .into_iter()
            .for_each(show);
    }
    if wanted(idle::BENCH) {
        show(idle::measure(&data, effort)?);
    }
    Ok(())
}
