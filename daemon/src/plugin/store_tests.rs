//! Copies are held while they are used, swept when nobody uses them, and never in between.

#![allow(clippy::unwrap_used)]

use super::*;

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The hostile test plugin, with a byte behind its end that means nothing and makes another content of it.
    fn plugin(&self, version: u8) -> PathBuf {
        let built = std::env::current_exe()
            .unwrap()
            .with_file_name("libdevour_test_hostile.so");
        let mut bytes = std::fs::read(built).unwrap();
        bytes.push(version);
        let file = self.dir.path().join(format!("lib{version}.so"));
        std::fs::write(&file, bytes).unwrap();
        file
    }

    fn store(&self) -> Store {
        Store::at(&self.dir.path().join("state"))
    }

    fn admit(&self, version: u8) -> Library {
        self.store()
            .admit(&self.plugin(version), FileChecks::Off)
            .unwrap()
    }

    fn copies(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join("state/plugins")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn sweep(&self) -> usize {
        self.store().sweep(SystemTime::now()).unwrap().copies
    }
}

#[test]
fn a_copy_is_swept_when_the_last_who_holds_it_is_gone() {
    let home = Home::new();
    assert_eq!(home.sweep(), 0, "there is no directory yet");
    let (one, two) = (home.admit(1), home.admit(2));
    let again = home.admit(1);
    assert_eq!(home.sweep(), 0);
    let kept = two.copy.clone();
    drop(one);
    assert_eq!(home.sweep(), 0, "the same content is held by another");
    drop(again);
    assert_eq!(home.sweep(), 1);
    assert_eq!(home.copies(), [kept]);
    assert!(two.open_copy().is_ok());
    // And it comes back when it is taken in again.
    assert!(home.admit(1).open_copy().is_ok());
}

#[test]
fn a_sweep_takes_only_what_a_store_made() {
    let home = Home::new();
    drop(home.admit(1));
    let dir = home.dir.path().join("state/plugins");
    for name in ["README", "liborders.so", ".incoming-1-1", "0000.so"] {
        std::fs::write(dir.join(name), "").unwrap();
    }
    assert_eq!(home.sweep(), 1);
    assert_eq!(home.copies().len(), 4, "half a copy may still be written");
    let later = SystemTime::now() + ABANDONED + Duration::from_secs(1);
    assert_eq!(home.store().sweep(later).unwrap().copies, 1);
    assert_eq!(home.copies().len(), 3);
}

#[test]
fn a_damaged_copy_is_replaced_and_a_good_one_is_not() {
    let home = Home::new();
    let first = home.admit(1);
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    let there = inode(&first.copy);
    let second = home.admit(1);
    assert_eq!(inode(&second.copy), there, "who holds the first holds the second");
    let path = first.copy.clone();
    drop((first, second));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "damaged").unwrap();
    let third = home.admit(1);
    assert!(is_copy_of(&path, &third.hash));
}

/// Copies are taken in, used and given up by several threads while another sweeps without end: what is held can be
/// opened, always.
#[test]
fn nothing_that_is_held_is_ever_swept() {
    let home = Home::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    let files: Vec<PathBuf> = (0..3).map(|version| home.plugin(version)).collect();
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..3)
            .map(|user: usize| {
                let (store, files) = (home.store(), &files);
                scope.spawn(move || {
                    for round in 0..8 {
                        let file = &files[(user + round) % files.len()];
                        let library = store.admit(file, FileChecks::Off).unwrap();
                        for _ in 0..20 {
                            std::thread::yield_now();
                            library.open_copy().unwrap();
                        }
                    }
                })
            })
            .collect();
        let sweeper = scope.spawn(|| {
            let mut copies = 0;
            while !done.load(Ordering::Relaxed) {
                copies += home.sweep();
                std::thread::yield_now();
            }
            copies
        });
        for user in users {
            user.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        sweeper.join().unwrap();
    });
    home.sweep();
    assert_eq!(home.copies(), Vec::<PathBuf>::new());
}

#[test]
fn the_content_of_a_file_is_that_of_its_copy() {
    let home = Home::new();
    let library = home.admit(7);
    assert_eq!(
        content_hash(&library.file, FileChecks::Off).unwrap(),
        library.hash
    );
    let half = home.dir.path().join("half.so");
    let bytes = std::fs::read(&library.file).unwrap();
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let error = content_hash(&half, FileChecks::Off).unwrap_err();
    assert!(matches!(*error.fault, PluginFault::Truncated { .. }), "{error}");
}
