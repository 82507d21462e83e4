//! What the daemon has to say to a plugin's process, over a socket that it never waits for: what does not fit now goes
//! later, in order.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::os::{
    Interest, Poller, SeqPacket,
    socket::{Sent, Wait},
};

/// One socket's way out.
pub(super) struct Outbox {
    socket: SeqPacket,
    token: u64,
    waiting: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

// === impl Outbox ===

impl Outbox {
    /// `socket` is watched by `poller` under `token` from now on.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) fn new(socket: SeqPacket, poller: &Poller, token: u64) -> io::Result<Self> {
        poller.add(&socket, token, Interest::Read)?;
        Ok(Self {
            socket,
            token,
            waiting: VecDeque::new(),
        })
    }

    /// Frames that wait for room.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn socket(&self) -> &SeqPacket {
        &self.socket
    }

    /// Sends a frame, with a descriptor beside it, now or when there is room. A closed socket swallows it: the death of
    /// the process is noticed elsewhere.
    ///
    /// # Errors
    /// When the frame is too long, or the process has no descriptor left.
    pub(super) fn send(
        &mut self,
        poller: &Poller,
        frame: &[u8],
        beside: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        if self.waiting.is_empty() {
            let fds = beside.as_slice();
            match self.socket.send(frame, fds, Wait::No)? {
                Sent::Done | Sent::Closed => return Ok(()),
                Sent::Full => poller.change(&self.socket, self.token, Interest::ReadWrite)?,
            }
        }
        let beside = beside.map(|fd| fd.try_clone_to_owned()).transpose()?;
        self.waiting.push_back((frame.to_vec(), beside));
        Ok(())
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// Never for frames that `send` took.
    pub(super) fn flush(&mut self, poller: &Poller) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        while let Some((frame, beside)) = self.waiting.front() {
            let beside = beside.as_ref().map(AsFd::as_fd);
            if self.socket.send(frame, beside.as_slice(), Wait::No)? == Sent::Full {
                return Ok(());
            }
            self.waiting.pop_front();
        }
        poller.change(&self.socket, self.token, Interest::Read)
    }
}
