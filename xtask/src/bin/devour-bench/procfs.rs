//! What the kernel says of processes: their children, their memory, their CPU time.

use std::{fs, path::Path};

use crate::Result;

/// The processes that this one started and that live.
pub(crate) fn children(of: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ends meanwhile is none.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parent(&stat) == Some(of) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The parent in the line of a `stat`. The name stands in parentheses and may itself hold some.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Bytes of memory that a process has, what it shares with others included as a whole.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:").map(|kib| kib << 10)
}

/// Bytes of memory that a process has, of what it shares with others its part.
pub(crate) fn proportional(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("{path}: {error} (of a daemon only root may read it)"))?;
    let kib = kib(&text, "Pss:").ok_or_else(|| format!("{path} is not understood"))?;
    Ok(kib << 10)
}

/// CPU time of the threads that a process has now, nanoseconds.
pub(crate) fn cpu(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += cpu_of_thread(&thread?.path());
    }
    Ok(sum)
}

/// Nothing, of one that has ended meanwhile.
fn cpu_of_thread(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let on_cpu = text.split_ascii_whitespace().next();
    on_cpu.and_then(|on_cpu| on_cpu.parse().ok()).unwrap_or(0)
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 100 << 10);
        assert!(proportional(own).unwrap() > 100 << 10);
        assert!(cpu(own).unwrap() > 0);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let children = children(own).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(children.contains(&child.id()), "{children:?}");
        assert_eq!(parent("7 (a) b) S 42 7 7"), Some(42));
    }
}
