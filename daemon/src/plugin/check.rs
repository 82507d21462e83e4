//! All that can be said of a route's plugin before it runs: used by `devourd check`, at start and at a reload.

use std::{path::PathBuf, time::Duration};

use devour_abi::{Descriptor, DigestInfo, DumpMode};
use serde_json::Value;

use super::{Library, PluginError, PluginFault, Probe, Prober, Store, locate, locate::nearest_names};
use crate::settings::{self, FileChecks};

/// What a route wants of its plugin.
#[derive(Clone, Copy, Debug)]
pub struct RouteAsk<'a> {
    /// The library, as written.
    pub path: &'a str,
    /// The consumer.
    pub symbol: &'a str,
    /// The only content that the library may have, as SHA-256 in lower case.
    pub sha256: Option<&'a str>,
    /// The plugin's own settings, an object.
    pub settings: &'a Value,
    /// Which of several digests.
    pub digest_name: Option<&'a str>,
    /// Another dump mode than the digest's own.
    pub dump: Option<DumpMode>,
}

/// A route's plugin that can be used.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its library.
    pub library: Library,
    /// What it says of itself.
    pub probe: Probe,
}

/// Something wrong between a route and its plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFinding {
    /// The route's key that it is about, with the way into the plugin's settings: `["settings", "servers", "0"]`.
    pub key: Vec<String>,
    /// What is wrong.
    pub text: String,
    /// The plugin's error, where there is one.
    pub error: Option<PluginError>,
}

/// Takes the route's library in, probes it with the route's settings, and checks these, the digest and the dump mode
/// against what it says of itself. No consumer is constructed.
///
/// # Errors
/// All that was found, at least one.
pub fn check_route(
    ask: RouteAsk<'_>,
    plugin_dirs: &[PathBuf],
    store: &Store,
    checks: FileChecks,
    prober: &Prober,
    timeout: Duration,
) -> Result<Checked, Vec<RouteFinding>> {
    let of_plugin = |error: PluginError| {
        let key = match *error.fault {
            PluginFault::NoSuchSymbol { .. } => "symbol",
            PluginFault::SettingsRefused { .. } => "settings",
            PluginFault::OtherContent { .. } => "sha256",
            _ => "path",
        };
        vec![RouteFinding {
            key: vec![key.into()],
            text: error.to_string(),
            error: Some(error),
        }]
    };
    let library = locate(ask.path, plugin_dirs)
        .and_then(|file| store.admit(&file, checks))
        .and_then(|library| expect_content(&library, ask.sha256).map(|()| library))
        .and_then(|library| library.expect(ask.symbol).map(|()| library))
        .map_err(of_plugin)?;
    let probe = prober
        .probe(&library, ask.symbol, ask.settings, timeout)
        .map_err(of_plugin)?;
    let mut findings = settings_findings(&probe.descriptor, ask.settings);
    findings.extend(
        probe
            .findings
            .iter()
            .map(|text| RouteFinding::of(&["settings"], text.clone())),
    );
    findings.extend(digest_findings(&probe.descriptor, ask));
    if findings.is_empty() {
        Ok(Checked { library, probe })
    } else {
        Err(findings)
    }
}

/// Whether the content is the pinned one. Before anything of it is run.
fn expect_content(library: &Library, pin: Option<&str>) -> Result<(), PluginError> {
    match pin {
        Some(pin) if pin != library.hash.as_str() => {
            let (expected, found) = (pin.to_owned(), library.hash.to_string());
            Err(PluginError::new(
                &library.file,
                PluginFault::OtherContent { expected, found },
            ))
        }
        _ => Ok(()),
    }
}

/// Where the settings do not fit the plugin's schema. A value is never repeated: it may be a secret.
pub(super) fn settings_findings(descriptor: &Descriptor, settings: &Value) -> Vec<RouteFinding> {
    let Some(schema) = &descriptor.settings_schema else {
        return Vec::new();
    };
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => {
            let text = format!("the plugin's JSON Schema of its settings cannot be used: {error}");
            return vec![RouteFinding::of(&["path"], text)];
        }
    };
    let errors = validator.iter_errors(settings).map(|error| {
        let pointer = error.instance_path().to_string();
        let mut key = vec!["settings".to_owned()];
        key.extend(
            pointer
                .split('/')
                .skip(1)
                .map(|part| part.replace("~1", "/").replace("~0", "~")),
        );
        let at = if pointer.is_empty() {
            String::new()
        } else {
            format!("{pointer}: ")
        };
        RouteFinding {
            key,
            text: format!("{at}{}", error.masked_with("the value")),
            error: None,
        }
    });
    errors.collect()
}

/// Whether the plugin has the digest, and whether that takes messages so.
fn digest_findings(descriptor: &Descriptor, ask: RouteAsk<'_>) -> Vec<RouteFinding> {
    let names = || descriptor.digests.iter().map(|digest| digest.name.as_str());
    let digest = match ask.digest_name {
        None => descriptor.digests.first(),
        Some(wanted) => descriptor.digests.iter().find(|digest| digest.name == wanted),
    };
    let Some(digest) = digest else {
        let finding = match ask.digest_name {
            None => RouteFinding::of(
                &["symbol"],
                format!("`{}` says that it has no digest", ask.symbol),
            ),
            Some(wanted) => {
                let nearest = nearest_names(wanted, names()).into_iter().next();
                let meant =
                    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
                let has: Vec<&str> = names().collect();
                let text = format!(
                    "`{}` has no digest `{wanted}`, it has {}{meant}",
                    ask.symbol,
                    has.join(", ")
                );
                RouteFinding::of(&["digest_name"], text)
            }
        };
        return vec![finding];
    };
    let accepts = accepted(digest);
    match ask.dump {
        Some(dump) if !accepts.contains(&dump) => {
            let list: Vec<&str> = accepts.iter().map(|mode| mode.attribute()).collect();
            let text = format!(
                "digest `{}` cannot take {}, only {}",
                digest.name,
                dump.attribute(),
                list.join(", ")
            );
            vec![RouteFinding::of(&["dump"], text)]
        }
        _ => Vec::new(),
    }
}

/// The dump modes that a digest takes: its own always.
fn accepted(digest: &DigestInfo) -> Vec<DumpMode> {
    let mut modes = vec![digest.dump];
    modes.extend(digest.accepts.iter().copied().filter(|mode| *mode != digest.dump));
    modes
}

// === impl RouteAsk ===

impl<'a> From<&'a settings::Route> for RouteAsk<'a> {
    fn from(route: &'a settings::Route) -> Self {
        Self {
            path: &route.path,
            symbol: &route.symbol,
            sha256: route.sha256.as_deref(),
            settings: &route.settings,
            digest_name: route.digest_name.as_deref(),
            dump: route.dump.map(|dump| match dump {
                settings::DumpMode::Raw => DumpMode::Raw,
                settings::DumpMode::Object => DumpMode::Object,
                settings::DumpMode::Json => DumpMode::Json,
            }),
        }
    }
}

// === impl RouteFinding ===

impl RouteFinding {
    /// Whether it is only about the file as it is now ([`PluginFault::is_of_file`]).
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.fault.is_of_file())
    }

    fn of(key: &[&str], text: String) -> Self {
        Self {
            key: key.iter().map(ToString::to_string).collect(),
            text,
            error: None,
        }
    }
}
