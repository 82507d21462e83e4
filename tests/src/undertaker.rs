//! Nothing outlives the test process: a small shell reads a pipe that only the test process holds, and when that ends
//! (a panic, Ctrl-C, SIGKILL) it kills the processes and removes the directories it was told of.
//!
//! A parent-death signal would not do: it belongs to the *thread* that spawned, and scenarios run on threads that end.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

const SCRIPT: &str = r#"
pids=' '
while read -r verb what; do
  case "$verb" in
    watch) pids="$pids$what ";;
    forget) left=' '; for p in $pids; do [ "$p" = "$what" ] || left="$left$p "; done; pids=$left;;
    sweep) set -- "$@" "$what";;
  esac
done
for p in $pids; do kill -KILL "$p"; done 2>/dev/null
for d in "$@"; do rm -rf "$d" || rm -rf "$d"; done 2>/dev/null
"#;

struct Undertaker {
    // Never waited for: it ends after us.
    _shell: Child,
    orders: ChildStdin,
}

static UNDERTAKER: OnceLock<Mutex<Undertaker>> = OnceLock::new();

/// Kills process `pid` when this process has ended, unless [`forget`] comes first.
pub fn watch(pid: u32) -> io::Result<()> {
    order(&format!("watch {pid}\n"))
}

/// Process `pid` was reaped; its number may belong to somebody else from now on.
pub fn forget(pid: u32) -> io::Result<()> {
    order(&format!("forget {pid}\n"))
}

/// Removes `dir` when this process has ended and everything watched was killed.
pub fn sweep(dir: &Path) -> io::Result<()> {
    order(&format!("sweep {}\n", dir.display()))
}

fn order(line: &str) -> io::Result<()> {
    let undertaker = match UNDERTAKER.get() {
        Some(undertaker) => undertaker,
        None => {
            // Two threads may both start one; the loser's shell sees its pipe end at once and leaves.
            let hired = Undertaker::hire()?;
            UNDERTAKER.get_or_init(|| Mutex::new(hired))
        }
    };
    undertaker
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .orders
        .write_all(line.as_bytes())
}

// === impl Undertaker ===

impl Undertaker {
    fn hire() -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "devour-undertaker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that Ctrl-C ends us and not it.
            .process_group(0)
            .spawn()?;
        let orders = shell
            .stdin
            .take()
            .ok_or_else(|| io::Error::other("the shell has no stdin"))?;
        Ok(Self {
            _shell: shell,
            orders,
        })
    }
}
