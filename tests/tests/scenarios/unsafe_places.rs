//! `unsafe` is allowed in exactly the places that the architecture names: what touches librdkafka, what loads plugins,
//! what needs the kernel, the ABI, and the hostile test plugin; every manifest takes the workspace's lints, which deny
//! it elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use devour_tests::{
    scenario::{Outcome, Run},
    workspace,
};

pub const RUNS: &[Run] = &[Run::Alone("", run)];

/// Every file that lifts the lint. An `allow` at the head of a module holds for the files below it.
const PLACES: [&str; 7] = [
    "daemon/src/kafka/mod.rs",
    "daemon/src/os/mod.rs",
    "daemon/src/plugin/open.rs",
    "plugin-api/abi/src/lib.rs",
    // The macro that exports a consumer's symbol, in the plugin's crate.
    "plugin-api/abi/src/module.rs",
    "tests/plugins/hostile/src/lib.rs",
    "tests/plugins/misdeeds/src/lib.rs",
];

fn run() -> Outcome {
    let target = workspace::target_dir();
    let root = target.parent().ok_or("the target directory has no parent")?;
    let mut files = Vec::new();
    walk(root, &target, &mut files)?;
    let name = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();

    let (mut lifted, mut without_lints) = (Vec::new(), Vec::new());
    for file in files {
        let text = fs::read_to_string(&file)?;
        if file.ends_with("Cargo.toml") {
            let inherits = text.contains("[lints]\nworkspace = true");
            let denies = text.contains("[workspace.lints.rust]\nunsafe_code = \"deny\"");
            if !inherits && !denies {
                without_lints.push(name(&file));
            }
        } else if lifts(&text) {
            lifted.push(name(&file));
        }
    }
    lifted.sort();
    assert_eq!(lifted, PLACES, "where `unsafe_code` is allowed");
    assert!(
        without_lints.is_empty(),
        "these do not take the workspace's lints: {without_lints:?}"
    );
    Ok(())
}

/// Whether an attribute of the file lowers the lint, whatever it is lowered to and whatever else it names.
fn lifts(text: &str) -> bool {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    ["allow(", "expect(", "warn("].iter().any(|level| {
        let lists = code
            .match_indices(level)
            .filter_map(|(at, _)| code[at + level.len()..].split(')').next());
        lists.flat_map(|list| list.split(',')).any(|lint| lint == LINT)
    })
}

const LINT: &str = concat!("unsafe", "_code");

/// The sources and manifests below `dir`.
fn walk(dir: &Path, except: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path == except || hidden {
            continue;
        }
        if path.is_dir() {
            walk(&path, except, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") || path.ends_with("Cargo.toml")
        {
            files.push(path);
        }
    }
    Ok(())
}
