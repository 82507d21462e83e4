//! The text of a settings file as a tree of values, each with its place. serde_yaml decides the values; the spots of
//! `guard` only say where they stand.

use super::findings::{Finding, Severity};
use super::guard::{Look, Shape, Spot, look};
use super::positions::{KeyPath, SourceMap, Span};
use super::text::{is_secret_key, quoted};
use super::yaml::{Raw, parse};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub span: Option<Span>,
    /// An unquoted scalar: what is substituted into it is read as YAML again.
    pub plain: bool,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported: nothing more is to be said about it.
    Invalid,
}

/// A key of a mapping, with its value. Every key is text and stands once: the rest is reported and gone.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Option<Span>,
    pub node: Node,
}

/// Reads a text into a tree.
///
/// # Errors
/// The one finding that keeps the text from being YAML at all.
pub(super) fn read(text: &str, findings: &mut Vec<Finding>) -> Result<Node, Box<Finding>> {
    let error = |span: Option<Span>, message: String| {
        Box::new(Finding::new(Severity::Error, &KeyPath::root(), span, message))
    };
    let spot = match look(text) {
        Look::Refused { at, message } => return Err(error(Some(at), message)),
        Look::Document(spot) => Ok(spot),
        Look::Unclear { at, message } => Err((at, message)),
    };
    let raw = match parse(text) {
        Ok(raw) => raw,
        Err((at, message)) => {
            // serde_yaml has the word; where it names no place the other parser may
            let at = at.or_else(|| spot.as_ref().err().map(|(at, _)| *at));
            return Err(error(at, format!("this is not YAML: {message}")));
        }
    };
    let spot = spot.ok().flatten();
    Ok(Place { findings }.node(raw, spot.as_ref(), None, &KeyPath::root()))
}

/// A tree without places, from JSON (a plugin's descriptor).
pub(super) fn from_json(json: &serde_json::Value) -> Node {
    let value = match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i128() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(from_json).collect()),
        serde_json::Value::Object(map) => Value::Map(
            map.iter()
                .map(|(key, value)| Entry {
                    key: key.clone(),
                    key_span: None,
                    node: from_json(value),
                })
                .collect(),
        ),
    };
    Node {
        span: None,
        plain: false,
        value,
    }
}

/// YAML of our own (defaults, samples) or of a substituted scalar: no findings, no places.
pub(super) fn value_of(text: &str) -> Option<Value> {
    let node = Place {
        findings: &mut Vec::new(),
    }
    .node(parse(text).ok()?, None, None, &KeyPath::root());
    Some(node.value)
}

/// Writes down where everything stands, and blots out what must not be shown.
pub(super) fn survey(node: &Node, path: &KeyPath, source: &mut SourceMap) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let path = path.key(&entry.key);
                let scalar = !matches!(entry.node.value, Value::Map(_) | Value::List(_) | Value::Null);
                let span = if scalar {
                    entry.node.span.or(entry.key_span)
                } else {
                    entry.key_span
                };
                if let Some(span) = span {
                    source.record(path.clone(), span);
                }
                if is_secret_key(&entry.key) && !is_substitution(&entry.node.value) {
                    entry.node.span.into_iter().for_each(|span| source.blot(span));
                }
                survey(&entry.node, &path, source);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = path.index(index);
                if let Some(span) = item.span {
                    source.record(path.clone(), span);
                }
                survey(item, &path, source);
            }
        }
        _ => {}
    }
}

fn is_substitution(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.starts_with("${") && text.ends_with('}') && text.matches("${").count() == 1 && !text.contains(":-"))
}

// === placing them ===

/// Joins values and spots, and reports what no setting may be: tags, keys that are no text, keys that stand twice.
struct Place<'a> {
    findings: &'a mut Vec<Finding>,
}

