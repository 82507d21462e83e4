//! Checks a tree of values against the schema. Everything that is wrong is reported and left out; checking goes on.

use std::collections::BTreeSet;
use std::path::Path;

use super::consumer_config::CONFIG;
use super::convert::{Tree, Valid};
use super::document::{Entry, Node, Value, value_of};
use super::environment::Environment;
use super::findings::{Finding, Severity};
use super::keys::{ROOT, ROUTE};
use super::positions::{KeyPath, Span};
use super::schema::{Block, Key, Kind, Standing};
use super::substitute::Expander;
use super::text::{is_secret_key, nearest, quoted};

/// Where a setting is: its path, and the place of its key.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub path: &'a KeyPath,
    pub key: Option<Span>,
}

/// Checks values, expands what they substitute, and collects findings.
pub(super) struct Checker<'a> {
    pub expander: Expander<'a>,
    pub findings: Vec<Finding>,
    /// Names that were warned about: once is enough.
    warned: BTreeSet<&'static str>,
}

/// A scalar after substitution.
pub(super) struct Scalar {
    pub value: Value,
    /// As it stands in the file, if something was substituted into it.
    pub written: Option<String>,
}

/// No variables, no files: for the schema's own values.
struct Nowhere;

impl Environment for Nowhere {
    fn variable(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }

    fn read(&self, _: &Path, _: u64) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn can_write_in(&self, _: &Path) -> bool {
        false
    }
}

pub(super) fn expectation(key: &Key) -> String {
    let words = key.kind.words();
    if key.none {
        format!("{words}, or `none`")
    } else {
        words
    }
}

/// A substituted text as YAML reads it, if that is a single value.
pub(super) fn resolved(text: &str) -> Value {
    match value_of(text) {
        Some(value @ (Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Null)) => value,
        _ => Value::Text(text.to_owned()),
    }
}

/// The value that the schema gives an absent key, if it gives one.
pub(super) fn default_of(key: &'static Key) -> Option<Valid> {
    if let Kind::Block { block, .. } = key.kind {
        return Some(Valid::Block(Tree::new(block)));
    }
    let node = Node {
        span: None,
        plain: false,
        value: value_of(key.default?)?,
    };
    let mut checker = Checker::new(&Nowhere);
    let path = KeyPath::root();
    let valid = checker.value(
        key,
        &node,
        At {
            path: &path,
            key: None,
        },
    );
    checker.findings.is_empty().then_some(valid).flatten()
}

/// A check of `value` alone, outside any file.
pub(super) fn detached(block: &'static Block, node: &Node) -> (Tree, Vec<Finding>) {
    let mut checker = Checker::new(&Nowhere);
    let path = KeyPath::root();
    let tree = checker.block(
        block,
        node,
        At {
            path: &path,
            key: None,
        },
    );
    (tree, checker.findings)
}

// === impl Checker ===

impl<'a> Checker<'a> {
    pub(super) fn new(env: &'a dyn Environment) -> Self {
        Self {
            expander: Expander::new(env),
            findings: Vec::new(),
            warned: BTreeSet::new(),
        }
    }

    pub(super) fn error(
        &mut self,
        path: &KeyPath,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.report(Finding::new(Severity::Error, path, span, message))
    }

