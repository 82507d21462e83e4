//! Looks at the libraries of the plugin directories. A file is read again only if its status differs from the last
//! time, or was too young then to tell a later write from an earlier one.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::settle::{Look, Seen};
use crate::{
    plugin::{ContentHash, content_hash, libraries_in},
    settings::FileChecks,
};

/// Two writes within a tick of the file system's clock leave the same time: a status younger than this may be the same
/// before and after a write.
const YOUNG: Duration = Duration::from_secs(2);

/// What tells one version of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// As it was found at first. It was not read: nothing is to be done about it before it changes, and a directory may
    /// hold gigabytes.
    AsFound(Status),
    /// Its content.
    Content(ContentHash),
}

/// What the file system says of a file; it changes with every write and every replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    owner: (u32, u32, u32),
}

/// Looks, and remembers.
pub(super) struct Looker {
    dirs: Vec<PathBuf>,
    checks: FileChecks,
    known: BTreeMap<PathBuf, Known>,
}

struct Known {
    status: Status,
    /// The status cannot have stayed the same over a write.
    is_firm: bool,
    look: Look<Version>,
}

/// Whether a file's name is that of a library that is in use: `liba.so`, `liba.so.1.2`, and not `liba.so.dpkg-new`.
pub(in crate::supervisor) fn is_library(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_hidden = name.starts_with('.');
    let is_plain = name.ends_with(".so");
    let is_numbered = stem.ends_with(".so") && name[stem.len()..].starts_with('.') && !name.ends_with('.');
    !is_hidden && (is_plain || is_numbered)
}

// === impl Looker ===

impl Looker {
    pub(super) fn new(dirs: Vec<PathBuf>, checks: FileChecks) -> Self {
        Self {
            dirs,
            checks,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The first look, which reads as little as it can.
    pub(super) fn first(&mut self) -> Seen<Version> {
        self.look_at(|status, is_firm| is_firm.then(|| Look::Whole(Version::AsFound(status.clone()))))
    }

    /// What is there now.
    pub(super) fn look(&mut self) -> Seen<Version> {
        self.look_at(|_, _| None)
    }

    fn look_at(&mut self, unread: impl Fn(&Status, bool) -> Option<Look<Version>>) -> Seen<Version> {
        let mut known = BTreeMap::new();
        for file in self.files() {
            let Ok(metadata) = std::fs::metadata(&file) else {
                // Gone meanwhile, or a link to nothing: as if it were not there.
                continue;
            };
            let status = Status::of(&metadata);
            let is_firm = is_firm(&metadata, SystemTime::now());
            let look = match self.known.remove(&file) {
                Some(known) if known.is_firm && known.status == status => known.look,
                _ => unread(&status, is_firm).unwrap_or_else(|| read(&file, self.checks)),
            };
            known.insert(
                file,
                Known {
                    status,
                    is_firm,
                    look,
                },
            );
        }
        self.known = known;
        let seen = self.known.iter();
        seen.map(|(file, known)| (file.clone(), known.look.clone()))
            .collect()
    }

    /// The libraries of the directories. One that cannot be read has none, which its parent's events will change.
    fn files(&self) -> Vec<PathBuf> {
        let in_dir = |dir: &PathBuf| {
            let names = libraries_in(dir).unwrap_or_default();
            let names = names.into_iter().filter(|name| is_library(name));
            names.map(|name| dir.join(name)).collect::<Vec<_>>()
        };
        self.dirs.iter().flat_map(in_dir).collect()
    }
}

fn read(file: &Path, checks: FileChecks) -> Look<Version> {
    match content_hash(file, checks) {
        Ok(hash) => Look::Whole(Version::Content(hash)),
        Err(error) => Look::Unusable(error.to_string()),
    }
}

fn is_firm(metadata: &Metadata, now: SystemTime) -> bool {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    now.duration_since(changed).is_ok_and(|age| age > YOUNG)
}

// === impl Status ===

impl Status {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            owner: (metadata.uid(), metadata.gid(), metadata.mode()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libraries_in_use_are_told_from_those_of_halves() {
        for name in ["liba.so", "liba.so.1", "liba.so.1.22", "a-b.so"] {
            assert!(is_library(name), "{name}");
        }
        for name in [
            "liba.so.dpkg-new",
            "liba.so.tmp",
            ".liba.so",
            "liba.so.",
            "liba.so1",
            "liba.dylib",
            "so",
            "..data",
            "liba.so.1~",
        ] {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn a_young_file_is_read_and_what_is_no_library_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("liba.so");
        std::fs::write(&file, "text").unwrap();
        let mut looker = Looker::new(
            vec![dir.path().to_owned(), dir.path().join("none")],
            FileChecks::Off,
        );
        let seen = looker.first();
        assert!(
            matches!(seen.get(&file), Some(Look::Unusable(why)) if why.contains("text")),
            "{seen:?}"
        );
        std::fs::remove_file(&file).unwrap();
        assert_eq!(looker.look(), Seen::new());
    }

    #[test]
    fn an_old_file_is_not_read_before_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        // A library that has long been there: its time of change cannot be set, so one of the system's is borrowed.
        let old = std::env::current_exe().unwrap();
        let link = dir.path().join("liba.so");
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let mut looker = Looker::new(vec![dir.path().to_owned()], FileChecks::Off);
        let metadata = std::fs::metadata(&link).unwrap();
        let is_firm = is_firm(&metadata, SystemTime::now());
        let seen = looker.first();
        match seen.get(&link) {
            Some(Look::Whole(Version::AsFound(_))) => assert!(is_firm),
            // This very program was linked within the last two seconds: it is read, and is no library.
            Some(Look::Unusable(_)) => assert!(!is_firm),
            other => panic!("{other:?}"),
        }
    }
}
