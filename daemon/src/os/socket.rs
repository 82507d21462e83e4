//! A pair of sockets that carry frames (SOCK_SEQPACKET) with descriptors beside them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
        socketpair, sockopt,
    },
};

/// One end of a pair. Frames arrive whole and in order.
#[derive(Debug)]
pub struct SeqPacket(OwnedFd);

/// A frame has at least one byte and at most so many; what is larger travels as a memfd beside its frame.
pub const MAX_FRAME: usize = 64 * 1024;

/// As many descriptors can travel beside one frame.
pub const MAX_FDS: usize = 16;

/// What sending came to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Done,
    /// The socket is full: it was not sent.
    Full,
    /// Nobody will read it: the other end is closed.
    Closed,
}

/// What receiving came to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame of so many bytes.
    Frame(usize),
    /// Nothing is there now.
    Nothing,
    /// The other end was closed with frames unread there: what it sent before follows after this, then `Closed`.
    Reset,
    /// The other end is closed and everything that it sent was read.
    Closed,
}

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it can be done.
    Yes,
    /// Not at all.
    No,
}

// === impl SeqPacket ===

impl SeqPacket {
    /// Two connected ends.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(two)))
    }

    /// An end that was passed on; `None` if `fd` is something else.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Option<Self> {
        Self::is_one(&fd).then_some(Self(fd))
    }

    /// Whether `fd` is a socket of this kind.
    #[must_use]
    pub fn is_one(fd: impl AsFd) -> bool {
        sockopt::socket_type(&fd).is_ok_and(|found| found == SocketType::SEQPACKET)
            && sockopt::socket_domain(&fd).is_ok_and(|found| found == AddressFamily::UNIX)
    }

    /// The process that made the pair.
    ///
    /// # Errors
    /// Never for a pair.
    pub fn maker(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.0)?
            .pid
            .as_raw_nonzero()
            .get()
            .cast_unsigned())
    }

    /// Sends one frame, with descriptors beside it.
    ///
    /// # Errors
    /// When the frame is empty or above [`MAX_FRAME`], more than [`MAX_FDS`] descriptors go with it, or the kernel has
    /// no memory.
    pub fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>], wait: Wait) -> io::Result<Sent> {
        if frame.is_empty() || frame.len() > MAX_FRAME || fds.len() > MAX_FDS {
            return Err(io::Error::other(format!(
                "a frame of {} bytes and {} descriptors",
                frame.len(),
                fds.len()
            )));
        }
        let flags = match wait {
            Wait::Yes => SendFlags::NOSIGNAL,
            Wait::No => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        };
        loop {
            let sent = if fds.is_empty() {
                rustix::net::send(&self.0, frame, flags)
            } else {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(fds));
                sendmsg(&self.0, &[IoSlice::new(frame)], &mut control, flags)
            };
            return match sent {
                Ok(_) => Ok(Sent::Done),
                Err(Errno::AGAIN) => Ok(Sent::Full),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Ok(Sent::Closed),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Receives one frame into `buffer`; descriptors beside it are closed unread.
    ///
    /// # Errors
    /// When the frame is longer than `buffer` (it is lost).
    pub fn receive(&self, buffer: &mut [u8], wait: Wait) -> io::Result<Received> {
        let flags = receive_flags(wait) | RecvFlags::TRUNC;
        let room = buffer.len();
        loop {
            return match rustix::net::recv(&self.0, &mut *buffer, flags) {
                Ok((_, 0)) => Ok(Received::Closed),
                Ok((_, bytes)) if bytes > room => Err(too_long(room)),
                Ok((_, bytes)) => Ok(Received::Frame(bytes)),
                Err(Errno::INTR) => continue,
                Err(error) => not_received(error),
            };
        }
    }

    /// Receives one frame into `buffer` and appends the descriptors that came beside it.
    ///
    /// # Errors
    /// When the frame is longer than `buffer` or more than [`MAX_FDS`] descriptors came (both are lost).
    pub fn receive_with_fds(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        wait: Wait,
    ) -> io::Result<Received> {
        let room = buffer.len();
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = receive_flags(wait) | RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, flags);
            let got = match got {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(error) => return not_received(error),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(passed) = message {
                    fds.extend(passed);
                }
            }
            if got.flags.contains(ReturnFlags::TRUNC) {
                return Err(too_long(room));
            }
            if got.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::Error::other(format!(
                    "a frame with more than {MAX_FDS} descriptors"
                )));
            }
            return Ok(if got.bytes == 0 {
                Received::Closed
            } else {
                Received::Frame(got.bytes)
            });
        }
    }
}

