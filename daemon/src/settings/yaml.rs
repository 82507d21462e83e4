//! serde_yaml's values of a text, keys that stand twice and all, within bounds of number and size.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::guard::VALUES;
use super::positions::Span;

/// The values as serde_yaml gives them, doubles and all.
pub(super) enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
    Tagged(String),
}

/// Text of all values together, aliases followed, in bytes.
const TEXT: usize = 16 << 20;

/// Reads a text.
///
/// # Errors
/// serde_yaml's own words, and the place it names, if any.
pub(super) fn parse(text: &str) -> Result<Raw, (Option<Span>, String)> {
    let budget = Budget {
        values: Cell::new(VALUES),
        text: Cell::new(TEXT),
    };
    let deserializer = serde_yaml::Deserializer::from_str(text);
    Build(&budget).deserialize(deserializer).map_err(|error| {
        let at = error
            .location()
            .map(|at| Span::at(at.line().max(1), at.column().max(1)));
        let mut message = error.to_string();
        if let Some(at) = error.location() {
            message = message.replacen(&format!(" at line {} column {}", at.line(), at.column()), "", 1);
        }
        (at, message)
    })
}

/// What a document may still hold; it bounds time and memory whatever aliases do.
struct Budget {
    values: Cell<usize>,
    text: Cell<usize>,
}

#[derive(Clone, Copy)]
struct Build<'a>(&'a Budget);

impl Build<'_> {
    fn spend<E: de::Error>(self, text: usize) -> Result<(), E> {
        let left = |cell: &Cell<usize>, cost: usize| match cell.get().checked_sub(cost) {
            Some(left) => {
                cell.set(left);
                Ok(())
            }
            None => Err(E::custom("with its aliases followed it is too large")),
        };
        left(&self.0.values, 1)?;
        left(&self.0.text, text)
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Raw;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        self.spend(0).map(|()| Raw::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        self.visit_unit()
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
        self.spend(0).map(|()| Raw::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Raw, E> {
        self.spend(0).map(|()| Raw::Integer(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Raw, E> {
        // beyond every bound that a setting has
        self.visit_i128(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        self.spend(0).map(|()| Raw::Float(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        self.spend(text.len()).map(|()| Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        self.spend(0)?;
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(self)? {
            map.push((key, entries.next_value_seed(self)?));
        }
        Ok(Raw::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Raw, A::Error> {
        let (tag, content) = data.variant::<String>()?;
        content.newtype_variant_seed(self)?;
        Ok(Raw::Tagged(tag))
    }
}
