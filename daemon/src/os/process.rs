//! What a process does to itself: descriptors, limits, signals, what happens when its parent dies.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::OnceLock,
};

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, dumpable_behavior, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};

use super::SeqPacket;

/// Keeps processes of the same user from reading this one's memory, environment and descriptors, and it writes no
/// core.
///
/// # Errors
/// Never on Linux.
pub fn not_dumpable() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether this process may write a core and be looked into: unless [`not_dumpable`] was called.
#[must_use]
pub fn is_dumpable() -> bool {
    dumpable_behavior().is_ok_and(|behavior| behavior == DumpableBehavior::Dumpable)
}

/// Ends this process when the thread that spawned it ends; `false` if `parent` is gone already.
///
/// # Errors
/// Never on Linux.
pub fn die_with_parent(parent: u32) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(getppid().is_some_and(|found| found.as_raw_nonzero().get().cast_unsigned() == parent))
}

/// Nothing that this process runs can gain privileges any more.
///
/// # Errors
/// Never on Linux.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Writes no core.
///
/// # Errors
/// Never on Linux.
pub fn no_core() -> io::Result<()> {
    Ok(setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?)
}

/// The soft limit of open descriptors before it was raised.
static AT_START: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the limit of open descriptors to the hard one. Returns the soft limit before and after; `None` is no limit.
///
/// # Errors
/// Never on Linux.
pub fn raise_open_files() -> io::Result<(Option<u64>, Option<u64>)> {
    let limit = getrlimit(Resource::Nofile);
    AT_START.get_or_init(|| limit.current);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok((limit.current, limit.maximum))
}

/// Sets the soft limit of open descriptors, no higher than the hard one.
///
/// # Errors
/// Never on Linux.
pub fn limit_open_files(soft: u64) -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(soft, |maximum| soft.min(maximum)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

/// The soft limit of open descriptors; `None` is no limit.
#[must_use]
pub fn open_files_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The hard limit of open descriptors, which only root goes beyond; `None` is no limit.
#[must_use]
pub fn open_files_hard_limit() -> Option<u64> {
    let is_root = rustix::process::geteuid().is_root();
    getrlimit(Resource::Nofile).maximum.filter(|_| !is_root)
}

/// The soft limit that this process was started with, for its children; `None` is no limit.
#[must_use]
pub fn open_files_at_start() -> Option<u64> {
    AT_START.get().copied().unwrap_or_else(open_files_limit)
}

/// Names the calling thread (15 bytes are kept); in the main thread that is the process's name in `ps`.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name.as_bytes().get(..15).unwrap_or(name.as_bytes())) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Makes this process deaf to SIGINT, SIGTERM and SIGHUP: its orders come over a socket.
pub fn ignore_stop_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Asks the kernel to take this process rather than its parent when memory is short.
///
/// # Errors
/// When /proc is not there.
pub fn take_me_first() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "500")
}

/// Whether `pid` is a child of this process.
#[must_use]
pub fn is_our_child(pid: u32) -> bool {
    // The name, in parentheses, may hold anything; state and parent follow the last one.
    let parent = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            let (_, rest) = stat.rsplit_once(')')?;
            rest.split_whitespace().nth(1)?.parse::<u32>().ok()
        });
    parent == Some(std::process::id())
}

/// Ends the process now, running no destructor and no exit handler: there may be foreign code among them.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(status) }
}

/// Takes the socket that was passed as descriptor 0, and opens /dev/null in its place. Every descriptor above 2 is
/// closed before: one that a library of the parent forgot to keep to itself must not reach foreign code. `None`, and
/// nothing changed, if descriptor 0 is something else. To be called first of all, while nothing else is open.
///
/// # Errors
/// When there is no /dev/null.
pub fn take_socket_from_stdin() -> io::Result<Option<SeqPacket>> {
    if !SeqPacket::is_one(std::io::stdin()) {
        return Ok(None);
    }
    // SAFETY: nothing of this process is open yet, as the caller says; what is closed was inherited and has no owner.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let socket = SeqPacket::from_fd(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?);
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: replaces descriptor 0, which std hands out only by borrowing it as stdin.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// A copy of this process's stdout, for a child to print to directly.
///
/// # Errors
/// When the process has no descriptor left, or stdout is closed.
pub fn copy_of_stdout() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_names_are_set() {
        let (before, after) = raise_open_files().unwrap();
        assert!(after >= before || after.is_none());
        limit_open_files(before.unwrap_or(1024)).unwrap();
        assert_eq!(open_files_limit(), Some(before.unwrap_or(1024)));
        set_name("a name that is longer than the kernel keeps");
        assert_eq!(rustix::thread::name().unwrap().to_bytes(), b"a name that is ");
    }

    #[test]
    fn a_child_is_told_from_a_stranger() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(is_our_child(child.id()));
        assert!(!is_our_child(std::process::id()) && !is_our_child(1));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_stdin_that_is_no_such_socket_is_left_alone() {
        assert!(take_socket_from_stdin().unwrap().is_none());
        drop(copy_of_stdout().unwrap());
    }
}
