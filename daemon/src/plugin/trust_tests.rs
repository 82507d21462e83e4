//! Tests of `trust`.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

fn status(owner: u32, group: u32, mode: u32) -> Stat {
    let mut status = statat(CWD, "/", AtFlags::empty()).unwrap();
    (status.st_uid, status.st_gid, status.st_mode) = (owner, group, mode);
    status
}

#[test]
fn each_objection_comes_with_the_command_that_mends_it() {
    let us = Us {
        user: 1000,
        group: 1001,
    };
    let mend =
        |part, owner, group, mode| objection(part, &status(owner, group, mode), us).map(|(_, mend)| mend);
    let file = |owner, group, mode| mend(Part::File, owner, group, mode);
    assert_eq!(file(0, 0, 0o755), None);
    assert_eq!(file(1000, 1001, 0o775), None);
    assert_eq!(file(0, 0, 0o775), None);
    assert_eq!(file(1000, 1001, 0o757).unwrap(), "chmod o-w");
    assert_eq!(file(1000, 50, 0o775).unwrap(), "chmod g-w");
    assert_eq!(file(0, 1001, 0o775).unwrap(), "chmod g-w");
    assert_eq!(file(1000, 50, 0o755), None);
    assert_eq!(file(33, 33, 0o755).unwrap(), "chown 1000");
    // A sticky bit protects the entries of a directory, nothing else.
    assert_eq!(mend(Part::Directory, 0, 0, 0o1777), None);
    assert_eq!(mend(Part::Directory, 0, 0, 0o777).unwrap(), "chmod o-w");
    assert_eq!(mend(Part::Directory, 33, 0, 0o1777).unwrap(), "chown 1000");
    assert_eq!(file(0, 0, 0o1777).unwrap(), "chmod o-w");
    assert_eq!(mend(Part::Link, 0, 0, 0o777), None);
    assert_eq!(mend(Part::Link, 33, 33, 0o777).unwrap(), "chown -h 1000");
}

#[test]
fn a_file_below_a_directory_that_the_world_may_write_is_refused_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (open_dir, file) = (dir.path().join("open dir"), dir.path().join("open dir/libx.so"));
    fs::create_dir(&open_dir).unwrap();
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&open_dir, Permissions::from_mode(0o777)).unwrap();
    let error = open(&file, FileChecks::Enforce).unwrap_err();
    let PluginFault::Untrusted { path, mend, .. } = &*error.fault else {
        panic!("{error}")
    };
    assert_eq!(*path, open_dir);
    assert_eq!(*mend, format!("chmod o-w '{}'", open_dir.display()));
    assert!(
        error.to_string().contains("host: mend it with `chmod o-w "),
        "{error}"
    );
    // The way through a link is no way around.
    let link = dir.path().join("link.so");
    symlink("open dir/../open dir/libx.so", &link).unwrap();
    assert_eq!(open(&link, FileChecks::Enforce).unwrap_err().fault, error.fault);
    open(&file, FileChecks::Off).unwrap();
    let done = std::process::Command::new("sh")
        .args(["-c", mend])
        .status()
        .unwrap();
    assert!(done.success());
    for path in [&file, &link] {
        let mut text = String::new();
        open(path, FileChecks::Enforce)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "x");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o646)).unwrap();
    assert!(matches!(
        *open(&file, FileChecks::Enforce).unwrap_err().fault,
        PluginFault::Untrusted { .. }
    ));
}

#[test]
fn links_that_lead_nowhere_end() {
    let dir = tempfile::tempdir().unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    let error = open(&dir.path().join("a"), FileChecks::Enforce)
        .unwrap_err()
        .to_string();
    assert!(error.contains("Too many levels of symbolic links"), "{error}");
    fs::write(dir.path().join("file"), "x").unwrap();
    let error = open(&dir.path().join("file/libx.so"), FileChecks::Enforce).unwrap_err();
    assert!(matches!(*error.fault, PluginFault::NoSuchFile { .. }), "{error}");
}
