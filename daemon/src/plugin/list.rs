//! `devourd plugins list`: what lies in the plugin directories. Files are read; none of their code is run.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use object::read::ReadCache;
use serde::Serialize;

use super::{Image, PluginError, libraries_in, trust};
use crate::settings::FileChecks;

/// One library of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The file.
    pub file: PathBuf,
    /// The symbols of its consumers, sorted.
    pub consumers: Vec<String>,
    /// Why it cannot be used, if it cannot.
    #[serde(serialize_with = "as_text")]
    pub error: Option<PluginError>,
}

/// The libraries of these directories, by directory and name.
#[must_use]
pub fn list(dirs: &[PathBuf], checks: FileChecks) -> Vec<Listing> {
    let mut listings = Vec::new();
    for dir in dirs {
        match libraries_in(dir) {
            Ok(names) => listings.extend(names.into_iter().map(|name| look_at(&dir.join(name), checks))),
            Err(error) => {
                let error = Some(PluginError::io(dir, "read the directory", error));
                listings.push(Listing {
                    file: dir.clone(),
                    consumers: Vec::new(),
                    error,
                });
            }
        }
    }
    listings
}

fn look_at(file: &Path, checks: FileChecks) -> Listing {
    let read = trust::open(file, checks).and_then(|opened| {
        let image =
            Image::read(&ReadCache::new(&opened)).and_then(|image| image.expect_any().map(|()| image));
        image.map_err(|fault| PluginError::new(file, fault))
    });
    let (consumers, error) = match read {
        Ok(image) => (image.exports(), None),
        Err(error) => (Vec::new(), Some(error)),
    };
    Listing {
        file: file.to_owned(),
        consumers,
        error,
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error}"),
            None => write!(f, "{}: {}", self.file.display(), self.consumers.join(", ")),
        }
    }
}

pub(super) fn as_text<S: serde::Serializer>(
    error: &Option<PluginError>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}
