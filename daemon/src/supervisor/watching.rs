//! The supervisor's side of the watch over plugin directories: which directories are watched, and what a changed library
//! leads to. And the sweep of copies that nothing runs any more.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::{
    Supervisor,
    watch::{PluginsChanged, Watch},
};
use crate::settings::Settings;

/// The watch, once there is one.
pub(super) struct Watching {
    watch: Option<Watch>,
    tell: mpsc::UnboundedSender<PluginsChanged>,
    pub(super) changed: mpsc::UnboundedReceiver<PluginsChanged>,
}

/// The first look at the plugin directories takes milliseconds, unless their file system hangs.
const BEGINNING: Duration = Duration::from_secs(2);

// === impl Watching ===

impl Watching {
    pub(super) fn new() -> Self {
        let (tell, changed) = mpsc::unbounded_channel();
        Self {
            watch: None,
            tell,
            changed,
        }
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Watches the plugin directories of a daemon that can reload; a command that runs once does not. Before its loop
    /// begins: what is opened for the first routes must not change unnoticed.
    pub(super) fn begin_watching(&mut self) {
        self.watch_what_is_set();
        if let Some(watch) = &self.watching.watch {
            watch.wait_until_begun(BEGINNING);
        }
    }

    /// Watches what the settings of now name.
    pub(super) fn watch_what_is_set(&mut self) {
        if self.reloads.reader.is_none() {
            return;
        }
        let (dirs, checks) = (&self.settings.plugin_dirs, self.settings.plugin_file_checks);
        let is_watched = |watch: &Watch| watch.is_of(dirs, checks);
        if self.watching.watch.as_ref().is_some_and(is_watched) {
            return;
        }
        match Watch::start(dirs.clone(), checks, self.watching.tell.clone()) {
            Ok(watch) => self.watching.watch = Some(watch),
            Err(error) => {
                tracing::error!(%error, "plugin directories are not watched: there is no thread for it")
            }
        }
    }

    /// Libraries changed: routes that use them get their new code.
    pub(super) fn plugins_changed(&mut self, changed: &PluginsChanged) {
        let files: Vec<String> = changed
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let files = files.join(", ");
        if concerns(&self.settings, &changed.files) {
            tracing::info!(files, "plugin files changed");
            self.reload_plugins();
        } else {
            tracing::debug!(files, "plugin files changed that no route uses");
        }
    }

    /// Removes copies of plugins that nothing runs any more, in a thread of its own.
    pub(super) fn sweep_copies(&self) {
        let store = self.planner.store.clone();
        let sweep = move || match store.sweep(SystemTime::now()) {
            Ok(swept) if swept.copies > 0 => {
                tracing::info!(
                    copies = swept.copies,
                    bytes = swept.bytes,
                    "copies of plugins swept"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "copies of plugins are not swept"),
        };
        // Without a thread the next reload sweeps.
        let _ = std::thread::Builder::new().name("sweep".to_owned()).spawn(sweep);
    }
}

/// Whether one of these files is a route's library, or may be one soon.
fn concerns(settings: &Settings, files: &[PathBuf]) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_used = |file: &PathBuf| {
        settings.routes.iter().any(|route| {
            if route.path.contains('/') {
                absolute(Path::new(&route.path)) == absolute(file)
            } else {
                file.file_name() == Some(route.path.as_ref())
            }
        })
    };
    settings.autoload.is_some() || files.iter().any(is_used)
}
