//! Takes a library in: opened once, checked, hashed while it is copied, and kept as a private copy that is named by its
//! content. What was checked is thus what is opened later, and a file replaced under a running plugin changes nothing.

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
};

use object::read::ReadCache;
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, openat},
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
    /// Keeps a copy alive that has no name.
    held: Option<Arc<OwnedFd>>,
}

/// A file that is removed unless it is kept.
struct Incoming {
    path: PathBuf,
    kept: bool,
}

/// Everybody may read a copy, nobody may write it.
const COPY_MODE: Mode = Mode::from_raw_mode(0o444);

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

    /// Opens `file` once, checks who could change it, reads it and takes a private copy.
    ///
    /// # Errors
    /// What [`PluginFault`] says of files: no such file, untrusted, not a library, truncated, wrong machine, changing,
    /// and io. A library without consumers is taken in ([`Library::expect`] refuses it).
    pub fn admit(&self, file: &Path, checks: FileChecks) -> Result<Library, PluginError> {
        let fault = |fault| PluginError::new(file, fault);
        let opened = trust::open(file, checks)?;
        // Before a copy is made of what is no library at all.
        Image::read(&ReadCache::new(&opened)).map_err(fault)?;
        match &self.place {
            Place::Directory(dir) => admit_to(dir, file, &opened),
            Place::Memory => {
                let copy = memory_file().map_err(|e| PluginError::io(file, "make a copy in memory", e))?;
                let mut copy = File::from(copy);
                let (hash, image) = copy_and_read(file, &opened, &mut copy)?;
                let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
                rustix::fs::fcntl_add_seals(&copy, seals)
                    .map_err(|e| PluginError::io(file, "seal its copy", e))?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
                Ok(library(file, path, hash, image, Some(Arc::new(copy.into()))))
            }
        }
    }
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
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut incoming = Incoming {
        path: dir.join(format!(".incoming-{}-{number}", std::process::id())),
        kept: false,
    };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy =
        openat(CWD, &incoming.path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| at("write to", e.into()))?;
    let mut copy = File::from(copy);
    let (hash, image) = copy_and_read(file, opened, &mut copy)?;
    let path = dir.join(format!("{hash}.so"));
    if !is_copy_of(&path, &hash) {
        rustix::fs::fchmod(&copy, COPY_MODE).map_err(|e| at("write to", e.into()))?;
        std::fs::rename(&incoming.path, &path).map_err(|e| at("write to", e))?;
        incoming.kept = true;
    }
    Ok(library(file, path, hash, image, None))
}

/// Copies the library, hashes what was copied, and reads that.
fn copy_and_read(
    file: &Path,
    mut opened: &File,
    copy: &mut File,
) -> Result<(ContentHash, Image), PluginError> {
    let io = |doing: &'static str| move |error: io::Error| PluginError::io(file, doing, error);
    let state = |file: &File| {
        let status = file.metadata()?;
        Ok((
            status.len(),
            status.mtime(),
            status.mtime_nsec(),
            status.ctime(),
            status.ctime_nsec(),
        ))
    };
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

fn library(
    file: &Path,
    copy: PathBuf,
    hash: ContentHash,
    image: Image,
    held: Option<Arc<OwnedFd>>,
) -> Library {
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
        let follow = if self.held.is_some() {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
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

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
