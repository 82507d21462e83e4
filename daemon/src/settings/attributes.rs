//! The attributes that a route's schema names: a list of names, each alone or with a list of its own.

use super::check::{At, Checker};
use super::convert::{FromValid, Valid};
use super::document::{Node, Value};
use super::text::quoted;

/// The attributes that are taken, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes(pub Vec<Attribute>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name in the payload.
    pub name: String,
    /// What is taken of the objects in it; `None` takes it whole.
    pub attributes: Option<Attributes>,
}

/// Lists inside each other.
const DEEPEST: usize = 32;
const EXPECTED: &str = "a list of names, such as `[id, {customer: [id, name]}]`";

// === impl Checker ===

impl Checker<'_> {
    /// Checks a list of attributes.
    pub(super) fn attributes(&mut self, node: &Node, at: At<'_>) -> Option<Valid> {
        self.attributes_within(node, at, 0).map(Valid::Attributes)
    }

    fn attributes_within(&mut self, node: &Node, at: At<'_>, depth: usize) -> Option<Attributes> {
        let items = match &node.value {
            Value::List(_) if depth > DEEPEST => {
                self.error(
                    at.path,
                    at.key,
                    format!("lists inside each other, more than {DEEPEST}"),
                );
                return None;
            }
            Value::List(items) if items.is_empty() => {
                self.error(
                    at.path,
                    at.key,
                    "the list is empty: nothing would be taken; leave it out to take all",
                );
                return None;
            }
            Value::List(items) => items,
            _ => {
                self.expected(EXPECTED, node, at, None);
                return None;
            }
        };
        let mut attributes: Vec<Attribute> = Vec::new();
        let mut is_good = true;
        for (index, item) in items.iter().enumerate() {
            let path = at.path.index(index);
            let below = At {
                path: &path,
                key: item.span.or(at.key),
            };
            let found = match &item.value {
                Value::Map(entries) if !entries.is_empty() => {
                    let mut found = Vec::new();
                    for entry in entries {
                        let path = path.key(&entry.key);
                        let inner = At {
                            path: &path,
                            key: entry.key_span.or(below.key),
                        };
                        let attributes = self.attributes_within(&entry.node, inner, depth + 1);
                        is_good &= attributes.is_some();
                        found.push((entry.key.clone(), attributes));
                    }
                    found
                }
                Value::Text(_) => match self.text(item, below) {
                    Some(name) => vec![(name, None)],
                    None => {
                        is_good = false;
                        continue;
                    }
                },
                _ => {
                    self.expected(
                        "a name, or a name with a list: `{customer: [id, name]}`",
                        item,
                        below,
                        None,
                    );
                    is_good = false;
                    continue;
                }
            };
            for (name, inner) in found {
                if attributes.iter().any(|known| known.name == name) {
                    self.error(&path, below.key, format!("{} is listed twice", quoted(&name)));
                    is_good = false;
                }
                attributes.push(Attribute {
                    name,
                    attributes: inner,
                });
            }
        }
        is_good.then_some(Attributes(attributes))
    }
}

impl FromValid for Attributes {
    fn from_valid(valid: &Valid) -> Option<Self> {
        match valid {
            Valid::Attributes(attributes) => Some(attributes.clone()),
            _ => None,
        }
    }
}
