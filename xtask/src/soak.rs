//! `cargo xtask soak`: the scenarios at the counts that the documentation promises.

use std::process::{Command, ExitCode};

use crate::{dist, tool};

/// Runs the scenarios whose names contain `scenario` (all without one), one after the other, with Kafka required. Where
/// systemd is among them, with the package as it is shipped.
pub(crate) fn run(scenario: Option<&str>) -> tool::Result<ExitCode> {
    if scenario.is_none_or(|name| "real_systemd".contains(name) || name.contains("real_systemd")) {
        dist::build(dist::Profile::Release)?;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "test",
            "--package",
            "devour-tests",
            "--test",
            "scenarios",
            "--",
            "--test-threads",
            "1",
        ])
        .args(scenario)
        .env("DEVOUR_SOAK", "1")
        .env("DEVOUR_TEST_REQUIRE_KAFKA", "1")
        .current_dir(tool::workspace());
    tool::run(&mut command).map(tool::exit_code)
}
