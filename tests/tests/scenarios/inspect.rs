//! `devourd plugins inspect` says clearly what is wrong with any file, names it and survives, whatever the library's
//! initialisers or constructors do; of a good library it says what it offers. `plugins list` runs none of their code.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use devour_abi::abi_stable::library::LibHeader;
use devour_tests::{
    command::{self, Finished},
    daemon::{Home, plugin_dir},
    scenario::{Outcome, Run},
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Alone("not_a_plugin", a_file_that_is_no_plugin_is_told_what_it_is),
    Run::Alone("truncated", a_truncated_library_is_told_where_it_ends),
    Run::Alone("initialisers", an_initialiser_that_misbehaves_ends_its_probe_only),
    Run::Alone(
        "constructors",
        a_constructor_that_misbehaves_is_told_by_its_consumer,
    ),
    Run::Alone("json", a_good_library_is_described_as_json),
    Run::Alone("list", a_list_runs_no_code),
    Run::Alone("autoload", an_autoloaded_library_is_probed_within_the_bounds_of_its_route),
];

/// A library has 10 s to say what it is.
const LIMIT: Duration = Duration::from_secs(60);

/// What an initialiser does, and what is said of it.
const INITIALISERS: &[(&str, &str, &str)] = &[
    ("aborts", "abort();", "its probe was killed by SIGABRT"),
    (
        "segfaults",
        "*(volatile int *)0 = 1;",
        "its probe was killed by SIGSEGV",
    ),
    ("exits", "exit(0);", "its probe exited with status 0"),
    (
        "never_returns",
        "for (;;) pause();",
        "its probe did not come to an end within 10s",
    ),
    ("forks", "fork();", "its probe started processes of its own"),
    (
        "closes",
        "for (int i = 0; i < 65536; i++) close(i);",
        "its probe closed descriptors that were not its own",
    ),
];

fn a_file_that_is_no_plugin_is_told_what_it_is() -> Outcome {
    let home = Home::new("inspect-files")?;
    let libc = loaded("/libc.so").ok_or("this process has no libc.so")?;
    let (text, empty) = (home.file("libtext.so"), home.file("libempty.so"));
    fs::write(&text, "hello\n")?;
    fs::write(&empty, "")?;
    let cases = [
        (text, "not a shared library: it is text"),
        (empty, "not a shared library: it is empty"),
        (home.file("libnone.so"), "no such file"),
        (
            libc,
            "not a devour plugin\n  host: a plugin exports each consumer",
        ),
    ];
    for (file, words) in cases {
        refused(&inspect(&home, &[], &file)?, &file, words);
    }
    Ok(())
}

fn a_truncated_library_is_told_where_it_ends() -> Outcome {
    let home = Home::new("inspect-truncated")?;
    let whole = fs::read(plugin_dir().join("libdevour_test_hostile.so"))?;
    let file = home.file("libcut.so");
    for percent in [5, 10, 50, 95] {
        let length = whole.len() * percent / 100;
        fs::write(&file, &whole[..length])?;
        refused(
            &inspect(&home, &[], &file)?,
            &file,
            &format!("the file is truncated: it ends after {length} bytes"),
        );
    }
    Ok(())
}

fn an_initialiser_that_misbehaves_ends_its_probe_only() -> Outcome {
    let home = Home::new("inspect-initialisers")?;
    for (name, initialiser, words) in INITIALISERS {
        let library = library_in_c(&home, name, initialiser)?;
        let done = inspect(&home, &[], &library)?;
        refused(&done, &library, words);
        done.says(
            name,
            ["\n  host: the library was opened in a process of its own, which is gone"],
        );
    }
    Ok(())
}

