//! Watches the plugin directories. An event only means that the libraries are looked at again (a package manager writes
//! `x.so.dpkg-new` and renames, Kubernetes swaps a link beside them); [`settle`] says when a file counts as changed. All
//! of it happens in a thread of its own, because hashing takes time; what it finds comes over a channel.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc::UnboundedSender;

mod looker;
mod places;
mod settle;

pub(super) use looker::is_library;
use looker::{Looker, Version};
use places::Places;
use settle::{Seen, Settling};

use crate::settings::FileChecks;

/// Libraries in plugin directories that are new, changed or gone, and have stayed so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginsChanged {
    /// Their files, as the plugin directories name them.
    pub files: Vec<PathBuf>,
}

/// The watch over some directories; ends when dropped.
pub struct Watch {
    dirs: Vec<PathBuf>,
    checks: FileChecks,
    wake: SyncSender<()>,
    stop: Arc<AtomicBool>,
    begun: Receiver<()>,
}

/// Events come in bursts: what follows within this time is looked at together.
const BURST: Duration = Duration::from_millis(50);

/// Looks are at least this far apart: who writes a large file in many pieces is not raced.
const BETWEEN: Duration = Duration::from_millis(250);

/// How often is looked where the kernel watches no more directories.
const WITHOUT_EVENTS: Duration = Duration::from_secs(5);

struct Work {
    looker: Looker,
    settling: Settling<Version>,
    events: Events,
    tell: UnboundedSender<PluginsChanged>,
}

/// The kernel's watches.
struct Events {
    watcher: Option<RecommendedWatcher>,
    places: Arc<Mutex<Places>>,
    /// Device and inode of each watched directory: one that was replaced is watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    complained: bool,
}

// === impl Watch ===

impl Watch {
    /// Watches `dirs`: what is there now is known, every later change is told. Files are looked at under `checks`: one
    /// that others could write does not count.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(
        dirs: Vec<PathBuf>,
        checks: FileChecks,
        tell: UnboundedSender<PluginsChanged>,
    ) -> std::io::Result<Self> {
        // One place: a wake that waits says all there is to say.
        let (wake, woken) = sync_channel(1);
        let (begin, begun) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let work = {
            let (dirs, wake, stop) = (dirs.clone(), wake.clone(), Arc::clone(&stop));
            move || {
                let mut work = Work::begin(dirs, checks, wake, tell);
                let _ = begin.send(());
                work.go_on(&woken, &stop);
            }
        };
        std::thread::Builder::new().name("watch".to_owned()).spawn(work)?;
        Ok(Self {
            dirs,
            checks,
            wake,
            stop,
            begun,
        })
    }

    /// Waits until it knows what is there, at most `limit`: what is opened afterwards cannot change unnoticed.
    pub fn wait_until_begun(&self, limit: Duration) {
        let _ = self.begun.recv_timeout(limit);
    }

    /// Whether it watches these directories so.
    #[must_use]
    pub fn is_of(&self, dirs: &[PathBuf], checks: FileChecks) -> bool {
        self.dirs == dirs && self.checks == checks
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
    }
}

// === impl Work ===

impl Work {
    fn begin(
        dirs: Vec<PathBuf>,
        checks: FileChecks,
        wake: SyncSender<()>,
        tell: UnboundedSender<PluginsChanged>,
    ) -> Self {
        let mut looker = Looker::new(dirs, checks);
        let mut events = Events::new(wake);
        // Watched first: what happens after the look is an event.
        events.watch(Places::of(looker.dirs(), []));
        let seen = looker.first();
        events.watch(places(&looker, &seen));
        let settling = Settling::new(Instant::now(), seen);
        Self {
            looker,
            settling,
            events,
            tell,
        }
    }

