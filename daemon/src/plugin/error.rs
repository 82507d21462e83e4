//! What can be wrong with a plugin: one typed error, told as a headline and then what the host and what the plugin
//! has to say. It crosses from the probe's child to the daemon as JSON.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A plugin that cannot be used, and why. `Display` is a headline and then lines that begin with `  host:` and
/// `  plugin:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginError {
    /// The library, as the operator named it or as it was found.
    pub file: PathBuf,
    /// The consumer's symbol, where one was asked for.
    pub symbol: Option<String>,
    /// What is wrong.
    pub fault: Box<PluginFault>,
}

/// What is wrong with a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum PluginFault {
    /// There is no such file.
    NoSuchFile {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
        /// The most similar names that are there.
        nearest: Vec<String>,
    },
    /// The file is something else.
    NotALibrary {
        /// What it is, with its article.
        what: String,
    },
    /// The file ends before what its headers announce.
    Truncated {
        /// Bytes that it has.
        length: u64,
        /// Bytes that it should have at least.
        needed: u64,
        /// What lies beyond its end.
        what: String,
    },
    /// It was built for another machine.
    WrongMachine {
        /// What it was built for.
        found: String,
        /// What this is.
        expected: String,
    },
    /// It exports no such consumer.
    NoSuchSymbol {
        /// The consumers that it exports.
        has: Vec<String>,
        /// The most similar of them.
        nearest: Option<String>,
        /// What the symbol is instead, where the library knows it.
        instead: Option<String>,
    },
    /// It exports no consumer at all.
    NotAPlugin {
        /// What was found instead.
        why: String,
    },
    /// It was built with another abi_stable.
    OtherAbiStable {
        /// The host's, `major.minor`.
        expected: String,
        /// The plugin's.
        found: String,
    },
    /// It was built for another major version of devour-abi.
    OtherAbi {
        /// The host's version.
        expected: String,
        /// The plugin's.
        found: String,
    },
    /// The types that cross have another layout.
    LayoutDiffers {
        /// What differs.
        difference: String,
    },
    /// The system's loader refuses it.
    NotLoadable {
        /// The loader's words.
        reason: String,
    },
    /// The child that probed it died or misbehaved.
    ProbeDied {
        /// What the child was doing.
        stage: Stage,
        /// How it ended.
        how: Death,
        /// What it printed, cut.
        printed: String,
    },
    /// The child that probed it did not come to an end.
    ProbeTimedOut {
        /// What the child was doing.
        stage: Stage,
        /// How long it was given.
        after: Duration,
        /// What it printed, cut.
        printed: String,
    },
    /// Its settings are not right.
    SettingsRefused {
        /// One text each.
        findings: Vec<String>,
    },
    /// A function of the plugin failed or panicked.
    Failed {
        /// Which.
        stage: Stage,
        /// It panicked.
        panicked: bool,
        /// What it said.
        message: String,
    },
    /// Somebody else could change the file.
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The command that mends it.
        mend: String,
    },
    /// It is not the content that the route is pinned to.
    OtherContent {
        /// The SHA-256 that the route names.
        expected: String,
        /// That of the file.
        found: String,
    },
    /// The file changed while it was read.
    Changing,
    /// The kernel refused something.
    Io {
        /// What was tried.
        doing: String,
        /// The kernel's words.
        reason: String,
    },
}

/// What the probing child was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It had not begun.
    Start,
    /// It opened the library: the ELF initialisers ran.
    Open,
    /// It compared versions and layouts.
    Compare,
    /// It asked for the descriptor.
    Describe,
    /// It asked whether the settings are right.
    Check,
    /// It constructed a consumer.
    Construct,
}

/// How a probing child ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// A signal ended it.
    Signal(i32),
    /// It called `exit` with this status.
    Exited(i32),
    /// It started processes of its own.
    Forked,
    /// It closed the descriptors of its host.
    ClosedDescriptors,
    /// It answered what is no answer.
    Rubbish(String),
}

// === impl PluginFault ===

impl PluginFault {
    /// Whether it says that the file cannot be taken as it is now, whatever is in it: it is not there, half of it is, or
    /// it is not the one that it has to be.
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        matches!(
            self,
            Self::NoSuchFile { .. }
                | Self::NotALibrary { .. }
                | Self::Truncated { .. }
                | Self::WrongMachine { .. }
                | Self::Untrusted { .. }
                | Self::OtherContent { .. }
                | Self::Changing
        )
    }
}

// === impl PluginError ===

impl PluginError {
    /// A fault of `file`.
    pub fn new(file: impl Into<PathBuf>, fault: PluginFault) -> Self {
        Self {
            file: file.into(),
            symbol: None,
            fault: Box::new(fault),
        }
    }

    /// The kernel refused `doing`.
    pub fn io(file: impl Into<PathBuf>, doing: impl Into<String>, reason: impl Into<io::Error>) -> Self {
        Self::new(
            file,
            PluginFault::Io {
                doing: doing.into(),
                reason: reason.into().to_string(),
            },
        )
    }

    /// The same fault, said of a symbol.
    #[must_use]
    pub fn of_symbol(mut self, symbol: &str) -> Self {
        self.symbol = Some(symbol.to_owned());
        self
    }

    /// The same fault, said of the file as the operator knows it.
    #[must_use]
    pub fn of_file(mut self, file: &Path) -> Self {
        self.file = file.to_owned();
        self
    }
}

impl std::error::Error for PluginError {}
