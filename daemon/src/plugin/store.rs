//! Takes a library in: opened once, checked, hashed while it is copied, and kept as a private copy that is named by its
//! content. What was checked is thus what is opened later, and a file replaced under a running plugin changes nothing.
//!
//! As long as a [`Library`] lives it holds a shared lock on its copy. A sweep removes what it can lock alone, so it never
//! takes what somebody uses, be it another daemon with the same directory.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use object::read::ReadCache;
use rustix::{
    fs::{
        AtFlags, CWD, FlockOperation, MemfdFlags, Mode, OFlags, RenameFlags, SealFlags, StatVfsMountFlags,
        flock, fstat, openat, renameat_with, statat,
    },
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{ContentHash, Image, PluginError, PluginFault, trust};
use crate::settings::FileChecks;

/// Where private copies are kept.
#[derive(Clone, Debug)]
pub struct Store {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Memory,
}

/// A library that was taken in.
#[derive(Clone, Debug)]
pub struct Library {
    /// The file, as the operator named it.
    pub file: PathBuf,
    /// The private copy.
    pub copy: PathBuf,
    /// The content.
    pub hash: ContentHash,
    /// Symbols of the consumers that it exports, sorted.
    pub exports: Vec<String>,
    image: Arc<Image>,
    held: Held,
}

/// What keeps a copy alive.
#[derive(Clone, Debug)]
enum Held {
    /// The only descriptor of one that has no name.
    Memory { _descriptor: Arc<OwnedFd> },
    /// A lock on one in the directory.
    File { _lock: Arc<OwnedFd> },
}

/// How the name of half a copy begins.
const INCOMING: &str = ".incoming-";

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Copies.
    pub copies: usize,
    /// Bytes that they took.
    pub bytes: u64,
}

/// A file that is removed unless it is kept.
struct Incoming {
    path: PathBuf,
    kept: bool,
}

/// Everybody may read a copy, nobody may write it.
const COPY_MODE: Mode = Mode::from_raw_mode(0o444);

/// Half a copy of this age belongs to nobody who still writes it.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A copy that was taken in can be swept before it is held; not so often in a row.
const ATTEMPTS: usize = 8;

// === impl Store ===

impl Store {
    /// Copies are kept in `state_dir/plugins`, which is made when it is needed.
    #[must_use]
    pub fn at(state_dir: &Path) -> Self {
        Self {
            place: Place::Directory(state_dir.join("plugins")),
        }
    }

    /// Copies are kept in memory, as long as their [`Library`] lives: for commands that look at a library and have no
    /// directory of their own.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { place: Place::Memory }
    }

    /// Opens `file` once, checks who could change it, reads it and takes a private copy. If another was renamed to its
    /// place meanwhile, that is taken.
    ///
    /// # Errors
    /// What [`PluginFault`] says of files: no such file, untrusted, not a library, truncated, wrong machine, changing,
    /// and io. A library without consumers is taken in ([`Library::expect`] refuses it).
    pub fn admit(&self, file: &Path, checks: FileChecks) -> Result<Library, PluginError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let opened = trust::open(file, checks)?;
            match self.admit_opened(file, &opened) {
                Err(error)
                    if *error.fault == PluginFault::Changing
                        && attempts < ATTEMPTS
                        && is_replaced(file, &opened) => {}
                done => return done,
            }
        }
    }

    fn admit_opened(&self, file: &Path, opened: &File) -> Result<Library, PluginError> {
        let fault = |fault| PluginError::new(file, fault);
        // Before a copy is made of what is no library at all.
        Image::read(&ReadCache::new(opened)).map_err(fault)?;
        match &self.place {
            Place::Directory(dir) => admit_to(dir, file, opened),
            Place::Memory => {
                let copy = memory_file().map_err(|e| PluginError::io(file, "make a copy in memory", e))?;
                let mut copy = File::from(copy);
                let (hash, image) = copy_and_read(file, opened, &mut copy)?;
                let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
                rustix::fs::fcntl_add_seals(&copy, seals)
                    .map_err(|e| PluginError::io(file, "seal its copy", e))?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
                let held = Held::Memory {
                    _descriptor: Arc::new(copy.into()),
                };
                Ok(library(file, path, hash, image, held))
            }
        }
    }

    /// Removes the copies that nobody holds, here or in another process. May take a while.
    ///
    /// # Errors
    /// The directory cannot be read, or is not only ours.
    pub fn sweep(&self, now: SystemTime) -> Result<Swept, PluginError> {
        match &self.place {
            Place::Directory(dir) if dir.symlink_metadata().is_ok() => {
                trust::expect_private(dir)?;
                sweep(dir, now).map_err(|error| PluginError::io(dir, "sweep it", error))
            }
            Place::Directory(_) | Place::Memory => Ok(Swept::default()),
        }
    }
}