    fn go_on(&mut self, woken: &Receiver<()>, stop: &AtomicBool) {
        let mut again = None::<Instant>;
        loop {
            let until = match (again, self.events.are_complete()) {
                (Some(again), _) => Some(again.saturating_duration_since(Instant::now())),
                (None, false) => Some(WITHOUT_EVENTS),
                (None, true) => None,
            };
            let woke = match until {
                Some(wait) => woken.recv_timeout(wait),
                None => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if stop.load(Ordering::Acquire) || woke == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            if woke.is_ok() {
                std::thread::sleep(BURST);
                let _ = woken.try_recv();
            }
            again = self.look();
            if stop.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(BETWEEN);
        }
    }

    /// Looks, tells what counts as changed, and says when to look again.
    fn look(&mut self) -> Option<Instant> {
        self.events.watch(Places::of(self.looker.dirs(), []));
        let seen = self.looker.look();
        let is_new = self.events.watch(places(&self.looker, &seen));
        let now = Instant::now();
        let settled = self.settling.look(now, seen);
        for (file, why) in settled.unusable {
            tracing::warn!(file = %file.display(), "a plugin's file cannot be used as it is, and nothing is changed: {why}");
        }
        if !settled.changed.is_empty() {
            // Nobody listens any more only when the daemon is ending.
            let _ = self.tell.send(PluginsChanged {
                files: settled.changed,
            });
        }
        // What happened in a directory before it was watched had no event.
        if is_new { Some(now) } else { settled.again }
    }
}

fn places(looker: &Looker, seen: &Seen<Version>) -> Places {
    Places::of(looker.dirs(), seen.keys().map(PathBuf::as_path))
}

// === impl Events ===

impl Events {
    fn new(wake: SyncSender<()>) -> Self {
        let places = Arc::new(Mutex::new(Places::default()));
        let hear = {
            let places = Arc::clone(&places);
            move |event: notify::Result<Event>| {
                let matters = match &event {
                    // The queue ran over, or the like: anything may have happened.
                    Err(_) => true,
                    Ok(event) => event.need_rescan() || is_change(event) && concerns(&places, event),
                };
                if matters {
                    let _ = wake.try_send(());
                }
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(hear, config);
        let mut events = Self {
            watcher: None,
            places,
            watched: BTreeMap::new(),
            complained: false,
        };
        match watcher {
            Ok(watcher) => events.watcher = Some(watcher),
            Err(error) => events.complain(&error),
        }
        events
    }

    /// Watches these places and no others. Whether one of them is new.
    fn watch(&mut self, places: Places) -> bool {
        let mut is_new = false;
        let wanted: BTreeMap<PathBuf, (u64, u64)> = places
            .watched
            .iter()
            .filter_map(|dir| {
                let status = std::fs::metadata(dir).ok()?;
                Some((dir.clone(), (status.dev(), status.ino())))
            })
            .collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
        let Some(mut watcher) = self.watcher.take() else {
            return false;
        };
        let watched = std::mem::take(&mut self.watched);
        for (dir, identity) in watched {
            if wanted.get(&dir) == Some(&identity) {
                self.watched.insert(dir, identity);
            } else {
                // It may be gone, and its watch with it.
                let _ = watcher.unwatch(&dir);
            }
        }
        for (dir, identity) in wanted {
            if self.watched.contains_key(&dir) {
                continue;
            }
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    is_new = true;
                    self.watched.insert(dir, identity);
                }
                Err(_) if !dir.is_dir() => {}
                Err(error) => self.complain(&error),
            }
        }
        self.watcher = Some(watcher);
        is_new
    }

    fn are_complete(&self) -> bool {
        !self.complained
    }

    fn complain(&mut self, error: &notify::Error) {
        if !self.complained {
            self.complained = true;
            tracing::warn!(
                error = %error,
                "the kernel does not watch all plugin directories: they are looked at every {} s. Where it is short of \
                 watches, raise the sysctl fs.inotify.max_user_watches or fs.inotify.max_user_instances",
                WITHOUT_EVENTS.as_secs()
            );
        }
    }
}

/// Whether something was changed: files are opened and read by ourselves too.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn concerns(places: &Mutex<Places>, event: &Event) -> bool {
    let places = places.lock().unwrap_or_else(PoisonError::into_inner);
    event
        .paths
        .iter()
        .any(|path: &PathBuf| places.concern(Path::new(path)))
}

#[cfg(test)]
#[path = "watch/tests.rs"]
mod tests;
