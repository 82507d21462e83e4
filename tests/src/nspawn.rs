//! A real systemd: Debian, made by `debootstrap` (kept in `target/systemd`), booted in a container of `systemd-nspawn` that
//! shares this machine's network, so that the broker on loopback is reachable. The container's files are an overlay that
//! ends with it. A script walks through it as root, and the container powers off when that has ended.
//!
//! - It needs root, `debootstrap`, `systemd-nspawn` (Debian's systemd-container) and our package, made by `cargo xtask dist`.
//! - `DEVOUR_TEST_REQUIRE_SYSTEMD=1` turns "not here" from *ignored* into a failure.

mod cgroup;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    command::{self, CommandError},
    process::{Exit, Process, ProcessError},
    scale, workspace,
};
use cgroup::Cgroups;

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12, systemd 252: in the soak only.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
}

/// A Debian that can be booted, and our package.
#[derive(Debug)]
pub struct Image {
    root: PathBuf,
    /// The package.
    pub package: PathBuf,
}

/// One that is booted; killed when dropped.
#[derive(Debug)]
pub struct Container {
    process: Process,
    console: PathBuf,
    // Ends after the process.
    _cgroups: Cgroups,
}

/// Why there is no systemd to test with.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// It is left out on purpose.
    #[error("{0}")]
    NotNow(String),
    /// This machine lacks something.
    #[error("no systemd here: {0}")]
    Unavailable(String),
    /// All is there, and still it does not work.
    #[error("systemd's container does not work: {0}")]
    Broken(String),
    /// Its process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// What prepares it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its files.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Fetching and unpacking takes under a minute on a good line.
const DEBOOTSTRAP: Duration = Duration::from_secs(480);
const WALK: &str = "\
[Unit]
Description=The walk of a scenario

[Service]
Type=oneshot
ExecStart=/bin/bash /scenario/walk.sh
ExecStopPost=/bin/systemctl poweroff --no-block
";

/// True if a missing systemd is a failure.
pub fn required() -> bool {
    std::env::var("DEVOUR_TEST_REQUIRE_SYSTEMD").is_ok_and(|value| value == "1")
}

/// Whether this process is root's.
pub fn is_root() -> Result<(), SystemdError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(SystemdError::Unavailable("only root can do this".to_owned()))
    }
}

/// This Debian, made at the first call.
pub fn image(suite: Suite) -> Result<Image, SystemdError> {
    if suite == Suite::Bookworm && !scale::soak() {
        return Err(SystemdError::NotNow(
            "in the soak only (DEVOUR_SOAK=1)".to_owned(),
        ));
    }
    is_root()?;
    for (program, package) in [
        ("debootstrap", "debootstrap"),
        ("systemd-nspawn", "systemd-container"),
    ] {
        if !is_installed(program) {
            let missing = format!("there is no {program} (Debian's package {package})");
            return Err(SystemdError::Unavailable(missing));
        }
    }
    let package = workspace::target_dir().join("dist/devourd.deb");
    if !package.exists() {
        let missing = format!("{} is missing: run `cargo xtask dist`", package.display());
        return Err(SystemdError::Unavailable(missing));
    }
    let root = workspace::target_dir().join("systemd").join(suite.name());
    if !root.exists() {
        make(suite, &root)?;
    }
    Ok(Image { root, package })
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|dir| dir.join(program).is_file())
}

/// Whole or not at all.
fn make(suite: Suite, root: &Path) -> Result<(), SystemdError> {
    let half = root.with_extension("half");
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| SystemdError::File { path, source }
    };
    if half.exists() {
        fs::remove_dir_all(&half).map_err(file(&half))?;
    }
    fs::create_dir_all(&half).map_err(file(&half))?;
    let mut command = Command::new("debootstrap");
    command
        .args([
            "--variant=minbase",
            "--include=systemd,systemd-sysv,dbus",
            suite.name(),
        ])
        .arg(&half);
    let made = command::run(&mut command, DEBOOTSTRAP)?;
    if made.exit != Exit::Status(0) {
        let why = format!("debootstrap ended with {:?}: {}", made.exit, made.printed());
        return Err(SystemdError::Broken(why));
    }
    fs::rename(&half, root).map_err(file(root))
}

// === impl Suite ===

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

// === impl Image ===

impl Image {
    /// Boots it. `dir` is its `/scenario`, and `walk.sh` in it what is run there.
    pub fn boot(&self, dir: &Path, walk: &str) -> Result<Container, SystemdError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| SystemdError::File { path, source }
        };
        let (script, unit, console) = (
            dir.join("walk.sh"),
            dir.join("walk.service"),
            dir.join("console.log"),
        );
        fs::write(&script, walk).map_err(file(&script))?;
        fs::write(&unit, WALK).map_err(file(&unit))?;
        let output = fs::File::create(&console).map_err(file(&console))?;
        let errors = output.try_clone().map_err(file(&console))?;
        let name = format!("devour-{}", std::process::id());
        let cgroups = Cgroups::new(&name).map_err(file(Path::new("/sys/fs/cgroup")))?;
        let mut command = cgroups.enter(Path::new("systemd-nspawn"));
        command
            .args([
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--boot",
                "--volatile=overlay",
            ])
            .arg(format!("--machine={name}"))
            .arg(format!("--directory={}", self.root.display()))
            .arg(format!("--bind={}:/scenario", dir.display()))
            .arg(format!(
                "--bind-ro={}:/etc/systemd/system/walk.service",
                unit.display()
            ))
            .arg("systemd.wants=walk.service")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let process = Process::spawn(&mut command)?;
        Ok(Container {
            process,
            console,
            _cgroups: cgroups,
        })
    }
}

// === impl Container ===

impl Container {
    /// True until it has powered off.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Waits until it has powered off.
    pub fn wait(&mut self, within: Duration) -> Result<Exit, SystemdError> {
        Ok(self.process.wait(within)?)
    }

    /// What its console showed.
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
