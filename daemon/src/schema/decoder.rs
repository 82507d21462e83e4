//! A value in Confluent's wire format (a zero byte, the id of its schema in four bytes, and what that schema describes)
//! to JSON, by a schema that was fetched before.

use std::{
    cell::Cell,
    error::Error,
    sync::{Arc, OnceLock},
};

use prost_reflect::SerializeOptions;
use schema_registry_converter::{
    blocking::{
        avro::AvroDecoder,
        json::{JsonDecoder, JsonSchema},
        proto_decoder::ProtoDecoder,
        schema_registry::SrSettings,
    },
    error::SRCError,
    schema_registry_common::RawError,
};

use super::avro;
use crate::settings::Deserializer;

/// What reads values of one schema. Each has a client of its own, so that one which is being fetched holds up no other.
pub(super) enum Decoder {
    Avro {
        decoder: AvroDecoder,
        named: OnceLock<avro::Named>,
    },
    Protobuf(ProtoDecoder),
    JsonSchema {
        decoder: JsonDecoder,
        schema: Arc<JsonSchema>,
    },
}

/// Where the JSON of a value is.
pub(super) enum Json {
    /// It is what follows the [`HEAD`].
    Within,
    /// It was written into the buffer.
    Written,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoDecoder {
    /// The registry cannot be asked now.
    Unreachable(String),
    /// The registry has no such schema, or one that this is none of.
    Unusable(String),
}

/// Bytes before what the schema describes.
pub(super) const HEAD: usize = 5;

/// The id of the schema that a value begins with.
pub(super) fn id_of(value: &[u8]) -> Option<u32> {
    match value {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

// === impl Decoder ===

impl Decoder {
    /// Fetches the schema. Waits for the registry.
    pub(super) fn fetch(settings: SrSettings, kind: Deserializer, id: u32) -> Result<Self, NoDecoder> {
        // What is decoded here is no message: it makes the decoder fetch its schema. That the bytes are none is told apart
        // from a schema that is none by `cached`: only what is wrong with a schema is remembered.
        let [a, b, c, d] = id.to_be_bytes();
        let probe = [0, a, b, c, d, 0];
        let sort = |error: SRCError| -> Result<(), NoDecoder> {
            if error.retriable || error.cached {
                Err(NoDecoder::of(&error))
            } else {
                Ok(())
            }
        };
        match kind {
            Deserializer::Avro => {
                let decoder = AvroDecoder::new(settings);
                if let Err(error) = decoder.decode_with_schema(Some(&probe)) {
                    sort(error)?;
                }
                let named = OnceLock::new();
                Ok(Self::Avro { decoder, named })
            }
            Deserializer::Protobuf => {
                let decoder = ProtoDecoder::new(settings);
                if let Err(error) = decoder.decode(Some(&probe)) {
                    sort(error)?;
                }
                Ok(Self::Protobuf(decoder))
            }
            Deserializer::JsonSchema => {
                let decoder = JsonDecoder::new(settings);
                let schema = decoder.get_schema(id).map_err(|error| NoDecoder::of(&error))?;
                Ok(Self::JsonSchema { decoder, schema })
            }
        }
    }

    /// Makes JSON of a value.
    pub(super) fn decode(&self, value: &[u8], buffer: &mut Vec<u8>) -> Result<Json, String> {
        buffer.clear();
        let encoded =
            |error: serde_json::Error| format!("what was decoded cannot be written as JSON: {error}");
        match self {
            Self::Avro { decoder, named } => {
                let decoded = decoder
                    .decode_with_schema(Some(value))
                    .map_err(|error| text(&error))?;
                let decoded = decoded.ok_or("it has no value")?;
                let schema = &decoded.schema.parsed;
                let named = named.get_or_init(|| avro::named(schema));
                let broken = Cell::new(false);
                let json = avro::json(&decoded.value, Some(schema), named, &broken);
                if broken.get() {
                    return Err("it ends in the middle of a value".to_owned());
                }
                serde_json::to_writer(&mut *buffer, &json).map_err(encoded)?;
                Ok(Json::Written)
            }
            Self::Protobuf(decoder) => {
                let decoded = decoder.decode(Some(value)).map_err(|error| text(&error))?;
                let prost_reflect::Value::Message(message) = decoded else {
                    return Err("it is no message of Protobuf".to_owned());
                };
                // Names as the schema has them, numbers as numbers, defaults present: what a digest's parameters are.
                let options = SerializeOptions::new()
                    .use_proto_field_name(true)
                    .stringify_64_bit_integers(false)
                    .skip_default_fields(false);
                let mut json = serde_json::Serializer::new(&mut *buffer);
                message
                    .serialize_with_options(&mut json, &options)
                    .map_err(encoded)?;
                Ok(Json::Written)
            }
            Self::JsonSchema { decoder, schema } => {
                let json = &value[HEAD..];
                let parsed = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
                decoder.validate(schema, &parsed).map_err(|error| text(&error))?;
                Ok(Json::Within)
            }
        }
    }
}

// === impl NoDecoder ===

impl NoDecoder {
    fn of(error: &SRCError) -> Self {
        let code = error
            .source()
            .and_then(|source| source.downcast_ref::<RawError>())
            .map(|raw| raw.error_code);
        match code {
            // No such subject, version or schema, in the registry's own numbers.
            Some(40401..=40403) => {
                Self::Unusable(format!("the registry has no such schema: {}", text(error)))
            }
            // Any other answer, such as a refused password or a proxy's page, says nothing of the message.
            Some(_) => Self::Unreachable(text(error)),
            None if error.retriable || error.error.contains("RawRegisteredSchema") => {
                Self::Unreachable(text(error))
            }
            None => Self::Unusable(text(error)),
        }
    }
}

fn text(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{}: {cause}", error.error),
        None => error.error.clone(),
    }
}
