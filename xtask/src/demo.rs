//! `cargo demo`: builds what it needs and runs `devourd demo`.

use std::process::{Command, ExitCode};

use crate::tool;

pub(crate) fn run(args: &[String]) -> tool::Result<ExitCode> {
    tool::cargo(&[
        "build",
        "--quiet",
        "-p",
        "devourd",
        "-p",
        "devour-echo",
        "-p",
        "devour-math",
    ])?;
    let built = tool::target().join("debug");
    // `cargo demo -- --messages 5` gives its `--` on.
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    let status = tool::run(
        Command::new(built.join("devourd"))
            .arg("demo")
            .arg("--plugins")
            .arg(&built)
            .args(args),
    )?;
    Ok(tool::exit_code(status))
}
