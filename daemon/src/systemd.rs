//! What systemd is told over its notify socket, and when: that the daemon is ready, reloads or stops, one line of status,
//! signs of life, and more time where a start, a reload or a stop takes long. Without the socket nothing is said.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if the daemon runs under one.
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    phase: Phase,
    last_status: String,
    /// How often a sign of life is due; none without a watchdog.
    every: Option<Duration>,
    next_sign: Instant,
    next_extension: Instant,
}

/// Where the daemon is in its life, as systemd sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Reloading,
    /// What is left then is not waited for.
    Stopping(Instant),
}

/// How often more time is asked for, and how much at once: no more than what a daemon that has died wastes.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTENSION: Duration = Duration::from_secs(15);
/// What the clients and plugins may take beyond the deadline of a stop, to close.
const CLOSING: Duration = Duration::from_secs(15);
/// Signs of life are looked after so many times in each of their periods: one that was held back comes soon after its
/// cause has gone.
const LOOKS: u32 = 4;

// === impl Systemd ===

impl Systemd {
    /// The manager that `$NOTIFY_SOCKET` names, with the watchdog that `$WATCHDOG_USEC` asks for.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let within = variable("WATCHDOG_USEC")
            .filter(|_| is_ours)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        Self::to(variable("NOTIFY_SOCKET").as_deref(), within)
    }

    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::to(None, None)
    }

    fn to(name: Option<&str>, within: Option<Duration>) -> Self {
        let socket = name.and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(Path::new(name)).ok()?,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        });
        let now = Instant::now();
        Self {
            // Half of it, as systemd advises: a sign may come late once.
            every: within.filter(|within| !within.is_zero()).map(|within| within / 2),
            socket,
            phase: Phase::Starting,
            last_status: String::new(),
            next_sign: now,
            next_extension: now + EXTEND_EVERY,
        }
    }

    /// Whether there is anybody to tell.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// All routes have their first outcome, or a reload is over.
    pub fn ready(&mut self) {
        if self.enter(Phase::Running) {
            self.send("READY=1");
        }
    }

    /// Settings are read again.
    pub fn reloading(&mut self) {
        if self.enter(Phase::Reloading) {
            let now = clock_gettime(ClockId::Monotonic);
            let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
        }
    }

    /// The daemon drains until `deadline`.
    pub fn stopping(&mut self, deadline: Instant) {
        if self.enter(Phase::Stopping(deadline)) {
            self.send("STOPPING=1");
            // At once: the unit's own time-out may be shorter than the settings'.
            self.next_extension = Instant::now();
        }
    }

    /// One line for `systemctl status`; said when it changes.
    pub fn status(&mut self, line: &str) {
        // A line break would begin another of the manager's variables.
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if self.last_status != line {
            self.send(&format!("STATUS={line}"));
            self.last_status = line;
        }
    }

    /// When [`Systemd::tick`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.socket.as_ref()?;
        let sign = self.every.map(|_| self.next_sign);
        let extension = self.extends().then_some(self.next_extension);
        sign.into_iter().chain(extension).min()
    }

    /// Gives a sign of life, and asks for more time, where they are due. Neither unless `alive`: the daemon is then to
    /// be ended and started again.
    pub fn tick(&mut self, now: Instant, alive: bool) {
        if let Some(every) = self.every.filter(|_| self.next_sign <= now) {
            self.next_sign = now + if alive { every } else { every / LOOKS };
            if alive {
                self.send("WATCHDOG=1");
            }
        }
        if self.extends() && self.next_extension <= now {
            self.next_extension = now + EXTEND_EVERY;
            let left = match self.phase {
                Phase::Stopping(deadline) => (deadline + CLOSING).saturating_duration_since(now),
                _ => EXTENSION,
            };
            if alive && !left.is_zero() {
                self.send(&format!(
                    "EXTEND_TIMEOUT_USEC={}",
                    left.min(EXTENSION).as_micros()
                ));
            }
        }
    }

    fn extends(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Whether the phase is entered: there is no way back from stopping.
    fn enter(&mut self, phase: Phase) -> bool {
        if matches!(self.phase, Phase::Stopping(_)) {
            return false;
        }
        if phase == Phase::Reloading {
            self.next_extension = Instant::now() + EXTEND_EVERY;
        }
        self.phase = phase;
        true
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // A manager that does not listen must not stop the daemon.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Manager {
        socket: UnixDatagram,
        _dir: tempfile::TempDir,
    }

    fn manager(within: Option<Duration>) -> (Manager, Systemd) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let systemd = Systemd::to(path.to_str(), within);
        (Manager { socket, _dir: dir }, systemd)
    }

    impl Manager {
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 256];
            std::iter::from_fn(|| {
                let length = self.socket.recv(&mut buffer).ok()?;
                Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
            })
            .collect()
        }
    }

    #[test]
    fn the_manager_hears_each_status_once() {
        let (manager, mut systemd) = manager(None);
        systemd.status("1 running");
        systemd.status("1 running");
        systemd.ready();
        systemd.reloading();
        let heard = manager.heard();
        assert_eq!(heard[..2], ["STATUS=1 running", "READY=1"]);
        assert!(heard[2].starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(heard.len(), 3);
    }

    #[test]
    fn an_error_of_many_lines_is_one_line_of_status() {
        let (manager, mut systemd) = manager(None);
        systemd.status("orders: it said\nMAINPID=1\r\n");
        assert_eq!(manager.heard(), ["STATUS=orders: it said MAINPID=1  "]);
    }

    #[test]
    fn nothing_is_ready_after_a_stop_has_begun() {
        let (manager, mut systemd) = manager(None);
        systemd.reloading();
        systemd.stopping(Instant::now());
        systemd.ready();
        systemd.reloading();
        systemd.stopping(Instant::now());
        assert_eq!(manager.heard()[1..], ["STOPPING=1"]);
    }

    #[test]
    fn signs_of_life_come_twice_in_a_deadline_and_end_when_the_daemon_is_not_alive() {
        let (manager, mut systemd) = manager(Some(Duration::from_secs(20)));
        systemd.ready();
        manager.heard();
        let begin = systemd.due().unwrap();
        let mut looks = |from: u64, to: u64, alive: bool| {
            for second in from..to {
                systemd.tick(begin + Duration::from_secs(second), alive);
            }
            manager.heard().len()
        };
        assert_eq!(looks(0, 30, true), 3);
        assert_eq!(looks(30, 100, false), 0);
        assert_eq!(looks(100, 103, true), 1, "soon after it is again");
    }

    #[test]
    fn more_time_is_asked_for_until_a_stop_should_be_over() {
        let (manager, mut systemd) = manager(None);
        systemd.ready();
        let begin = Instant::now();
        systemd.tick(begin + Duration::from_secs(60), true);
        assert_eq!(manager.heard(), ["READY=1"], "not while nothing is on its way");
        systemd.stopping(begin + Duration::from_secs(30));
        for second in 1..200 {
            systemd.tick(begin + Duration::from_secs(second), true);
        }
        let heard = manager.heard();
        assert_eq!(heard[0], "STOPPING=1");
        assert_eq!(heard[1], "EXTEND_TIMEOUT_USEC=15000000");
        // Every 5 s for 30 s, and for the 15 s of closing after them.
        assert_eq!(heard.len(), 1 + 9, "{heard:?}");
    }

    #[test]
    fn a_long_start_asks_for_time_only_while_the_daemon_is_alive() {
        let (manager, mut systemd) = manager(None);
        let begin = Instant::now();
        systemd.tick(begin, true);
        systemd.tick(begin + Duration::from_secs(6), true);
        systemd.tick(begin + Duration::from_secs(12), false);
        assert_eq!(manager.heard(), ["EXTEND_TIMEOUT_USEC=15000000"]);
    }

    #[test]
    fn without_a_manager_nothing_is_due() {
        let mut systemd = Systemd::none();
        assert_eq!(systemd.due(), None);
        systemd.stopping(Instant::now());
        assert_eq!(systemd.due(), None);
    }
}
