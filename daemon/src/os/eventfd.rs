//! A counter with a descriptor: how one thread wakes another that sleeps in an epoll.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{EventfdFlags, eventfd};

/// Readable from the first [`EventFd::signal`] until [`EventFd::drain`].
#[derive(Debug)]
pub struct EventFd(OwnedFd);

// === impl EventFd ===

impl EventFd {
    /// Not readable yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable. Never blocks: a counter that is full is readable already.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable; how often it was signalled since the last time.
    pub fn drain(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::os::wait_readable;

    #[test]
    fn it_is_readable_between_signal_and_drain() {
        let event = EventFd::new().unwrap();
        let now = Instant::now();
        assert!(!wait_readable(event.as_fd(), Some(now)).unwrap());
        event.signal();
        event.signal();
        assert!(wait_readable(event.as_fd(), Some(now + Duration::from_secs(5))).unwrap());
        assert_eq!(event.drain(), 2);
        assert_eq!(event.drain(), 0);
        assert!(!wait_readable(event.as_fd(), Some(now)).unwrap());
    }
}
