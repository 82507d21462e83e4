//! Control groups of our own, where the system has handed a subtree over (systemd's `Delegate=memory`): a plugin's
//! process and all that it starts share one limit of memory, and end together when they are above it.
//!
//! A group that gives its memory to groups below it may hold no process itself, so the first use moves what is in ours
//! into a group `daemon` beside those of the plugins.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rustix::fs::{Access, access, getxattr};

/// The subtree that was handed to this process.
#[derive(Debug)]
pub struct Delegated {
    dir: PathBuf,
    ready: Mutex<bool>,
}

/// The group of one process and what it starts. Removed when dropped; what is left in it then is killed.
#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
}

const MOUNT: &str = "/sys/fs/cgroup";
const OURS: &str = "daemon";
const PLUGINS: &str = "plugin-";

// === impl Delegated ===

impl Delegated {
    /// The subtree of this process, if it was handed over with the control of memory; looked for once.
    pub fn find() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Delegated>> = OnceLock::new();
        FOUND
            .get_or_init(|| {
                let own = fs::read_to_string("/proc/self/cgroup").ok()?;
                Self::at(own_group(Path::new(MOUNT), &own)?)
            })
            .as_ref()
    }

    fn at(dir: PathBuf) -> Option<Self> {
        let controllers = fs::read_to_string(dir.join("cgroup.controllers")).ok()?;
        let memory = controllers.split_whitespace().any(|name| name == "memory");
        (memory && was_handed_over(&dir)).then(|| Self {
            dir,
            ready: Mutex::new(false),
        })
    }

    /// A new group that may hold so many bytes.
    ///
    /// # Errors
    /// When it cannot be made: then the process must not run without its limit.
    pub fn group(&self, name: &str, memory: u64) -> io::Result<Group> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        self.make_ready()?;
        // Two processes of a route live beside each other while one takes over.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(format!("{PLUGINS}{number}-{name}"));
        fs::create_dir(&dir)?;
        let group = Group { dir };
        fs::write(group.dir.join("memory.max"), memory.to_string())?;
        // Its children go with it: half of a plugin is of no use.
        fs::write(group.dir.join("memory.oom.group"), "1")?;
        Ok(group)
    }

    fn make_ready(&self) -> io::Result<()> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if *ready {
            return Ok(());
        }
        // What an earlier daemon, or children that took their time, left behind.
        for left in fs::read_dir(&self.dir)?.flatten() {
            if left.file_name().to_string_lossy().starts_with(PLUGINS) {
                empty_and_remove(&left.path());
            }
        }
        let ours = self.dir.join(OURS);
        match fs::create_dir(&ours) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for pid in fs::read_to_string(self.dir.join("cgroup.procs"))?.lines() {
            match fs::write(ours.join("cgroup.procs"), pid) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                moved => moved?,
            }
        }
        fs::write(self.dir.join("cgroup.subtree_control"), "+memory")?;
        *ready = true;
        Ok(())
    }
}

/// The directory of the group that `/proc/self/cgroup` names, in the one hierarchy of version 2.
fn own_group(mount: &Path, proc_self_cgroup: &str) -> Option<PathBuf> {
    let path = proc_self_cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))?;
    // A daemon that has moved itself is still the one whom the group above was handed to.
    let path = path
        .strip_suffix(OURS)
        .map_or(path, |above| above.trim_end_matches('/'));
    Some(mount.join(path))
}

/// systemd marks what it hands over. Without a mark, being allowed to write is one, except for root, who always is.
fn was_handed_over(dir: &Path) -> bool {
    let mut value = [0; 8];
    let marked = getxattr(dir, "user.delegate", &mut value[..]).is_ok_and(|bytes| value[..bytes] == *b"1");
    let writable = |name: &str| access(dir.join(name), Access::WRITE_OK).is_ok();
    let is_ours = writable(".") && writable("cgroup.procs") && writable("cgroup.subtree_control");
    is_ours && (marked || !rustix::process::geteuid().is_root())
}

// === impl Group ===

impl Group {
    /// Takes a process in; what it starts from now on is in too.
    ///
    /// # Errors
    /// When it has ended, or the kernel refuses.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
    }

    /// Whether the kernel killed somebody in it because its memory was used up.
    #[must_use]
    pub fn was_out_of_memory(&self) -> bool {
        fs::read_to_string(self.dir.join("memory.events")).is_ok_and(|events| killed(&events))
    }
}

fn killed(memory_events: &str) -> bool {
    memory_events
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0")
}

impl Drop for Group {
    fn drop(&mut self) {
        empty_and_remove(&self.dir);
    }
}

/// A group is removed once it is empty, and those that were killed take a moment to go. What is not gone by then is
/// removed by the next daemon.
fn empty_and_remove(dir: &Path) {
    const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(20);
    let deadline = Instant::now() + A_MOMENT;
    while let Err(error) = fs::remove_dir(dir) {
        if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
            return;
        }
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        std::thread::yield_now();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_the_hierarchy_of_version_2() {
        let find = |text| own_group(Path::new("/m"), text);
        let path = "/m/system.slice/devourd.service";
        assert_eq!(find("0::/system.slice/devourd.service\n"), Some(path.into()));
        assert_eq!(
            find("4:memory:/x\n0::/system.slice/devourd.service/daemon\n"),
            Some(path.into())
        );
        assert_eq!(find("4:memory:/x\n"), None);
    }

    #[test]
    fn a_kill_for_memory_is_told_from_other_events() {
        assert!(killed("low 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 1\n"));
        assert!(!killed("low 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n"));
        assert!(!killed(""));
    }

    #[test]
    fn what_runs_is_moved_aside_before_memory_is_shared_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::write(file("cgroup.controllers"), "cpu memory pids").unwrap();
        fs::write(file("cgroup.procs"), "41\n").unwrap();
        let delegated = Delegated {
            dir: dir.path().to_owned(),
            ready: Mutex::new(false),
        };
        let group = delegated.group("orders", 64 << 20).unwrap();
        group.enter(42).unwrap();
        let text = |name: &str| fs::read_to_string(file(name)).unwrap();
        assert_eq!(text("daemon/cgroup.procs"), "41");
        assert_eq!(text("cgroup.subtree_control"), "+memory");
        let name = group.dir.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("plugin-") && name.ends_with("-orders"), "{name}");
        assert_eq!(text(&format!("{name}/memory.max")), "67108864");
        assert_eq!(text(&format!("{name}/cgroup.procs")), "42");
        assert!(!group.was_out_of_memory());
        fs::write(file(&format!("{name}/memory.events")), "oom_kill 1\n").unwrap();
        assert!(group.was_out_of_memory());
    }
}
