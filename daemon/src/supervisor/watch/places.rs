//! Which directories have to be watched, so that whatever changes what a path leads to is noticed: the directory itself,
//! its parent (it may be replaced, or not be there yet), and the directories of every symbolic link on the way.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// The directories to watch, and the names whose events matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// To be watched.
    pub watched: BTreeSet<PathBuf>,
    /// Parts of the way: an event that names one of them may change what is found.
    ways: BTreeSet<PathBuf>,
    /// Directories in which every name matters.
    homes: BTreeSet<PathBuf>,
}

// === impl Places ===

impl Places {
    /// The places of these directories and of the files in them.
    pub(super) fn of<'a>(dirs: &[PathBuf], files: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut places = Self::default();
        for dir in dirs {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            places.homes.insert(dir.clone());
            places.follow(&dir, 0);
        }
        for file in files {
            // Most are no links, and lie in a directory that is watched already.
            if file.is_symlink() {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                places.follow(&file, 0);
            }
        }
        places
    }

    /// Whether an event that names `path` may matter.
    pub(super) fn concern(&self, path: &Path) -> bool {
        self.ways.contains(path) || path.parent().is_some_and(|parent| self.homes.contains(parent))
    }

    fn follow(&mut self, path: &Path, links: usize) {
        let mut behind = PathBuf::new();
        let mut ahead = path.components();
        while let Some(component) = ahead.next() {
            match component {
                Component::ParentDir => {
                    behind.pop();
                    continue;
                }
                other => behind.push(other),
            }
            self.ways.insert(behind.clone());
            let Ok(status) = behind.symlink_metadata() else {
                // It is to come: its parent is the last that is there.
                self.watch_parent(&behind);
                return;
            };
            if status.is_symlink() {
                self.watch_parent(&behind);
                if let Ok(target) = std::fs::read_link(&behind)
                    && links < MAX_LINKS
                {
                    behind.pop();
                    // An absolute target replaces what is before it.
                    self.follow(&behind.join(target).join(ahead.as_path()), links + 1);
                }
                return;
            }
        }
        if behind.is_dir() {
            self.homes.insert(behind.clone());
            self.watched.insert(behind.clone());
        }
        self.watch_parent(&behind);
    }

    fn watch_parent(&mut self, path: &Path) {
        if let Some(parent) = path.parent() {
            self.watched.insert(parent.to_owned());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        (dir, path)
    }

    #[test]
    fn a_directory_that_is_not_there_is_watched_through_the_last_that_is() {
        let (_dir, home) = directory();
        let places = Places::of(&[home.join("a/b/plugins")], []);
        assert_eq!(places.watched, BTreeSet::from([home.clone()]));
        assert!(places.concern(&home.join("a")));
        assert!(!places.concern(&home.join("other")));
        std::fs::create_dir_all(home.join("a/b/plugins")).unwrap();
        let places = Places::of(&[home.join("a/b/plugins")], []);
        assert_eq!(
            places.watched,
            BTreeSet::from([home.join("a/b"), home.join("a/b/plugins")])
        );
        assert!(places.concern(&home.join("a/b/plugins/libx.so")));
        assert!(!places.concern(&home.join("a/b/other")));
    }

    #[test]
    fn every_link_on_the_way_is_watched_where_it_stands() {
        let (_dir, home) = directory();
        let plugins = home.join("plugins");
        std::fs::create_dir_all(plugins.join("..one")).unwrap();
        std::fs::write(plugins.join("..one/libx.so"), "").unwrap();
        symlink("..one", plugins.join("..data")).unwrap();
        symlink("..data/libx.so", plugins.join("libx.so")).unwrap();
        symlink(&home, home.join("loop")).unwrap();
        let through = home.join("loop/plugins");
        let file = through.join("libx.so");
        let places = Places::of(&[through], [file.as_path()]);
        let watched = BTreeSet::from([home.clone(), plugins.clone(), plugins.join("..one")]);
        assert_eq!(places.watched, watched);
        assert!(places.concern(&plugins.join("..data")), "the swap of the link");
        assert!(places.concern(&home.join("loop")));
    }

    #[test]
    fn links_in_a_circle_end() {
        let (_dir, home) = directory();
        symlink("b", home.join("a")).unwrap();
        symlink("a", home.join("b")).unwrap();
        assert_eq!(Places::of(&[home.join("a")], []).watched, BTreeSet::from([home]));
    }
}
