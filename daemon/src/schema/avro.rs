//! A value of Avro as JSON: names and nesting as they are, unions as what they hold.

use std::{cell::Cell, collections::HashMap};

use apache_avro::{Schema, schema::Name, types::Value as Avro};
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// The named types of a schema, for where it refers to them.
pub(super) type Named = HashMap<Name, Schema>;

/// Finds them.
pub(super) fn named(schema: &Schema) -> Named {
    fn walk(schema: &Schema, named: &mut Named) {
        if let Some(name) = schema.name()
            && !matches!(schema, Schema::Ref { .. })
        {
            named.insert(name.clone(), schema.clone());
        }
        match schema {
            Schema::Record(record) => record.fields.iter().for_each(|field| walk(&field.schema, named)),
            Schema::Array(array) => walk(&array.items, named),
            Schema::Map(map) => walk(&map.types, named),
            Schema::Union(union) => union.variants().iter().for_each(|variant| walk(variant, named)),
            _ => {}
        }
    }
    let mut found = Named::new();
    walk(schema, &mut found);
    found
}

/// The value as JSON. The schema says what the value does not: the scale of a decimal; and whether a null may stand where
/// one does, else the value is `broken`.
pub(super) fn json(value: &Avro, schema: Option<&Schema>, named: &Named, broken: &Cell<bool>) -> Value {
    let schema = match schema {
        Some(Schema::Ref { name }) => named.get(name),
        schema => schema,
    };
    let bytes = |bytes: &[u8]| json!(base64::engine::general_purpose::STANDARD.encode(bytes));
    match value {
        Avro::Null => {
            // The decoder makes a null of a text or bytes that the message does not hold to their end.
            if !matches!(schema, None | Some(Schema::Null)) {
                broken.set(true);
            }
            Value::Null
        }
        Avro::Boolean(value) => json!(value),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => json!(value),
        Avro::Long(value)
        | Avro::TimeMicros(value)
        | Avro::TimestampMillis(value)
        | Avro::TimestampMicros(value)
        | Avro::TimestampNanos(value)
        | Avro::LocalTimestampMillis(value)
        | Avro::LocalTimestampMicros(value)
        | Avro::LocalTimestampNanos(value) => json!(value),
        Avro::Float(value) => number(f64::from(*value), || {
            // Its own digits, not those of the nearest double.
            value.to_string().parse().unwrap_or_else(|_| f64::from(*value))
        }),
        Avro::Double(value) => number(*value, || *value),
        Avro::Bytes(value) | Avro::Fixed(_, value) => bytes(value),
        Avro::String(value) | Avro::Enum(_, value) => json!(value),
        Avro::Union(place, value) => {
            let variant = match schema {
                Some(Schema::Union(union)) => union.variants().get(*place as usize),
                _ => None,
            };
            json(value, variant, named, broken)
        }
        Avro::Array(items) => {
            let schema = match schema {
                Some(Schema::Array(array)) => Some(&*array.items),
                _ => None,
            };
            items
                .iter()
                .map(|item| json(item, schema, named, broken))
                .collect()
        }
        Avro::Map(map) => {
            let schema = match schema {
                Some(Schema::Map(map)) => Some(&*map.types),
                _ => None,
            };
            let entries = map
                .iter()
                .map(|(name, value)| (name.clone(), json(value, schema, named, broken)));
            Value::Object(entries.collect())
        }
        Avro::Record(fields) => {
            let record = match schema {
                Some(Schema::Record(record)) => Some(record),
                _ => None,
            };
            let of = |(place, (name, value)): (usize, &(String, Avro))| {
                let schema = record.and_then(|record| record.fields.get(place));
                (
                    name.clone(),
                    json(value, schema.map(|field| &field.schema), named, broken),
                )
            };
            Value::Object(fields.iter().enumerate().map(of).collect::<Map<_, _>>())
        }
        Avro::Decimal(decimal) => {
            let scale = match schema {
                Some(Schema::Decimal(schema)) => schema.scale,
                _ => 0,
            };
            match Vec::<u8>::try_from(decimal) {
                Ok(unscaled) => json!(point(&digits(&unscaled), scale)),
                Err(_) => Value::Null,
            }
        }
        Avro::BigDecimal(value) => json!(value.to_string()),
        Avro::Duration(value) => {
            let (months, days, millis) = (value.months(), value.days(), value.millis());
            json!({"months": u32::from(months), "days": u32::from(days), "millis": u32::from(millis)})
        }
        Avro::Uuid(value) => json!(value.to_string()),
    }
}

/// JSON has no infinity and no NaN: they are words, as in Protobuf's JSON.
fn number(value: f64, exact: impl FnOnce() -> f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(exact())
    }
}

/// A whole number in two's complement, the highest byte first, as decimal digits with its sign.
fn digits(bytes: &[u8]) -> String {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (value, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (value, over);
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut magnitude {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 10) as u8;
            rest = value % 10;
        }
        digits.push(b'0' + rest as u8);
    }
    if digits.is_empty() {
        digits.push(b'0');
    } else if negative {
        digits.push(b'-');
    }
    digits.iter().rev().map(|digit| char::from(*digit)).collect()
}

/// The digits with so many behind the point.
fn point(digits: &str, scale: usize) -> String {
    if scale == 0 {
        return digits.to_owned();
    }
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits), |digits| ("-", digits));
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{part}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_with_their_point() {
        let text = |bytes: &[u8], scale| point(&digits(bytes), scale);
        assert_eq!(text(&[0x04, 0xD2], 2), "12.34");
        assert_eq!(text(&[0xFB, 0x2E], 2), "-12.34");
        assert_eq!(text(&[0x05], 3), "0.005");
        assert_eq!(text(&[0xFF], 0), "-1");
        assert_eq!(text(&[0x00], 2), "0.00");
        assert_eq!(
            text(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0], 0),
            "-2361183241434822606848"
        );
    }

    #[test]
    fn a_record_is_an_object_and_a_union_what_it_holds() {
        let schema = Schema::parse_str(
            r#"{"type":"record","name":"Order","fields":[
                {"name":"id","type":"long"},
                {"name":"note","type":["null","string"]},
                {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
                {"name":"raw","type":"bytes"},
                {"name":"next","type":["null","Order"]}]}"#,
        )
        .unwrap();
        let order = |id: i64, next: Avro| {
            Avro::Record(vec![
                ("id".into(), Avro::Long(id)),
                ("note".into(), Avro::Union(1, Box::new(Avro::String("n".into())))),
                ("price".into(), Avro::Decimal(vec![0x04, 0xD2].into())),
                ("raw".into(), Avro::Bytes(vec![1, 2, 255])),
                ("next".into(), next),
            ])
        };
        let value = order(
            1 << 60,
            Avro::Union(1, Box::new(order(2, Avro::Union(0, Box::new(Avro::Null))))),
        );
        let expected = |id: i64, next: Value| json!({"id": id, "note": "n", "price": "12.34", "raw": "AQL/", "next": next});
        assert_eq!(
            json(&value, Some(&schema), &named(&schema), &Cell::new(false)),
            expected(1 << 60, expected(2, Value::Null))
        );
        assert_eq!(
            json(&Avro::Float(0.1), None, &Named::new(), &Cell::new(false)),
            json!(0.1)
        );
        assert_eq!(
            json(&Avro::Double(f64::NAN), None, &Named::new(), &Cell::new(false)),
            json!("NaN")
        );
    }
}
