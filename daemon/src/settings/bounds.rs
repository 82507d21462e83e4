//! What bounds a route's plugin process, as the settings say it.

use std::path::PathBuf;

use super::convert::{Tree, Valid};
use super::words::Isolation;

/// Limits, user and sandbox of a route's plugin process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteBounds {
    /// What it may take.
    pub limits: Limits,
    /// Whom it runs as, by name or number, where that is not the daemon's user.
    pub user: Option<String>,
    /// What it may still do, where that is not all that its user may.
    pub sandbox: Option<RouteSandbox>,
}

/// What a plugin's process may take; `None` is no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// 0 to 19.
    pub nice: Option<i32>,
}

/// What a plugin's process may still do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSandbox {
    /// Open sockets.
    pub network: bool,
    /// Write to these, and below them.
    pub write: Vec<PathBuf>,
}

// === impl RouteBounds ===

impl RouteBounds {
    pub(super) fn from_tree(tree: &Tree) -> Self {
        let limits = tree.block("limits");
        let sandbox = match tree.raw("sandbox") {
            Some(Valid::Block(sandbox)) => Some(RouteSandbox {
                network: sandbox.get("network"),
                write: sandbox.get("write"),
            }),
            _ => None,
        };
        let memory: Option<usize> = limits.given("memory");
        let nice: Option<u32> = limits.given("nice");
        Self {
            limits: Limits {
                memory: memory.map(|bytes| bytes as u64),
                open_files: limits.given("open_files"),
                // 0 to 19, as the schema says
                nice: nice.and_then(|nice| i32::try_from(nice).ok()),
            },
            user: tree.given("user"),
            sandbox,
        }
    }

    /// Keys that ask for a process of its own, which a route in this isolation has not.
    pub(super) fn homeless(&self, isolation: Isolation) -> Vec<&'static str> {
        let asked = [
            ("limits", self.limits != Limits::default()),
            ("user", self.user.is_some()),
            ("sandbox", self.sandbox.is_some()),
        ];
        let asked = asked
            .into_iter()
            .filter(|(_, asked)| *asked && isolation == Isolation::Thread);
        asked.map(|(key, _)| key).collect()
    }
}
