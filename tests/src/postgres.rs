//! A real PostgreSQL for scenarios, of Debian's packages: a server of their own on a socket in a directory that ends with
//! it. `DEVOUR_TEST_REQUIRE_POSTGRES=1` turns "no PostgreSQL here" from *ignored* into a failure.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{process::Process, wait};

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Postgres {
    server: Process,
    dir: tempfile::TempDir,
}

/// Why there is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PostgresError {
    /// This machine lacks it.
    #[error("no PostgreSQL here: {0}")]
    Unavailable(String),
    /// It is there and does not work.
    #[error("PostgreSQL does not work: {0}")]
    Broken(String),
}

const UP_WITHIN: Duration = Duration::from_secs(60);

/// True if a missing PostgreSQL is a failure.
pub fn required() -> bool {
    std::env::var("DEVOUR_TEST_REQUIRE_POSTGRES").is_ok_and(|value| value == "1")
}

// === impl Postgres ===

impl Postgres {
    /// Makes a database cluster and starts its server.
    pub fn start() -> Result<Self, PostgresError> {
        let programs = programs()?;
        // Not below `target`: PostgreSQL refuses to run as root, and another user may not come there; and the path of a
        // socket is short.
        let dir = tempfile::Builder::new().prefix("devour-postgres-").tempdir()?;
        let user = user()?;
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(dir.path()).stdin(Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let made = command("initdb")
            .args([
                "--auth=trust",
                "--username=devour",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(dir.path().join("data"))
            .output()?;
        if !made.status.success() {
            return Err(PostgresError::Broken(
                String::from_utf8_lossy(&made.stderr).into_owned(),
            ));
        }
        let log = fs::File::create(dir.path().join("log"))?;
        let mut server = command("postgres");
        server
            .arg("-D")
            .arg(dir.path().join("data"))
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=50"])
            .stdout(log.try_clone()?)
            .stderr(log);
        let server = Process::spawn(&mut server).map_err(|error| PostgresError::Broken(error.to_string()))?;
        let mut postgres = Self { server, dir };
        let up = wait::until("PostgreSQL to be up", UP_WITHIN, || {
            let text = fs::read_to_string(postgres.dir.path().join("log")).unwrap_or_default();
            let ready = text.contains("ready to accept connections");
            (ready || !postgres.server.is_alive()).then_some(ready)
        });
        match up {
            Ok(true) => Ok(postgres),
            Ok(false) | Err(_) => {
                let log = fs::read_to_string(postgres.dir.path().join("log")).unwrap_or_default();
                Err(PostgresError::Broken(log))
            }
        }
    }

    /// Where its database is, as programs are told.
    pub fn url(&self) -> String {
        let socket = self.dir.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://devour@{socket}/postgres")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, but with its processes: killed, it would leave them for a moment.
        let _ = self.server.signal(Signal::QUIT);
        let _ = self.server.wait(Duration::from_secs(20));
    }
}

impl From<std::io::Error> for PostgresError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The directory of the newest version's programs: Debian does not put them in the path.
fn programs() -> Result<PathBuf, PostgresError> {
    let versions = Path::new("/usr/lib/postgresql");
    let missing = || {
        PostgresError::Unavailable(format!(
            "no {}/*/bin/initdb (package postgresql)",
            versions.display()
        ))
    };
    let entries = fs::read_dir(versions).map_err(|_| missing())?;
    let version = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(version)
        .map(|path| path.join("bin"))
        .ok_or_else(missing)
}

/// Whom it runs as, where that must not be us.
fn user() -> Result<Option<(u32, u32)>, PostgresError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let of = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            ["postgres", _, uid, gid, ..] => uid.parse().ok().zip(gid.parse().ok()),
            _ => None,
        }
    };
    let found = users.lines().find_map(of);
    found.map(Some).ok_or_else(|| {
        PostgresError::Unavailable("it does not run as root, and there is no user `postgres`".to_owned())
    })
}
