//! Files that are no plugins, or not whole, or not ours, and how they are kept.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use super::*;

#[track_caller]
fn refused(file: &Path) -> PluginError {
    let error = admit(file).unwrap_err();
    assert!(
        error.to_string().starts_with(&file.display().to_string()),
        "{error}"
    );
    error
}

#[test]
fn what_is_no_library_is_told_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("libx.so");
    let kinds: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"hello, world\n", "text"),
        (b"#!/bin/sh\n", "a script"),
        (b"!<arch>\nlibx.a", "a static library (an archive)"),
        (
            b"\x01\x02\x03\x04\0\0",
            "data of an unknown kind (it begins with 01 02 03 04)",
        ),
        (b"PK\x03\x04...", "a zip archive"),
    ];
    for (content, expected) in kinds {
        fs::write(&file, content).unwrap();
        assert_eq!(
            *refused(&file).fault,
            PluginFault::NotALibrary {
                what: expected.into()
            }
        );
    }
    let what = |file: &Path| match *refused(file).fault {
        PluginFault::NotALibrary { what } => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(dir.path()), "a directory");
    assert_eq!(what(Path::new("/dev/null")), "a device");
    assert_eq!(what(&fs::canonicalize("/bin/sh").unwrap()), "a program");
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(what(&dir.path().join("fifo")), "a named pipe");
}

#[test]
fn a_truncated_library_is_found_wherever_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(plugin(dir.path())).unwrap();
    let file = dir.path().join("libcut.so");
    for percent in [5, 10, 50, 95] {
        fs::write(&file, &whole[..whole.len() * percent / 100]).unwrap();
        assert!(
            matches!(*refused(&file).fault, PluginFault::Truncated { .. }),
            "{percent} %"
        );
    }
    for length in [4, 5, 17, 63, 64, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(
            matches!(*refused(&file).fault, PluginFault::Truncated { .. }),
            "{length} bytes"
        );
    }
}

#[test]
fn a_library_of_another_machine_or_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(plugin(dir.path())).unwrap();
    let file = dir.path().join("libother.so");
    let patched = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        fs::write(&file, bytes).unwrap();
        refused(&file)
    };
    let error = patched(18, 0x28);
    assert!(matches!(*error.fault, PluginFault::WrongMachine { .. }));
    assert!(
        error
            .to_string()
            .contains("built for another machine: ARM (64 bit)\n  host: this is "),
        "{error}"
    );
    assert!(matches!(*patched(4, 1).fault, PluginFault::WrongMachine { .. }));
    assert!(matches!(*patched(5, 2).fault, PluginFault::WrongMachine { .. }));
    assert!(matches!(*patched(16, 1).fault, PluginFault::NotALibrary { .. }));
}

#[test]
fn noise_in_a_library_is_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let library = library_in_c(dir.path(), "");
    let whole = fs::read(library).unwrap();
    // A small generator with a fixed seed, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next() % 8 {
            let at = if next() % 2 == 0 {
                next() % 512
            } else {
                next() % bytes.len()
            };
            bytes[at] = next() as u8;
        }
        let _ = Image::read(&bytes[..]);
    }
}

#[test]
fn a_library_of_another_program_has_no_consumers() {
    let libc = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = libc.lines().find_map(|line| {
        line.split_whitespace()
            .last()
            .filter(|path| path.contains("/libc.so"))
    });
    let library = admit(Path::new(libc.unwrap())).unwrap();
    assert_eq!(library.exports, [""; 0]);
    let error = library.expect_any().unwrap_err();
    assert!(error.to_string().contains("not a devour plugin"), "{error}");
    let error = library.expect("printf").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`printf` is a function, not a consumer"),
        "{error}"
    );
}

#[test]
fn only_its_own_consumers_are_offered_and_the_nearest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let library = admit(&library_in_c(dir.path(), "printf(\"%d\", getpid());")).unwrap();
    assert_eq!(library.exports, ["Hostile"]);
    library.expect("Hostile").unwrap();
    let error = library.expect("hostil").unwrap_err().to_string();
    assert!(
        error.contains("no consumer `hostil`\n  host: did you mean `Hostile`?"),
        "{error}"
    );
    assert!(error.contains("  plugin: its consumers are Hostile"), "{error}");
    let error = library.expect("printf").unwrap_err().to_string();
    assert!(
        error.contains("  plugin: `printf` is a symbol that it takes from another library"),
        "{error}"
    );
    let error = library.expect("not_a_consumer").unwrap_err().to_string();
    assert!(
        error.contains("`not_a_consumer` is data, but no consumer"),
        "{error}"
    );
    let library = admit(&plugin(dir.path())).unwrap();
    assert_eq!(library.exports.len(), 10);
    assert!(library.exports.contains(&"Good".to_owned()));
}

