//! The loop of the spawning thread: spawns what is asked for, reaps what has died, kills what the dead left behind.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read},
    mem::MaybeUninit,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::Ordering, mpsc},
};

use super::{
    Exit, Interest, Poller,
    spawn::{Fate, MARK, NOT_A_PLUGIN, Request, Shared, kill_all},
};

pub(super) struct Reaper {
    shared: Arc<Shared>,
    signals: UnixStream,
    requests: mpsc::Receiver<Request>,
    poller: Poller,
    /// By process.
    children: HashMap<u32, Known>,
    spawned: u64,
    /// Users that children became.
    users: HashSet<u32>,
}

/// A child of ours.
struct Known {
    /// The number in its mark.
    number: u64,
    /// The user that it became.
    user: Option<u32>,
    fate: Arc<Fate>,
}

/// Where a process that came to this one belongs.
enum Origin {
    /// It carries the mark of that child.
    Of(u64),
    /// It carries a mark of nobody here, or none.
    Unmarked,
    /// It may not be looked into; it runs as this user.
    Hidden(u32),
}

/// Which children to look at.
enum Whom {
    /// Any that has died.
    Anyone,
    /// This one, if it has died.
    One(u32),
}

// === impl Reaper ===

impl Reaper {
    pub(super) fn new(
        shared: Arc<Shared>,
        signals: UnixStream,
        requests: mpsc::Receiver<Request>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&shared.wake, 0, Interest::Read)?;
        poller.add(&signals, 1, Interest::Read)?;
        Ok(Self {
            shared,
            signals,
            requests,
            poller,
            children: HashMap::new(),
            spawned: 0,
            users: HashSet::new(),
        })
    }

    /// Never ends: the parent-death signal of every child hangs on this thread.
    pub(super) fn run(&mut self) {
        let mut tokens = Vec::new();
        loop {
            if self.poller.wait(&mut tokens, None).is_err() {
                std::thread::park();
            }
            self.shared.wake.drain();
            // Signals of one kind merge, so the number of bytes says nothing.
            while self.signals.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
            while let Ok(request) = self.requests.try_recv() {
                self.spawned += 1;
                let number = self.spawned;
                let (children, users) = (&mut self.children, &mut self.users);
                request.serve(&format!("{}.{number}", std::process::id()), |pid, user, fate| {
                    let fate = Arc::clone(fate);
                    users.extend(user);
                    children.insert(pid, Known { number, user, fate });
                });
            }
            self.reap();
        }
    }

    fn reap(&mut self) {
        if !self.shared.adopts.load(Ordering::Acquire) {
            let known: Vec<u32> = self.children.keys().copied().collect();
            for pid in known {
                if died(&Whom::One(pid)).is_some() {
                    self.bury(pid);
                }
            }
            return;
        }
        let (mut anybody, before) = (false, self.children.len());
        while let Some(pid) = died(&Whom::Anyone) {
            self.bury(pid);
            anybody = true;
        }
        if anybody {
            self.kill_left_behind(self.children.len() < before);
        }
    }

    /// Reaps one that has died. Its group is killed first: while the leader is a zombie its number is nobody else's.
    fn bury(&mut self, pid: u32) {
        let Some(Known { fate, .. }) = self.children.remove(&pid) else {
            let _ = take(pid);
            return;
        };
        let exit = fate.lock();
        kill_all(pid);
        let how = take(pid).unwrap_or(Exit::Code(-1));
        fate.settle(exit, how);
    }

    /// Kills what came to this process because its parent, one of our children's process group, has died. It is known
    /// by the mark in its environment. What has wiped its mark out goes with the next child that dies (`of_ours`), and
    /// what may not be looked into when nobody of its user is left; but as the first process of a container others'
    /// orphans come here too, so what carries no mark is left alone there.
    fn kill_left_behind(&self, of_ours: bool) {
        for pid in own_children() {
            if self.children.contains_key(&pid) {
                continue;
            }
            let lives = |wanted: &dyn Fn(&Known) -> bool| self.children.values().any(wanted);
            let is_left = match origin(pid) {
                Origin::Of(number) => number != NOT_A_PLUGIN && !lives(&|known| known.number == number),
                Origin::Unmarked => of_ours && std::process::id() != 1,
                Origin::Hidden(user) => {
                    self.users.contains(&user) && !lives(&|known| known.user == Some(user))
                }
            };
            if is_left {
                kill_all(pid);
            }
        }
    }
}

fn origin(pid: u32) -> Origin {
    let environ = match std::fs::read(format!("/proc/{pid}/environ")) {
        Ok(environ) => environ,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let user = status
                .lines()
                .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
            return user.map_or(Origin::Unmarked, Origin::Hidden);
        }
        // It has ended.
        Err(_) => Vec::new(),
    };
    let ours = format!("{MARK}={}.", std::process::id());
    let number = environ
        .split(|byte| *byte == 0)
        .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(&ours)?.parse().ok());
    number.map_or(Origin::Unmarked, Origin::Of)
}

fn own_children() -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// A child that has died and waits to be reaped; it still waits afterwards.
fn died(whom: &Whom) -> Option<u32> {
    wait(whom, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).map(|(pid, _)| pid)
}

/// Reaps a child that has died.
fn take(pid: u32) -> Option<Exit> {
    wait(&Whom::One(pid), libc::WEXITED | libc::WNOHANG).map(|(_, exit)| exit)
}

fn wait(whom: &Whom, options: libc::c_int) -> Option<(u32, Exit)> {
    let (kind, id) = match whom {
        Whom::Anyone => (libc::P_ALL, 0),
        Whom::One(pid) => (libc::P_PID, *pid),
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: waitid writes a siginfo, or leaves the zeroes when nobody has died; both are valid values.
    let info = unsafe {
        if libc::waitid(kind, id, info.as_mut_ptr(), options) != 0 {
            return None;
        }
        info.assume_init()
    };
    // SAFETY: waitid fills these fields, or they are zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return None;
    }
    let exit = if info.si_code == libc::CLD_EXITED {
        Exit::Code(status)
    } else {
        Exit::Signal(status)
    };
    Some((pid.cast_unsigned(), exit))
}
