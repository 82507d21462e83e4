//! How a [`PluginError`] is told: a headline, then what the host and what the plugin has to say.

use std::fmt;

use super::{Death, PluginError, PluginFault, Stage};

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let symbol = self.symbol.as_deref();
        let of = symbol.map_or_else(|| file.to_string(), |symbol| format!("{file}::{symbol}"));
        self.fault
            .headline(f, &file.to_string(), &of, symbol.unwrap_or("?"))?;
        self.fault.host(f)?;
        self.fault.plugin(f)
    }
}

// === impl PluginFault ===

impl PluginFault {
    fn headline(&self, f: &mut fmt::Formatter<'_>, file: &str, of: &str, symbol: &str) -> fmt::Result {
        match self {
            Self::NoSuchFile { .. } => write!(f, "{file}: no such file"),
            Self::NotALibrary { what } => write!(f, "{file}: not a shared library: it is {what}"),
            Self::Truncated { length, .. } => {
                write!(f, "{file}: the file is truncated: it ends after {length} bytes")
            }
            Self::WrongMachine { found, .. } => write!(f, "{file}: built for another machine: {found}"),
            Self::NoSuchSymbol { .. } => write!(f, "{file}: no consumer `{symbol}`"),
            Self::NotAPlugin { .. } => write!(f, "{of}: not a devour plugin"),
            Self::OtherAbiStable { found, .. } => write!(f, "{of}: built with another abi_stable: {found}"),
            Self::OtherAbi { found, .. } => {
                write!(f, "{of}: built for another major version of devour-abi: {found}")
            }
            Self::LayoutDiffers { .. } => write!(f, "{of}: the types that cross have another layout"),
            Self::NotLoadable { .. } => write!(f, "{of}: the system cannot load it"),
            Self::ProbeDied { stage, how, .. } => write!(f, "{of}: its probe {how} while {}", stage.doing()),
            Self::ProbeTimedOut { stage, after, .. } => {
                write!(
                    f,
                    "{of}: its probe did not come to an end within {after:?}, while {}",
                    stage.doing()
                )
            }
            Self::SettingsRefused { .. } => write!(f, "{of}: it refuses its settings"),
            Self::Failed { stage, panicked, .. } => {
                write!(
                    f,
                    "{of}: its {} {}",
                    stage.function(),
                    if *panicked { "panicked" } else { "failed" }
                )
            }
            Self::Untrusted { path, what, .. } => {
                let path = path.display().to_string();
                let at = if path == file {
                    String::new()
                } else {
                    format!("{path} ")
                };
                write!(f, "{file}: somebody else could change it: {at}{what}")
            }
            Self::OtherContent { .. } => write!(f, "{file}: not the content that the route is pinned to"),
            Self::Changing => write!(f, "{file}: the file changed while it was read"),
            Self::Io { doing, reason } => write!(f, "{file}: cannot {doing}: {reason}"),
        }
    }