impl Place<'_> {
    fn node(&mut self, raw: Raw, spot: Option<&Spot>, outer: Option<Span>, path: &KeyPath) -> Node {
        let span = spot.map(|spot| spot.span).or(outer);
        let plain = matches!(spot.map(|spot| &*spot.shape), Some(Shape::Scalar { plain: true }));
        let value = match raw {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Integer(value) => Value::Integer(value),
            Raw::Float(value) => Value::Float(value),
            Raw::Text(text) => Value::Text(text),
            Raw::Tagged(tag) => {
                self.report(path, span, format!("the tag {} means nothing here", quoted(&tag)));
                Value::Invalid
            }
            Raw::List(items) => {
                let spots: &[Spot] = match spot.map(|spot| &*spot.shape) {
                    Some(Shape::List(spots)) => spots,
                    _ => &[],
                };
                let place = |(index, item)| self.node(item, spots.get(index), span, &path.index(index));
                Value::List(items.into_iter().enumerate().map(place).collect())
            }
            Raw::Map(entries) => self.map(entries, spot, span, path),
        };
        Node { span, plain, value }
    }

    fn map(
        &mut self,
        raw: Vec<(Raw, Raw)>,
        spot: Option<&Spot>,
        span: Option<Span>,
        path: &KeyPath,
    ) -> Value {
        let spots: &[(Spot, Spot)] = match spot.map(|spot| &*spot.shape) {
            Some(Shape::Map(spots)) => spots,
            _ => &[],
        };
        let mut first: std::collections::HashMap<String, Option<Span>> = std::collections::HashMap::new();
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        for (index, (key, value)) in raw.into_iter().enumerate() {
            let (key_spot, value_spot) = match spots.get(index) {
                Some((key, value)) => (Some(key), Some(value)),
                None => (None, None),
            };
            let key_span = key_spot.map(|spot| spot.span).or(span);
            let Raw::Text(key) = key else {
                let shown = match key {
                    Raw::Bool(value) => format!(" `{value}`"),
                    Raw::Integer(value) => format!(" `{value}`"),
                    _ => String::new(),
                };
                self.report(
                    path,
                    key_span,
                    format!("the key{shown} is not text; put it in quotes"),
                );
                continue;
            };
            let below = path.key(&key);
            if let Some(earlier) = first.get(&key) {
                let place = earlier
                    .map(|span| format!(", first in line {}", span.start.line))
                    .unwrap_or_default();
                self.report(&below, key_span, format!("this key stands twice{place}"));
                continue;
            }
            first.insert(key.clone(), key_span);
            let node = self.node(value, value_spot, key_span, &below);
            if key == "<<" {
                self.merge(node, key_span, &below, &mut merged);
            } else {
                entries.push(Entry { key, key_span, node });
            }
        }
        // YAML's merge key: what stands in the mapping itself wins, then the earlier of several
        for entry in merged {
            if let std::collections::hash_map::Entry::Vacant(vacant) = first.entry(entry.key.clone()) {
                vacant.insert(entry.key_span);
                entries.push(entry);
            }
        }
        Value::Map(entries)
    }

    fn merge(&mut self, node: Node, span: Option<Span>, path: &KeyPath, merged: &mut Vec<Entry>) {
        match node.value {
            Value::Map(entries) => merged.extend(entries),
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                for item in items {
                    self.merge(item, span, path, merged);
                }
            }
            Value::Invalid => {}
            _ => self.report(
                path,
                span,
                "`<<` merges a mapping (an alias to one), or a list of them".into(),
            ),
        }
    }

    fn report(&mut self, path: &KeyPath, span: Option<Span>, message: String) {
        self.findings
            .push(Finding::new(Severity::Error, path, span, message));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> (Result<Node, Box<Finding>>, Vec<Finding>) {
        let mut findings = Vec::new();
        let node = read(text, &mut findings);
        (node, findings)
    }

    fn line(node: &Node, key: &str) -> usize {
        let Value::Map(entries) = &node.value else {
            panic!("no map")
        };
        entries
            .iter()
            .find(|entry| entry.key == key)
            .unwrap()
            .node
            .span
            .unwrap()
            .start
            .line
    }

    #[test]
    fn every_value_knows_its_line_whatever_ends_it() {
        for (text, expected) in [
            ("a: 1\nb: 2\n", 2),
            ("a: 1\r\nb: 2\r\n", 2),
            ("# é\n\na: 1\nb: {c: 1}\n", 4),
        ] {
            let (node, findings) = read_all(text);
            assert_eq!(line(&node.unwrap(), "b"), expected, "{text:?}");
            assert!(findings.is_empty());
        }
    }

    #[test]
    fn doubles_tags_and_odd_keys_are_all_reported_with_their_place() {
        let (node, findings) = read_all("a: 1\nb: !x 2\na: 3\n4: 5\n? [c]\n: 6\nd: {e: 1, e: 2}\n");
        assert!(node.is_ok());
        let places: Vec<usize> = findings
            .iter()
            .map(|finding| finding.position.unwrap().line)
            .collect();
        assert_eq!(places, [2, 3, 4, 5, 7], "{findings:?}");
    }

    #[test]
    fn merge_keys_and_anchors_are_honoured() {
        let (node, findings) =
            read_all("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 9}\nd: {<<: 1}\n");
        let Value::Map(entries) = node.unwrap().value else {
            panic!("no map")
        };
        let Value::Map(c) = &entries[2].node.value else {
            panic!("no map")
        };
        let values: Vec<String> = c
            .iter()
            .map(|entry| format!("{}{:?}", entry.key, entry.node.value))
            .collect();
        assert_eq!(values, ["xInteger(9)", "yInteger(2)", "zInteger(4)"]);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn what_is_not_yaml_is_placed() {
        for (text, at) in [
            ("a: [1\n", 2),
            ("\tx: 1\n", 1),
            ("a: b: c\n", 1),
            ("a: *x\n", 1),
            ("a: 1\n b: 2\n", 2),
        ] {
            let finding = read_all(text).0.unwrap_err();
            assert_eq!(finding.position.unwrap().line, at, "{text:?} {finding}");
        }
    }

    #[test]
    fn an_alias_to_much_text_used_often_is_refused() {
        let text = format!(
            "a: &a \"{}\"\nb: [{}]\n",
            "x".repeat(400_000),
            "*a, ".repeat(1000)
        );
        assert!(read_all(&text).0.unwrap_err().message.contains("too large"));
    }
}
