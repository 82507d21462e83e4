//! One value against its kind: numbers, words, lists, properties, a plugin's own settings.

use std::collections::BTreeMap;

use super::check::{At, Checker, expectation, resolved};
use super::convert::Valid;
use super::document::{Node, Value};
use super::keys::RESERVED;
use super::positions::KeyPath;
use super::schema::{Key, Kind, Merge, Outside};
use super::text::{nearest, quoted};
use super::units::{format_duration, format_size, parse_duration, parse_size};

impl Checker<'_> {
    /// Checks one value against its kind.
    pub(super) fn value(&mut self, key: &'static Key, node: &Node, at: At<'_>) -> Option<Valid> {
        if let Some((value, reason)) = key.warn
            && self.is(node, value)
        {
            self.warning(
                at.path,
                node.span.or(at.key),
                format!("`{}: {value}`: {reason}", key.name),
            );
        }
        match (&node.value, key.kind) {
            (Value::Invalid, _) => return None,
            (Value::Text(text), _) if key.none && text == "none" => return Some(Valid::None),
            (Value::Null, _) if key.none => return Some(Valid::None),
            (_, Kind::Block { block, merge }) => {
                let tree = self.block(block, node, at);
                if merge == Merge::Replace {
                    self.require(block, &tree, at);
                }
                return Some(Valid::Block(tree));
            }
            (_, Kind::Scalars) => return self.scalars(node, at),
            (_, Kind::Free) => return self.free(node, at),
            (Value::List(_) | Value::Map(_), Kind::Attributes) => return self.attributes(node, at),
            (Value::Null, Kind::Routes) => return Some(Valid::None),
            (Value::Map(_), Kind::Routes) => return Some(Valid::None),
            (Value::Null, Kind::Any) => return None,
            (Value::Null, _) => {
                self.error(
                    at.path,
                    at.key,
                    format!("it has no value: expected {}", expectation(key)),
                );
                return None;
            }
            (_, Kind::Any) => return None,
            _ => {}
        }
        match key.kind {
            Kind::Commas { check, .. } => self.commas(key, check, node, at),
            Kind::OneOrMany { check, .. } => self.one_or_many(key, check, node, at),
            Kind::Attributes => self.attributes(node, at),
            Kind::Paths => self.one_or_many(key, super::forms::not_empty, node, at),
            _ => self.single(key, node, at),
        }
    }

    fn single(&mut self, key: &'static Key, node: &Node, at: At<'_>) -> Option<Valid> {
        let mut scalar = self.scalar(node, at)?;
        let written = scalar.written.is_none();
        if let (Kind::Bool | Kind::Integer { .. }, false, Value::Text(text)) =
            (key.kind, written, &scalar.value)
        {
            scalar.value = resolved(text.trim());
        }
        let wrong = |checker: &mut Self, why: Option<String>| {
            checker.expected(&expectation(key), node, at, why);
            None
        };
        // what was substituted is not shown, so no hint may be made of it
        let hinted = |checker: &mut Self, hint: Option<String>| {
            checker.expected(&expectation(key), node, at, None);
            if let (Some(last), true) = (checker.findings.last_mut(), written) {
                last.help = hint;
            }
            None
        };
        match (key.kind, &scalar.value) {
            (_, Value::Text(text)) if key.none && text == "none" => Some(Valid::None),
            (Kind::Bool, Value::Bool(value)) => Some(Valid::Bool(*value)),
            (Kind::Bool, Value::Text(text)) => {
                let word = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => Some("true"),
                    "no" | "off" | "n" | "false" => Some("false"),
                    _ => None,
                };
                hinted(self, word.map(|word| format!("write {word}")))
            }
            (Kind::Integer { .. }, Value::Integer(value)) => self.integer(key, *value, node, at),
            (Kind::Integer { .. }, Value::Text(text)) => {
                let milliseconds = key
                    .name
                    .ends_with("_ms")
                    .then(|| parse_duration(text).ok())
                    .flatten();
                let number = text.replace('_', "").parse::<i64>().ok();
                let number = milliseconds
                    .map(|duration| duration.as_millis().to_string())
                    .or(number.map(|n| n.to_string()));
                hinted(self, number.map(|number| format!("write {number}")))
            }
            (Kind::Duration { min, max }, Value::Text(text)) => match parse_duration(text) {
                Ok(value) if value < min => {
                    wrong(self, Some(format!("it is less than {}", format_duration(min))))
                }
                Ok(value) if value > max => {
                    wrong(self, Some(format!("it is more than {}", format_duration(max))))
                }
                Ok(value) => Some(Valid::Duration(value)),
                Err(why) => wrong(self, Some(why)),
            },
            (Kind::Duration { .. }, Value::Integer(_) | Value::Float(_)) => wrong(
                self,
                Some("a duration needs a unit, as in `250ms`, `5s`, `1m`, `2h`".into()),
            ),
            (Kind::Size { min, max }, Value::Text(_) | Value::Integer(_)) => {
                let parsed = match &scalar.value {
                    Value::Text(text) => parse_size(text),
                    Value::Integer(value) if *value < 0 => Err("it is negative".into()),
                    Value::Integer(value) => u64::try_from(*value).map_err(|_| "it is too large".into()),
                    _ => Err(String::new()),
                };
                match parsed {
                    Ok(value) if value < min => {
                        wrong(self, Some(format!("it is less than {}", format_size(min))))
                    }
                    Ok(value) if value > max => {
                        wrong(self, Some(format!("it is more than {}", format_size(max))))
                    }
                    Ok(value) => Some(Valid::Size(value)),
                    Err(why) => wrong(self, Some(why)),
                }
            }
            (Kind::Choice { words, planned }, Value::Text(text)) => {
                if words.contains(&text.as_str()) {
                    return Some(Valid::Text(text.clone()));
                }
                if planned.contains(&text.as_str()) {
                    self.error(
                        at.path,
                        node.span.or(at.key),
                        format!("{} is not available in this version of devourd", quoted(text)),
                    );
                    return None;
                }
                let near = nearest(text, words.iter().copied());
                hinted(self, near.map(|near| format!("did you mean `{near}`?")))
            }
            (Kind::Text { check, .. }, Value::Text(text)) => match check(text) {
                Ok(()) => Some(Valid::Text(text.clone())),
                Err(why) => wrong(self, Some(why)),
            },
            (Kind::Path, Value::Text(text)) if text.is_empty() => wrong(self, Some("it is empty".into())),
            (Kind::Path, Value::Text(text)) if text.contains('\0') => {
                wrong(self, Some("a path has no NUL character".into()))
            }
            (Kind::Path | Kind::Secret, Value::Text(text)) => Some(Valid::Text(text.clone())),
            (Kind::Text { .. } | Kind::Secret, Value::Integer(_) | Value::Float(_) | Value::Bool(_)) => {
                wrong(self, Some("put it in quotes".into()))
            }
            (Kind::OffsetReset, Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "earliest" | "smallest" | "beginning" | "-2" => Some(Valid::Text("earliest".into())),
                "latest" | "largest" | "end" | "-1" => Some(Valid::Text("latest".into())),
                _ => wrong(self, None),
            },
            (Kind::OffsetReset, Value::Integer(-2)) => Some(Valid::Text("earliest".into())),
            (Kind::OffsetReset, Value::Integer(-1)) => Some(Valid::Text("latest".into())),
            _ => wrong(self, None),
        }
    }

    fn integer(&mut self, key: &'static Key, value: i128, node: &Node, at: At<'_>) -> Option<Valid> {
        let Kind::Integer {
            min,
            max,
            unit,
            outside,
        } = key.kind
        else {
            return None;
        };
        let within = value.clamp(min.into(), max.into());
        // a clamp of an i128 to two i64 is an i64
        let within_i64 = i64::try_from(within).ok()?;
        if within == value {
            return Some(Valid::Integer(within_i64));
        }
        match outside {
            Outside::Clamp if value >= 0 => {
                let message = format!(
                    "{value} is beyond the {min} to {max} {unit} that librdkafka takes; {within} is used"
                );
                self.warning(at.path, node.span.or(at.key), message);
                Some(Valid::Integer(within_i64))
            }
            _ => {
                self.expected(&expectation(key), node, at, None);
                None
            }
        }
    }

    fn commas(
        &mut self,
        key: &'static Key,
        check: fn(&str) -> Result<(), String>,
        node: &Node,
        at: At<'_>,
    ) -> Option<Valid> {
        let Some(Valid::List(parts)) = self.one_or_many(key, |_| Ok(()), node, at) else {
            return None;
        };
        let parts: Vec<String> = parts
            .iter()
            .flat_map(|part| part.split(','))
            .map(|part| part.trim().to_owned())
            .collect();
        let mut good = true;
        for part in &parts {
            if let Err(why) = check(part) {
                let found = if self.is_substituted(node) {
                    String::new()
                } else {
                    format!(", found {}", quoted(part))
                };
                self.error(
                    at.path,
                    node.span.or(at.key),
                    format!("expected {}{found}: {why}", expectation(key)),
                );
                good = false;
            }
        }
        good.then_some(Valid::List(parts))
    }

    fn one_or_many(
        &mut self,
        key: &'static Key,
        check: fn(&str) -> Result<(), String>,
        node: &Node,
        at: At<'_>,
    ) -> Option<Valid> {
        let items: Vec<(KeyPath, &Node)> = match &node.value {
            Value::List(items) if items.is_empty() && !matches!(key.kind, Kind::Paths) => {
                self.error(
                    at.path,
                    at.key,
                    format!("the list is empty: expected {}", expectation(key)),
                );
                return None;
            }
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (at.path.index(index), item))
                .collect(),
            Value::Map(_) => {
                self.expected(&expectation(key), node, at, None);
                return None;
            }
            _ => vec![(at.path.clone(), node)],
        };
        let mut good = Vec::new();
        let count = items.len();
        for (path, item) in items {
            let at = At {
                path: &path,
                key: item.span.or(at.key),
            };
            let Some(scalar) = self.scalar(item, at) else {
                continue;
            };
            match scalar.value {
                Value::Text(text) => match check(&text) {
                    Ok(()) if good.contains(&text) => {
                        self.error(
                            at.path,
                            item.span.or(at.key),
                            format!("{} is listed twice", quoted(&text)),
                        );
                    }
                    Ok(()) => good.push(text),
                    Err(why) => self.expected(&expectation(key), item, at, Some(why)),
                },
                _ => self.expected(&expectation(key), item, at, None),
            }
        }
        (good.len() == count).then_some(Valid::List(good))
    }

    fn scalars(&mut self, node: &Node, at: At<'_>) -> Option<Valid> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.expected(&Kind::Scalars.words(), node, at, None);
                return None;
            }
        };
        let mut properties = BTreeMap::new();
        for entry in entries {
            let path = at.path.key(&entry.key);
            let below = At {
                path: &path,
                key: entry.key_span,
            };
            if let Some((_, instead)) = RESERVED.iter().find(|(name, _)| *name == entry.key) {
                self.error(
                    &path,
                    entry.key_span,
                    format!("`{}` is devourd's to set: {instead}", entry.key),
                );
                continue;
            }
            let Some(scalar) = self.scalar(&entry.node, below) else {
                continue;
            };
            let text = match scalar.value {
                Value::Text(text) => text,
                Value::Integer(value) => value.to_string(),
                Value::Float(value) if value.is_finite() => value.to_string(),
                Value::Bool(value) => value.to_string(),
                _ => {
                    self.expected("text, a number or true/false", &entry.node, below, None);
                    continue;
                }
            };
            properties.insert(entry.key.clone(), text);
        }
        Some(Valid::Scalars(properties))
    }

    /// The plugin's own settings. What they substitute is for the plugin to see, so it is not remembered.
    fn free(&mut self, node: &Node, at: At<'_>) -> Option<Valid> {
        let outside = std::mem::take(&mut self.expander.variables);
        let json = match &node.value {
            Value::Map(_) => self.json(node, at),
            Value::Null => Some(serde_json::Value::Object(serde_json::Map::new())),
            _ => {
                self.expected("a mapping", node, at, None);
                None
            }
        };
        self.expander.variables = outside;
        match json {
            Some(serde_json::Value::Object(map)) => Some(Valid::Free(map)),
            _ => None,
        }
    }

    fn json(&mut self, node: &Node, at: At<'_>) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        match &node.value {
            Value::List(items) => {
                let items: Vec<Option<Json>> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        self.json(
                            item,
                            At {
                                path: &at.path.index(index),
                                key: item.span.or(at.key),
                            },
                        )
                    })
                    .collect();
                items.into_iter().collect::<Option<Vec<Json>>>().map(Json::Array)
            }
            Value::Map(entries) => {
                let entries: Vec<Option<(String, Json)>> = entries
                    .iter()
                    .map(|entry| {
                        let path = at.path.key(&entry.key);
                        Some((
                            entry.key.clone(),
                            self.json(
                                &entry.node,
                                At {
                                    path: &path,
                                    key: entry.key_span,
                                },
                            )?,
                        ))
                    })
                    .collect();
                entries
                    .into_iter()
                    .collect::<Option<serde_json::Map<String, Json>>>()
                    .map(Json::Object)
            }
            _ => {
                let mut scalar = self.scalar(node, at)?;
                // `port: ${PORT}` is a number if PORT is one, `port: "${PORT}"` is text
                if let (Some(_), true, Value::Text(text)) = (&scalar.written, node.plain, &scalar.value) {
                    scalar.value = resolved(text);
                }
                match scalar.value {
                    Value::Null => Some(Json::Null),
                    Value::Bool(value) => Some(Json::Bool(value)),
                    Value::Text(text) => Some(Json::String(text)),
                    Value::Integer(value) => {
                        let number = i64::try_from(value)
                            .map(Json::from)
                            .or_else(|_| u64::try_from(value).map(Json::from));
                        if number.is_err() {
                            self.error(
                                at.path,
                                node.span.or(at.key),
                                "a whole number of more than 64 bits; put it in quotes",
                            );
                        }
                        number.ok()
                    }
                    Value::Float(value) => {
                        let number = serde_json::Number::from_f64(value).map(Json::Number);
                        if number.is_none() {
                            self.error(
                                at.path,
                                node.span.or(at.key),
                                "JSON has no such number; put it in quotes",
                            );
                        }
                        number
                    }
                    Value::List(_) | Value::Map(_) | Value::Invalid => None,
                }
            }
        }
    }
}
