//! Running other programs: cargo, and what cargo built.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus},
};

/// Why a tool could not do its work.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Runs cargo, which shows its own progress.
pub(crate) fn cargo(args: &[impl AsRef<OsStr>]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let status = run(command.args(args).current_dir(workspace()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo ended with {status}"))
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    command
        .status()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))
}

/// A program's status as this one's.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
