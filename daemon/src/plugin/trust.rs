//! Opens a library once and says whether somebody else could change it: a plugin runs with the daemon's rights, so
//! whoever can write the file, or a directory on the way to it, can do what the daemon may do.
//!
//! The way is walked from `/`, descriptor by descriptor, so that what was checked is what was opened. A symbolic link
//! is followed by hand: the link, the directory it stands in and all of the way to its target are checked too. Refused
//! is what the world may write, what a group other than its owner's own may write, and what neither root nor the
//! daemon's user owns. A directory with the sticky bit (such as /tmp) may be writable: nobody can replace another's
//! file there, and every entry on the way is checked by itself. "The owner's own group" is group 0 of root and the
//! daemon's group of the daemon's user.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, readlinkat, statat},
    io::Errno,
};

use super::{PluginError, PluginFault};
use crate::settings::FileChecks;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Whose files are trusted besides root's.
#[derive(Clone, Copy, Debug)]
struct Us {
    user: u32,
    group: u32,
}

/// What one part of the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Directory,
    Link,
    File,
}

/// Opens `file` for reading, checked as this module says.
///
/// # Errors
/// [`PluginFault::Untrusted`] with the command that mends it, [`PluginFault::NotALibrary`] when it is no regular file,
/// [`PluginFault::NoSuchFile`], [`PluginFault::Io`].
pub fn open(file: &Path, checks: FileChecks) -> Result<File, PluginError> {
    let us = Us {
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
    };
    let failed = |doing: &str, errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR => PluginError::new(
            file,
            PluginFault::NoSuchFile {
                searched: vec![file.to_owned()],
                nearest: vec![],
            },
        ),
        errno => PluginError::io(file, doing, errno),
    };
    let pinned = match checks {
        FileChecks::Enforce => walk(file, us)?,
        FileChecks::Off => openat(CWD, file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| failed("open it", e))?,
    };
    let status = rustix::fs::fstat(&pinned).map_err(|e| failed("look at it", e))?;
    let what = match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        _ => Some("a device"),
    };
    if let Some(what) = what {
        return Err(PluginError::new(
            file,
            PluginFault::NotALibrary { what: what.into() },
        ));
    }
    // The very file that was checked, whatever stands at its path by now.
    let same = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    let opened = openat(CWD, same, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map(File::from).map_err(|e| failed("read it", e))
}

/// Walks from `/` to `file` and returns it, opened as a place only (`O_PATH`).
fn walk(file: &Path, us: Us) -> Result<OwnedFd, PluginError> {
    let io = |at: &Path, doing: &str, errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR => PluginError::new(
            file,
            PluginFault::NoSuchFile {
                searched: vec![at.to_owned()],
                nearest: vec![],
            },
        ),
        errno => PluginError::io(file, format!("{doing} {}", at.display()), errno),
    };
    let judge = |at: &Path, part: Part, status: &Stat| match objection(part, status, us) {
        None => Ok(()),
        Some((what, command)) => {
            let mend = format!("{command} {}", quoted(at));
            Err(PluginError::new(
                file,
                PluginFault::Untrusted {
                    path: at.to_owned(),
                    what,
                    mend,
                },
            ))
        }
    };
    let absolute =
        std::path::absolute(file).map_err(|e| PluginError::io(file, "find the working directory", e))?;
    // What is still to be walked, last part first.
    let mut ahead: Vec<OsString> = parts(&absolute);
    let mut links = 0;
    let root = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", flags, Mode::empty()).map_err(|e| io(Path::new("/"), "open", e))?;
        let status = rustix::fs::fstat(&root).map_err(|e| io(Path::new("/"), "look at", e))?;
        judge(Path::new("/"), Part::Directory, &status)?;
        Ok((PathBuf::from("/"), root))
    };
    let mut behind: Vec<(PathBuf, OwnedFd)> = vec![root()?];
    while let Some(name) = ahead.pop() {
        if name == ".." {
            if behind.len() > 1 {
                behind.pop();
            }
            continue;
        }
        let (dir, descriptor) = behind.last().expect("the root is never popped");
        let at = dir.join(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let here = openat(descriptor, &name, flags, Mode::empty()).map_err(|e| io(&at, "open", e))?;
        let status = rustix::fs::fstat(&here).map_err(|e| io(&at, "look at", e))?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Symlink => {
                judge(&at, Part::Link, &status)?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(io(&at, "follow", Errno::LOOP));
                }
                let target = readlinkat(&here, "", Vec::new()).map_err(|e| io(&at, "read the link", e))?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    behind = vec![root()?];
                }
                ahead.extend(parts(target));
            }
            FileType::Directory => {
                judge(&at, Part::Directory, &status)?;
                if ahead.is_empty() {
                    return Ok(here);
                }
                behind.push((at, here));
            }
            FileType::RegularFile if ahead.is_empty() => {
                judge(&at, Part::File, &status)?;
                return Ok(here);
            }
            // No regular file: `open` names what it is.
            _ if ahead.is_empty() => return Ok(here),
            _ => return Err(io(&at, "enter", Errno::NOTDIR)),
        }
    }
    // The path ended in `..` or is `/`: a directory, which `open` names.
    Ok(behind.pop().expect("the root is never popped").1)
}

/// The names in a path, last first; `.` and the root are left out.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// What is wrong with one part of the way, and the command (without the path) that mends it.
fn objection(part: Part, status: &Stat, us: Us) -> Option<(String, String)> {
    let (owner, group, mode) = (status.st_uid, status.st_gid, status.st_mode);
    if owner != 0 && owner != us.user {
        let what = format!(
            "is owned by user {owner}, who is neither root nor the daemon's user ({})",
            us.user
        );
        let command = if part == Part::Link { "chown -h" } else { "chown" };
        return Some((what, format!("{command} {}", us.user)));
    }
    // The mode of a link says nothing, and in a sticky directory only the owner of an entry can replace it.
    let sticky = part == Part::Directory && mode & 0o1000 != 0;
    if part == Part::Link || sticky {
        return None;
    }
    if mode & 0o002 != 0 {
        return Some((
            format!("may be written by everybody (mode {:04o})", mode & 0o7777),
            "chmod o-w".into(),
        ));
    }
    let own = (owner == 0 && group == 0) || (owner == us.user && group == us.group);
    if mode & 0o020 != 0 && !own {
        let what = format!(
            "may be written by group {group} (mode {:04o}), which is not its owner's own",
            mode & 0o7777
        );
        return Some((what, "chmod g-w".into()));
    }
    None
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text
        .chars()
        .all(|c| c.is_alphanumeric() || "/._-+:@%,".contains(c))
    {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Whether a directory that the daemon itself made is still only its own.
pub(super) fn expect_private(dir: &Path) -> Result<(), PluginError> {
    let us = Us {
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
    };
    let status =
        statat(CWD, dir, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| PluginError::io(dir, "look at it", e))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(PluginError::io(dir, "use it", Errno::NOTDIR));
    }
    match objection(Part::Directory, &status, us) {
        None => Ok(()),
        Some((what, command)) => {
            let mend = format!("{command} {}", quoted(dir));
            Err(PluginError::new(
                dir,
                PluginFault::Untrusted {
                    path: dir.to_owned(),
                    what,
                    mend,
                },
            ))
        }
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
