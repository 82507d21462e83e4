//! JSON values into what a digest takes, and errors that name the place: field, expected type, what came, position.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Expected, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    extract::Undecodable,
    schema::{AnySchema, Cut, Meeting},
};

/// The fields of a JSON object that are a digest's parameters. Written by [`consumer`](crate::consumer).
pub trait Fields<'m>: Sized {
    /// Their names in the object.
    const NAMES: &'static [&'static str];
    /// Whether any other field is an error.
    const STRICT: bool;
    /// Reads them from the object.
    ///
    /// # Errors
    /// Where the object is not what the parameters are.
    fn read<A: MapAccess<'m>>(reader: &mut FieldReader<A>) -> Result<Self, A::Error>;
}

/// Walks the fields of an object for [`Fields::read`].
pub struct FieldReader<A> {
    map: A,
    names: &'static [&'static str],
    strict: bool,
}

/// A string, borrowed from the message where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'m>(pub Cow<'m, str>);

/// Decodes a value as JSON; a tombstone is what JSON's `null` is to `T`, if that is anything.
pub(crate) fn decode<'m, T: Deserialize<'m>>(payload: Option<&'m [u8]>) -> Result<Option<T>, Undecodable> {
    match payload {
        Some(bytes) => serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|error| explain(bytes, &error, None)),
        None => Ok(serde_json::from_str("null").ok()),
    }
}

/// As [`decode`], for the type that a schema is.
pub(crate) fn decode_fitting<'m, T: Deserialize<'m>>(
    payload: Option<&'m [u8]>,
    schema: AnySchema,
) -> Result<Option<T>, Undecodable> {
    match payload {
        Some(bytes) => serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|error| explain(bytes, &error, Some(schema))),
        None => decode(None),
    }
}

/// As [`decode`], from what a schema leaves of the value.
pub(crate) fn decode_cut<'m, T: Deserialize<'m>>(
    payload: Option<&'m [u8]>,
    meeting: Meeting,
) -> Result<Option<T>, Undecodable> {
    let schema = meeting.schema;
    match payload {
        Some(bytes) if !meeting.is_itself && schema.attributes().is_some() => {
            let mut json = serde_json::Deserializer::from_slice(bytes);
            let value = T::deserialize(Cut::new(&mut json, schema)).and_then(|value| {
                json.end()?;
                Ok(value)
            });
            value
                .map(Some)
                .map_err(|error| explain(bytes, &error, Some(schema)))
        }
        payload => decode_fitting(payload, schema),
    }
}

/// Decodes a value as the object whose fields are a digest's parameters; `None` for a tombstone.
#[inline]
pub(crate) fn decode_fields<'m, F: Fields<'m>>(payload: Option<&'m [u8]>) -> Result<Option<F>, Undecodable> {
    let Some(bytes) = payload else { return Ok(None) };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let fields = json
        .deserialize_map(ObjectVisitor(PhantomData))
        .and_then(|fields| {
            json.end()?;
            Ok(fields)
        });
    fields.map(Some).map_err(|error| explain(bytes, &error, None))
}

