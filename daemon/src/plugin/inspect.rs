//! `devourd plugins inspect`: what one library offers, asked in throw-away children.

use std::{fmt, path::PathBuf, time::Duration};

use devour_abi::{ConstructRequest, Descriptor};
use serde::Serialize;
use serde_json::Value;

use super::{
    Library, PluginError, PluginFault, Probe, Prober, Stage, Store, check::settings_findings,
    error_text::harmless, list::as_text, locate,
};
use crate::settings::FileChecks;

/// How to inspect.
pub struct Inspector<'a> {
    /// Where a name without a slash is searched.
    pub plugin_dirs: &'a [PathBuf],
    /// Whether the file and its directories are checked.
    pub checks: FileChecks,
    /// Asks in children.
    pub prober: &'a Prober,
    /// The settings that the consumers are given, an object.
    pub settings: &'a Value,
    /// Construct each consumer too.
    pub construct: bool,
    /// How long a child is given.
    pub timeout: Duration,
}

/// What a library offers. As JSON it is what `plugins inspect --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Version of the plugin's crate, from the first consumer that answered.
    pub version: Option<String>,
    /// SHA-256 of the content.
    pub hash: String,
    /// Its consumers by symbol.
    pub consumers: Vec<ConsumerReport>,
}

/// What one consumer says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerReport {
    /// What it says of itself: symbol, topic, consumer_type, config, digests and so on. The symbol is the exported one.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What it finds wrong with the settings it was given.
    pub findings: Vec<String>,
    /// Whether it could be constructed; null if that was not tried.
    pub constructed: Option<bool>,
    /// What it logged while it was constructed.
    pub logs: Vec<String>,
    /// Why it cannot be used, if it cannot.
    #[serde(serialize_with = "as_text")]
    pub error: Option<PluginError>,
}

/// Looks at one library: a path, or a name in the plugin directories.
///
/// # Errors
/// What is wrong with the library as a whole. What is wrong with one consumer is in its report
/// ([`Inspection::first_error`]).
pub fn inspect(path: &str, inspector: &Inspector<'_>) -> Result<Inspection, PluginError> {
    let file = locate(path, inspector.plugin_dirs)?;
    let library = Store::in_memory().admit(&file, inspector.checks)?;
    library.expect_any()?;
    let mut consumers = Vec::new();
    for symbol in &library.exports {
        consumers.push(report(&library, symbol, inspector)?);
    }
    let version = consumers.iter().find(|consumer| consumer.error.is_none());
    let version = version.map(|consumer| consumer.descriptor.version.clone());
    Ok(Inspection {
        file,
        version,
        hash: library.hash.to_string(),
        consumers,
    })
}

fn report(library: &Library, symbol: &str, inspector: &Inspector<'_>) -> Result<ConsumerReport, PluginError> {
    let settings = inspector.settings;
    let mut report = ConsumerReport {
        descriptor: Descriptor {
            symbol: symbol.to_owned(),
            ..Descriptor::default()
        },
        findings: Vec::new(),
        constructed: None,
        logs: Vec::new(),
        error: None,
    };
    let mut take = |probe: Probe| {
        report.findings = settings_findings(&probe.descriptor, settings)
            .into_iter()
            .map(|found| found.text)
            .collect();
        report.findings.extend(probe.findings);
        report.logs = probe.logs;
        report.descriptor = Descriptor {
            symbol: symbol.to_owned(),
            ..probe.descriptor
        };
    };
    // Asked without constructing first, so that what it says of itself is known also when the constructor fails.
    let mut asked = inspector
        .prober
        .probe(library, symbol, settings, inspector.timeout)
        .map(&mut take);
    let mut constructed = None;
    if inspector.construct && asked.is_ok() {
        let request = ConstructRequest {
            route: "inspect".into(),
            lanes: 1,
            generation: 1,
            settings: settings.clone(),
            ..ConstructRequest::default()
        };
        asked = inspector
            .prober
            .construct(library, symbol, request, inspector.timeout)
            .map(take);
        constructed = Some(asked.is_ok());
    }
    report.constructed = constructed;
    match asked {
        Ok(()) => Ok(report),
        // The next consumer would only say the same.
        Err(error) if of_library(&error.fault) => Err(error),
        Err(error) => Ok(ConsumerReport {
            error: Some(error),
            ..report
        }),
    }
}

/// Whether a fault is the library's, not one consumer's.
fn of_library(fault: &PluginFault) -> bool {
    match fault {
        PluginFault::ProbeDied { stage, .. } | PluginFault::ProbeTimedOut { stage, .. } => {
            matches!(stage, Stage::Start | Stage::Open | Stage::Compare)
        }
        PluginFault::SettingsRefused { .. } | PluginFault::Failed { .. } => false,
        _ => true,
    }
}

// === impl Inspection ===

impl Inspection {
    /// The first consumer's error, if there is one: the command then fails.
    #[must_use]
    pub fn first_error(&self) -> Option<&PluginError> {
        self.consumers.iter().find_map(|consumer| consumer.error.as_ref())
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.file.display())?;
        if let Some(version) = &self.version {
            writeln!(f, "  version {version}")?;
        }
        write!(f, "  sha256 {}", self.hash)?;
        self.consumers
            .iter()
            .try_for_each(|consumer| write!(f, "\n\n{consumer}"))
    }
}

impl fmt::Display for ConsumerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = &self.descriptor;
        write!(f, "{}", said.symbol)?;
        let mut line = |name: &str, text: &str| write!(f, "\n  {name:<14}{}", harmless(text));
        if !said.package.is_empty() {
            line(
                "package",
                &format!("{} {} (devour-abi {})", said.package, said.version, said.abi),
            )?;
        }
        if let Some(topic) = &said.topic {
            line("topic", &topic.names().join(", "))?;
        }
        if let Some(kind) = &said.consumer_type {
            line("consumer_type", word(kind).trim_matches('"'))?;
        }
        for (key, value) in &said.config {
            line(
                if Some(key) == said.config.keys().next() {
                    "config"
                } else {
                    ""
                },
                &format!("{key}: {value}"),
            )?;
        }
        for digest in &said.digests {
            let accepts: Vec<&str> = digest.accepts.iter().map(|mode| mode.attribute()).collect();
            let accepts = if accepts.is_empty() {
                String::new()
            } else {
                format!(", accepts {}", accepts.join(", "))
            };
            line(
                "digest",
                &format!("{} ({}{accepts})", digest.name, digest.dump.attribute()),
            )?;
        }
        if let Some(schema) = &said.schema_class {
            line("schema_class", schema)?;
        }
        if let Some(schema) = &said.schema {
            line("attributes", &schema.to_string())?;
        }
        if let Some(schema) = &said.settings_schema {
            line("settings", &schema.to_string())?;
        }
        for finding in &self.findings {
            line("finding", finding)?;
        }
        for log in &self.logs {
            line("log", log)?;
        }
        if self.constructed == Some(true) {
            line("constructed", "yes")?;
        }
        match &self.error {
            Some(error) => error
                .to_string()
                .lines()
                .try_for_each(|text| write!(f, "\n  {text}")),
            None => Ok(()),
        }
    }
}

fn word(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
