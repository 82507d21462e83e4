//! Where the control socket lies, and how a long path to it is used: the kernel takes 107 bytes.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// Where nothing else is said.
pub const DEFAULT: &str = "/run/devour/control.sock";

/// The kernel's limit, less its final NUL.
const LONGEST: usize = 107;

/// A path that the kernel takes, as long as the value lives.
pub(super) struct Reachable {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

/// `$RUNTIME_DIRECTORY/control.sock` (the first directory, where systemd names several), else [`DEFAULT`].
#[must_use]
pub fn default_path(runtime_directory: Option<OsString>) -> PathBuf {
    let named = runtime_directory.and_then(|dirs| std::env::split_paths(&dirs).next());
    match named.filter(|dir| dir.is_absolute()) {
        Some(dir) => dir.join("control.sock"),
        None => PathBuf::from(DEFAULT),
    }
}

impl Reachable {
    /// A long path goes through a descriptor of its directory.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self {
                path: path.to_owned(),
                _dir: None,
            });
        }
        let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it names no file");
        let name = path.file_name().ok_or_else(no_file)?;
        let dir = path.parent().ok_or_else(no_file)?;
        let dir = rustix::fs::open(
            dir,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self {
            path: Path::new("/proc/self/fd")
                .join(dir.as_raw_fd().to_string())
                .join(name),
            _dir: Some(dir),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_systemds_directory_or_run() {
        assert_eq!(default_path(None), Path::new(DEFAULT));
        assert_eq!(default_path(Some("".into())), Path::new(DEFAULT));
        assert_eq!(
            default_path(Some("/run/devour:/run/more".into())),
            Path::new("/run/devour/control.sock")
        );
    }
}