/// As [`decode_fields`], from what a schema leaves of the object.
pub(crate) fn decode_fields_cut<'m, F: Fields<'m>>(
    payload: Option<&'m [u8]>,
    schema: AnySchema,
) -> Result<Option<F>, Undecodable> {
    let (Some(bytes), Some(_)) = (payload, schema.attributes()) else {
        return decode_fields(payload);
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let fields = Cut::new(&mut json, schema)
        .deserialize_map(ObjectVisitor(PhantomData))
        .and_then(|fields| {
            json.end()?;
            Ok(fields)
        });
    fields
        .map(Some)
        .map_err(|error| explain(bytes, &error, Some(schema)))
}

// === impl FieldReader ===

impl<'m, A: MapAccess<'m>> FieldReader<A> {
    /// Index of the next field that the digest takes, passing over the others; `None` at the end of the object.
    ///
    /// # Errors
    /// What is not JSON, or a field that a strict digest does not know.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<usize>, A::Error> {
        loop {
            let seed = NameSeed {
                names: self.names,
                strict: self.strict,
            };
            match self.map.next_key_seed(seed)? {
                None => return Ok(None),
                Some(Some(index)) => return Ok(Some(index)),
                Some(None) => {
                    self.map.next_value::<IgnoredAny>()?;
                }
            }
        }
    }

    /// The value of the field that was just named.
    ///
    /// # Errors
    /// If it is not a `T`.
    #[inline]
    pub fn value<T: Deserialize<'m>>(&mut self) -> Result<T, A::Error> {
        self.map.next_value()
    }

    /// What stands for a field that did not come: the value if it did, else `None` if it is an option, else an error.
    ///
    /// # Errors
    /// If the field must be there.
    #[inline]
    pub fn settle<T: Deserialize<'m>>(&self, read: Option<T>, index: usize) -> Result<T, A::Error> {
        match read {
            Some(value) => Ok(value),
            None => T::deserialize(Missing {
                name: self.names[index],
                error: PhantomData,
            }),
        }
    }
}

struct ObjectVisitor<F>(PhantomData<F>);

impl<'m, F: Fields<'m>> Visitor<'m> for ObjectVisitor<F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")?;
        for (place, name) in F::NAMES.iter().enumerate() {
            write!(f, "{}`{name}`", if place == 0 { " with " } else { ", " })?;
        }
        Ok(())
    }

    #[inline]
    fn visit_map<A: MapAccess<'m>>(self, map: A) -> Result<F, A::Error> {
        F::read(&mut FieldReader {
            map,
            names: F::NAMES,
            strict: F::STRICT,
        })
    }
}

/// Reads a field's name as its index.
struct NameSeed {
    names: &'static [&'static str],
    strict: bool,
}

impl<'m> DeserializeSeed<'m> for NameSeed {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    #[inline]
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let found = self.names.iter().position(|known| *known == name);
        if found.is_none() && self.strict {
            return Err(E::unknown_field(name, self.names));
        }
        Ok(found)
    }
}

/// A field that did not come: nothing to an option, an error to anything else.
struct Missing<E> {
    name: &'static str,
    error: PhantomData<E>,
}

impl<'de, E: serde::de::Error> Deserializer<'de> for Missing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        let expected: &dyn Expected = &visitor;
        Err(E::custom(format_args!(
            "the field `{}` is missing, expected {expected}",
            self.name
        )))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

// === impl Text ===

impl<'de: 'm, 'm> Deserialize<'de> for Text<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// One frame of the path to an error.
enum Frame {
    Object(Option<String>),
    Array(usize),
}

/// How far a reader came.
struct Reached {
    path: Vec<Frame>,
    /// Where what it read last begins.
    byte: usize,
}

/// serde_json's error with what it does not know: the path to the field, the byte, and the type of a field that is
/// missing where a schema says it.
#[cold]
fn explain(bytes: &[u8], error: &serde_json::Error, schema: Option<AnySchema>) -> Undecodable {
    if bytes.is_empty() {
        return Undecodable::new("the value is empty, expected JSON");
    }
    let reached = reach(bytes, error.line(), error.column());
    let shape = if error.is_data() { "" } else { "not JSON: " };
    let path = match reached.path_text().as_str() {
        "" => String::new(),
        path => format!("field `{path}`: "),
    };
    let expected = schema
        .and_then(|schema| reached.missing_type(&error.to_string(), schema))
        .map_or_else(String::new, |missing| format!(", expected {missing}"));
    Undecodable::new(format!("{shape}{path}{error} (byte {}){expected}", reached.byte))
}

