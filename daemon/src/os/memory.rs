//! Memory that the daemon writes and a plugin's process reads: a sealed memfd, mapped twice.
//!
//! The daemon maps, then seals: nobody can shrink the memory under the daemon (which would be a SIGBUS), nobody but
//! the daemon's earlier mapping can write it. The seal against writing also forbids to punch holes (tried: EPERM), so
//! memory is given back to the system by dropping the whole.

use std::{
    ffi::{CString, c_void},
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
};

/// Shared memory that this process writes.
#[derive(Debug)]
pub struct SharedBytes {
    fd: OwnedFd,
    map: Mapping,
}

/// Shared memory that another process writes.
#[derive(Debug)]
pub struct SharedView {
    map: Mapping,
}

/// Why memory from the other side was not mapped.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It could change under the reader.
    #[error("the shared memory lacks seals: found {found:?}, needed {needed:?}")]
    Unsealed {
        /// The seals it has.
        found: SealFlags,
        /// The seals it must have.
        needed: SealFlags,
    },
    /// It is smaller than was said.
    #[error("the shared memory has {found} bytes, {needed} were announced")]
    Small {
        /// Its size.
        found: u64,
        /// The size it must have.
        needed: usize,
    },
    /// The kernel refused.
    #[error("the shared memory cannot be mapped: {0}")]
    Kernel(#[from] io::Error),
}

/// A mapping of a whole memfd; unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

const READ_ONLY_SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE)
    .union(SealFlags::SEAL);

// === impl SharedBytes ===

impl SharedBytes {
    /// `len` zero bytes (at least one), which take memory only where they are touched. `name` shows in /proc.
    ///
    /// # Errors
    /// When descriptors or address space are used up.
    pub fn create(name: &str, len: usize) -> io::Result<Self> {
        let fd = memfd(name, len)?;
        let map = Mapping::new(fd.as_fd(), len, Access::Write)?;
        fcntl_add_seals(&fd, READ_ONLY_SEALS)?;
        Ok(Self { fd, map })
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len
    }

    /// Never: it has at least one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.len == 0
    }

    /// These bytes.
    ///
    /// # Panics
    /// When the range is outside.
    #[must_use]
    pub fn get(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.map.len);
        // SAFETY: inside the mapping, which lives as long as `self`; only `get_mut`, which borrows `self` uniquely,
        // writes it: the seals keep every other process from doing so.
        unsafe { std::slice::from_raw_parts(self.map.start.as_ptr().add(range.start), range.len()) }
    }

    /// These bytes, to write. Whoever reads them elsewhere must not be reading now.
    ///
    /// # Panics
    /// When the range is outside.
    pub fn get_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.map.len);
        // SAFETY: as in `get`, and `self` is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.map.start.as_ptr().add(range.start), range.len()) }
    }
}

impl AsFd for SharedBytes {
    /// To be passed to the reader.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// === impl SharedView ===

impl SharedView {
    /// Maps `len` bytes that another process made by [`SharedBytes::create`].
    ///
    /// # Errors
    /// When the seals are missing, it is smaller than `len`, or the kernel refuses.
    pub fn map(fd: BorrowedFd<'_>, len: usize) -> Result<Self, MemoryError> {
        check(fd, len, READ_ONLY_SEALS)?;
        Ok(Self {
            map: Mapping::new(fd, len, Access::Read)?,
        })
    }

    /// These bytes, `None` if the range is outside. The writer must leave them alone while they are borrowed; a
    /// range that it has not handed over must not be asked for.
    #[must_use]
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.map.len {
            return None;
        }
        // SAFETY: inside the mapping, which lives as long as `self` and cannot shrink (checked); the protocol gives
        // a range to the reader before it is read and takes it back only when the reader has said that it is done.
        Some(unsafe { std::slice::from_raw_parts(self.map.start.as_ptr().add(range.start), range.len()) })
    }
}

// === impl Mapping ===

// SAFETY: a mapping is memory like any other; what may be done with it is said by the types that hold it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::Write => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)? };
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at null"))?;
        let mapping = Self { start, len };
        // SAFETY: the range is the mapping just made; this advice changes no byte.
        unsafe {
            madvise(
                mapping.start.as_ptr().cast::<c_void>(),
                len,
                Advice::LinuxDontDump,
            )?
        };
        Ok(mapping)
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and nothing borrowed from it outlives its owner.
        let _ = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
    }
}

pub(super) fn memfd(name: &str, len: usize) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(io::Error::other)?;
    let fd = memfd_create(&name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, len as u64)?;
    Ok(fd)
}

pub(super) fn check(fd: BorrowedFd<'_>, len: usize, needed: SealFlags) -> Result<(), MemoryError> {
    let found = fcntl_get_seals(fd).map_err(io::Error::from)?;
    if !found.contains(needed) {
        return Err(MemoryError::Unsealed { found, needed });
    }
    let size = fstat(fd).map_err(io::Error::from)?.st_size.cast_unsigned();
    if size < len as u64 {
        return Err(MemoryError::Small {
            found: size,
            needed: len,
        });
    }
    Ok(())
}

/// The bytes of a memfd or file that came from another process, read and not mapped, so that it can change or shrink
/// while it is read without harm. At most `limit` bytes.
///
/// # Errors
/// When it is longer than `limit` or cannot be read.
pub fn read_bounded(fd: BorrowedFd<'_>, limit: usize) -> io::Result<Vec<u8>> {
    let size = usize::try_from(fstat(fd)?.st_size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(io::Error::other(format!(
            "{size} bytes, more than the {limit} allowed"
        )));
    }
    let mut bytes = vec![0; size];
    let mut done = 0;
    while done < size {
        match rustix::io::pread(fd, &mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads_and_cannot_change() {
        let mut bytes = SharedBytes::create("test", 10_000).unwrap();
        let view = SharedView::map(bytes.as_fd(), 10_000).unwrap();
        bytes.get_mut(5000..5003).copy_from_slice(b"abc");
        assert_eq!(view.get(5000..5003), Some(&b"abc"[..]));
        assert_eq!(bytes.get(5000..5003), b"abc");
        assert!(view.get(9_999..10_001).is_none());
        // A reader can neither shrink it (the writer would die of SIGBUS) nor write it nor punch holes into it.
        assert!(ftruncate(bytes.as_fd(), 0).is_err());
        assert!(rustix::io::pwrite(bytes.as_fd(), b"x", 0).is_err());
        assert!(Mapping::new(bytes.as_fd(), 10_000, Access::Write).is_err());
        assert_eq!(read_bounded(bytes.as_fd(), 10_000).unwrap()[5000..5003], *b"abc");
        assert!(read_bounded(bytes.as_fd(), 9_999).is_err());
    }

    #[test]
    fn memory_without_seals_or_of_another_size_is_not_mapped() {
        let unsealed = memfd("test", 4096).unwrap();
        assert!(matches!(
            SharedView::map(unsealed.as_fd(), 4096),
            Err(MemoryError::Unsealed { .. })
        ));
        let small = SharedBytes::create("test", 4096).unwrap();
        assert!(matches!(
            SharedView::map(small.as_fd(), 4097),
            Err(MemoryError::Small { .. })
        ));
    }
}
