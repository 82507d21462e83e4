//! Schemas: what of a payload a consumer sees and a producer sends. A schema names attributes; what it does not name
//! is left out, what is absent stays absent.

use devour_abi::{AttributeInfo, DumpMode, SchemaInfo};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Extract, Message, Undecodable, json};

mod cut;

pub(crate) use cut::Cut;

/// What a payload is cut down to. Derive it: `#[derive(Schema)]` on a struct names the struct's fields, as serde names
/// them.
///
/// - A present attribute is taken, an absent one left out.
/// - Objects in an attribute whose type is a schema too are cut by that; anything else is taken whole. `Option`, `Vec`
///   and `Box` of a schema are as the schema.
/// - No list of attributes means all: `#[schema(all)]`, or a struct without named fields.
/// - Extras are added last and win.
///
/// ```
/// use devour::{prelude::*, serde_json::json};
///
/// #[derive(Schema)]
/// struct Customer {
///     id: u64,
///     name: String,
/// }
///
/// #[derive(Schema)]
/// struct Order {
///     id: u64,
///     customer: Customer,
///     note: Option<String>,
/// }
///
/// let payload = json!({"id": 7, "customer": {"id": 1, "name": "Ada", "card": "4111"}, "secret": true});
/// let extras = json!({"source": "shop"}).as_object().cloned().unwrap_or_default();
/// assert_eq!(
///     Order::cut(payload, extras),
///     json!({"id": 7, "customer": {"id": 1, "name": "Ada"}, "source": "shop"})
/// );
/// ```
///
/// A consumer names it as its `schema_class`; its digests then take what the schema leaves of a message, and a message
/// that does not fit is rejected with the field, its type and its place.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no schema",
    note = "write `#[derive(Schema)]` on a struct whose fields are the attributes; a mere name for people and tools is a \
            string: `schema_class = \"{Self}\"`"
)]
pub trait Schema {
    /// Its name, which the daemon shows.
    const NAME: &'static str;
    /// The attributes that it takes; `None` means all.
    const ATTRIBUTES: Option<&'static [Attribute]>;

    /// What it leaves of a payload, with `extras` added. Of an array each object is cut and gets the extras; `null` with
    /// extras is an object of them; what else is no object has no attributes and stays as it is.
    #[must_use]
    fn cut(payload: Value, extras: Map<String, Value>) -> Value {
        AnySchema::new(Self::NAME, Self::ATTRIBUTES).cut(payload, extras)
    }
}

/// One attribute of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name in the payload.
    pub name: &'static str,
    /// Its type, for people.
    pub type_name: &'static str,
    /// What cuts the objects in it; `None` takes it whole. A function, because a schema may stand within itself.
    pub schema: Option<fn() -> AnySchema>,
}

/// A schema as a value: for who chooses one at run time.
#[derive(Clone, Copy, Debug)]
pub struct AnySchema {
    name: &'static str,
    attributes: Option<&'static [Attribute]>,
}

/// A schema that takes all.
#[derive(Clone, Copy, Debug)]
pub struct All;

/// How a digest's JSON meets its consumer's schema.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    pub(crate) schema: AnySchema,
    /// What the digest takes is the schema's own type: it takes no more than that by itself.
    pub(crate) is_itself: bool,
}

// === impl Schema ===

impl Schema for All {
    const NAME: &'static str = "All";
    const ATTRIBUTES: Option<&'static [Attribute]> = None;
}

impl<S: Schema> Schema for Option<S> {
    const NAME: &'static str = S::NAME;
    const ATTRIBUTES: Option<&'static [Attribute]> = S::ATTRIBUTES;
}

impl<S: Schema> Schema for Vec<S> {
    const NAME: &'static str = S::NAME;
    const ATTRIBUTES: Option<&'static [Attribute]> = S::ATTRIBUTES;
}

impl<S: Schema> Schema for Box<S> {
    const NAME: &'static str = S::NAME;
    const ATTRIBUTES: Option<&'static [Attribute]> = S::ATTRIBUTES;
}

// === impl AnySchema ===

impl AnySchema {
    /// The schema that a type is.
    #[must_use]
    pub fn of<S: Schema>() -> Self {
        Self::new(S::NAME, S::ATTRIBUTES)
    }

    /// One of these attributes; `None` means all.
    #[must_use]
    pub const fn new(name: &'static str, attributes: Option<&'static [Attribute]>) -> Self {
        Self { name, attributes }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The attributes that it takes; `None` means all.
    #[must_use]
    pub fn attributes(&self) -> Option<&'static [Attribute]> {
        self.attributes
    }

    /// See [`Schema::cut`].
    #[must_use]
    pub fn cut(&self, payload: Value, extras: Map<String, Value>) -> Value {
        add(self.leave(payload), extras)
    }