fn a_constructor_that_misbehaves_is_told_by_its_consumer() -> Outcome {
    let home = Home::new("inspect-constructors")?;
    let library = plugin_dir().join("libdevour_test_hostile.so");
    // Two hang, one in its constructor and one in its check, and are given 10 s each.
    let done = inspect(&home, &["--construct"], &library)?;
    let of = |symbol: &str, words: &str| format!("{}::{symbol}: {words}", library.display());
    done.expect("constructors", 1).says(
        "constructors",
        [
            &*of("ConstructorPanics", "its constructor panicked"),
            "  plugin: the constructor does not like it here",
            &*of("ConstructorFails", "its constructor failed"),
            "  plugin: no database at localhost",
            &*of(
                "ConstructorExits",
                "its probe exited with status 0 while it constructed a consumer",
            ),
            &*of("ConstructorHangs", "its probe did not come to an end within 10s"),
            &*of("CheckHangs", "its probe did not come to an end within 10s"),
            &*of("DescriptorPanics", "its descriptor panicked"),
            &*of(
                "CheckAborts",
                "its probe was killed by SIGABRT while it checked its settings",
            ),
        ],
    );
    // Without --construct nothing is constructed.
    let done = inspect(&home, &[], &library)?;
    assert!(
        !done.printed().contains("constructor panicked"),
        "{}",
        done.printed()
    );
    Ok(())
}

fn a_good_library_is_described_as_json() -> Outcome {
    let home = Home::new("inspect-json")?;
    let library = plugin_dir().join("libdevour_test_ledger.so");
    let with = json!({"file": home.file("seen")}).to_string();
    let done = inspect(&home, &["--construct", "--json", "--with", &with], &library)?;
    done.expect("a good library", 0);
    assert_eq!(done.stderr, "");
    let report: Value = serde_json::from_str(&done.stdout)?;
    assert_eq!(report["file"], json!(library));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let hash = report["hash"].as_str().unwrap_or_default();
    assert!(
        hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{hash}"
    );
    let consumers = report["consumers"].as_array().ok_or("no list of consumers")?;
    let symbols: Vec<_> = consumers
        .iter()
        .filter_map(|consumer| consumer["symbol"].as_str())
        .collect();
    let known = [
        "AsyncLedger",
        "AsyncRelay",
        "BatchLedger",
        "BufferLedger",
        "BufferRelay",
        "Ledger",
        "OnlyLedger",
        "Relay",
        "TopicLedger",
        "WitnessJson",
        "WitnessObject",
        "WitnessRaw",
    ];
    assert_eq!(symbols, known);
    let dumps = consumers
        .iter()
        .map(|consumer| consumer["digests"][0]["dump"].clone());
    assert_eq!(
        dumps.collect::<Vec<_>>(),
        [
            "object", "object", "object", "object", "object", "object", "object", "object", "object", "json", "object", "raw"
        ]
    );
    for consumer in consumers {
        assert_eq!(consumer["consumer_type"], "balanced_consumer", "{consumer}");
        let declares_a_topic = consumer["symbol"] == "TopicLedger";
        assert!(
            consumer["topic"].is_null() != declares_a_topic && consumer["error"].is_null(),
            "{consumer}"
        );
        assert_eq!(
            (&consumer["constructed"], &consumer["findings"]),
            (&json!(true), &json!([])),
            "{consumer}"
        );
        assert_eq!(
            consumer["settings_schema"]["required"],
            json!(["file"]),
            "{consumer}"
        );
    }
    // Without settings it is described all the same, with what it would find wrong.
    let done = inspect(&home, &["--json"], &library)?;
    done.expect("without settings", 0);
    let report: Value = serde_json::from_str(&done.stdout)?;
    assert!(
        report["consumers"][0]["findings"].to_string().contains("file"),
        "{report}"
    );
    Ok(())
}

