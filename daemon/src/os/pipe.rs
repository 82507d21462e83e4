//! A pipe that takes what a plugin's process prints.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::{Errno, retry_on_intr},
    pipe::{PipeFlags, pipe_with},
};

/// The reading end of a pipe; reading never blocks.
#[derive(Debug)]
pub struct PipeReader(OwnedFd);

/// What reading gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing ever again: nobody holds the other end.
    End,
}

/// A pipe; the second value is the writing end, blocking as programs expect of their stdout.
///
/// # Errors
/// When the process has no descriptor left.
pub fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&read)?;
    rustix::fs::fcntl_setfl(&read, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok((PipeReader(read), write))
}

// === impl PipeReader ===

impl PipeReader {
    /// Reads into `buffer`, which must not be empty. A pipe that fails is at its end.
    pub fn read(&self, buffer: &mut [u8]) -> Read {
        match retry_on_intr(|| rustix::io::read(&self.0, &mut *buffer)) {
            Ok(0) => Read::End,
            Ok(bytes) => Read::Bytes(bytes),
            Err(Errno::AGAIN) => Read::Nothing,
            Err(_) => Read::End,
        }
    }
}

impl std::os::fd::AsFd for PipeReader {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reading_never_blocks_and_knows_the_end() {
        let (reader, writer) = pipe().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer), Read::Nothing);
        rustix::io::write(&writer, b"line").unwrap();
        assert_eq!(reader.read(&mut buffer), Read::Bytes(4));
        drop(writer);
        assert_eq!(reader.read(&mut buffer), Read::End);
    }
}