#[test]
fn another_abi_stable_is_told_by_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let file = library_in_c(dir.path(), "");
    let mut bytes = fs::read(&file).unwrap();
    let magic = b"abi stable library for Rust     ";
    let at = bytes.windows(32).position(|window| window == magic).unwrap();
    bytes[at + 36] = 12;
    fs::write(&file, bytes).unwrap();
    let error = admit(&file).unwrap().expect("Hostile").unwrap_err();
    assert_eq!(
        *error.fault,
        PluginFault::OtherAbiStable {
            expected: "0.11".into(),
            found: "0.12".into()
        }
    );
    assert!(
        error
            .to_string()
            .ends_with("\n  host: abi_stable 0.11\n  plugin: abi_stable 0.12"),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_told_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["libmath.so", "libecho.so", "notes.txt"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let dirs = [dir.path().to_owned()];
    assert_eq!(
        locate("libmath.so", &dirs).unwrap(),
        dir.path().join("libmath.so")
    );
    for wrong in ["math", "libmaths.so", "math.so"] {
        let error = locate(wrong, &dirs).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{wrong}: no such file\n  host: looked for ")),
            "{error}"
        );
        assert!(error.ends_with("\n  host: there is libmath.so"), "{error}");
    }
    let error = locate("libx.so", &[]).unwrap_err().to_string();
    assert!(error.contains("plugin_dirs, which is empty"), "{error}");
    let error = locate("/nowhere/libx.so", &dirs).unwrap_err().to_string();
    assert!(error.ends_with("looked for /nowhere/libx.so"), "{error}");
    symlink("/nowhere", dir.path().join("dangling.so")).unwrap();
    let dangling = locate("dangling.so", &dirs).unwrap();
    assert!(matches!(
        *refused(&dangling).fault,
        PluginFault::NoSuchFile { .. }
    ));
}

#[test]
fn a_copy_is_private_named_by_its_content_and_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let (file, state) = (plugin(dir.path()), dir.path().join("state"));
    let store = Store::at(&state);
    let library = store.admit(&file, FileChecks::Enforce).unwrap();
    assert_eq!(
        library.copy,
        state.join("plugins").join(format!("{}.so", library.hash))
    );
    assert_eq!(
        fs::metadata(&library.copy).unwrap().permissions().mode() & 0o7777,
        0o444
    );
    assert_eq!(
        fs::metadata(state.join("plugins")).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert_eq!(fs::read(&library.copy).unwrap(), fs::read(&file).unwrap());
    let inode = || fs::metadata(&library.copy).unwrap().ino();
    let first = inode();
    assert_eq!(
        store.admit(&file, FileChecks::Enforce).unwrap().hash,
        library.hash
    );
    assert_eq!(inode(), first);
    // A copy that is not what its name says is made again.
    fs::set_permissions(&library.copy, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&library.copy, "rubbish").unwrap();
    fs::set_permissions(&library.copy, fs::Permissions::from_mode(0o444)).unwrap();
    store.admit(&file, FileChecks::Enforce).unwrap();
    assert_eq!(fs::read(&library.copy).unwrap(), fs::read(&file).unwrap());
    assert_eq!(fs::read_dir(state.join("plugins")).unwrap().count(), 1);
    // Nothing is left of what is refused.
    let text = dir.path().join("libtext.so");
    fs::write(&text, "text").unwrap();
    store.admit(&text, FileChecks::Enforce).unwrap_err();
    assert_eq!(fs::read_dir(state.join("plugins")).unwrap().count(), 1);
}

#[test]
fn listing_names_consumers_and_what_is_wrong_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    plugin(dir.path());
    library_in_c(dir.path(), "abort();");
    fs::write(dir.path().join("libtext.so"), "text").unwrap();
    let listings = list(
        &[dir.path().to_owned(), dir.path().join("missing")],
        FileChecks::Enforce,
    );
    let [hostile, in_c, text, missing] = &listings[..] else {
        panic!("{listings:?}")
    };
    assert!(hostile.consumers.contains(&"ConstructorPanics".to_owned()));
    assert_eq!(in_c.consumers, ["Hostile"]);
    assert!(
        text.error
            .as_ref()
            .unwrap()
            .to_string()
            .contains("not a shared library: it is text")
    );
    assert!(missing.error.is_some());
    let json = serde_json::to_value(in_c).unwrap();
    assert_eq!(json["consumers"], serde_json::json!(["Hostile"]));
    assert!(json["error"].is_null());
}
