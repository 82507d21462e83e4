//! `${VAR}`, `${VAR:-default}`, `${file:PATH}`, `${credential:NAME}` and `$$` in the texts of settings. They are
//! expanded in parsed scalars only, never in the text of the file, so no value can add a key.

use std::collections::BTreeSet;
use std::path::Path;

use super::environment::Environment;
use super::text::{nearest, quoted};

/// Expands texts and remembers which variables were used.
pub(super) struct Expander<'a> {
    env: &'a dyn Environment,
    /// Every variable that a setting named, whether set or not.
    pub variables: BTreeSet<String>,
    /// Bytes that may still be expanded, so that no file grows without bound.
    left: usize,
}

/// A file or credential is at most this long.
const FILE: u64 = 1 << 20;

/// All expanded text of one settings file together.
const EXPANDED: usize = 16 << 20;

/// `${A:-${B:-...}}` goes this deep.
const NESTED: usize = 8;

impl<'a> Expander<'a> {
    pub(super) fn new(env: &'a dyn Environment) -> Self {
        Self {
            env,
            variables: BTreeSet::new(),
            left: EXPANDED,
        }
    }

    /// The text with everything expanded, or `None` where there was nothing to expand.
    ///
    /// # Errors
    /// Says what cannot be expanded and why; never shows a value.
    pub(super) fn expand(&mut self, text: &str) -> Result<Option<String>, String> {
        if !text.contains("${") && !text.contains("$$") {
            return Ok(None);
        }
        self.inner(text, 0).map(Some)
    }

    fn inner(&mut self, text: &str, depth: usize) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
            } else if let Some(tail) = after.strip_prefix('{') {
                let end = closing(tail).ok_or_else(|| {
                    format!(
                        "{} has no closing `}}` (write `$$` for a dollar)",
                        quoted(&rest[at..])
                    )
                })?;
                out.push_str(&self.one(&tail[..end], depth)?);
                rest = &tail[end + 1..];
            } else {
                // a dollar alone is a dollar: patterns end with one
                out.push('$');
                rest = after;
            }
        }
        out.push_str(rest);
        match self.left.checked_sub(out.len()) {
            Some(left) => self.left = left,
            None => return Err("all substitutions together are longer than 16 MiB".into()),
        }
        Ok(out)
    }

    /// What stands between `${` and `}`.
    fn one(&mut self, inside: &str, depth: usize) -> Result<String, String> {
        if depth >= NESTED {
            return Err("substitutions stand in one another too deep".into());
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if is_variable(name) {
            self.variables.insert(name.to_owned());
            let value = self
                .env
                .variable(name)
                .filter(|value| default.is_none() || !value.is_empty());
            return match (value, default) {
                (Some(value), _) => value
                    .into_string()
                    .map_err(|_| format!("the variable `{name}` is not UTF-8 text")),
                (None, Some(default)) => self.inner(default, depth + 1),
                (None, None) => Err(format!(
                    "the variable `{name}` is not set (a default is written `${{{name}:-value}}`)"
                )),
            };
        }
        match inside.split_once(':') {
            Some(("file", "")) => Err("`${file:PATH}` names no file".into()),
            Some(("file", path)) => self.file(Path::new(path), &format!("the file {}", quoted(path))),
            Some(("credential", name)) => self.credential(name),
            Some((name, _)) if is_variable(name) && nearest(name, ["file", "credential"]).is_some() => {
                let near = nearest(name, ["file", "credential"]).unwrap_or("file");
                Err(format!(
                    "{} is not known; did you mean `${{{near}:...}}`?",
                    quoted(&format!("${{{inside}}}"))
                ))
            }
            _ => Err(format!(
                "{} is not a substitution: write `${{VAR}}`, `${{VAR:-default}}`, `${{file:PATH}}` or `${{credential:NAME}}` (and `$$` for a dollar)",
                quoted(&format!("${{{inside}}}"))
            )),
        }
    }

    fn credential(&mut self, name: &str) -> Result<String, String> {
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(format!("{} is not the name of a credential", quoted(name)));
        }
        let directory = self.env.credentials_directory().ok_or_else(|| {
            format!("the credential `{name}` cannot be read: CREDENTIALS_DIRECTORY is not set (systemd sets it for a unit with LoadCredential=)")
        })?;
        self.file(&directory.join(name), &format!("the credential `{name}`"))
    }

    fn file(&mut self, path: &Path, what: &str) -> Result<String, String> {
        let bytes = self
            .env
            .read(path, FILE)
            .map_err(|error| format!("{what} cannot be read: {error}"))?;
        if bytes.len() as u64 > FILE {
            return Err(format!("{what} is longer than 1 MiB"));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8 text"))?;
        // an editor's last line end is no part of a password
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}

/// Where the `}` that closes this stands; braces inside come in pairs.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn is_variable(name: &str) -> bool {
    let start = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    start && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::World;
    use super::*;

    fn world() -> World {
        World::default()
            .variable("A", "x")
            .variable("EMPTY", "")
            .variable("CREDENTIALS_DIRECTORY", "/run/credentials")
            .file("/run/credentials/key", "secret\n")
            .file("/etc/f", "a\r\nb\r\n")
    }

    fn expand(text: &str) -> Result<String, String> {
        let world = world();
        Expander::new(&world)
            .expand(text)
            .map(|expanded| expanded.unwrap_or_else(|| text.to_owned()))
    }

    #[test]
    fn every_form_is_expanded() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "x"),
            ("-${A}-${A}-", "-x-x-"),
            ("${B:-d e}", "d e"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("${B:-${A}${C:-y}}", "xy"),
            ("$$A $${A} $A ^a.*$", "$A ${A} $A ^a.*$"),
            ("${file:/etc/f}", "a\r\nb"),
            ("${credential:key}", "secret"),
        ] {
            assert_eq!(expand(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        for (text, part) in [
            ("${B}", "`B` is not set"),
            ("${A", "no closing"),
            ("${}", "not a substitution"),
            ("${A:?gone}", "not a substitution"),
            ("${fil:/x}", "${file:...}"),
            ("${file:}", "names no file"),
            ("${file:/no}", "cannot be read"),
            ("${credential:../key}", "not the name of a credential"),
            ("${credential:none}", "cannot be read"),
        ] {
            let error = expand(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(
            expand(
                &"${B:-"
                    .repeat(20)
                    .chars()
                    .chain("}".repeat(20).chars())
                    .collect::<String>()
            )
            .is_err()
        );
    }

    #[test]
    fn variables_are_remembered() {
        let world = world();
        let mut expander = Expander::new(&world);
        expander.expand("${A} ${B:-${C:-}} ${file:/etc/f} $$D").unwrap();
        assert_eq!(
            expander.variables.into_iter().collect::<Vec<_>>(),
            ["A", "B", "C"]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[$\\{\\}:A\\-é]{0,40}|\\PC*") {
            let _ = expand(&text);
        }
    }
}
