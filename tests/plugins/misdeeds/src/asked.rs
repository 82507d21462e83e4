//! A plugin that blocks, but minds SIGTERM.

use std::{
    fs::File,
    os::fd::IntoRawFd,
    sync::atomic::{AtomicI32, Ordering},
};

static REPORT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_term(_: libc::c_int) {
    let word = b"asked to end";
    // SAFETY: both calls may be made in a signal handler; the descriptor was opened before and stays open.
    unsafe {
        libc::write(REPORT.load(Ordering::Relaxed), word.as_ptr().cast(), word.len());
        libc::_exit(3);
    }
}

/// Never returns.
pub(crate) fn block(report: &str) -> ! {
    let report = File::create(report).unwrap_or_else(|error| panic!("{report}: {error}"));
    REPORT.store(report.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = on_term;
    // SAFETY: the handler makes only calls that a handler may make.
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    loop {
        std::thread::park();
    }
}
