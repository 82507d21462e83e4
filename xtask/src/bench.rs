//! `cargo xtask bench`: builds for release what is measured and what measures, and runs the latter (`bin/devour-bench`).

use std::process::{Command, ExitCode};

use crate::tool;

pub(crate) fn run(args: &[String]) -> tool::Result<ExitCode> {
    // In one build, so that all of it shares one librdkafka.
    let wanted = "--release -p devourd -p devour-test-sum -p xtask --lib --bin devourd --bin devour-bench";
    let build: Vec<&str> = std::iter::once("build").chain(wanted.split(' ')).collect();
    tool::cargo(&build)?;
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    let bench = tool::target().join("release").join("devour-bench");
    Ok(tool::exit_code(tool::run(Command::new(bench).args(args))?))
}
