//! The schema as JSON Schema, for editors and for `devourd schema`.

use serde_json::{Map, Value, json};

use super::consumer_config::CONFIG;
use super::document::{Node, value_of};
use super::keys::{CLIENT, ROOT, ROUTE};
use super::schema::{Block, Key, Kind, Standing};

/// The JSON Schema (draft 2020-12) of a settings file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = block(&ROOT);
    let definitions = json!({
        "client": block(&CLIENT),
        "route": route(),
        "defaults": block(&ROUTE),
        "config": block(&CONFIG),
        "substitution": {
            "type": "string",
            "pattern": "\\$\\{.+\\}",
            "description": "${VAR}, ${VAR:-default}, ${file:PATH} or ${credential:NAME}",
        },
    });
    // routes may also come from files of their own, or from what lies in the plugin directories
    let certainly_required: Vec<_> = required(&ROOT)
        .into_iter()
        .filter(|key| *key != "consumer_routes")
        .collect();
    let parts = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("Settings of devourd")),
        ("required", json!(certainly_required)),
        (
            "anyOf",
            json!(["consumer_routes", "routes_dir", "autoload"].map(|key| json!({ "required": [key] }))),
        ),
        ("$defs", definitions),
    ];
    if let Some(map) = schema.as_object_mut() {
        parts.into_iter().for_each(|(name, value)| {
            map.insert(name.to_owned(), value);
        });
    }
    schema
}

fn route() -> Value {
    // what a route must have may also stand in `defaults`, so nothing is required here
    json!({
        "anyOf": [
            { "type": "string", "pattern": "^.+::[A-Za-z_][A-Za-z0-9_]*$|\\$\\{", "description": "library::Symbol" },
            block(&ROUTE),
        ]
    })
}

fn required(block: &Block) -> Vec<&'static str> {
    block
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect()
}

fn block(block: &'static Block) -> Value {
    let mut properties: Map<String, Value> = block
        .shown()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    for key in block.keys {
        if let Standing::Unavailable(Some(today)) = key.standing {
            properties.insert(key.name.to_owned(), json!({ "const": json_of(today) }));
        }
    }
    // a merge key
    properties.insert("<<".to_owned(), json!({}));
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

fn property(key: &'static Key) -> Value {
    let mut schema = kind(key);
    if key.none {
        schema = json!({ "anyOf": [schema, { "enum": ["none", null] }] });
    }
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    let doc = match key.standing {
        Standing::Ignored(reason) => {
            map.insert("deprecated".into(), json!(true));
            format!("Accepted and does nothing: {reason}.")
        }
        Standing::Only(only, _) => {
            map.insert("enum".into(), json!([json_of(only)]));
            key.doc.to_owned()
        }
        _ => match key.otherwise {
            Some(otherwise) => format!("{} Default: {otherwise}.", key.doc),
            None => key.doc.to_owned(),
        },
    };
    map.insert("description".into(), json!(doc));
    if let Some(default) = key.default {
        map.insert("default".into(), json_of(default));
    }
    schema
}

fn kind(key: &'static Key) -> Value {
    let text = json!({ "type": "string" });
    let several = json!({ "anyOf": [text, { "type": "array", "items": text }] });
    match key.kind {
        Kind::Bool => or_substitution(json!({ "type": "boolean" })),
        Kind::Integer { min, max, .. } => {
            let mut number = json!({ "type": "integer", "minimum": min });
            if max < i64::MAX {
                number["maximum"] = json!(max);
            }
            or_substitution(number)
        }
        Kind::Duration { .. } => {
            or_substitution(json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d)$" }))
        }
        Kind::Size { .. } => or_substitution(json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? *([kKmMgGtT]?[iI]?[bB])?$" },
        ] })),
        Kind::Choice { words, .. } => or_substitution(json!({ "enum": words })),
        Kind::Text { .. } | Kind::Path | Kind::Secret => text,
        Kind::OffsetReset => or_substitution(json!({ "enum": ["earliest", "latest", -2, -1] })),
        Kind::Commas { .. } | Kind::OneOrMany { .. } | Kind::Paths => several,
        Kind::Block { block: named, .. } => {
            let reference = |name: &str| json!({ "$ref": format!("#/$defs/{name}") });
            match key.name {
                "client" => reference("client"),
                "defaults" => reference("defaults"),
                "config" => reference("config"),
                _ => {
                    let mut schema = block(named);
                    let required = required(named);
                    if let (Some(map), false) = (schema.as_object_mut(), required.is_empty()) {
                        map.insert("required".into(), json!(required));
                    }
                    schema
                }
            }
        }
        Kind::Scalars => json!({
            "type": ["object", "null"],
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Kind::Free => json!({ "type": ["object", "null"] }),
        Kind::Attributes => json!({
            "type": "array",
            "minItems": 1,
            "items": { "type": ["string", "object"] },
        }),
        Kind::Routes => json!({
            "type": ["object", "null"],
            "propertyNames": { "anyOf": [
                { "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$" },
                { "const": "<<" },
            ] },
            "additionalProperties": { "$ref": "#/$defs/route" },
        }),
        Kind::Any => json!({}),
    }
}

/// A number or a word may also come from a substitution, which is text.
fn or_substitution(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "$ref": "#/$defs/substitution" }] })
}

/// YAML of the schema as JSON.
fn json_of(yaml: &str) -> Value {
    fn convert(value: &super::document::Value) -> Value {
        use super::document::Value as Yaml;
        match value {
            Yaml::Null | Yaml::Invalid => Value::Null,
            Yaml::Bool(value) => json!(value),
            Yaml::Integer(value) => i64::try_from(*value).map_or(Value::Null, |value| json!(value)),
            Yaml::Float(value) => json!(value),
            Yaml::Text(text) => json!(text),
            Yaml::List(items) => items.iter().map(|Node { value, .. }| convert(value)).collect(),
            Yaml::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), convert(&entry.node.value)))
                .collect(),
        }
    }
    value_of(yaml).map_or(Value::Null, |value| convert(&value))
}
