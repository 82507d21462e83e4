//! A memory barrier that only one side pays for: the side that asks rarely makes every thread of the other side pass
//! one, so that the other's path may go without.

use std::{io, sync::OnceLock};

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Lets [`barrier`] of any process reach this one's threads.
///
/// # Errors
/// Where the kernel has no such call.
pub fn register() -> io::Result<()> {
    static DONE: OnceLock<Option<i32>> = OnceLock::new();
    let failed = DONE.get_or_init(|| call(REGISTER_GLOBAL_EXPEDITED).err()?.raw_os_error());
    failed.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}

/// When this returns, every thread of every registered process has passed a full memory barrier since it was called.
///
/// # Errors
/// Where the kernel has no such call.
pub fn barrier() -> io::Result<()> {
    call(GLOBAL_EXPEDITED)
}

fn call(command: libc::c_int) -> io::Result<()> {
    // SAFETY: membarrier takes three numbers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_has_it() {
        assert!(super::register().and_then(|()| super::barrier()).is_ok());
    }
}
