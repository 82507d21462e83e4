//! Looks for what the daemon knows and a plugin must not.

use std::{fs, io::Read, path::Path};

use crate::descriptors;

/// Where one of `words` was found, and what of the parent could be opened: one line each, empty if nothing.
pub(crate) fn look_for(words: &[String]) -> String {
    let mut found = String::new();
    let mut look = |place: &str, bytes: &[u8]| {
        for word in words {
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push_str(&format!("{word} in {place}\n"));
            }
        }
    };
    for own in ["environ", "cmdline"] {
        look(
            &format!("own {own}"),
            &read(Path::new("/proc/self").join(own).as_path()),
        );
    }
    for (number, target) in descriptors::open() {
        look("the names of descriptors", target.to_string_lossy().as_bytes());
        if target.to_string_lossy().starts_with('/') || target.to_string_lossy().contains("memfd:") {
            look(
                &target.to_string_lossy(),
                &read(Path::new(&format!("/proc/self/fd/{number}"))),
            );
        }
    }
    let parent = Path::new("/proc").join(std::os::unix::process::parent_id().to_string());
    look("the parent's cmdline", &read(&parent.join("cmdline")));
    for file in ["environ", "mem", "maps"] {
        if fs::File::open(parent.join(file)).is_ok() {
            found.push_str(&format!("the parent's {file} can be opened\n"));
        }
    }
    if fs::read_dir(parent.join("fd")).is_ok_and(|mut entries| entries.next().is_some()) {
        found.push_str("the parent's descriptors can be listed\n");
    }
    found
}

/// At most so much of a file: an arena is large.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(4 << 20).read_to_end(&mut bytes);
    }
    bytes
}
