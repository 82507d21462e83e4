//! What a digest takes, one type per dump mode: [`Raw`], [`Object`], [`Json`].

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

use devour_abi::{DumpMode, Failure, FailureKind};
use serde::Deserialize;

use crate::{
    Message,
    json::{self, Fields},
    schema::Meeting,
};

/// What a digest can take instead of a message.
#[diagnostic::on_unimplemented(
    message = "a digest cannot take `{Self}`",
    label = "not something a message can be made into",
    note = "it takes `Raw<'_>`, `&[u8]`, `&str` (dump_raw), `Message<'_>` or `Object<'_>` (dump_obj), `Json<T>` (dump_json)"
)]
pub trait Extract<'m>: Sized {
    /// The dump modes that it can be made from; the first is its own.
    const ACCEPTS: &'static [DumpMode];
    /// Whether it shows a message's headers.
    const READS_HEADERS: bool = false;

    /// Makes it from a message. `None` is a tombstone that it has no value for.
    ///
    /// # Errors
    /// Where the message's bytes are not what it is made from.
    fn extract(message: Message<'m>, dump: DumpMode) -> Result<Option<Self>, Undecodable>;

    /// As [`extract`](Self::extract), from what a schema leaves of a message, where it is made from JSON.
    ///
    /// # Errors
    /// Where the message's bytes are not what it is made from.
    #[doc(hidden)]
    fn extract_fitting(
        message: Message<'m>,
        dump: DumpMode,
        meeting: Meeting,
    ) -> Result<Option<Self>, Undecodable> {
        let _ = meeting;
        Self::extract(message, dump)
    }
}

/// Why a message's bytes cannot be made into what its digest takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    // Boxed and by itself, so that the result of an extraction stays small.
    message: Box<str>,
}

/// `dump_raw`: the value's bytes, as they came; a tombstone has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'m>(pub Option<&'m [u8]>);

/// `dump_obj`: the whole message.
#[derive(Clone, Copy, Debug)]
pub struct Object<'m>(pub Message<'m>);

/// `dump_json`: the value as JSON, decoded into `T`. A tombstone is passed over and counted, unless `T` has a value
/// for JSON's `null`, as an `Option` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// Whatever the route's dump mode says: for consumers that serve any.
#[derive(Clone, Debug)]
pub enum Dumped<'m> {
    /// The value's bytes.
    Raw(Raw<'m>),
    /// The whole message.
    Object(Object<'m>),
    /// The value as JSON; a tombstone is `null`.
    Json(serde_json::Value),
}

/// What else a digest takes, with the message that it came in.
#[derive(Clone, Copy, Debug)]
pub struct WithMessage<'m, T> {
    /// The whole message. It shows its headers if the consumer's attributes ask for them.
    pub message: Message<'m>,
    /// What was made from it.
    pub value: T,
}

/// The parameters of a digest as the fields of a JSON object. Written by [`consumer`](crate::consumer).
#[derive(Clone, Copy, Debug)]
pub struct JsonFields<F>(pub F);

// === impl Undecodable ===

impl Undecodable {
    /// In words.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into().into_boxed_str(),
        }
    }

    /// What does not fit.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_failure(self) -> Failure {
        Failure::new(FailureKind::UNDECODABLE, String::from(self.message))
    }
}

// === dump_raw ===

impl<'m> Raw<'m> {
    /// The value's bytes; none for a tombstone, as for an empty value.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'m [u8] {
        self.0.unwrap_or_default()
    }

    /// Whether the message has no value.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.0.is_none()
    }
}

impl<'m> Extract<'m> for Raw<'m> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Raw];

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(Some(Self(message.payload())))
    }
}

impl<'m> Extract<'m> for Option<&'m [u8]> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Raw];

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(Some(message.payload()))
    }
}

impl<'m> Extract<'m> for &'m [u8] {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Raw];

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(message.payload())
    }
}

impl<'m> Extract<'m> for &'m str {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Raw];

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        let text = message.payload().map(std::str::from_utf8).transpose();
        text.map_err(|error| Undecodable::new(format!("expected UTF-8 text: {error}")))
    }
}

// === dump_obj ===

impl<'m> Extract<'m> for Message<'m> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Object];
    const READS_HEADERS: bool = true;

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(Some(message))
    }
}

impl<'m> Extract<'m> for Object<'m> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Object];
    const READS_HEADERS: bool = true;

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(Some(Self(message)))
    }
}

impl<'m> Deref for Object<'m> {
    type Target = Message<'m>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

// === dump_json ===

impl<'m, T: Deserialize<'m>> Extract<'m> for Json<T> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Json];

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(json::decode(message.payload())?.map(Self))
    }

    #[inline]
    fn extract_fitting(
        message: Message<'m>,
        _: DumpMode,
        meeting: Meeting,
    ) -> Result<Option<Self>, Undecodable> {
        Ok(json::decode_cut(message.payload(), meeting)?.map(Self))
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<'m, F: Fields<'m>> Extract<'m> for JsonFields<F> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Json];

    #[inline]
    fn extract(message: Message<'m>, _: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(json::decode_fields(message.payload())?.map(Self))
    }

    #[inline]
    fn extract_fitting(
        message: Message<'m>,
        _: DumpMode,
        meeting: Meeting,
    ) -> Result<Option<Self>, Undecodable> {
        Ok(json::decode_fields_cut(message.payload(), meeting.schema)?.map(Self))
    }
}

// === any ===

impl<'m> Extract<'m> for Dumped<'m> {
    const ACCEPTS: &'static [DumpMode] = &[DumpMode::Json, DumpMode::Raw, DumpMode::Object];
    const READS_HEADERS: bool = true;

    fn extract(message: Message<'m>, dump: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(match dump {
            DumpMode::Raw => Some(Self::Raw(Raw(message.payload()))),
            DumpMode::Object => Some(Self::Object(Object(message))),
            DumpMode::Json => json::decode(message.payload())?.map(Self::Json),
        })
    }

    fn extract_fitting(
        message: Message<'m>,
        dump: DumpMode,
        meeting: Meeting,
    ) -> Result<Option<Self>, Undecodable> {
        match dump {
            DumpMode::Json => Ok(json::decode_cut(message.payload(), meeting)?.map(Self::Json)),
            DumpMode::Raw | DumpMode::Object => Self::extract(message, dump),
        }
    }
}

impl<'m, T: Extract<'m>> Extract<'m> for WithMessage<'m, T> {
    const ACCEPTS: &'static [DumpMode] = T::ACCEPTS;
    const READS_HEADERS: bool = T::READS_HEADERS;

    #[inline]
    fn extract(message: Message<'m>, dump: DumpMode) -> Result<Option<Self>, Undecodable> {
        Ok(T::extract(message, dump)?.map(|value| Self { message, value }))
    }

    fn extract_fitting(
        message: Message<'m>,
        dump: DumpMode,
        meeting: Meeting,
    ) -> Result<Option<Self>, Undecodable> {
        Ok(T::extract_fitting(message, dump, meeting)?.map(|value| Self { message, value }))
    }
}

/// What a mode is called and what a digest that takes it is like, for errors.
pub(crate) fn describe_modes(modes: &[DumpMode]) -> Cow<'static, str> {
    match modes {
        [only] => Cow::Borrowed(only.attribute()),
        several => {
            let names: Vec<_> = several.iter().map(|mode| mode.attribute()).collect();
            Cow::Owned(names.join(", "))
        }
    }
}
