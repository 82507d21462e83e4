//! What a plugin's process may not do any more: write files, open sockets. Landlock holds the files, a seccomp filter
//! the sockets; both bind the process and all that it starts, and cannot be taken off.

use std::{collections::BTreeMap, io, path::PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde::{Deserialize, Serialize};

/// What is left to a process in its sandbox, beside what it has open already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Whether it may open sockets.
    pub network: bool,
    /// The files and directories that it may write to, and all that is below them. Others it may only read.
    pub write: Vec<PathBuf>,
}

/// What this kernel's Landlock can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Landlock(i64);

/// The first that keeps a process from emptying a file that it may not write (Linux 6.2).
const TRUNCATES: i64 = 3;
/// The first that keeps a process from sending signals out of its sandbox (Linux 6.12).
const SCOPES: i64 = 6;

/// Written by programs of all kinds, to no effect.
const ALWAYS: &str = "/dev/null";

// === impl Landlock ===

impl Landlock {
    /// Asks the kernel.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        const VERSION: libc::c_long = 1;
        // SAFETY: with this flag the call reads no memory; it returns a version or an error.
        let version = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                0 as libc::c_long,
                0 as libc::c_long,
                VERSION,
            )
        };
        Self(version)
    }

    /// Why no sandbox can be made, if none can.
    #[must_use]
    pub fn lacks(self) -> Option<&'static str> {
        match self.0 {
            ..=0 => Some(
                "this kernel has no Landlock: it needs Linux 6.2 with `landlock` among the modules of `lsm=`",
            ),
            1..TRUNCATES => Some(
                "the Landlock of this kernel cannot keep a process from emptying files that it may not write: it needs \
                 Linux 6.2",
            ),
            _ => None,
        }
    }

    /// What a sandbox does not hold here, if something.
    #[must_use]
    pub fn leaves_open(self) -> Option<&'static str> {
        (self.0 < SCOPES).then_some(
            "on this kernel a plugin in a sandbox can still send signals to processes of its user: that is held from \
             Linux 6.12 on",
        )
    }

    fn abi(self) -> ABI {
        if self.0 < SCOPES { ABI::V3 } else { ABI::V6 }
    }
}

// === impl Sandbox ===

impl Sandbox {
    /// Locks this process in. To be called while it has one thread: others would stay outside.
    ///
    /// # Errors
    /// When a path that may be written cannot be opened, or the kernel cannot hold all of it: then the process must
    /// not go on.
    pub fn enter(&self) -> io::Result<()> {
        self.hold_files()?;
        // Two filters, because each has one answer: what is forbidden, and what programs find missing and do without.
        let mut denied = Vec::from(ATTRIBUTES);
        let mut absent = Vec::new();
        if !self.network {
            denied.push(libc::SYS_socket);
            // It opens sockets without the call of that name.
            absent.extend([
                libc::SYS_io_uring_setup,
                libc::SYS_io_uring_enter,
                libc::SYS_io_uring_register,
            ]);
        }
        for (calls, errno) in [(denied, libc::EPERM), (absent, libc::ENOSYS)] {
            if !calls.is_empty() {
                refuse(&calls, errno)?;
            }
        }
        Ok(())
    }

    fn hold_files(&self) -> io::Result<()> {
        let kernel = Landlock::of_this_kernel();
        if let Some(lacks) = kernel.lacks() {
            return Err(io::Error::other(lacks));
        }
        let abi = kernel.abi();
        let writes = AccessFs::from_write(abi);
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(writes)
            .map_err(io::Error::other)?;
        if abi >= ABI::V6 {
            rules = rules.scope(Scope::from_all(abi)).map_err(io::Error::other)?;
        }
        let mut rules = rules.create().map_err(io::Error::other)?;
        let always = PathBuf::from(ALWAYS);
        for path in self.write.iter().chain([&always]) {
            let opened = PathFd::new(path).map_err(io::Error::other)?;
            let is_file = !std::fs::metadata(path)?.is_dir();
            // What is about directories cannot be said of a file.
            let allowed = if is_file {
                writes & AccessFs::from_file(abi)
            } else {
                writes
            };
            rules = rules
                .add_rule(PathBeneath::new(opened, allowed))
                .map_err(io::Error::other)?;
        }
        rules.restrict_self().map_err(io::Error::other)?;
        Ok(())
    }
}

/// What changes a file that Landlock does not look at: its mode, owner and attributes.
#[cfg(target_arch = "x86_64")]
const ATTRIBUTES: [libc::c_long; 14] = [
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
#[cfg(not(target_arch = "x86_64"))]
const ATTRIBUTES: [libc::c_long; 11] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
/// The same number everywhere; not every version of `libc` has its name.
const FCHMODAT2: libc::c_long = 452;

fn refuse(calls: &[libc::c_long], errno: i32) -> io::Result<()> {
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let action = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_cannot_hold_is_said() {
        assert!(Landlock(-1).lacks().unwrap().contains("no Landlock"));
        assert!(Landlock(2).lacks().unwrap().contains("emptying"));
        assert_eq!(Landlock(3).lacks(), None);
        assert!(Landlock(5).leaves_open().unwrap().contains("signals"));
        assert_eq!(Landlock(6).leaves_open(), None);
    }

    #[test]
    fn in_a_sandbox_only_named_paths_are_written_and_no_socket_is_opened() {
        if Landlock::of_this_kernel().lacks().is_some() {
            eprintln!("not tested: this kernel has no Landlock that can hold it");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
        for dir in [&open, &closed] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("file"), "before").unwrap();
        }
        let sandbox = Sandbox {
            network: false,
            write: vec![open.clone()],
        };
        // Both hold for the thread that asks for them.
        let held = std::thread::spawn(move || {
            crate::os::process::no_new_privileges().unwrap();
            sandbox.enter().unwrap();
            std::fs::write(open.join("new"), "written").unwrap();
            std::fs::write(ALWAYS, "gone").unwrap();
            let file = closed.join("file");
            assert!(std::fs::write(&file, "after").is_err());
            assert!(std::fs::OpenOptions::new().append(true).open(&file).is_err());
            assert!(std::fs::remove_file(&file).is_err());
            assert!(std::fs::rename(open.join("file"), closed.join("moved")).is_err());
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            assert!(std::fs::set_permissions(&file, mode).is_err());
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err());
            assert!(std::os::unix::net::UnixDatagram::unbound().is_err());
            // Pairs lead nowhere else, and runtimes need them.
            assert!(std::os::unix::net::UnixStream::pair().is_ok());
        });
        held.join().unwrap();
    }
}
