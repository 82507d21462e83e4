//! `cargo xtask kafka`: the scenarios' real Kafka, by hand.

use std::process::{ExitCode, Stdio};

use clap::Subcommand;
use devour_tests::kafka::{self, Detached};

use crate::tool;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Starts a broker that stays, with an empty log, and prints its address. TLS is on the next port.
    Start {
        /// Its port; the two above it are used too.
        #[arg(default_value_t = PORT)]
        port: u16,
    },
    /// Stops it.
    Stop {
        /// Its port.
        #[arg(default_value_t = PORT)]
        port: u16,
    },
    /// Runs one of Kafka's command-line classes, such as `org.apache.kafka.tools.TopicCommand`.
    #[command(disable_help_flag = true)]
    Tool {
        /// The class.
        class: String,
        /// What it is given.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

const PORT: u16 = 19092;

pub(crate) fn run(command: &Command) -> tool::Result<ExitCode> {
    match command {
        Command::Start { port } => {
            let broker = Detached::start(*port).map_err(|error| error.to_string())?;
            println!("{}", broker.bootstrap());
        }
        Command::Stop { port } => {
            if !Detached::stop(*port).map_err(|error| error.to_string())? {
                return Err(format!("no broker of ours runs on port {port}"));
            }
        }
        Command::Tool { class, args } => {
            let mut tool = kafka::tool(class).map_err(|error| error.to_string())?;
            return tool::run(tool.args(args).stdin(Stdio::inherit())).map(tool::exit_code);
        }
    }
    Ok(ExitCode::SUCCESS)
}
