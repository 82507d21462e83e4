//! What the cut of a route's `schema` costs beside decoding a message, dropping attributes and encoding what is left: on
//! orders of 743 bytes, of which an eighth is taken, without Kafka. Both end with the bytes in the same buffer.

use std::{hint::black_box, time::Instant};

use devourd::{
    schema::{Attributes, Pieces},
    settings::{Attribute, Attributes as Named},
};
use serde_json::{Value, json};

use crate::{
    Effort, Result,
    figure::{Asked, Bench, Figure},
};

pub(crate) const BENCH: Bench = Bench::ratio(
    "schema_cut_ratio",
    "serde_json: decode, drop, encode",
    Asked::AtLeast(3.0),
);

/// So many different messages, more than a branch predictor learns by heart.
const MESSAGES: u64 = 1000;

pub(crate) fn measure(effort: Effort) -> Result<Figure> {
    let named = named();
    let attributes = Attributes::from(&named);
    let messages: Vec<String> = (0..MESSAGES).map(|n| order(n).to_string()).collect();
    let mut pieces = Pieces::default();
    let mut to = Vec::new();
    for message in &messages {
        pieces.cut(message.as_bytes(), &attributes)?;
        to.resize(pieces.len(), 0);
        pieces.write(message.as_bytes(), &mut to);
        let (cut, dropped): (Value, Value) = (
            serde_json::from_slice(&to)?,
            drop(serde_json::from_str(message)?, &named),
        );
        if cut != dropped {
            return Err(format!("the two do not do the same: {cut} and {dropped}").into());
        }
    }
    let rounds = (effort.seconds * 100.0) as u64;
    let mut values = Vec::new();
    for _ in 0..effort.runs {
        let begin = Instant::now();
        for message in (0..rounds).flat_map(|_| &messages) {
            pieces.cut(black_box(message.as_bytes()), &attributes)?;
            to.clear();
            to.resize(pieces.len(), 0);
            pieces.write(message.as_bytes(), &mut to);
            black_box(&to);
        }
        let cut = begin.elapsed();
        let begin = Instant::now();
        for message in (0..rounds).flat_map(|_| &messages) {
            let whole: Value = serde_json::from_slice(black_box(message.as_bytes()))?;
            to.clear();
            serde_json::to_writer(&mut to, &drop(whole, &named))?;
            black_box(&to);
        }
        values.push(begin.elapsed().as_secs_f64() / cut.as_secs_f64());
    }
    Ok(Figure { bench: BENCH, values })
}

fn named() -> Named {
    let names = |names: &[&str]| {
        let name = |name: &&str| Attribute {
            name: (*name).to_owned(),
            attributes: None,
        };
        names.iter().map(name).collect::<Vec<_>>()
    };
    let mut attributes = names(&["id", "total", "placed_at"]);
    attributes.push(Attribute {
        name: "customer".to_owned(),
        attributes: Some(Named(names(&["id", "name"]))),
    });
    Named(attributes)
}

fn order(n: u64) -> Value {
    let line = |at: u64| json!({"sku": format!("sku-{}", n * 31 + at), "count": at % 7, "cents": n % 9973, "gift": at.is_multiple_of(2)});
    json!({
        "id": n,
        "shop": "europe-west",
        "placed_at": format!("2026-01-01T00:00:{:02}Z", n % 60),
        "customer": {
            "id": n % 977, "name": format!("Ada \"{n}\""), "email": format!("ada{n}@example.org"),
            "address": {"street": "Main Street 1", "city": "Springfield", "zip": "12345", "country": "XX"},
        },
        "lines": (0..6).map(line).collect::<Vec<_>>(),
        "total": n * 17,
        "payment": {"method": "card", "card": {"number": "4111111111111111", "holder": "Ada"}, "ok": true},
        "flags": [true, false, null, 1.5],
        "note": "please ring twice, and leave it with the neighbours if nobody is at home",
    })
}

fn drop(value: Value, named: &Named) -> Value {
    match value {
        Value::Object(mut map) => {
            let left = named.0.iter().filter_map(|attribute| {
                let value = map.remove(&attribute.name)?;
                let value = match &attribute.attributes {
                    Some(inner) => drop(value, inner),
                    None => value,
                };
                Some((attribute.name.clone(), value))
            });
            Value::Object(left.collect())
        }
        Value::Array(items) => items.into_iter().map(|item| drop(item, named)).collect(),
        other => other,
    }
}
