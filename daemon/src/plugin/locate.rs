//! Finds the library that a route names: a path as it is, a bare name in the plugin directories.

use std::path::{Path, PathBuf};

use super::{PluginError, PluginFault};

/// The file that `path` names. A path with a slash is taken as it is, relative to the working directory; a name without
/// one is searched in `plugin_dirs`, in order.
///
/// # Errors
/// [`PluginFault::NoSuchFile`], with where it was looked for and the most similar names that are there.
pub fn locate(path: &str, plugin_dirs: &[PathBuf]) -> Result<PathBuf, PluginError> {
    let searched: Vec<PathBuf> = if path.contains('/') {
        vec![PathBuf::from(path)]
    } else {
        plugin_dirs.iter().map(|dir| dir.join(path)).collect()
    };
    // A dangling link and an unreadable directory are told by what opens the file, not here.
    if let Some(found) = searched
        .iter()
        .find(|candidate| candidate.symlink_metadata().is_ok())
    {
        return Ok(found.clone());
    }
    let wanted = Path::new(path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut dirs: Vec<&Path> = searched
        .iter()
        .filter_map(|candidate| candidate.parent())
        .collect();
    dirs.dedup();
    let there: Vec<String> = dirs
        .into_iter()
        .flat_map(|dir| libraries_in(dir).unwrap_or_default())
        .collect();
    let nearest = nearest_names(&wanted, there.iter().map(String::as_str));
    Err(PluginError::new(
        path,
        PluginFault::NoSuchFile { searched, nearest },
    ))
}

/// Names of the files in `dir` that are called like a shared library, sorted.
///
/// # Errors
/// When the directory cannot be read.
pub fn libraries_in(dir: &Path) -> std::io::Result<Vec<String>> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".so") || name.contains(".so.") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Those of `there` that a person may have meant by `wanted`, most similar first, at most three.
pub(super) fn nearest_names<'a>(wanted: &str, there: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // `math`, `libmath` and `math.so` are near to `libmath.so`.
    let stem = |name: &str| {
        let name = name.to_lowercase();
        let name = name.split(".so").next().unwrap_or_default();
        name.strip_prefix("lib").unwrap_or(name).replace('-', "_")
    };
    let key = stem(wanted);
    let mut near: Vec<(f64, &str)> = there
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&key, &stem(name)), name))
        .filter(|(similarity, _)| *similarity >= 0.5)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    near.into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}