/// Whether the name stands for another file by now than the one that was opened by it.
fn is_replaced(file: &Path, opened: &File) -> bool {
    let number =
        |status: std::io::Result<std::fs::Metadata>| status.ok().map(|status| (status.dev(), status.ino()));
    number(std::fs::metadata(file)) != number(opened.metadata())
}

/// The content of a whole library, which is not taken in.
///
/// # Errors
/// As [`Store::admit`], without those of a copy.
pub fn content_hash(file: &Path, checks: FileChecks) -> Result<ContentHash, PluginError> {
    let mut opened = trust::open(file, checks)?;
    let io = |doing: &'static str| move |error: io::Error| PluginError::io(file, doing, error);
    let before = state(&opened).map_err(io("look at it"))?;
    // First what is cheap: a file that is being written is mostly not whole.
    Image::read(&ReadCache::new(&opened)).map_err(|fault| PluginError::new(file, fault))?;
    io::Seek::rewind(&mut opened).map_err(io("read it"))?;
    let mut hasher = Sha256::new();
    io::copy(&mut opened, &mut HashWriter(&mut hasher)).map_err(io("read it"))?;
    if state(&opened).map_err(io("look at it"))? != before {
        return Err(PluginError::new(file, PluginFault::Changing));
    }
    Ok(ContentHash::of_digest(&hasher.finalize()))
}

fn admit_to(dir: &Path, file: &Path, opened: &File) -> Result<Library, PluginError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let at =
        |doing: &str, error: io::Error| PluginError::io(file, format!("{doing} {}", dir.display()), error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| at("make", e))?;
    trust::expect_private(dir)?;
    let mount = rustix::fs::statvfs(dir).map_err(|e| at("look at", e.into()))?;
    if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        let why = io::Error::other(
            "it is mounted noexec; set `state_dir` to a directory that libraries can be run from",
        );
        return Err(at("keep a copy in", why));
    }
    for _ in 0..ATTEMPTS {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut incoming = Incoming {
            path: dir.join(format!("{INCOMING}{}-{number}", std::process::id())),
            kept: false,
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = openat(CWD, &incoming.path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| at("write to", e.into()))?;
        let mut copy = File::from(copy);
        let (hash, image) = copy_and_read(file, opened, &mut copy)?;
        let path = dir.join(format!("{hash}.so"));
        if !is_copy_of(&path, &hash) {
            rustix::fs::fchmod(&copy, COPY_MODE).map_err(|e| at("write to", e.into()))?;
            incoming.keep_as(&path, &hash).map_err(|e| at("write to", e))?;
        }
        if let Some(lock) = hold(&path).map_err(|e| at("read from", e))? {
            let held = Held::File {
                _lock: Arc::new(lock),
            };
            return Ok(library(file, path, hash, image, held));
        }
    }
    Err(at(
        "keep a copy in",
        io::Error::other("somebody removes it again and again"),
    ))
}

