//! A played service manager: the notify socket that systemd would hold, with a watchdog if one is asked for, and all that
//! the daemon says on it, with the moment it came.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::wait::{self, TimedOut};

/// Holds the socket for as long as the scenario lasts.
#[derive(Debug)]
pub struct Manager {
    path: PathBuf,
    watchdog: Option<Duration>,
    heard: Arc<Mutex<Vec<Datagram>>>,
}

/// One datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// When it came.
    pub at: Instant,
    /// All of it.
    pub text: String,
}

// === impl Manager ===

impl Manager {
    /// Listens at `path`.
    pub fn listen(path: PathBuf, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        let heard: Arc<Mutex<Vec<Datagram>>> = Arc::default();
        std::thread::spawn({
            let heard = Arc::clone(&heard);
            move || {
                let mut buffer = [0; 4096];
                while let Ok(length) = socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let at = Instant::now();
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Datagram { at, text });
                }
            }
        });
        Ok(Self {
            path,
            watchdog,
            heard,
        })
    }

    /// Tells `command` of the socket and the watchdog, as systemd does.
    pub fn supervise(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(watchdog) = self.watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
    }

    /// All that came so far.
    pub fn heard(&self) -> Vec<Datagram> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came so far and begins with `start`.
    pub fn all(&self, start: &str) -> Vec<Datagram> {
        let mut heard = self.heard();
        heard.retain(|datagram| datagram.text.starts_with(start));
        heard
    }

    /// The changes of the daemon's life so far, in order: no status, no sign of life, no request for time.
    pub fn changes(&self) -> Vec<String> {
        let change = |datagram: &Datagram| {
            !["STATUS=", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC="]
                .iter()
                .any(|other| datagram.text.starts_with(other))
        };
        let heard = self.heard();
        heard.into_iter().filter(change).map(|one| one.text).collect()
    }

    /// The last status.
    pub fn status(&self) -> Option<String> {
        let last = self.all("STATUS=").pop()?;
        last.text.strip_prefix("STATUS=").map(str::to_owned)
    }

    /// Waits until there have been so many changes.
    pub fn await_changes(&self, count: usize, within: Duration) -> Result<(), TimedOut> {
        wait::until_told(&format!("{count} changes at the notify socket"), within, || {
            let changes = self.changes();
            if changes.len() >= count {
                Ok(())
            } else {
                Err(format!("{changes:?}"))
            }
        })
    }

    /// Waits for a status that `wanted` wants.
    pub fn await_status(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, TimedOut> {
        wait::until_told(what, within, || match self.status() {
            Some(status) if wanted(&status) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    }
}
