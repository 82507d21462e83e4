//! The watch over real directories, by real events. (When a file counts is `settle`'s, with its own tests.)

#![allow(clippy::unwrap_used)]

use std::{os::unix::fs::symlink, path::Path};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const SOON: Duration = Duration::from_secs(30);

struct Watched {
    _watch: Watch,
    told: UnboundedReceiver<PluginsChanged>,
}

fn watch(dir: &Path) -> Watched {
    let (tell, told) = unbounded_channel();
    let watch = Watch::start(vec![dir.to_owned()], FileChecks::Off, tell).unwrap();
    watch.wait_until_begun(SOON);
    Watched { _watch: watch, told }
}

impl Watched {
    /// The one file that is told next.
    fn next(&mut self) -> PathBuf {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let told = runtime.block_on(async { tokio::time::timeout(SOON, self.told.recv()).await });
        let files = told.expect("a change to be told").unwrap().files;
        assert_eq!(files.len(), 1, "{files:?}");
        files.into_iter().next().unwrap()
    }
}

/// A library, and the same with another hash: what follows an ELF file's last section means nothing.
fn library(version: u8) -> Vec<u8> {
    let built = std::env::current_exe()
        .unwrap()
        .with_file_name("libdevour_test_hostile.so");
    let mut bytes = std::fs::read(&built).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    bytes.push(version);
    bytes
}

#[test]
fn a_directory_that_comes_later_and_what_is_dropped_into_it_are_noticed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("not/yet");
    let mut watched = watch(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("liba.so");
    std::fs::write(&file, library(1)).unwrap();
    assert_eq!(watched.next(), file);
    // The directory is replaced as a whole.
    let other = home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("liba.so"), library(2)).unwrap();
    std::fs::rename(&dir, home.path().join("old")).unwrap();
    std::fs::rename(&other, &dir).unwrap();
    assert_eq!(watched.next(), file);
    // And what happens in the new one is noticed too.
    std::fs::write(dir.join("libb.so"), library(3)).unwrap();
    assert_eq!(watched.next(), dir.join("libb.so"));
}

#[test]
fn halves_do_not_count_and_whole_ones_do_however_they_come() {
    let home = tempfile::tempdir().unwrap();
    let (dir, bytes) = (home.path().join("plugins"), library(1));
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("liba.so");
    std::fs::write(&file, &bytes).unwrap();
    let mut watched = watch(&dir);
    // A half that stays one; the next to count is the other file, and no half before it.
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let other = dir.join("libb.so");
    std::fs::write(dir.join("libb.so.dpkg-new"), library(2)).unwrap();
    std::fs::rename(dir.join("libb.so.dpkg-new"), &other).unwrap();
    assert_eq!(watched.next(), other);
    std::fs::write(&file, library(3)).unwrap();
    assert_eq!(watched.next(), file);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(watched.next(), file);
}

#[test]
fn a_link_that_is_swapped_beside_them_changes_all_libraries_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("plugins");
    for (version, name) in [(1, "..one"), (2, "..two")] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("liba.so"), library(version)).unwrap();
    }
    symlink("..one", dir.join("..data")).unwrap();
    symlink("..data/liba.so", dir.join("liba.so")).unwrap();
    let mut watched = watch(&dir);
    symlink("..two", dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    assert_eq!(watched.next(), dir.join("liba.so"));
    // A link to a file elsewhere, which is changed there.
    let elsewhere = home.path().join("elsewhere.so");
    std::fs::write(&elsewhere, library(3)).unwrap();
    symlink(&elsewhere, dir.join("libc.so")).unwrap();
    assert_eq!(watched.next(), dir.join("libc.so"));
    std::fs::write(&elsewhere, library(4)).unwrap();
    assert_eq!(watched.next(), dir.join("libc.so"));
}
