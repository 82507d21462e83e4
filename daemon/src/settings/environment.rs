//! What settings take from outside: variables, credentials, files. A trait, so that tests are pure.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Names the settings file when no `--settings` is given, as in the seed.
const SETTINGS_PATH: &str = "KAFKA_SETTINGS_PATH";

/// Where settings look beyond their own file.
pub trait Environment {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// The first `limit` bytes of a file, and one more if there is more.
    ///
    /// # Errors
    /// As `std::fs` reports them; a directory is [`io::ErrorKind::IsADirectory`].
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// As `std::fs` reports them.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether this process may write in `directory`, or make it.
    fn can_write_in(&self, directory: &Path) -> bool;

    /// Where systemd put this unit's credentials.
    fn credentials_directory(&self) -> Option<PathBuf> {
        self.variable("CREDENTIALS_DIRECTORY")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

/// Which file holds the settings, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFile {
    /// The file.
    pub path: PathBuf,
    /// `--settings`, `KAFKA_SETTINGS_PATH`, or the default: for the message when there is no such file.
    pub named_by: &'static str,
}

/// The settings file: the `--settings` flag, else `KAFKA_SETTINGS_PATH`, else `settings.yaml` in the working
/// directory.
#[must_use]
pub fn locate(flag: Option<&Path>, env: &dyn Environment) -> SettingsFile {
    if let Some(path) = flag {
        return SettingsFile {
            path: path.to_owned(),
            named_by: "--settings",
        };
    }
    match env.variable(SETTINGS_PATH).filter(|path| !path.is_empty()) {
        Some(path) => SettingsFile {
            path: path.into(),
            named_by: SETTINGS_PATH,
        },
        None => SettingsFile {
            path: "settings.yaml".into(),
            named_by: "the default",
        },
    }
}

/// `$STATE_DIRECTORY`, else `/var/lib/devour`, else `$XDG_STATE_HOME/devour` (else `~/.local/state/devour`).
pub(super) fn state_dir(env: &dyn Environment) -> PathBuf {
    let path = |name: &str| {
        env.variable(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let system = Path::new("/var/lib/devour");
    // systemd joins several directories with colons; the first is the state itself
    if let Some(given) = path("STATE_DIRECTORY") {
        let first = given.to_string_lossy().split(':').next().map(PathBuf::from);
        return first.unwrap_or(given);
    }
    if env.can_write_in(system) {
        return system.to_owned();
    }
    let home = || path("HOME").map(|home| home.join(".local/state"));
    // the XDG rules: a relative path is to be ignored
    let state = path("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(home);
    state.map_or_else(|| system.to_owned(), |state| state.join("devour"))
}

// === impl ProcessEnvironment ===

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(directory)?;
        entries.map(|entry| Ok(entry?.file_name().into())).collect()
    }

    fn can_write_in(&self, directory: &Path) -> bool {
        let writable = |path: &Path| {
            path.is_dir()
                && rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
                    .is_ok()
        };
        if directory.exists() {
            writable(directory)
        } else {
            directory.parent().is_some_and(writable)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::World;
    use super::*;

    #[test]
    fn the_flag_wins_over_the_variable_and_the_variable_over_the_default() {
        let world = World::default().variable(SETTINGS_PATH, "/etc/a.yaml");
        assert_eq!(
            locate(Some(Path::new("b.yaml")), &world).path,
            Path::new("b.yaml")
        );
        assert_eq!(locate(None, &world).path, Path::new("/etc/a.yaml"));
        assert_eq!(locate(None, &World::default()).path, Path::new("settings.yaml"));
        assert_eq!(
            locate(None, &World::default().variable(SETTINGS_PATH, "")).path,
            Path::new("settings.yaml")
        );
    }

    #[test]
    fn state_lies_where_systemd_says_else_where_it_can() {
        let user = World::default().variable("HOME", "/home/u");
        assert_eq!(state_dir(&user), Path::new("/home/u/.local/state/devour"));
        let xdg = user.clone().variable("XDG_STATE_HOME", "/x");
        assert_eq!(state_dir(&xdg), Path::new("/x/devour"));
        assert_eq!(
            state_dir(&xdg.clone().writable("/var/lib/devour")),
            Path::new("/var/lib/devour")
        );
        assert_eq!(
            state_dir(&xdg.variable("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")),
            Path::new("/var/lib/one")
        );
    }

    #[test]
    fn a_file_is_read_to_its_limit_and_a_directory_is_said_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "12345").unwrap();
        let read = |path: &Path, limit| ProcessEnvironment.read(path, limit);
        assert_eq!(read(&file, 3).unwrap(), b"1234");
        assert_eq!(read(&file, 9).unwrap(), b"12345");
        assert_eq!(
            read(dir.path(), 9).unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
        assert!(ProcessEnvironment.can_write_in(&dir.path().join("new")));
        assert!(!ProcessEnvironment.can_write_in(&dir.path().join("no/such")));
    }
}
