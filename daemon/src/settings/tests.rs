//! Files as people write and break them, and the three generated files in step with the schema.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::*;

mod generated;
mod good;
mod routes_dir;
mod wrong;

/// An environment that a test writes down.
#[derive(Clone, Default)]
pub(super) struct World {
    variables: HashMap<String, String>,
    files: HashMap<PathBuf, Vec<u8>>,
    writable: Vec<PathBuf>,
}

impl World {
    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    pub(super) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }

    pub(super) fn writable(mut self, path: &str) -> Self {
        self.writable.push(path.into());
        self
    }
}

impl Environment for World {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).map(OsString::from)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let content = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(content
            .iter()
            .copied()
            .take(usize::try_from(limit + 1).unwrap())
            .collect())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let there = self.files.keys().filter(|file| file.parent() == Some(directory));
        let names: Vec<PathBuf> = there
            .filter_map(|file| file.file_name())
            .map(PathBuf::from)
            .collect();
        if names.is_empty() {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(names)
        }
    }

    fn can_write_in(&self, directory: &Path) -> bool {
        self.writable.iter().any(|writable| writable == directory)
    }
}

fn read(text: &str) -> Result<Settings, Findings> {
    read_in(text, &World::default())
}

fn read_in(text: &str, world: &World) -> Result<Settings, Findings> {
    parse(Path::new("settings.yaml"), text.as_bytes(), world)
}

fn good(text: &str) -> Settings {
    read(text).unwrap_or_else(|findings| panic!("{text}\n{findings}"))
}

/// The errors and warnings, one line each.
fn lines(text: &str) -> Vec<String> {
    match read(text) {
        Ok(settings) => settings.warnings.iter().map(ToString::to_string).collect(),
        Err(findings) => findings.sorted().iter().map(ToString::to_string).collect(),
    }
}