/// Holds a copy by a shared lock. `None` if it was removed before it was held.
fn hold(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    match rustix::io::retry_on_intr(|| flock(&copy, FlockOperation::LockShared)) {
        Ok(()) => {}
        // A file system without locks: nobody can lock it alone either, so nobody sweeps.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(is_still_at(&copy, path)?.then_some(copy))
}

/// Whether `path` names the file that was opened.
fn is_still_at(opened: &OwnedFd, path: &Path) -> io::Result<bool> {
    let ours = fstat(opened)?;
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn sweep(dir: &Path, now: SystemTime) -> io::Result<Swept> {
    let mut swept = Swept::default();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        let is_copy = name.strip_suffix(".so").is_some_and(ContentHash::is_written);
        let is_half = name.starts_with(INCOMING);
        if !is_copy && !is_half {
            continue;
        }
        // What goes away meanwhile, or cannot be opened, is passed over.
        let Ok(status) = path.symlink_metadata() else {
            continue;
        };
        let age = status
            .modified()
            .ok()
            .and_then(|modified| now.duration_since(modified).ok());
        if is_half && age.is_none_or(|age| age < ABANDONED) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(copy) = openat(CWD, &path, flags, Mode::empty()) else {
            continue;
        };
        let is_ours_alone = flock(&copy, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_ours_alone && is_still_at(&copy, &path)? && std::fs::remove_file(&path).is_ok() {
            swept.copies += 1;
            swept.bytes += status.len();
        }
    }
    Ok(swept)
}

/// Copies the library, hashes what was copied, and reads that.
fn copy_and_read(
    file: &Path,
    mut opened: &File,
    copy: &mut File,
) -> Result<(ContentHash, Image), PluginError> {
    let io = |doing: &'static str| move |error: io::Error| PluginError::io(file, doing, error);
    let before = state(opened).map_err(io("look at it"))?;
    io::Seek::rewind(&mut opened).map_err(io("read it"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let bytes = match opened.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => &buffer[..bytes],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io("read it")(error)),
        };
        hasher.update(bytes);
        copy.write_all(bytes).map_err(io("write its copy"))?;
    }
    if state(opened).map_err(io("look at it"))? != before {
        return Err(PluginError::new(file, PluginFault::Changing));
    }
    let image = Image::read(&ReadCache::new(&*copy)).map_err(|fault| PluginError::new(file, fault))?;
    Ok((ContentHash::of_digest(&hasher.finalize()), image))
}

/// What changes with every write to a file.
fn state(file: &File) -> io::Result<(u64, i64, i64, i64, i64)> {
    let status = file.metadata()?;
    Ok((
        status.len(),
        status.mtime(),
        status.mtime_nsec(),
        status.ctime(),
        status.ctime_nsec(),
    ))
}

/// Whether `path` is a copy that this daemon made earlier, unchanged.
fn is_copy_of(path: &Path, hash: &ContentHash) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(mut copy) = openat(CWD, path, flags, Mode::empty()).map(File::from) else {
        return false;
    };
    let ours = copy.metadata().is_ok_and(|status| {
        status.is_file() && status.uid() == rustix::process::geteuid().as_raw() && status.mode() & 0o222 == 0
    });
    let mut hasher = Sha256::new();
    ours && io::copy(&mut copy, &mut HashWriter(&mut hasher)).is_ok()
        && ContentHash::of_digest(&hasher.finalize()) == *hash
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file without a name, from which code may be run.
fn memory_file() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag and need none.
    match rustix::fs::memfd_create("devour-plugin", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("devour-plugin", flags),
        made => made,
    }
}

fn library(file: &Path, copy: PathBuf, hash: ContentHash, image: Image, held: Held) -> Library {
    Library {
        file: file.to_owned(),
        copy,
        hash,
        exports: image.exports(),
        image: Arc::new(image),
        held,
    }
}

// === impl Library ===

impl Library {
    /// Opens the private copy for reading, to be handed to a child.
    ///
    /// # Errors
    /// When the copy is gone or the process has no descriptor left.
    pub fn open_copy(&self) -> io::Result<OwnedFd> {
        // A copy in memory is opened by its number, which stays its own as long as this value lives.
        let follow = match self.held {
            Held::Memory { .. } => OFlags::empty(),
            Held::File { .. } => OFlags::NOFOLLOW,
        };
        Ok(openat(
            CWD,
            &self.copy,
            OFlags::RDONLY | OFlags::CLOEXEC | follow,
            Mode::empty(),
        )?)
    }

    /// Whether it exports a consumer `symbol` that this host can open.
    ///
    /// # Errors
    /// [`PluginFault::NoSuchSymbol`], [`PluginFault::NotAPlugin`], [`PluginFault::OtherAbiStable`].
    pub fn expect(&self, symbol: &str) -> Result<(), PluginError> {
        self.image
            .expect(symbol)
            .map_err(|fault| PluginError::new(&self.file, fault).of_symbol(symbol))
    }

    /// Whether it exports a consumer at all.
    ///
    /// # Errors
    /// [`PluginFault::NotAPlugin`].
    pub fn expect_any(&self) -> Result<(), PluginError> {
        self.image
            .expect_any()
            .map_err(|fault| PluginError::new(&self.file, fault))
    }
}

// === impl Incoming ===

impl Incoming {
    /// Gives it its name, unless a copy of the same content is there by now: that one may be held by somebody, and a
    /// copy that was replaced would be held in vain.
    fn keep_as(&mut self, path: &Path, hash: &ContentHash) -> io::Result<()> {
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if is_copy_of(path, hash) => return Ok(()),
            // What is there is no copy, or the file system does not know the flag.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => std::fs::rename(&self.path, path)?,
            renamed => renamed?,
        }
        self.kept = true;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
