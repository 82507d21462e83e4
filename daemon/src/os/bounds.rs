//! What bounds a process that runs foreign code: limits, another user, a sandbox.

use std::io;

use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
use serde::{Deserialize, Serialize};

use super::{privileges, process, sandbox::Sandbox, users::User};

/// All of it; what is `None` is as the daemon has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Bytes of memory of its own (RLIMIT_DATA). Where a control group holds the memory, this is `None`.
    pub memory: Option<u64>,
    /// Open descriptors, soft and hard.
    pub open_files: Option<u64>,
    /// How much it stands back for others: 0 to 19.
    pub nice: Option<i32>,
    /// Whom it runs as.
    pub user: Option<User>,
    /// What it may not touch.
    pub sandbox: Option<Sandbox>,
}

// === impl Bounds ===

impl Bounds {
    /// The first step: limits.
    ///
    /// # Errors
    /// When one is above what this process itself is bound to.
    pub fn limit(&self) -> io::Result<()> {
        let both = |limit| Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        if let Some(bytes) = self.memory {
            setrlimit(Resource::Data, both(bytes))?;
        }
        if let Some(files) = self.open_files {
            setrlimit(Resource::Nofile, both(files))?;
        }
        if let Some(nice) = self.nice {
            setpriority_process(None, nice)?;
        }
        Ok(())
    }

    /// The second: user and groups. What the process may do beyond its user is given up either way.
    ///
    /// # Errors
    /// When the process may not change its user.
    pub fn change_user(&self) -> io::Result<()> {
        if let Some(user) = self.user.as_ref().filter(|user| !privileges::is_user(user)) {
            privileges::become_user(user)?;
        }
        privileges::drop_capabilities()
    }

    /// The last, once it dies with its parent: it gains no privileges any more, and is locked in.
    ///
    /// # Errors
    /// When the kernel cannot hold what the sandbox promises.
    pub fn lock_in(&self) -> io::Result<()> {
        process::no_new_privileges()?;
        self.sandbox.as_ref().map_or(Ok(()), Sandbox::enter)
    }
}