    fn leave(self, payload: Value) -> Value {
        let Some(attributes) = self.attributes else {
            return payload;
        };
        match payload {
            Value::Object(mut payload) => {
                let take = |attribute: &Attribute| {
                    let (name, value) = payload.remove_entry(attribute.name)?;
                    let value = match attribute.schema {
                        Some(schema) => schema().leave(value),
                        None => value,
                    };
                    Some((name, value))
                };
                Value::Object(attributes.iter().filter_map(take).collect())
            }
            Value::Array(list) => list.into_iter().map(|value| self.leave(value)).collect(),
            other => other,
        }
    }

    /// As the daemon shows it.
    #[must_use]
    pub fn info(&self) -> SchemaInfo {
        self.info_within(&mut Vec::new())
    }

    fn info_within(self, outer: &mut Vec<(&'static str, usize)>) -> SchemaInfo {
        let mut info = SchemaInfo {
            name: self.name.to_owned(),
            ..SchemaInfo::default()
        };
        let Some(attributes) = self.attributes else {
            return info;
        };
        let itself = (self.name, attributes.as_ptr().addr());
        if outer.contains(&itself) {
            info.repeats = true;
            return info;
        }
        outer.push(itself);
        let of = |attribute: &Attribute| AttributeInfo {
            name: attribute.name.to_owned(),
            type_name: attribute.type_name.to_owned(),
            schema: attribute.schema.map(|schema| schema().info_within(outer)),
        };
        info.attributes = Some(attributes.iter().map(of).collect());
        outer.pop();
        info
    }

    /// The attribute of this name, if it is one.
    pub(crate) fn find(self, name: &str) -> Option<&'static Attribute> {
        self.attributes?.iter().find(|attribute| attribute.name == name)
    }
}

impl PartialEq for AnySchema {
    fn eq(&self, other: &Self) -> bool {
        self.info() == other.info()
    }
}

/// Adds extras to an object, or to the objects of an array.
fn add(payload: Value, extras: Map<String, Value>) -> Value {
    match payload {
        payload if extras.is_empty() => payload,
        Value::Object(mut payload) => {
            payload.extend(extras);
            Value::Object(payload)
        }
        Value::Array(list) => list.into_iter().map(|value| add(value, extras.clone())).collect(),
        Value::Null => Value::Object(extras),
        other => other,
    }
}

// === for what `#[consumer]` and `#[derive(Schema)]` write ===

/// What a digest takes, made from what the schema leaves of the message. What does not fit the schema is an error.
///
/// # Errors
/// What does not fit, with the field, its type and its place.
#[doc(hidden)]
pub fn fit<'m, S: Schema + DeserializeOwned, M: Extract<'m>>(
    message: Message<'m>,
    dump: DumpMode,
) -> Result<Option<M>, Undecodable> {
    let schema = AnySchema::of::<S>();
    if dump == DumpMode::Json && message.payload().is_some() {
        json::decode_fitting::<S>(message.payload(), schema)?;
    }
    let is_itself = false;
    M::extract_fitting(message, dump, Meeting { schema, is_itself })
}

/// As [`fit`], where the digest takes the schema's own type.
///
/// # Errors
/// What does not fit, with the field, its type and its place.
#[doc(hidden)]
pub fn fit_itself<'m, S: Schema, M: Extract<'m>>(
    message: Message<'m>,
    dump: DumpMode,
) -> Result<Option<M>, Undecodable> {
    let schema = AnySchema::of::<S>();
    let is_itself = true;
    M::extract_fitting(message, dump, Meeting { schema, is_itself })
}

/// Whether the schema takes all these attributes.
#[doc(hidden)]
#[must_use]
pub const fn takes(attributes: Option<&[Attribute]>, names: &[&str]) -> bool {
    let Some(attributes) = attributes else { return true };
    let mut at = 0;
    while at < names.len() {
        let mut found = false;
        let mut place = 0;
        while place < attributes.len() {
            found |= is_same(attributes[place].name, names[at]);
            place += 1;
        }
        if !found {
            return false;
        }
        at += 1;
    }
    true
}

const fn is_same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Tells types that are schemas from those that are not: `NESTED` of this type is that of its own impl where `T` is
/// one, else that of [`Whole`].
#[doc(hidden)]
pub struct Nested<T: ?Sized>(std::marker::PhantomData<T>);

impl<S: Schema> Nested<S> {
    /// What cuts the objects in it.
    pub const NESTED: Option<fn() -> AnySchema> = Some(AnySchema::of::<S>);
}

/// What is taken whole.
#[doc(hidden)]
pub trait Whole {
    /// Nothing cuts it.
    const NESTED: Option<fn() -> AnySchema> = None;
}

impl<T: ?Sized> Whole for Nested<T> {}
