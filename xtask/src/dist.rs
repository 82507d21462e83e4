//! `cargo xtask dist`: the Debian package. Builds the daemon and the samples, lays them out in `target/dist`, and has
//! `cargo-deb` (installed into `target/tools` if it is missing) make the package of what `daemon/Cargo.toml` lists.
//!
//! It needs what a build of devourd needs, `strip` (binutils) and `dpkg-shlibdeps` (dpkg-dev). The package runs on the
//! Debian that it is built on, and later ones: the C library is not taken along.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::{Args, ValueEnum};

use crate::tool;

#[derive(Args)]
pub(crate) struct Options {
    /// `release` is what is shipped; `dev` has the same layout, is built sooner and runs slower: for tests.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Release,
    Dev,
}

/// The version that is known to work.
const CARGO_DEB: &str = "3.8.0";
const BUILT: [&str; 5] = [
    "devourd",
    "libdevour_echo.so",
    "libdevour_math.so",
    "libdevour_enrich.so",
    "libdevour_orders.so",
];

pub(crate) fn run(options: &Options) -> tool::Result<ExitCode> {
    println!("{}", build(options.profile)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the package, and says where it is: `target/dist/devourd.deb`.
pub(crate) fn build(profile: Profile) -> tool::Result<PathBuf> {
    let (name, dir) = match profile {
        Profile::Release => ("release", "release"),
        Profile::Dev => ("dev", "debug"),
    };
    tool::cargo(&[
        "build",
        "--locked",
        "--profile",
        name,
        "-p",
        "devourd",
        "-p",
        "devour-echo",
        "-p",
        "devour-math",
        "-p",
        "devour-enrich",
        "-p",
        "devour-orders",
        "--features",
        "devour-orders/postgres",
    ])?;
    let dist = tool::workspace().join("target/dist");
    std::fs::create_dir_all(&dist).map_err(|error| format!("{}: {error}", dist.display()))?;
    for file in BUILT {
        lay_out(&tool::target().join(dir).join(file), &dist.join(file))?;
    }
    let package = dist.join("devourd.deb");
    let mut command = cargo_deb()?;
    command
        .args(["deb", "--no-build", "--no-strip", "-p", "devourd", "--output"])
        .arg(&package)
        .current_dir(tool::workspace());
    if profile == Profile::Dev {
        command.arg("--fast");
    }
    expect(&mut command)?;
    Ok(package)
}

/// Without what only a debugger reads; the names that a backtrace shows stay.
fn lay_out(from: &Path, to: &Path) -> tool::Result<()> {
    expect(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(to)
            .arg(from),
    )
}

fn cargo_deb() -> tool::Result<Command> {
    let tools = tool::workspace().join("target/tools");
    let program = tools.join("bin/cargo-deb");
    let version = |program: &Path| {
        let output = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if version(&program).is_none_or(|found| !found.ends_with(CARGO_DEB)) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut install = Command::new(cargo);
        install
            .args([
                "install",
                "cargo-deb",
                "--locked",
                "--debug",
                "--version",
                CARGO_DEB,
                "--root",
            ])
            .arg(&tools)
            // Half of a release build's time, and its compression is still quick.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        expect(&mut install)?;
    }
    Ok(Command::new(program))
}

fn expect(command: &mut Command) -> tool::Result<()> {
    let status = tool::run(command)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} ended with {status}", command.get_program().display()))
    }
}
