//! The language in which `keys` describes every setting once: type, unit, bounds, default, words for the reader.

use std::time::Duration;

use super::forms::not_empty;
use super::units::LONGEST;

/// A mapping with known keys.
pub(super) struct Block {
    /// What it is called in the JSON Schema and in links.
    pub name: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: &'static [Key],
}

/// One setting.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// YAML of the value that holds where the key is absent.
    pub default: Option<&'static str>,
    /// What holds where the key is absent, in words, when that is no value.
    pub otherwise: Option<&'static str>,
    /// YAML that shows a value where there is no default.
    pub example: Option<&'static str>,
    pub required: bool,
    /// Whether the word `none` is a value.
    pub none: bool,
    pub standing: Standing,
    /// A value that is accepted and warned about, and why.
    pub warn: Option<(&'static str, &'static str)>,
}

/// What this version makes of a key.
#[derive(Clone, Copy)]
pub(super) enum Standing {
    /// It works.
    Supported,
    /// A seed option that modern Kafka cannot honour: accepted, warned about once, with the reason and what replaces it.
    Ignored(&'static str),
    /// Only this value (YAML) can be honoured; any other is an error with the reason.
    Only(&'static str, &'static str),
    /// It never was a setting of this kind: an error with the reason.
    Refused(&'static str),
    /// Planned, and an error until it works; the value, if any, that says what is done today is accepted.
    Unavailable(Option<&'static str>),
}

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// A whole number; beyond its bounds it is refused or drawn to them with a warning.
    Integer {
        min: i64,
        max: i64,
        unit: &'static str,
        outside: Outside,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    Size {
        min: u64,
        max: u64,
    },
    /// One of these words; the second list is planned and not available yet.
    Choice {
        words: &'static [&'static str],
        planned: &'static [&'static str],
    },
    /// A text with a form of its own: what it is called, and the check.
    Text {
        what: &'static str,
        check: fn(&str) -> Result<(), String>,
    },
    /// A path of the file system.
    Path,
    /// A text that is never shown.
    Secret,
    /// A text with commas or a list of texts.
    Commas {
        what: &'static str,
        check: fn(&str) -> Result<(), String>,
    },
    /// A text or a list of texts.
    OneOrMany {
        what: &'static str,
        check: fn(&str) -> Result<(), String>,
    },
    /// A list of paths.
    Paths,
    /// `earliest`, `latest`, or pykafka's -2, -1.
    OffsetReset,
    /// A mapping with known keys. Where a route meets the defaults the route's keys win one by one, or the whole.
    Block {
        block: &'static Block,
        merge: Merge,
    },
    /// A mapping of texts to texts, numbers or booleans.
    Scalars,
    /// A mapping with keys of any name, handed on as it is.
    Free,
    /// A list of names, each alone or with a list of its own.
    Attributes,
    /// A mapping of names to routes.
    Routes,
    /// Anything; for keys that are refused or ignored anyway.
    Any,
}

/// What happens to a number beyond its bounds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    Refuse,
    Clamp,
}

/// How a block of a route meets the same block of `defaults`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    KeyByKey,
    Replace,
}

// === impl Block ===

impl Block {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The keys that work or are accepted: those that samples, schemas and suggestions show.
    pub(super) fn shown(&self) -> impl Iterator<Item = &'static Key> {
        self.keys
            .iter()
            .filter(|key| !matches!(key.standing, Standing::Refused(_) | Standing::Unavailable(_)))
    }
}

// === impl Key ===

/// A key that works, without a default.
pub(super) const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        doc,
        default: None,
        otherwise: None,
        example: None,
        required: false,
        none: false,
        standing: Standing::Supported,
        warn: None,
    }
}

/// A seed option that is accepted and ignored, with the reason.
pub(super) const fn ignored(
    name: &'static str,
    kind: Kind,
    example: &'static str,
    reason: &'static str,
) -> Key {
    let mut key = key(name, kind, "");
    key.standing = Standing::Ignored(reason);
    key.example = Some(example);
    key
}