    fn host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |text: fmt::Arguments<'_>| write!(f, "\n  host: {text}");
        match self {
            Self::NoSuchFile { searched, nearest } => {
                if searched.is_empty() {
                    line(format_args!(
                        "a name without a slash is searched in plugin_dirs, which is empty"
                    ))?;
                }
                for path in searched {
                    line(format_args!("looked for {}", path.display()))?;
                }
                if nearest.is_empty() {
                    Ok(())
                } else {
                    line(format_args!("there is {}", nearest.join(", ")))
                }
            }
            Self::NotALibrary { .. } => line(format_args!(
                "a plugin is a shared library (crate-type \"cdylib\")"
            )),
            Self::Truncated { needed, what, .. } => line(format_args!(
                "{what} reaches to byte {needed}; copy or build the file again"
            )),
            Self::WrongMachine { expected, .. } => line(format_args!("this is {expected}")),
            Self::NoSuchSymbol { nearest, .. } => match nearest {
                Some(nearest) => line(format_args!("did you mean `{nearest}`?")),
                None => Ok(()),
            },
            Self::NotAPlugin { .. } => line(format_args!(
                "a plugin exports each consumer as data of its type's name (`#[consumer]`)"
            )),
            Self::OtherAbiStable { expected, .. } => line(format_args!("abi_stable {expected}")),
            Self::OtherAbi { expected, .. } => line(format_args!(
                "devour-abi {expected}; build the plugin against that major version"
            )),
            Self::LayoutDiffers { .. } => line(format_args!(
                "devour-abi {}; a plugin must be built with an unchanged devour-abi",
                devour_abi::ABI_VERSION
            )),
            Self::Untrusted { mend, .. } => line(format_args!(
                "mend it with `{mend}`, or set `plugin_file_checks: off`"
            )),
            Self::OtherContent { expected, found } => {
                line(format_args!("the route's sha256 is {expected}"))?;
                line(format_args!("the file's is         {found}"))
            }
            Self::Changing => line(format_args!(
                "try again when it is written; install a library by renaming it"
            )),
            Self::ProbeDied { .. } | Self::ProbeTimedOut { .. } => line(format_args!(
                "the library was opened in a process of its own, which is gone; nothing else was touched"
            )),
            Self::NotLoadable { .. }
            | Self::SettingsRefused { .. }
            | Self::Failed { .. }
            | Self::Io { .. } => Ok(()),
        }
    }

    fn plugin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = |text: &str| {
            let mut told = text.lines().filter(|line| !line.trim().is_empty());
            told.try_for_each(|line| write!(f, "\n  plugin: {}", harmless(line.trim_end())))
        };
        match self {
            Self::NoSuchSymbol { has, instead, .. } => {
                if let Some(instead) = instead {
                    lines(instead)?;
                }
                if has.is_empty() {
                    lines("it has no consumers")
                } else {
                    lines(&format!("its consumers are {}", has.join(", ")))
                }
            }
            Self::NotAPlugin { why } => lines(why),
            Self::OtherAbiStable { found, .. } => lines(&format!("abi_stable {found}")),
            Self::OtherAbi { found, .. } => lines(&format!("devour-abi {found}")),
            Self::LayoutDiffers { difference } => lines(difference),
            Self::NotLoadable { reason } => lines(reason),
            Self::ProbeDied { printed, .. } | Self::ProbeTimedOut { printed, .. }
                if !printed.trim().is_empty() =>
            {
                lines("it printed:")?;
                lines(printed)
            }
            Self::SettingsRefused { findings } => findings.iter().try_for_each(|finding| lines(finding)),
            Self::Failed { message, .. } => lines(message),
            _ => Ok(()),
        }
    }
}

// === impl Stage ===

impl Stage {
    /// What the child was doing, after "while".
    #[must_use]
    pub fn doing(self) -> &'static str {
        match self {
            Self::Start => "it started",
            Self::Open => "the library was opened (its initialisers run then)",
            Self::Compare => "versions and layouts were compared",
            Self::Describe => "it was asked for its descriptor",
            Self::Check => "it checked its settings",
            Self::Construct => "it constructed a consumer",
        }
    }

    fn function(self) -> &'static str {
        match self {
            Self::Start | Self::Open | Self::Compare => "library",
            Self::Describe => "descriptor",
            Self::Check => "check of the settings",
            Self::Construct => "constructor",
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Forked => {
                f.write_str("started processes of its own, which a library must not do when it is opened,")
            }
            Self::ClosedDescriptors => f.write_str("closed descriptors that were not its own"),
            Self::Rubbish(what) => write!(f, "gave an answer that is none ({what})"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

/// A plugin's text without what would move the cursor or change the colours of a terminal.
pub(super) fn harmless(text: &str) -> String {
    let shown = |c: char| {
        if c == '\n' || c == '\t' || !c.is_control() {
            c
        } else {
            '\u{fffd}'
        }
    };
    text.chars().map(shown).collect()
}
