//! The files of `routes_dir`: each holds routes, and nothing else. One file for each team, so that each changes its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{self, Entry, Node, Value};
use super::environment::Environment;
use super::findings::{Finding, Severity};
use super::guard::{self, LARGEST};
use super::keys::{CLIENT, ROOT};
use super::positions::{KeyPath, SourceMap, Span};
use super::sources::Source;
use super::text::{nearest, quoted};

/// The only key of a fragment.
const ROUTES: &str = "consumer_routes";

/// More files than any team has; a directory that holds more is another one than was meant.
const MOST: usize = 1000;

/// One file, read.
pub(super) struct Fragment {
    pub source: Source,
    /// Its routes; none where they cannot be told.
    pub routes: Vec<Entry>,
    /// What is wrong with the file itself.
    pub findings: Vec<Finding>,
}

/// A file as a tree.
pub(super) struct Parsed {
    /// `None` where it is no YAML.
    pub root: Option<Node>,
    pub source: SourceMap,
    pub findings: Vec<Finding>,
}

/// Reads a text as a tree, with the places of its keys. What must not be shown is blotted out.
///
/// # Errors
/// Why it is no text, and where.
pub(super) fn parsed(bytes: &[u8]) -> Result<Parsed, (Span, String)> {
    let text = guard::text(bytes)?;
    let mut source = SourceMap::new(text);
    let mut findings = Vec::new();
    let root = match document::read(text, &mut findings) {
        Ok(root) => Some(root),
        Err(finding) => {
            source.blot_by_looks();
            findings = vec![*finding];
            None
        }
    };
    if let Some(root) = &root {
        document::survey(root, &KeyPath::root(), &mut source);
    }
    Ok(Parsed {
        root,
        source,
        findings,
    })
}

/// Reads the fragments of a directory, by name. Files whose names do not end with `.yaml`, or begin with a dot, are none;
/// the names of those that somebody may have meant to be one are returned too.
///
/// # Errors
/// Why the directory cannot be read.
pub(super) fn read(dir: &Path, env: &dyn Environment) -> Result<(Vec<Fragment>, Vec<PathBuf>), String> {
    let mut names = env.list(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such directory: make it, or take this key out".to_owned(),
        io::ErrorKind::NotADirectory => "this is no directory".to_owned(),
        _ => format!("the directory cannot be read: {error}"),
    })?;
    names.sort_unstable();
    let ends = |name: &Path, ending: &str| {
        let name = name.to_string_lossy();
        name.ends_with(ending) && !name.starts_with('.')
    };
    let passed_over: Vec<PathBuf> = names
        .iter()
        .filter(|name| ends(name, ".yml"))
        .map(|name| dir.join(name))
        .collect();
    names.retain(|name| ends(name, ".yaml"));
    if names.len() > MOST {
        return Err(format!(
            "it holds {} files, more than the {MOST} that are read",
            names.len()
        ));
    }
    let fragments = names.iter().map(|name| fragment(dir.join(name), env)).collect();
    Ok((fragments, passed_over))
}

fn fragment(file: PathBuf, env: &dyn Environment) -> Fragment {
    let none = |file: PathBuf, at: Option<Span>, message: String| {
        let mut finding = Finding::new(Severity::Error, &KeyPath::root(), at, message);
        finding.file.clone_from(&file);
        Fragment {
            source: Source {
                file,
                map: Arc::default(),
            },
            routes: Vec::new(),
            findings: vec![finding],
        }
    };
    let bytes = match env.read(&file, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return none(
                file,
                None,
                "this is a directory, not a file with routes".to_owned(),
            );
        }
        Err(error) => return none(file, None, format!("the file cannot be read: {error}")),
    };
    if bytes.len() as u64 > LARGEST {
        let message = "the file is longer than 1 MiB: are these routes?";
        return none(file, None, message.to_owned());
    }
    let Parsed {
        root,
        source,
        mut findings,
    } = match parsed(&bytes) {
        Ok(parsed) => parsed,
        Err((at, message)) => return none(file, Some(at), message),
    };
    let routes = root.map(|root| routes(root, &mut findings)).unwrap_or_default();
    for finding in &mut findings {
        finding.file.clone_from(&file);
    }
    let source = Source {
        file,
        map: Arc::new(source),
    };
    Fragment {
        source,
        routes,
        findings,
    }
}

/// The routes of a fragment's tree. A file of comments alone has none.
fn routes(root: Node, findings: &mut Vec<Finding>) -> Vec<Entry> {
    let top = root.span;
    let entries = match root.value {
        Value::Map(entries) => entries,
        Value::Null | Value::Invalid => return Vec::new(),
        _ => {
            let message = "expected `consumer_routes:` and the routes of this file below it";
            findings.push(Finding::new(Severity::Error, &KeyPath::root(), top, message));
            return Vec::new();
        }
    };
    let mut routes = Vec::new();
    for Entry { key, key_span, node } in entries {
        let path = KeyPath::root().key(&key);
        let mut error =
            |message: String| findings.push(Finding::new(Severity::Error, &path, key_span, message));
        match (key.as_str(), node.value) {
            (ROUTES, Value::Map(entries)) => routes = entries,
            (ROUTES, Value::Null | Value::Invalid) => {}
            (ROUTES, _) => error("expected a mapping of names to routes".to_owned()),
            (key, _) if ROOT.key(key).is_some() || CLIENT.key(key).is_some() => error(format!(
                "{} is for the whole daemon and stands in the settings file; a file of `routes_dir` holds \
                 `{ROUTES}` alone",
                quoted(key)
            )),
            (key, _) => {
                let meant = nearest(key, [ROUTES])
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                error(format!(
                    "there is no key {} here: a file of `routes_dir` holds `{ROUTES}` alone{meant}",
                    quoted(key)
                ));
            }
        }
    }
    routes
}