fn a_list_runs_no_code() -> Outcome {
    let home = Home::new("list")?;
    let dir = home.file("plugins");
    fs::create_dir(&dir)?;
    let killer = library_in_c(&home, "killer", "abort();")?;
    fs::rename(killer, dir.join("libkiller.so"))?;
    fs::copy(
        plugin_dir().join("libdevour_test_ledger.so"),
        dir.join("libledger.so"),
    )?;
    fs::write(dir.join("libtext.so"), "hello\n")?;
    fs::write(dir.join("notes.txt"), "no library by its name\n")?;

    let done = command::run(home.command()?.args(["plugins", "list"]).arg(&dir), LIMIT)?;
    let line = |file: &str, words: &str| format!("{}: {words}\n", dir.join(file).display());
    let expected = [
        line("libkiller.so", "Hostile"),
        line(
            "libledger.so",
            "AsyncLedger, AsyncRelay, BatchLedger, BufferLedger, BufferRelay, Ledger, OnlyLedger, Relay, TopicLedger, WitnessJson, \
             WitnessObject, WitnessRaw",
        ),
        line("libtext.so", "not a shared library: it is text"),
    ];
    done.expect("as text", 0)
        .says("as text", expected.iter().map(String::as_str));
    assert!(!done.printed().contains("notes.txt"), "{}", done.printed());

    let done = command::run(
        home.command()?.args(["plugins", "list", "--json"]).arg(&dir),
        LIMIT,
    )?;
    done.expect("as JSON", 0);
    let listed: Vec<Value> = serde_json::from_str(&done.stdout)?;
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(
        listed[0],
        json!({"file": dir.join("libkiller.so"), "consumers": ["Hostile"], "error": null, "autoloaded": {}})
    );
    assert!(
        listed[2]["error"]
            .as_str()
            .is_some_and(|error| error.contains("it is text")),
        "{listed:?}"
    );
    Ok(())
}

fn inspect(home: &Home, options: &[&str], file: &Path) -> Result<Finished, Failed> {
    let mut command = home.command()?;
    command
        .env("RUST_BACKTRACE", "1")
        .args(["plugins", "inspect"])
        .args(options)
        .arg(file);
    Ok(command::run(&mut command, LIMIT)?)
}

/// The command survived: it ended with status 1, and its message begins with the file.
#[track_caller]
fn refused(done: &Finished, file: &Path, words: &str) {
    let file = file.display().to_string();
    done.expect(&file, 1).says(&file, [words]);
    assert!(
        done.stderr.starts_with(&file) && done.stdout.is_empty(),
        "{}",
        done.printed()
    );
}

/// A library in C that passes for a plugin as a file: its consumer `Hostile` is a header of nothing but the magic.
/// With and without `sandbox` in the `defaults`: an initialiser that leaves a link behind can do so only without.
fn an_autoloaded_library_is_probed_within_the_bounds_of_its_route() -> Outcome {
    let home = Home::new("inspect-autoload")?;
    let (dir, left) = (home.file("plugins"), home.file("left-behind"));
    fs::create_dir(&dir)?;
    let initialiser = format!(r#"symlink("x", "{}");"#, left.display());
    let library = library_in_c(&home, "leaves", &initialiser)?;
    fs::rename(library, dir.join("libleaves.so"))?;
    for (sandbox, is_left) in [("none", true), ("{}", false)] {
        let settings = format!(
            "hosts: a:1\nautoload: true\nplugin_dirs: [{}]\nstate_dir: {}\ndefaults: {{sandbox: {sandbox}}}\n",
            dir.display(),
            home.file("state").display()
        );
        fs::write(home.settings_file(), settings)?;
        let mut command = home.command()?;
        command.args(["check", "--settings"]).arg(home.settings_file());
        // It is no consumer, so there is a finding either way.
        command::run(&mut command, LIMIT)?.expect(sandbox, 78);
        assert_eq!(left.is_symlink(), is_left, "sandbox: {sandbox}");
        let _ = fs::remove_file(&left);
    }
    Ok(())
}

fn library_in_c(home: &Home, name: &str, initialiser: &str) -> Result<PathBuf, Failed> {
    let pointers = (size_of::<LibHeader>() - 40) / 8;
    let source = format!(
        r#"
        #include <stdlib.h>
        #include <unistd.h>
        struct header {{ char magic[32]; unsigned major, minor; void *rest[{pointers}]; }};
        struct header Hostile = {{ "abi stable library for Rust     ", 0, 11, {{ 0 }} }};
        __attribute__((constructor)) static void initialise(void) {{ {initialiser} }}
        "#
    );
    let (file, library) = (
        home.file(&format!("{name}.c")),
        home.file(&format!("lib{name}.so")),
    );
    fs::write(&file, source)?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-w", "-o"])
        .args([library.as_os_str(), OsStr::new(&file)]);
    command::run(&mut cc, Duration::from_secs(60))?.expect("cc", 0);
    Ok(library)
}

/// A library that this process has loaded, whose path holds `name`.
fn loaded(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .find(|path| path.contains(name));
    path.map(PathBuf::from)
}
