//! One epoll: many descriptors behind one, each with a number.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, epoll, poll},
    io::Errno,
};

use super::timer::timespec;

/// A set of descriptors to sleep on; itself readable when one of them is ready, so pollers nest.
#[derive(Debug)]
pub struct Poller(OwnedFd);

/// What a descriptor is watched for. Its end (hang-up, error) is always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read.
    Read,
    /// There is something to read, or room to write.
    ReadWrite,
}

const AT_ONCE: usize = 32;

// === impl Poller ===

impl Poller {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches `fd` (level-triggered) and calls it `token`.
    ///
    /// # Errors
    /// When `fd` is watched already or cannot be.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            fd,
            epoll::EventData::new_u64(token),
            interest.flags(),
        )?)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn change(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.0,
            fd,
            epoll::EventData::new_u64(token),
            interest.flags(),
        )?)
    }

    /// Watches `fd` no more.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until a descriptor is ready or `timeout` is over (`None` waits for ever), and replaces what is in
    /// `tokens` by those that are ready: at most 32, the others come next time.
    ///
    /// # Errors
    /// Never in practice; an interruption by a signal counts as a wake without tokens.
    pub fn wait(&self, tokens: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); AT_ONCE];
        let timeout = timeout.map(timespec);
        tokens.clear();
        match epoll::wait(&self.0, &mut buffer, timeout.as_ref()) {
            Ok((ready, _)) => {
                tokens.extend(ready.iter().map(|event| {
                    let data = event.data;
                    data.u64()
                }));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// === impl Interest ===

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

/// Waits until `fd` is readable (or at its end); `false` if `deadline` passed first. `None` waits for ever.
///
/// # Errors
/// When `fd` cannot be waited for.
pub fn wait_readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::os::EventFd;

    #[test]
    fn it_names_what_is_ready_and_nests() {
        let (inner, outer) = (Poller::new().unwrap(), Poller::new().unwrap());
        let (one, two) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        inner.add(&one, 1, Interest::Read).unwrap();
        inner.add(&two, 2, Interest::Read).unwrap();
        outer.add(&inner, 7, Interest::Read).unwrap();
        let mut tokens = vec![99];
        outer.wait(&mut tokens, Some(Duration::ZERO)).unwrap();
        assert!(tokens.is_empty());
        two.signal();
        outer.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [7]);
        inner.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [2]);
        inner.change(&one, 3, Interest::ReadWrite).unwrap();
        inner.remove(&two).unwrap();
        inner.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [3]);
    }
}
