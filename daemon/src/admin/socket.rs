//! The socket's file: made with its mode from the beginning, in place of one that a dead daemon left, and taken away at
//! the end.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::{group, path::Reachable};

/// A bound control socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: the file at the path may be another daemon's by the time this one ends.
    file: (u64, u64),
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error(
        "the control socket {} is another devourd's{}, which is running: stop it, or name another file by `control_socket`",
        .path.display(), pid_of(*.pid)
    )]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Its process, where the kernel tells.
        pid: Option<u32>,
    },
    /// Something else lies there.
    #[error("{} is there and is no socket: name another file by `control_socket`", .path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make the control socket {}: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn pid_of(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Who may connect: the daemon's user, and a group (see [`group`]).
const MODE: u32 = 0o660;

// === impl ControlSocket ===

impl ControlSocket {
    /// Binds the socket at `path`.
    ///
    /// # Errors
    /// When another daemon has it, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        Self::bind_for(path, Path::new(group::GROUPS))
    }

    /// The same, with another list of groups.
    fn bind_for(path: &Path, groups: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        look_at(path)?;
        // Bound beside its place and moved there: the file has its mode before anybody can find it, and replaces a
        // dead daemon's in one step.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let bound = (|| {
            let _ = fs::remove_file(&beside);
            let listener = UnixListener::bind(Reachable::of(&beside)?.path())?;
            listener.set_nonblocking(true)?;
            group::give(&beside, groups);
            fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))?;
            let metadata = fs::symlink_metadata(&beside)?;
            fs::rename(&beside, path)?;
            Ok((listener, (metadata.dev(), metadata.ino())))
        })();
        match bound {
            Ok((listener, file)) => Ok(Self {
                listener,
                path: path.to_owned(),
                file,
            }),
            Err(source) => {
                let _ = fs::remove_file(&beside);
                Err(failed(source))
            }
        }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its listener, which blocks nobody.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let is_ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What lies at the path may be replaced: nothing, or a socket that nobody listens to.
fn look_at(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match Reachable::of(path).and_then(|reachable| UnixStream::connect(reachable.path())) {
        Ok(stream) => Err(SocketError::Taken {
            path: path.to_owned(),
            // The kernel keeps who called `listen`.
            pid: rustix::net::sockopt::socket_peercred(&stream)
                .ok()
                .map(|credentials| credentials.pid.as_raw_nonzero().get().unsigned_abs()),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        // As a SIGKILL leaves it: the file is there, nobody listens.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = ControlSocket::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE);
        let error = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        assert!(UnixStream::connect(&path).is_ok(), "the first one still listens");
        drop(socket);
        assert!(!path.exists());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing is left beside it"
        );
    }

    #[test]
    fn the_socket_is_the_groups_where_the_daemon_may_give_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, groups) = (dir.path().join("control.sock"), dir.path().join("group"));
        fs::write(&groups, "devour:x:993:\n").unwrap();
        let _socket = ControlSocket::bind_for(&path, &groups).unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, MODE);
        let expected = if rustix::process::geteuid().is_root() {
            993
        } else {
            rustix::process::getegid().as_raw()
        };
        assert_eq!(metadata.gid(), expected);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(SocketError::NoSocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        // Another one has taken its place meanwhile.
        let first = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(second.path()).is_ok());
        let missing = dir.path().join("no/such/dir.sock");
        let error = ControlSocket::bind(&missing).unwrap_err().to_string();
        assert!(error.contains("no/such/dir.sock"), "{error}");
    }

    #[test]
    fn a_path_may_be_longer_than_the_kernel_takes() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("control.sock");
        let _socket = ControlSocket::bind(&path).unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(SocketError::Taken { .. })
        ));
    }
}