    pub(super) fn warning(
        &mut self,
        path: &KeyPath,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> &mut Finding {
        self.report(Finding::new(Severity::Warning, path, span, message))
    }

    fn report(&mut self, finding: Finding) -> &mut Finding {
        self.findings.push(finding);
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// Checks a mapping against a block. A missing key is the caller's to report.
    pub(super) fn block(&mut self, block: &'static Block, node: &Node, at: At<'_>) -> Tree {
        let mut tree = Tree::new(block);
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            // `log:` with everything below it commented out
            Value::Null | Value::Invalid => &[],
            _ => {
                self.expected("a mapping", node, at, None);
                &[]
            }
        };
        for entry in entries {
            let path = at.path.key(&entry.key);
            let below = At {
                path: &path,
                key: entry.key_span,
            };
            let Some(key) = block.key(&entry.key) else {
                self.unknown(block, entry, below);
                continue;
            };
            if let Some(value) = self.standing(key, &entry.node, below) {
                tree.set(key.name, value);
            }
        }
        tree
    }

    /// Reports the required keys that `tree` lacks.
    pub(super) fn require(&mut self, block: &'static Block, tree: &Tree, at: At<'_>) {
        for key in block
            .keys
            .iter()
            .filter(|key| key.required && !tree.has(key.name))
        {
            let already = at.path.key(key.name);
            // it is there and wrong or misspelt, and that was said
            let meant = format!("did you mean `{}`?", key.name);
            let said = |finding: &Finding| finding.key == already || finding.help.as_ref() == Some(&meant);
            if self.findings.iter().any(said) {
                continue;
            }
            self.error(&already, at.key, format!("the key `{}` is missing", key.name))
                .help = Some(format!("add `{}: {}`", key.name, key.shown_value()));
        }
    }

    fn standing(&mut self, key: &'static Key, node: &Node, at: At<'_>) -> Option<Valid> {
        let span = if matches!(node.value, Value::Map(_) | Value::List(_) | Value::Null) {
            at.key
        } else {
            node.span.or(at.key)
        };
        match key.standing {
            Standing::Supported => self.value(key, node, at),
            Standing::Ignored(reason) => {
                if self.warned.insert(key.name) {
                    self.warning(
                        at.path,
                        at.key,
                        format!("`{}` is accepted and does nothing: {reason}", key.name),
                    );
                }
                None
            }
            Standing::Refused(reason) => {
                self.error(
                    at.path,
                    at.key,
                    format!("`{}` cannot be set here: {reason}", key.name),
                );
                None
            }
            Standing::Only(only, reason) => {
                if self.is(node, only) {
                    return self.value(key, node, at);
                }
                self.error(at.path, span, format!("only {only} can be honoured: {reason}"));
                None
            }
            Standing::Unavailable(None) => {
                self.error(
                    at.path,
                    at.key,
                    format!("`{}` is not available in this version of devourd", key.name),
                );
                None
            }
            Standing::Unavailable(Some(today)) => {
                if self.is(node, today) {
                    return self.value(key, node, at);
                }
                self.error(
                    at.path,
                    span,
                    format!(
                        "`{}` other than `{today}` is not available in this version of devourd",
                        key.name
                    ),
                );
                None
            }
        }
    }

    /// Whether a node is the value that `yaml` says.
    pub(super) fn is(&mut self, node: &Node, yaml: &str) -> bool {
        let Ok(scalar) = self.expander_scalar(node) else {
            return false;
        };
        let value = match (scalar.written, scalar.value) {
            (Some(_), Value::Text(text)) => resolved(&text),
            (_, value) => value,
        };
        match (value_of(yaml), value) {
            (Some(Value::Text(a)), Value::Text(b)) => a == b,
            (Some(Value::Integer(a)), Value::Integer(b)) => a == b,
            (Some(Value::Bool(a)), Value::Bool(b)) => a == b,
            _ => false,
        }
    }

    fn unknown(&mut self, block: &'static Block, entry: &Entry, at: At<'_>) {
        let elsewhere = [
            (&ROUTE, "a route, or of `defaults`"),
            (&CONFIG, "a route's `config`"),
            (&ROOT, "the top of the file"),
        ];
        let shown = |block: &'static Block| block.shown().map(|key| key.name);
        let home = elsewhere
            .into_iter()
            .find(|(other, _)| !std::ptr::eq(*other, block) && shown(other).any(|name| name == entry.key));
        let help = match home {
            Some((_, home)) => Some(format!("`{}` is a key of {home}", entry.key)),
            None => nearest(&entry.key, shown(block)).map(|near| format!("did you mean `{near}`?")),
        };
        self.error(at.path, at.key, format!("there is no key {}", quoted(&entry.key)))
            .help = help;
    }

    /// A scalar with everything expanded; for a list or a mapping its own value. Says what cannot be expanded.
    pub(super) fn scalar(&mut self, node: &Node, at: At<'_>) -> Option<Scalar> {
        if matches!(node.value, Value::Invalid) {
            return None;
        }
        match self.expander_scalar(node) {
            Ok(scalar) => Some(scalar),
            Err(message) => {
                self.error(at.path, node.span.or(at.key), message);
                None
            }
        }
    }

    fn expander_scalar(&mut self, node: &Node) -> Result<Scalar, String> {
        let Value::Text(text) = &node.value else {
            return Ok(Scalar {
                value: node.value.clone(),
                written: None,
            });
        };
        Ok(match self.expander.expand(text)? {
            Some(expanded) => Scalar {
                value: Value::Text(expanded),
                written: Some(text.clone()),
            },
            None => Scalar {
                value: Value::Text(text.clone()),
                written: None,
            },
        })
    }

    /// The text of a scalar that must be text, with everything expanded.
    pub(super) fn text(&mut self, node: &Node, at: At<'_>) -> Option<String> {
        match self.scalar(node, at)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_substituted(&self, node: &Node) -> bool {
        matches!(&node.value, Value::Text(text) if text.contains("${"))
    }

    /// "expected a duration, found `soon`: ...". What was substituted is not shown: it may be a secret.
    pub(super) fn expected(&mut self, what: &str, node: &Node, at: At<'_>, why: Option<String>) {
        let secret = at.path.last_key().is_some_and(is_secret_key);
        let found = match &node.value {
            Value::Map(_) => "a mapping".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Null => "nothing".to_owned(),
            _ if secret => "something else".to_owned(),
            Value::Text(text) if self.is_substituted(node) => format!("what {} stands for", quoted(text)),
            Value::Text(text) => quoted(text),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("`{value}`"),
            Value::Float(value) => format!("`{value}`"),
            Value::Invalid => return,
        };
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let span = match node.value {
            Value::Map(_) | Value::List(_) | Value::Null => at.key,
            _ => node.span.or(at.key),
        };
        self.error(at.path, span, format!("expected {what}, found {found}{why}"));
    }
}
