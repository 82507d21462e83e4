//! Versions of a plugin's library without a compiler: a copy with a note behind its last byte has another hash, and loads
//! as the original does. Put in place as a careful operator does it, by a rename.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::daemon::{Home, plugin_dir};

/// A library in a directory of its own.
#[derive(Debug)]
pub struct Versions {
    original: PathBuf,
    dir: PathBuf,
    name: String,
}

// === impl Versions ===

impl Versions {
    /// Of the library `name`, such as `libdevour_test_ledger.so`, below `home`; none is there yet.
    pub fn new(home: &Home, name: &str) -> io::Result<Self> {
        let dir = home.file("plugins");
        fs::create_dir_all(&dir)?;
        Ok(Self {
            original: plugin_dir().join(name),
            dir,
            name: name.to_owned(),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The library.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// The bytes of a version.
    pub fn bytes(&self, version: u64) -> io::Result<Vec<u8>> {
        let mut bytes = fs::read(&self.original)?;
        bytes.extend_from_slice(format!("version {version}").as_bytes());
        Ok(bytes)
    }

    /// Puts a version in place of the one before.
    pub fn put(&self, version: u64) -> io::Result<()> {
        let half = self.dir.join(format!("{}.half", self.name));
        fs::write(&half, self.bytes(version)?)?;
        fs::rename(&half, self.path())
    }
}
