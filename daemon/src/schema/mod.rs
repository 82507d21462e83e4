//! What is made of a message's value before the plugin sees it: cut down to the attributes that its route names. Pure:
//! who waits for what is the worker's.

mod attributes;
mod cut;

pub use attributes::{Attributes, Take};
pub use cut::{CutError, Pieces};

use crate::settings;

/// How the values of a route's messages are shaped.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaConfig {
    /// What of the JSON is taken.
    pub attributes: Option<settings::Attributes>,
}

/// Shapes the values of a route's messages, one after the other.
pub struct Shaper {
    attributes: Option<Attributes>,
    /// Of the value that was cut last.
    pieces: Pieces,
}

/// A value as the plugin sees it. It lies where it lay: nothing was copied yet.
pub struct Shaped<'a> {
    text: &'a [u8],
    /// What of it is taken; all, if absent.
    pieces: Option<&'a Pieces>,
}

/// Why a value cannot be shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unshaped {
    /// It is not what it should be: trying again cannot help.
    Rejected(String),
}

// === impl Shaper ===

impl Shaper {
    /// For a route.
    #[must_use]
    pub fn new(config: &SchemaConfig) -> Self {
        Self {
            attributes: config.attributes.as_ref().map(Attributes::from),
            pieces: Pieces::default(),
        }
    }

    /// Shapes a value.
    ///
    /// # Errors
    /// Why it cannot be shaped.
    pub fn shape<'a>(&'a mut self, value: &'a [u8]) -> Result<Shaped<'a>, Unshaped> {
        let text = value;
        let Some(attributes) = &self.attributes else {
            return Ok(Shaped { text, pieces: None });
        };
        match self.pieces.cut(text, attributes) {
            Ok(()) => Ok(Shaped {
                text,
                pieces: Some(&self.pieces),
            }),
            Err(error) => Err(Unshaped::Rejected(error.to_string())),
        }
    }
}

// === impl Shaped ===

impl Shaped<'_> {
    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.map_or(self.text.len(), Pieces::len)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it.
    ///
    /// # Panics
    /// When `to` is not as long as it is.
    #[inline]
    pub fn write(&self, to: &mut [u8]) {
        match self.pieces {
            Some(pieces) => pieces.write(self.text, to),
            None => to.copy_from_slice(self.text),
        }
    }

    /// A copy of it.
    #[must_use]
    pub fn to_boxed(&self) -> Box<[u8]> {
        let mut bytes = vec![0; self.len()];
        self.write(&mut bytes);
        bytes.into()
    }
}
