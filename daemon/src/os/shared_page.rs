//! A page of 64-bit words that one process writes while another reads: a lane's call cells, its cut numbers.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::AtomicU64,
};

use rustix::fs::{SealFlags, fcntl_add_seals};

use super::memory::{Access, Mapping, MemoryError, check, memfd};

/// A page of [`SharedPage::WORDS`] words, all 0 at first.
#[derive(Debug)]
pub struct SharedPage {
    map: Mapping,
}

/// Who writes a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The process that made it. Others can only read it.
    Maker,
    /// The process that it is passed to. The maker reads what it says and believes nothing.
    Receiver,
}

const BYTES: usize = 4096;

// === impl SharedPage ===

impl SharedPage {
    /// Words of a page.
    pub const WORDS: usize = BYTES / size_of::<u64>();

    /// A new page, and the descriptor to pass on.
    ///
    /// # Errors
    /// When descriptors or address space are used up.
    pub fn create(name: &str, writer: Writer) -> io::Result<(Self, OwnedFd)> {
        let fd = memfd(name, BYTES)?;
        let map = Mapping::new(fd.as_fd(), BYTES, Access::Write)?;
        fcntl_add_seals(&fd, writer.seals())?;
        Ok((Self { map }, fd))
    }

    /// Maps a page that another process made for `writer`.
    ///
    /// # Errors
    /// When the seals are missing, it is too small, or the kernel refuses.
    pub fn map(fd: BorrowedFd<'_>, writer: Writer) -> Result<Self, MemoryError> {
        check(fd, BYTES, writer.seals())?;
        let access = match writer {
            Writer::Maker => Access::Read,
            Writer::Receiver => Access::Write,
        };
        Ok(Self {
            map: Mapping::new(fd, BYTES, access)?,
        })
    }

    /// A word of the page. Storing to it in a process that may only read the page is a fault: there it is loaded only.
    ///
    /// # Panics
    /// When `index` is not below [`SharedPage::WORDS`].
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < Self::WORDS);
        // SAFETY: inside the mapping, aligned as a page is, alive as long as `self`; both processes use the word only
        // as an atomic, and its size is sealed.
        unsafe { &*self.map.start().as_ptr().cast::<AtomicU64>().add(index) }
    }
}

// === impl Writer ===

impl Writer {
    fn seals(self) -> SealFlags {
        let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        match self {
            Self::Maker => fixed | SealFlags::FUTURE_WRITE,
            Self::Receiver => fixed,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn the_writer_writes_and_the_other_reads() {
        let (ours, fd) = SharedPage::create("test", Writer::Maker).unwrap();
        let theirs = SharedPage::map(fd.as_fd(), Writer::Maker).unwrap();
        ours.word(3).store(7, Relaxed);
        assert_eq!(theirs.word(3).load(Relaxed), 7);
        assert!(rustix::fs::ftruncate(&fd, 0).is_err());

        let (ours, fd) = SharedPage::create("test", Writer::Receiver).unwrap();
        let theirs = SharedPage::map(fd.as_fd(), Writer::Receiver).unwrap();
        theirs.word(SharedPage::WORDS - 1).store(9, Relaxed);
        assert_eq!(ours.word(SharedPage::WORDS - 1).load(Relaxed), 9);
        assert!(rustix::fs::ftruncate(&fd, 0).is_err());
        assert!(SharedPage::map(fd.as_fd(), Writer::Maker).is_err());
    }
}
