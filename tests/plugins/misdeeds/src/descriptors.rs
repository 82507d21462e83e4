//! Misdeeds with the descriptors of the process: every one that is open is looked at, whoever it belongs to.

use std::{
    fs::{self, File, OpenOptions},
    os::fd::{BorrowedFd, RawFd},
    path::PathBuf,
    ptr,
};

use rustix::{
    fs::ftruncate,
    mm::{MapFlags, ProtFlags, mmap},
    net::{SendFlags, send},
};

/// Number and target of each descriptor above 2.
pub(crate) fn open() -> Vec<(RawFd, PathBuf)> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2);
    numbers
        .filter_map(|number| Some((number, fs::read_link(format!("/proc/self/fd/{number}")).ok()?)))
        .collect()
}

fn named(part: &str) -> Vec<RawFd> {
    let found = open()
        .into_iter()
        .filter(|(_, target)| target.to_string_lossy().contains(part));
    found.map(|(number, _)| number).collect()
}

fn borrow(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: it was open a moment ago; if it is not any more, what is tried with it fails, which is as good here.
    unsafe { BorrowedFd::borrow_raw(number) }
}

pub(crate) fn close_all() {
    for (number, _) in open() {
        // SAFETY: none: these belong to others, who find them closed. That is the misdeed.
        unsafe { libc::close(number) };
    }
}

/// Every socket gets so many frames of rubbish, as many as it takes.
pub(crate) fn flood(frames: u32) {
    let rubbish = [0xEE; 100];
    for number in named("socket:") {
        for _ in 0..frames {
            if send(borrow(number), &rubbish, SendFlags::NOSIGNAL).is_err() {
                break;
            }
        }
    }
}

/// What may not be done to memory that the daemon maps, tried on each memfd: one line each, `NAME what` where it could
/// be done. A page of call cells may be written: that is its purpose.
pub(crate) fn attack_memfds() -> String {
    let mut done = String::new();
    for (number, target) in open() {
        let name = target.to_string_lossy().into_owned();
        if !name.contains("memfd:devour") || name.contains("cells") {
            continue;
        }
        let fd = borrow(number);
        let again = |options: &mut OpenOptions| options.open(format!("/proc/self/fd/{number}"));
        let file = again(OpenOptions::new().read(true).write(true));
        let attempts = [
            ("shrunk", ftruncate(fd, 0).is_ok()),
            ("grown", ftruncate(fd, 1 << 30).is_ok()),
            ("written", rustix::io::pwrite(fd, b"rubbish", 0).is_ok()),
            ("mapped to be written", maps(fd)),
            (
                "written after it was opened again",
                file.as_ref().is_ok_and(writes),
            ),
            (
                "mapped after it was opened again",
                file.as_ref()
                    .is_ok_and(|file| maps(std::os::fd::AsFd::as_fd(file))),
            ),
            (
                "emptied by opening",
                again(OpenOptions::new().write(true).truncate(true)).is_ok(),
            ),
        ];
        for (what, _) in attempts.into_iter().filter(|(_, could)| *could) {
            done.push_str(&format!("{name} {what}\n"));
        }
    }
    // Cells: their size is what must hold.
    for number in named("memfd:devour-cells") {
        if ftruncate(borrow(number), 0).is_ok() {
            done.push_str("cells shrunk\n");
        }
    }
    done
}

fn writes(file: &File) -> bool {
    std::os::unix::fs::FileExt::write_at(file, b"rubbish", 0).is_ok()
}

fn maps(fd: BorrowedFd<'_>) -> bool {
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice; it is not used.
    unsafe { mmap(ptr::null_mut(), 4096, writable, MapFlags::SHARED, fd, 0).is_ok() }
}

/// Fills every page of call cells.
pub(crate) fn scribble() {
    for number in named("memfd:devour-cells") {
        let _ = rustix::io::pwrite(borrow(number), &[0xFF; 4096], 0);
    }
}
