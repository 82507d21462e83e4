//! Compares the layout of what crosses, as the two sides were compiled, and says what differs.
//!
//! abi_stable's check has a direction: the implementation may know more than the interface, never less. Here either
//! side may be the newer minor version, so the older one is the interface, whichever side it is on.

use abi_stable::{
    abi_stability::abi_checking::{AbiInstability, AbiInstabilityError, check_layout_compatibility},
    type_layout::TypeLayout,
};

/// More differences than these say nothing new.
const MOST_DIFFERENCES: usize = 8;

/// Which side was compiled against the older minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    Host,
    Plugin,
}

/// Compares the module's type with all that it reaches.
///
/// # Errors
/// What differs, one line each.
pub(crate) fn compare(
    host: &'static TypeLayout,
    plugin: &'static TypeLayout,
    older: Older,
) -> Result<(), String> {
    let (interface, implementation) = match older {
        Older::Host => (host, plugin),
        Older::Plugin => (plugin, host),
    };
    check_layout_compatibility(interface, implementation).map_err(|differences| {
        let mut lines: Vec<String> = Vec::new();
        for difference in &differences.errors {
            for line in lines_of(difference, older) {
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        let more = lines.len().saturating_sub(MOST_DIFFERENCES);
        lines.truncate(MOST_DIFFERENCES);
        if more > 0 {
            lines.push(format!("and {more} differences more"));
        }
        lines.join("\n")
    })
}

/// The differences of one type, each as `Type::field: what: host .., plugin ..`.
fn lines_of(difference: &AbiInstabilityError, older: Older) -> Vec<String> {
    let mut names = difference
        .stack_trace
        .iter()
        .rev()
        .map(|pair| name_of(&pair.expected));
    let place = match (names.next(), names.next()) {
        (Some((field, of)), Some((_, within))) => format!("{within}::{field} ({of})"),
        (Some((field, of)), None) => format!("{field} ({of})"),
        _ => "ConsumerModule".to_owned(),
    };
    let told = |what: &str, interface: &dyn std::fmt::Debug, implementation: &dyn std::fmt::Debug| {
        let (host, plugin) = match older {
            Older::Host => (interface, implementation),
            Older::Plugin => (implementation, interface),
        };
        format!("{what}: host {host:?}, plugin {plugin:?}")
    };
    let errors = difference.errs.iter().map(|error| match error {
        AbiInstability::Size(v) => told("size", &v.expected, &v.found),
        AbiInstability::Alignment(v) => told("alignment", &v.expected, &v.found),
        AbiInstability::FieldCountMismatch(v) => told("number of fields", &v.expected, &v.found),
        AbiInstability::UnexpectedField(v) => told("field", &v.expected.name(), &v.found.name()),
        AbiInstability::Name(v) => told("type", &v.expected.to_string(), &v.found.to_string()),
        AbiInstability::MismatchedPrimitive(v) => told("type", &v.expected, &v.found),
        AbiInstability::MismatchedPrefixSize(v) => {
            told("number of fields of version 1.0", &v.expected, &v.found)
        }
        AbiInstability::MismatchedPrefixConditionality(_) => "which fields are optional".to_owned(),
        AbiInstability::PackageVersion(v) => told("version", &v.expected.to_string(), &v.found.to_string()),
        AbiInstability::FnLifetimeMismatch(_) | AbiInstability::FieldLifetimeMismatch(_) => {
            "lifetimes".to_owned()
        }
        AbiInstability::FnQualifierMismatch(_) => "`unsafe` of a function".to_owned(),
        // What our types do not use: enums, tags, constant parameters.
        other => {
            let mut text = format!("{other:?}");
            if let Some((end, _)) = text.char_indices().nth(120) {
                text.truncate(end);
            }
            text
        }
    });
    errors.map(|error| format!("{place}: {error}")).collect()
}

/// Name and type of a field, or of a function; abi_stable gives them as text only.
fn name_of(place: &impl std::fmt::Display) -> (String, String) {
    let text = place.to_string();
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(key))
            .map(|name| name.trim().to_owned())
    };
    match (value("field_name:"), value("type:")) {
        (Some(field), Some(of)) => (field, of),
        _ => (
            text.lines().next().unwrap_or_default().to_owned(),
            "function".to_owned(),
        ),
    }
}
