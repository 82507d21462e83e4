//! The one thread that spawns this program's children and the only one that waits for them.
//!
//! One thread, because the parent-death signal belongs to the *thread* that spawned: it must live as long as the
//! daemon. Children are this program again (`/proc/self/exe`, so the version that runs, even after an upgrade
//! replaced the file), made by posix_spawn: 0.25 ms from a process of 500 MiB, where fork takes 8 ms.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, set_child_subreaper};

use super::{EventFd, poller::wait_readable, reaper::Reaper};

/// A handle of the spawning thread. There is one thread per process: two reapers would take each other's children.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

/// What to start. The program is always this one.
pub struct Launch {
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Its whole environment (one variable is added: [`MARK`]).
    pub environment: Vec<(OsString, OsString)>,
    /// Its descriptor 0.
    pub stdin: OwnedFd,
    /// Its descriptor 1.
    pub stdout: OwnedFd,
    /// Its descriptor 2.
    pub stderr: OwnedFd,
    /// The user that it becomes, where that is another.
    pub user: Option<u32>,
}

/// A child, in a process group of its own. Dropping it does not end it.
#[derive(Clone)]
pub struct Child {
    /// Its process, and its process group.
    pub pid: u32,
    fate: Arc<Fate>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// A variable in the environment of every child, and so of what it forks away: which child of which daemon it is.
pub const MARK: &str = "DEVOUR_PROCESS";

/// The number in the mark of a child that was started by other means, and is ended by whoever did.
pub(super) const NOT_A_PLUGIN: u64 = 0;

/// What [`MARK`] is for a child that the daemon starts by other means: it is not taken for a dead plugin's.
#[must_use]
pub fn mark_of_no_plugin() -> String {
    format!("{}.{NOT_A_PLUGIN}", std::process::id())
}

pub(super) struct Shared {
    requests: Mutex<mpsc::Sender<Request>>,
    pub(super) wake: EventFd,
    pub(super) adopts: AtomicBool,
}

pub(super) struct Request {
    launch: Launch,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

pub(super) struct Fate {
    exit: Mutex<Option<Exit>>,
    reaped: EventFd,
}

// === impl Spawner ===

impl Spawner {
    /// Starts the thread, or gives another handle of the one that runs.
    ///
    /// It waits for its own children only: others may be waited for elsewhere, unless [`Spawner::adopt_orphans`] was
    /// called.
    ///
    /// # Errors
    /// When the process has no thread or descriptor left.
    pub fn start() -> io::Result<Self> {
        static SPAWNER: OnceLock<Spawner> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spawner) = SPAWNER.get() {
            return Ok(spawner.clone());
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, write)?;
        let (requests, incoming) = mpsc::channel();
        let shared = Arc::new(Shared {
            requests: Mutex::new(requests),
            wake: EventFd::new()?,
            adopts: AtomicBool::new(false),
        });
        let mut reaper = Reaper::new(Arc::clone(&shared), read, incoming)?;
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || reaper.run())?;
        Ok(SPAWNER.get_or_init(|| Self { shared }).clone())
    }

    /// For the daemon: what a child forks away comes to this process when the child dies, is killed then and reaped.
    /// From here on nobody else in this process may wait for a child.
    ///
    /// # Errors
    /// Never on Linux.
    pub fn adopt_orphans(&self) -> io::Result<()> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        self.shared.adopts.store(true, Ordering::Release);
        self.shared.wake.signal();
        Ok(())
    }

    /// Starts a child and returns when it runs (posix_spawn's 0.25 ms); it has said nothing yet.
    ///
    /// # Errors
    /// When the kernel cannot make the process.
    pub fn spawn(&self, launch: Launch) -> io::Result<Child> {
        let (reply, answer) = mpsc::sync_channel(1);
        let gone = |_| io::Error::other("the spawning thread has ended");
        let requests = self
            .shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        requests
            .send(Request { launch, reply })
            .map_err(|_| gone(mpsc::RecvError))?;
        drop(requests);
        self.shared.wake.signal();
        answer.recv().map_err(gone)?
    }
}

// === impl Request ===

impl Request {
    /// Spawns, and tells the result after `register` has heard of the child.
    pub(super) fn serve(self, mark: &str, register: impl FnOnce(u32, Option<u32>, &Arc<Fate>)) {
        let user = self.launch.user;
        let child = spawn(self.launch, mark).and_then(|pid| {
            let fate = Arc::new(Fate {
                exit: Mutex::new(None),
                reaped: EventFd::new()?,
            });
            register(pid, user, &fate);
            Ok(Child { pid, fate })
        });
        // Whoever asked may be gone; the child is reaped all the same.
        let _ = self.reply.send(child);
    }
}

fn spawn(launch: Launch, mark: &str) -> io::Result<u32> {
    // No `pre_exec`, no uid, no directory: with one of them std would fork.
    let child = Command::new("/proc/self/exe")
        .arg0(std::env::args_os().next().unwrap_or_else(|| "devourd".into()))
        .args(launch.args)
        .env_clear()
        .envs(launch.environment)
        .env(MARK, mark)
        .stdin(Stdio::from(launch.stdin))
        .stdout(Stdio::from(launch.stdout))
        .stderr(Stdio::from(launch.stderr))
        .process_group(0)
        .spawn()?;
    Ok(child.id())
}

// === impl Fate ===

impl Fate {
    /// Locked, the child is not reaped, so its number is its own.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Exit>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the child was reaped.
    pub(super) fn settle(&self, mut exit: MutexGuard<'_, Option<Exit>>, how: Exit) {
        *exit = Some(how);
        self.reaped.signal();
    }
}

// === impl Child ===

impl Child {
    /// Readable once the child was *reaped* and its process group killed.
    #[must_use]
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.fate.reaped.as_fd()
    }

    /// How it ended, once it was reaped.
    #[must_use]
    pub fn try_exit(&self) -> Option<Exit> {
        *self.fate.lock()
    }

    /// Waits until it is reaped; `None` if `deadline` passed first.
    #[must_use]
    pub fn wait_exit(&self, deadline: Instant) -> Option<Exit> {
        let _ = wait_readable(self.exit_fd(), Some(deadline));
        self.try_exit()
    }

    /// Asks it and its process group to end: whoever among them minds SIGTERM.
    pub fn terminate_group(&self) {
        let exit = self.fate.lock();
        if let (None, Some(pid)) = (*exit, Pid::from_raw(self.pid.cast_signed())) {
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }

    /// Kills it and its process group. Does nothing once it is reaped: the number may be another's by then.
    pub fn kill_group(&self) {
        let exit = self.fate.lock();
        if exit.is_none() {
            kill_all(self.pid);
        }
    }
}

/// Kills a process that is not reaped yet, and the group that has its number.
pub(super) fn kill_all(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process_group(pid, Signal::KILL);
        // It may have put itself into another group.
        let _ = kill_process(pid, Signal::KILL);
    }
}

// === impl Exit ===

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => f.write_str(&signal_name(*signal)),
        }
    }
}

/// `SIGSEGV` for 11.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}
