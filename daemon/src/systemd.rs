//! What systemd is told over its notify socket. Without the socket nothing is said.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

/// The notify socket, if the daemon runs under systemd.
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    last_status: String,
}

// === impl Systemd ===

impl Systemd {
    /// The socket that `$NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::to(std::env::var("NOTIFY_SOCKET").ok().as_deref())
    }

    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::to(None)
    }

    fn to(name: Option<&str>) -> Self {
        let socket = name.and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(Path::new(name)).ok()?,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        });
        Self {
            socket,
            last_status: String::new(),
        }
    }

    /// All routes have their first outcome, or a reload is over.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Settings are read again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The daemon drains.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`; said when it changes.
    pub fn status(&mut self, line: String) {
        if self.last_status != line {
            self.send(&format!("STATUS={line}"));
            self.last_status = line;
        }
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

    #[test]
    fn the_manager_hears_each_status_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut systemd = Systemd::to(path.to_str());
        systemd.status("1 running".to_owned());
        systemd.status("1 running".to_owned());
        systemd.ready();
        systemd.reloading();
        let mut texts = Vec::new();
        for _ in 0..3 {
            let mut buffer = [0; 256];
            let length = manager.recv(&mut buffer).unwrap();
            texts.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(texts[..2], ["STATUS=1 running", "READY=1"]);
        assert!(texts[2].starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }
}
