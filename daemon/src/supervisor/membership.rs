//! One static member, one daemon: a lock in `state_dir` keeps two daemons on one host from being the same member of a
//! group, which would fence them in turn for ever.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Held as long as the route's member may be in its group. The kernel lets go of it with the process.
#[derive(Debug)]
pub struct MemberLock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum MemberLockError {
    /// Another process has it.
    #[error(
        "another devourd on this host runs the static member `{member}` (it holds {}). Stop it, or give one of the two \
         `membership: dynamic`", .file.display()
    )]
    Taken {
        /// The member's id.
        member: String,
        /// The lock.
        file: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot lock {}: {source}. `state_dir` must be writable for a static member", .file.display())]
    Io {
        /// The lock.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

// === impl MemberLock ===

impl MemberLock {
    /// Takes the lock of `member`.
    ///
    /// # Errors
    /// When another process has it, or `state_dir` cannot be written.
    pub fn take(state_dir: &Path, member: &str) -> Result<Self, MemberLockError> {
        let dir = state_dir.join("locks");
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        };
        let file = dir.join(format!("{}.lock", member.chars().map(safe).collect::<String>()));
        let failed = |source| MemberLockError::Io {
            file: file.clone(),
            source,
        };
        fs::create_dir_all(&dir).map_err(failed)?;
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .map_err(failed)?;
        match opened.try_lock() {
            Ok(()) => Ok(Self { _file: opened }),
            Err(TryLockError::WouldBlock) => Err(MemberLockError::Taken {
                member: member.to_owned(),
                file,
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_locked_once_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = MemberLock::take(dir.path(), "devourd/a b").unwrap();
        assert!(MemberLock::take(dir.path(), "other").is_ok());
        let error = MemberLock::take(dir.path(), "devourd/a b")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`devourd/a b`") && error.contains("membership: dynamic"),
            "{error}"
        );
        drop(first);
        assert!(MemberLock::take(dir.path(), "devourd/a b").is_ok());
    }
}
