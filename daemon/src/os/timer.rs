//! A timer with a descriptor.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Readable when it has fired, until [`Timer::drain`]. Runs on the monotonic clock.
#[derive(Debug)]
pub struct Timer(OwnedFd);

// === impl Timer ===

impl Timer {
    /// A timer that does not run.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Fires once, `after` from now; at once if that is zero.
    pub fn once(&self, after: Duration) {
        self.set(Duration::ZERO, after.max(Duration::from_nanos(1)));
    }

    /// Fires every `period`, first in one period from now. `period` must not be zero.
    pub fn every(&self, period: Duration) {
        self.set(period, period);
    }

    /// Stops it.
    pub fn stop(&self) {
        self.set(Duration::ZERO, Duration::ZERO);
    }

    /// Makes it unreadable; how often it fired since the last time.
    pub fn drain(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }

    fn set(&self, period: Duration, first: Duration) {
        let spec = Itimerspec {
            it_interval: timespec(period),
            it_value: timespec(first),
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec)
            .expect("an own timer is set to a time in range");
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A century is as good as never, and in range for the kernel.
const CENTURY: u64 = 100 * 365 * 24 * 3600;

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().min(CENTURY).cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::os::wait_readable;

    #[test]
    fn it_fires_once_or_again_and_again_and_stops() {
        let timer = Timer::new().unwrap();
        let soon = || Some(Instant::now() + Duration::from_secs(5));
        assert!(!wait_readable(timer.as_fd(), Some(Instant::now())).unwrap());
        timer.once(Duration::from_millis(1));
        assert!(wait_readable(timer.as_fd(), soon()).unwrap());
        assert_eq!(timer.drain(), 1);
        timer.every(Duration::from_millis(1));
        for _ in 0..3 {
            assert!(wait_readable(timer.as_fd(), soon()).unwrap());
            assert!(timer.drain() >= 1);
        }
        timer.stop();
        timer.once(Duration::MAX);
        assert!(!wait_readable(timer.as_fd(), Some(Instant::now())).unwrap());
    }
}