/// Where the reader was when it had consumed JSON up to a line and column. It walks well-formed JSON only as far as the
/// reader did.
fn reach(bytes: &[u8], line: usize, column: usize) -> Reached {
    let start: usize = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let consumed = &bytes[..start.saturating_add(column).min(bytes.len())];
    let mut path: Vec<Frame> = Vec::new();
    let mut text: Option<String> = None;
    let mut token = 0;
    let mut at = 0;
    while let Some(byte) = consumed.get(at) {
        let from = at;
        at += 1;
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            b'"' => {
                while let Some(byte) = consumed.get(at) {
                    match byte {
                        b'"' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                text =
                    Some(String::from_utf8_lossy(&consumed[from + 1..at.min(consumed.len())]).into_owned());
                at += 1;
            }
            b':' => {
                if let Some(Frame::Object(key)) = path.last_mut() {
                    *key = text.take();
                }
            }
            b',' => match path.last_mut() {
                Some(Frame::Object(key)) => *key = None,
                Some(Frame::Array(index)) => *index += 1,
                None => {}
            },
            b'{' => path.push(Frame::Object(None)),
            b'[' => path.push(Frame::Array(0)),
            b'}' | b']' => {
                path.pop();
            }
            // A number or a word.
            _ => {
                let ends = |byte: &u8| b" \n\r\t,:{}[]\"".contains(byte);
                at += consumed[at..].iter().take_while(|byte| !ends(byte)).count();
            }
        }
        token = from;
    }
    Reached { path, byte: token }
}

// === impl Reached ===

impl Reached {
    /// Such as `orders[3].price`.
    fn path_text(&self) -> String {
        let mut text = String::new();
        for frame in &self.path {
            match frame {
                Frame::Object(Some(key)) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                }
                Frame::Array(index) => text.push_str(&format!("[{index}]")),
                Frame::Object(None) => {}
            }
        }
        text
    }

    /// The type of the field that serde's error says to be missing. It was noticed at the end of its object.
    fn missing_type(&self, error: &str, schema: AnySchema) -> Option<&'static str> {
        let (_, rest) = error.split_once("missing field `")?;
        let (name, _) = rest.split_once('`')?;
        let mut schema = schema;
        for frame in &self.path {
            if let Frame::Object(Some(key)) = frame {
                schema = schema.find(key)?.schema?();
            }
        }
        schema.find(name).map(|attribute| attribute.type_name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn error<T: for<'m> Deserialize<'m>>(json: &str) -> String {
        match decode::<T>(Some(json.as_bytes())) {
            Ok(_) => panic!("{json} was decoded"),
            Err(undecodable) => undecodable.message().to_owned(),
        }
    }

    #[test]
    fn an_error_names_the_path_what_came_and_what_was_expected() {
        type Orders = BTreeMap<String, Vec<BTreeMap<String, u64>>>;
        assert_eq!(
            error::<Orders>(r#"{"a":[], "orders":[{"x":1},{"price":"ten"}]}"#),
            "field `orders[1].price`: invalid type: string \"ten\", expected u64 at line 1 column 41 (byte 36)"
        );
        assert_eq!(
            error::<Orders>("{\"orders\":\n [{\"price\":\n -3}]}"),
            "field `orders[0].price`: invalid value: integer `-3`, expected u64 at line 3 column 3 (byte 24)"
        );
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none() {
        assert!(error::<Vec<u64>>("[1").starts_with("not JSON: field `[0]`: EOF"));
        assert!(error::<u64>("1 2").contains("trailing"));
        assert_eq!(error::<u64>(""), "the value is empty, expected JSON");
        let deep = "[".repeat(100_000);
        assert!(error::<serde_json::Value>(&deep).contains("recursion limit"));
    }

    #[test]
    fn a_tombstone_is_null_to_those_that_take_it() {
        assert_eq!(decode::<Option<u64>>(None).ok(), Some(Some(None)));
        assert_eq!(decode::<u64>(None).ok(), Some(None));
    }
}
