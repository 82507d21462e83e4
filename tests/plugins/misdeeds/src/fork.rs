//! A grandchild that nobody waits for.

use std::{ffi::CString, io::Read, os::fd::FromRawFd, ptr};

/// What becomes of the environment that the process was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// It stays.
    Kept,
    /// The grandchild is another program with none.
    Wiped,
}

/// Forks twice; the grandchild leads a session of its own, keeps every descriptor and sleeps for ever. Its number.
pub(crate) fn grandchild(environment: Environment) -> i32 {
    let mut ends = [0; 2];
    let sleep = [CString::from(c"/bin/sleep"), CString::from(c"1000000")];
    let arguments = [sleep[0].as_ptr(), sleep[1].as_ptr(), ptr::null()];
    // SAFETY: `ends` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: between fork and its end the child makes system calls only.
    unsafe {
        match libc::fork() {
            0 => {
                libc::setsid();
                let pid = libc::fork();
                if pid == 0 {
                    if environment == Environment::Wiped {
                        keep_descriptors();
                        libc::execve(arguments[0], arguments.as_ptr(), [ptr::null()].as_ptr());
                    }
                    loop {
                        libc::pause();
                    }
                }
                libc::write(ends[1], (&raw const pid).cast(), size_of::<i32>());
                libc::_exit(0);
            }
            child => libc::waitpid(child, ptr::null_mut(), 0),
        };
        libc::close(ends[1]);
    }
    let mut number = [0; 4];
    // SAFETY: this end is ours, and owned by nobody else.
    let mut pipe = unsafe { std::fs::File::from_raw_fd(ends[0]) };
    pipe.read_exact(&mut number)
        .map_or(-1, |()| i32::from_ne_bytes(number))
}

/// So that exec closes none.
unsafe fn keep_descriptors() {
    for number in 3..256 {
        // SAFETY: changes a flag of a descriptor, or fails where there is none.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    }
}
