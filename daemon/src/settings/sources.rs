//! The files that settings came from: the settings file itself, and the fragments of its `routes_dir`, each with its
//! lines and the places of its keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::positions::{KeyPath, Segment, SourceMap, Span};

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub file: PathBuf,
    pub map: Arc<SourceMap>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    main: Source,
    fragments: Vec<Source>,
}

// === impl Sources ===

impl Sources {
    pub(super) fn new(file: &Path, map: Arc<SourceMap>) -> Self {
        let file = file.to_owned();
        Self {
            main: Source { file, map },
            fragments: Vec::new(),
        }
    }

    pub(super) fn with_fragments(mut self, fragments: impl IntoIterator<Item = Source>) -> Self {
        self.fragments.extend(fragments);
        self
    }

    /// The settings file.
    pub(super) fn file(&self) -> &Path {
        &self.main.file
    }

    /// The lines of a file.
    pub(super) fn map(&self, file: &Path) -> &SourceMap {
        &self.source(file).map
    }

    /// The rank of a file in reading order.
    pub(super) fn rank(&self, file: &Path) -> usize {
        let fragment = self.fragments.iter().position(|fragment| fragment.file == file);
        fragment.map_or(0, |at| at + 1)
    }

    /// In which file a setting stands, or what comes nearest to it, and where.
    pub(super) fn find(&self, key: &KeyPath) -> (&Path, Option<Span>) {
        let [Segment::Key(routes), Segment::Key(name), ..] = key.segments() else {
            return (self.file(), self.main.map.find(key));
        };
        let route = KeyPath::root().key(routes).key(name);
        let home = self
            .fragments
            .iter()
            .find(|fragment| fragment.map.exact(&route).is_some())
            .filter(|_| self.main.map.exact(&route).is_none());
        let Some(home) = home else {
            return (self.file(), self.main.map.find(key));
        };
        // A key that a route of a fragment does not set itself comes from the `defaults` of the settings file.
        if home.map.exact(key).is_none()
            && let Some(span) = self.main.map.find_elsewhere(key)
        {
            return (self.file(), Some(span));
        }
        (&home.file, home.map.find(key))
    }

    /// Where a key stands in this very file.
    pub(super) fn find_in(&self, file: &Path, key: &KeyPath) -> Option<Span> {
        self.map(file).find(key)
    }

    fn source(&self, file: &Path) -> &Source {
        let fragment = self.fragments.iter().find(|fragment| fragment.file == file);
        fragment.unwrap_or(&self.main)
    }
}
