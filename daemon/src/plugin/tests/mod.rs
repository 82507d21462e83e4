//! Tests of the whole way of a library: files that are none, libraries that kill, and a plugin whose consumers misbehave.
#![allow(clippy::unwrap_used)]

mod files;
mod hostile;
mod routes;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use abi_stable::library::LibHeader;

use super::*;
use crate::{os::Spawner, settings::FileChecks};

/// Long enough for a busy machine; what hangs is given less.
const PATIENCE: Duration = Duration::from_secs(60);

const CHILD: &str = "DEVOUR_TEST_PROBE_CHILD";

/// What a probe's child runs here: the test program again, with this one test.
#[test]
fn probe_child_entry() {
    if std::env::var_os(CHILD).is_some() {
        std::process::exit(probe_child_main());
    }
}

#[test]
fn a_plugin_gets_no_huge_pages_unless_the_environment_allows_them() {
    let environment = child_environment(&std::collections::BTreeSet::new());
    let own = std::env::var_os("MIMALLOC_ALLOW_THP").unwrap_or_else(|| "0".into());
    let of_child: Vec<_> = environment
        .iter()
        .filter(|(name, _)| name == "MIMALLOC_ALLOW_THP")
        .map(|(_, value)| value)
        .collect();
    assert_eq!(of_child, [&own]);
}

fn prober() -> Prober {
    let mut environment = child_environment(&std::collections::BTreeSet::new());
    environment.push((CHILD.into(), "1".into()));
    let args = [
        "plugin::tests::probe_child_entry",
        "--exact",
        "--nocapture",
        "--test-threads=1",
    ];
    Prober::new(Spawner::start().unwrap(), environment).with_args(&args)
}

/// The plugin of `tests/plugins/hostile`, a copy that only we can write.
fn plugin(dir: &Path) -> PathBuf {
    let built = std::env::current_exe()
        .unwrap()
        .with_file_name("libdevour_test_hostile.so");
    let copy = dir.join("libhostile.so");
    std::fs::copy(&built, &copy).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    copy
}

/// A library in C that passes for a plugin as a file: its consumer `Hostile` is a header of nothing but the magic.
fn library_in_c(dir: &Path, initialiser: &str) -> PathBuf {
    let source = format!(
        r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <signal.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        struct header {{ char magic[32]; unsigned major, minor; void *rest[{}]; }};
        struct header Hostile = {{ "abi stable library for Rust     ", 0, 11, {{ 0 }} }};
        int not_a_consumer = 7;
        __attribute__((constructor)) static void initialise(void) {{ {initialiser} }}
        "#,
        (size_of::<LibHeader>() - 40) / 8,
    );
    let (file, library) = (dir.join("hostile.c"), dir.join("libhostile_c.so"));
    std::fs::write(&file, source).unwrap();
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(&library)
        .arg(&file)
        .status()
        .unwrap();
    assert!(done.success());
    library
}

fn admit(file: &Path) -> Result<Library, PluginError> {
    Store::in_memory().admit(file, FileChecks::Enforce)
}