impl AsFd for SeqPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<SeqPacket> for OwnedFd {
    fn from(socket: SeqPacket) -> Self {
        socket.0
    }
}

fn receive_flags(wait: Wait) -> RecvFlags {
    match wait {
        Wait::Yes => RecvFlags::empty(),
        Wait::No => RecvFlags::DONTWAIT,
    }
}

fn not_received(error: Errno) -> io::Result<Received> {
    match error {
        Errno::AGAIN => Ok(Received::Nothing),
        Errno::CONNRESET => Ok(Received::Reset),
        error => Err(error.into()),
    }
}

fn too_long(room: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a frame of more than {room} bytes"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::os::EventFd;

    #[test]
    fn frames_arrive_whole_with_their_descriptors() {
        let (one, two) = SeqPacket::pair().unwrap();
        let event = EventFd::new().unwrap();
        assert_eq!(
            one.send(b"hello", &[event.as_fd()], Wait::No).unwrap(),
            Sent::Done
        );
        assert_eq!(one.send(&vec![7; MAX_FRAME], &[], Wait::No).unwrap(), Sent::Done);
        assert!(one.send(&vec![7; MAX_FRAME + 1], &[], Wait::No).is_err());
        let (mut buffer, mut fds) = (vec![0; MAX_FRAME], Vec::new());
        assert_eq!(
            two.receive_with_fds(&mut buffer, &mut fds, Wait::No).unwrap(),
            Received::Frame(5)
        );
        assert_eq!((&buffer[..5], fds.len()), (&b"hello"[..], 1));
        rustix::io::write(&fds[0], &1u64.to_ne_bytes()).unwrap();
        assert_eq!(event.drain(), 1);
        assert_eq!(
            two.receive(&mut buffer, Wait::No).unwrap(),
            Received::Frame(MAX_FRAME)
        );
        assert_eq!(two.receive(&mut buffer, Wait::No).unwrap(), Received::Nothing);
        assert_eq!(two.maker().unwrap(), std::process::id());
        drop(one);
        assert_eq!(two.receive(&mut buffer, Wait::Yes).unwrap(), Received::Closed);
        assert_eq!(two.send(b"x", &[], Wait::No).unwrap(), Sent::Closed);
    }

    #[test]
    fn what_was_sent_before_a_reset_is_read_after_it() {
        let (one, two) = SeqPacket::pair().unwrap();
        assert_eq!(two.send(b"unread", &[], Wait::No).unwrap(), Sent::Done);
        assert_eq!(one.send(b"first", &[], Wait::No).unwrap(), Sent::Done);
        drop(one);
        let mut buffer = [0; 16];
        assert_eq!(two.receive(&mut buffer, Wait::No).unwrap(), Received::Reset);
        assert_eq!(two.receive(&mut buffer, Wait::No).unwrap(), Received::Frame(5));
        assert_eq!(two.receive(&mut buffer, Wait::No).unwrap(), Received::Closed);
    }

    #[test]
    fn a_full_socket_says_so_and_a_long_frame_is_an_error() {
        let (one, two) = SeqPacket::pair().unwrap();
        let mut sent = 0;
        while one.send(&[1; 16], &[], Wait::No).unwrap() == Sent::Done {
            sent += 1;
        }
        assert!(sent > 100);
        assert!(two.receive(&mut [0; 15], Wait::No).is_err());
        assert!(
            two.receive_with_fds(&mut [0; 15], &mut Vec::new(), Wait::No)
                .is_err()
        );
    }

    #[test]
    fn only_a_socket_of_this_kind_is_taken() {
        let (one, _two) = SeqPacket::pair().unwrap();
        assert!(SeqPacket::from_fd(one.into()).is_some());
        assert!(SeqPacket::from_fd(std::fs::File::open("/dev/null").unwrap().into()).is_none());
    }
}
