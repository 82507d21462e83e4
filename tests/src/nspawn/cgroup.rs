//! Control groups of a container's own, below this process's: what its systemd makes there is gone with it. Either version
//! of the hierarchy; of version 1 only those that matter here.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::wait;

/// One directory in each hierarchy; removed when dropped.
#[derive(Debug)]
pub(super) struct Cgroups {
    dirs: Vec<PathBuf>,
}

const ROOT: &str = "/sys/fs/cgroup";

// === impl Cgroups ===

impl Cgroups {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut cgroups = Self { dirs: Vec::new() };
        for own in own_cgroups(&fs::read_to_string("/proc/self/cgroup")?) {
            if !own.is_dir() {
                continue;
            }
            // Of version 2 the memory controller has to be handed down. Refused where other processes are beside us: the
            // scenario finds out what it lacks.
            let _ = fs::write(own.join("cgroup.subtree_control"), "+memory");
            let dir = own.join(name);
            fs::create_dir_all(&dir)?;
            cgroups.dirs.push(dir);
        }
        Ok(cgroups)
    }

    /// A command that runs `program` in them.
    pub(super) fn enter(&self, program: &Path) -> Command {
        let mut script = String::new();
        for dir in &self.dirs {
            script.push_str(&format!("echo $$ >'{}/cgroup.procs' || exit\n", dir.display()));
        }
        script.push_str("exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(program);
        command
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // The last processes may still be on their way out.
            let gone = wait::until(
                "the end of a control group",
                std::time::Duration::from_secs(5),
                || remove(dir).then_some(()),
            );
            if let Err(error) = gone {
                eprintln!("{}: {error}", dir.display());
            }
        }
    }
}

/// Removes a tree of control groups: their files go with the directories.
fn remove(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return !dir.exists();
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(dir).is_ok()
}

/// Where this process is, from `/proc/self/cgroup`.
fn own_cgroups(text: &str) -> Vec<PathBuf> {
    let at = |mount: &str, path: &str| Path::new(ROOT).join(mount).join(path.trim_start_matches('/'));
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" if Path::new(ROOT).join("cgroup.controllers").exists() => Some(at("", path)),
            "" => Some(at("unified", path)),
            "name=systemd" => Some(at("systemd", path)),
            "memory" => Some(at("memory", path)),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hierarchies_that_matter_are_used() {
        let text = "9:name=systemd:/\n4:memory:/here/we\n1:cpu:/\n";
        let expected = ["/sys/fs/cgroup/systemd/", "/sys/fs/cgroup/memory/here/we"];
        assert_eq!(own_cgroups(text), expected.map(PathBuf::from));
    }
}
