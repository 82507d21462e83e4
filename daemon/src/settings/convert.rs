//! Checked values, and how they become Rust types: a value that is given, else the schema's default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::attributes::Attributes;
use super::check::default_of;
use super::config_types::{MembershipProtocol, OffsetReset};
use super::forms::parse_rate;
use super::route::{Backoff, RateLimit, Restart, RestartBudget};
use super::schema::{Block, Kind, Merge};
use super::types::Secret;
use super::words::{
    ConsumerType, Delivery, Deserializer, FileChecks, HeaderStyle, Isolation, LogFormat, LogLevel,
    Membership, Order, Then, Tombstones,
};

/// A value that its kind has accepted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Valid {
    /// `none`, or a block that is empty on purpose.
    None,
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    Size(u64),
    Text(String),
    List(Vec<String>),
    Block(Tree),
    Scalars(BTreeMap<String, String>),
    Free(serde_json::Map<String, serde_json::Value>),
    Attributes(Attributes),
}

/// The values that a block of the file gives.
#[derive(Clone)]
pub(super) struct Tree {
    block: &'static Block,
    values: BTreeMap<&'static str, Valid>,
}

/// A type that a checked value can become.
pub(super) trait FromValid: Sized {
    fn from_valid(valid: &Valid) -> Option<Self>;
}

// === impl Tree ===

impl Tree {
    pub(super) fn new(block: &'static Block) -> Self {
        Self {
            block,
            values: BTreeMap::new(),
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: Valid) {
        self.values.insert(name, value);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(super) fn raw(&self, name: &str) -> Option<&Valid> {
        self.values.get(name)
    }

    /// The value that is given, else the default.
    ///
    /// # Panics
    /// If the schema has no such key, no default for it, or another type; the tests of `load` read every key.
    pub(super) fn get<T: FromValid>(&self, name: &str) -> T {
        let default = || default_of(self.block.key(name)?);
        let value = self.values.get(name).cloned().or_else(default);
        value.as_ref().and_then(T::from_valid).unwrap_or_else(|| {
            panic!(
                "the schema of `{}` does not give `{name}` that type",
                self.block.name
            )
        })
    }

    /// The value if it is given and is not `none`.
    ///
    /// # Panics
    /// If the schema has no such key or another type.
    pub(super) fn given<T: FromValid>(&self, name: &str) -> Option<T> {
        assert!(
            self.block.key(name).is_some(),
            "the schema of `{}` has no `{name}`",
            self.block.name
        );
        match self.values.get(name) {
            None | Some(Valid::None) => None,
            Some(value) => {
                let value = T::from_valid(value);
                assert!(
                    value.is_some(),
                    "the schema of `{}` does not give `{name}` that type",
                    self.block.name
                );
                value
            }
        }
    }

    /// The block of that name, empty where it is not given.
    pub(super) fn block(&self, name: &str) -> Tree {
        match (self.values.get(name), self.block.key(name).map(|key| key.kind)) {
            (Some(Valid::Block(tree)), _) => tree.clone(),
            (_, Some(Kind::Block { block, .. })) => Tree::new(block),
            _ => panic!("the schema of `{}` has no block `{name}`", self.block.name),
        }
    }

    /// These values laid over `below`: single values and lists replace, blocks and mappings merge key by key.
    pub(super) fn over(&self, below: &Tree) -> Tree {
        let mut merged = below.clone();
        for (name, value) in &self.values {
            let merge = match self.block.key(name).map(|key| key.kind) {
                Some(Kind::Block { merge, .. }) => merge,
                _ => Merge::KeyByKey,
            };
            let value = match (value, below.values.get(name)) {
                (Valid::Block(upper), Some(Valid::Block(lower))) if merge == Merge::KeyByKey => {
                    Valid::Block(upper.over(lower))
                }
                (Valid::Scalars(upper), Some(Valid::Scalars(lower))) => {
                    let mut all = lower.clone();
                    all.extend(upper.clone());
                    Valid::Scalars(all)
                }
                (Valid::Free(upper), Some(Valid::Free(lower))) => {
                    let mut all = lower.clone();
                    all.extend(upper.clone());
                    Valid::Free(all)
                }
                (value, _) => value.clone(),
            };
            merged.values.insert(name, value);
        }
        merged
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.block, other.block) && self.values == other.values
    }
}

/// No values: they may be secret.
impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.values.keys()).finish()
    }
}

// === impl FromValid for ... ===

impl FromValid for Backoff {
    fn from_valid(valid: &Valid) -> Option<Self> {
        let Valid::Block(tree) = valid else { return None };
        Some(Self {
            initial: tree.get("initial"),
            max: tree.get("max"),
        })
    }
}

impl FromValid for Restart {
    fn from_valid(valid: &Valid) -> Option<Self> {
        let Valid::Block(tree) = valid else { return None };
        Some(Self {
            backoff: Backoff::from_valid(valid)?,
            budget: tree.given("budget"),
        })
    }
}

impl FromValid for RestartBudget {
    fn from_valid(valid: &Valid) -> Option<Self> {
        let Valid::Block(tree) = valid else { return None };
        Some(Self {
            restarts: tree.given("restarts")?,
            per: tree.get("per"),
        })
    }
}

impl FromValid for RateLimit {
    fn from_valid(valid: &Valid) -> Option<Self> {
        let Valid::Text(text) = valid else { return None };
        parse_rate(text).ok()
    }
}

impl<T: FromValid> FromValid for Option<T> {
    fn from_valid(valid: &Valid) -> Option<Self> {
        if matches!(valid, Valid::None) {
            Some(None)
        } else {
            T::from_valid(valid).map(Some)
        }
    }
}

macro_rules! from_valid {
    ($($type:ty: $pattern:pat => $value:expr),+ $(,)?) => {
        $(impl FromValid for $type {
            fn from_valid(valid: &Valid) -> Option<Self> {
                match valid { $pattern => $value, _ => None }
            }
        })+
    };
}

from_valid! {
    bool: Valid::Bool(value) => Some(*value),
    i64: Valid::Integer(value) => Some(*value),
    u64: Valid::Integer(value) => u64::try_from(*value).ok(),
    u32: Valid::Integer(value) => u32::try_from(*value).ok(),
    Duration: Valid::Duration(value) => Some(*value),
    String: Valid::Text(value) => Some(value.clone()),
    PathBuf: Valid::Text(value) => Some(value.into()),
    Secret: Valid::Text(value) => Some(Secret::new(value.clone())),
    Vec<String>: Valid::List(values) => Some(values.clone()),
    Vec<PathBuf>: Valid::List(values) => Some(values.iter().map(PathBuf::from).collect()),
    BTreeMap<String, String>: Valid::Scalars(values) => Some(values.clone()),
    serde_json::Value: Valid::Free(map) => Some(serde_json::Value::Object(map.clone())),
}

impl FromValid for usize {
    fn from_valid(valid: &Valid) -> Option<Self> {
        match valid {
            Valid::Size(value) => usize::try_from(*value).ok(),
            Valid::Integer(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }
}

macro_rules! from_words {
    ($($type:ty),+ $(,)?) => { from_valid! { $($type: Valid::Text(word) => <$type>::from_word(word)),+ } };
}

from_words! {
    ConsumerType, Delivery, Deserializer, FileChecks, HeaderStyle, Isolation, LogFormat, LogLevel, Membership, MembershipProtocol,
    OffsetReset, Order, Then, Tombstones,
}
