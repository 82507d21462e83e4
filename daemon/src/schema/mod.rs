//! What is made of a message's value before the plugin sees it: decoded to JSON by the schema of a registry that it names,
//! and cut down to the attributes that its route names. Who waits for what is the worker's.

use std::{io, os::fd::BorrowedFd};

mod attributes;
#[cfg(feature = "schema-registry")]
mod avro;
mod cut;
#[cfg(feature = "schema-registry")]
mod decoder;
#[cfg(not(feature = "schema-registry"))]
mod no_registry;
#[cfg(feature = "schema-registry")]
mod registry;

#[cfg(not(feature = "schema-registry"))]
use no_registry::Registry;
#[cfg(feature = "schema-registry")]
use registry::Registry;

pub use attributes::{Attributes, Take};
pub use cut::{CutError, Pieces};

use crate::settings::{self, Deserializer, RouteName, Secret};

/// Whether this program can ask a schema registry.
pub const HAS_REGISTRY: bool = cfg!(feature = "schema-registry");

/// How the values of a route's messages are shaped.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaConfig {
    /// What of the JSON is taken.
    pub attributes: Option<settings::Attributes>,
    /// How the JSON is got, where the value is none.
    pub registry: Option<RegistryConfig>,
}

/// A schema registry, and what is written by its schemas.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryConfig {
    /// What values are.
    pub deserializer: Deserializer,
    /// Where it is, each to be tried in turn.
    pub urls: Vec<String>,
    /// `user:password`, or a token.
    pub credentials: Option<Secret>,
}

/// Shapes the values of a route's messages, one after the other.
pub struct Shaper {
    registry: Option<Registry>,
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
    /// Its schema is being fetched ([`Shaper::wake_fd`]): try again then.
    Waits {
        /// Which.
        id: u32,
    },
}

// === impl Shaper ===

impl Shaper {
    /// For a route.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn new(config: &SchemaConfig, route: &RouteName) -> io::Result<Self> {
        let registry = config.registry.clone();
        Ok(Self {
            registry: registry
                .map(|registry| Registry::new(registry, route.clone()))
                .transpose()?,
            attributes: config.attributes.as_ref().map(Attributes::from),
            pieces: Pieces::default(),
        })
    }

    /// Readable when schemas came that were waited for; `None` where there are none.
    #[must_use]
    pub fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.registry.as_ref().map(Registry::wake_fd)
    }

    /// The schemas that came.
    pub fn take_answers(&mut self) -> Vec<u32> {
        self.registry
            .as_mut()
            .map(Registry::take_answers)
            .unwrap_or_default()
    }

    /// Shapes a value. Waits for nothing.
    ///
    /// # Errors
    /// Why it cannot be shaped, or not now.
    pub fn shape<'a>(&'a mut self, value: &'a [u8]) -> Result<Shaped<'a>, Unshaped> {
        let text = match &mut self.registry {
            Some(registry) => registry.decode(value)?,
            None => value,
        };
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
