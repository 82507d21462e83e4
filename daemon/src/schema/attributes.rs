//! The attributes that a route's schema names, as the cutter looks them up.

use crate::settings;

/// What of an object is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// By name.
    sorted: Vec<(Box<[u8]>, Take)>,
}

/// How an attribute is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// As it is.
    Whole,
    /// Its objects are cut.
    Cut(Attributes),
}

// === impl Attributes ===

impl Attributes {
    /// The attribute of this name.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Take> {
        let at = self
            .sorted
            .binary_search_by(|(known, _)| known.as_ref().cmp(name))
            .ok()?;
        Some(&self.sorted[at].1)
    }
}

impl From<&settings::Attributes> for Attributes {
    fn from(named: &settings::Attributes) -> Self {
        let take = |attribute: &settings::Attribute| {
            let name: Box<[u8]> = Box::from(attribute.name.as_bytes());
            let take = match &attribute.attributes {
                Some(inner) => Take::Cut(Self::from(inner)),
                None => Take::Whole,
            };
            (name, take)
        };
        let mut sorted: Vec<_> = named.0.iter().map(take).collect();
        sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
        Self { sorted }
    }
}
