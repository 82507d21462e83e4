//! Where the fixtures keep their files: below the workspace's own `target/`, so that `cargo clean` removes them.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The workspace's `target/` directory (also when cargo builds into another one).
pub fn target_dir() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).join("target")
}

/// A fresh directory for one scenario. It lies in `target/` and not in the system's temporary directory because the
/// daemon refuses plugin files below a directory that the world may write. Removed when dropped, unless
/// `DEVOUR_TEST_KEEP` is set.
pub fn scratch_dir(name: &str) -> io::Result<tempfile::TempDir> {
    let base = target_dir().join("scenarios");
    std::fs::create_dir_all(&base)?;
    let mut dir = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(base)?;
    if keep_files() {
        dir.disable_cleanup(true);
    } else {
        crate::undertaker::sweep(dir.path())?;
    }
    Ok(dir)
}

/// True if files of ended scenarios and brokers are to stay for a look.
pub fn keep_files() -> bool {
    std::env::var_os("DEVOUR_TEST_KEEP").is_some()
}