/// An option that is refused, with the reason.
pub(super) const fn refused(name: &'static str, reason: &'static str) -> Key {
    let mut key = key(name, Kind::Any, "");
    key.standing = Standing::Refused(reason);
    key
}

/// A key that is planned.
pub(super) const fn planned(name: &'static str) -> Key {
    let mut key = key(name, Kind::Any, "");
    key.standing = Standing::Unavailable(None);
    key
}

impl Key {
    pub(super) const fn default(mut self, yaml: &'static str) -> Self {
        self.default = Some(yaml);
        self
    }

    pub(super) const fn otherwise(mut self, words: &'static str) -> Self {
        self.otherwise = Some(words);
        self
    }

    pub(super) const fn example(mut self, yaml: &'static str) -> Self {
        self.example = Some(yaml);
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn or_none(mut self) -> Self {
        self.none = true;
        self
    }

    pub(super) const fn standing(mut self, standing: Standing) -> Self {
        self.standing = standing;
        self
    }

    /// `value` is accepted with a warning that gives the reason.
    pub(super) const fn warn(mut self, value: &'static str, reason: &'static str) -> Self {
        self.warn = Some((value, reason));
        self
    }

    /// What the sample shows as its value.
    pub(super) fn shown_value(&self) -> &'static str {
        self.default.or(self.example).unwrap_or("")
    }
}

// === impl Kind ===

impl Kind {
    pub(super) const fn integer(min: i64, max: i64, unit: &'static str) -> Self {
        Self::Integer {
            min,
            max,
            unit,
            outside: Outside::Refuse,
        }
    }

    pub(super) const fn clamped(min: i64, max: i64, unit: &'static str) -> Self {
        Self::Integer {
            min,
            max,
            unit,
            outside: Outside::Clamp,
        }
    }

    /// A duration of at least a millisecond.
    pub(super) const fn duration() -> Self {
        Self::Duration {
            min: Duration::from_millis(1),
            max: LONGEST,
        }
    }

    pub(super) const fn choice(words: &'static [&'static str]) -> Self {
        Self::Choice { words, planned: &[] }
    }

    /// Any text that is not empty.
    pub(super) const fn text() -> Self {
        Self::Text {
            what: "text",
            check: not_empty,
        }
    }

    pub(super) const fn block(block: &'static Block) -> Self {
        Self::Block {
            block,
            merge: Merge::KeyByKey,
        }
    }

    /// The type in a few words, for messages and tables.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Integer { min, max, unit, .. } => {
                let unit = if unit.is_empty() {
                    String::new()
                } else {
                    format!(" of {unit}")
                };
                match (*min, *max) {
                    (0, i64::MAX) => format!("a whole number{unit}"),
                    (min, i64::MAX) => format!("a whole number{unit}, {min} or more"),
                    (min, max) => format!("a whole number{unit} from {min} to {max}"),
                }
            }
            Self::Duration { .. } => "a duration such as `250ms`, `5s`, `1m`".into(),
            Self::Size { .. } => "a size such as `64KiB`, `1MiB`, `500KB`".into(),
            Self::Choice { words, .. } => super::text::any_of(words),
            Self::Text { what, .. } => (*what).into(),
            Self::Path => "a path".into(),
            Self::Secret => "text (a secret)".into(),
            Self::Commas { what, .. } => format!("{what}, several with commas or as a list"),
            Self::OneOrMany { what, .. } => format!("{what}, or a list of them"),
            Self::Paths => "a list of paths".into(),
            Self::OffsetReset => "`earliest` (-2) or `latest` (-1)".into(),
            Self::Block { .. } => "a mapping".into(),
            Self::Scalars => "a mapping of properties to text, numbers or true/false".into(),
            Self::Free => "a mapping".into(),
            Self::Attributes => "a list of names, each alone or with a list of its own".into(),
            Self::Routes => "a mapping of names to routes".into(),
            Self::Any => "a value".into(),
        }
    }
}
