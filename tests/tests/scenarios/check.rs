//! `devourd check` accepts the annotated sample, and answers everything that can be wrong with a settings file with
//! status 78 and a message that names file, line, column and key, within seconds and without a panic.

use std::{fs, time::Duration};

use devour_tests::{
    command::{self, Finished},
    daemon::{Home, plugin_dir},
    scenario::{Outcome, Run},
    workspace,
};

pub const RUNS: &[Run] = &[
    Run::Alone("sample", the_sample_is_right),
    Run::Alone("settings", every_wrong_setting_is_placed),
    Run::Alone("routes", every_wrong_route_is_placed),
    Run::Alone("no_settings", what_is_no_settings_file_is_said_to_be_none),
    Run::Alone("json", json_has_the_same_findings),
];

/// A command that contacts nobody ends within this, also where other scenarios keep the machine busy.
const SECONDS: Duration = Duration::from_secs(20);

/// One finding: line, column, key, and words of its message.
type Expected = (u32, u32, &'static str, &'static str);

/// Name, text and findings of each wrong file.
const SETTINGS: &[(&str, &str, &[Expected])] = &[
    (
        "no hosts",
        "consumer_routes: {}\n",
        &[(1, 1, "hosts", "the key `hosts` is missing")],
    ),
    (
        "ssl_config without cafile",
        "hosts: a\nssl_config: {certfile: x}\nconsumer_routes: {}\n",
        &[(2, 1, "ssl_config.cafile", "the key `cafile` is missing")],
    ),
    (
        "a word for a number",
        "hosts: a\nsocket_timeout_ms: soon\nconsumer_routes: {}\n",
        &[(
            2,
            20,
            "socket_timeout_ms",
            "expected a whole number of milliseconds",
        )],
    ),
    (
        "a misspelt key",
        "hosts: a\nconsumer_routs: {}\n",
        &[(2, 1, "consumer_routs", "did you mean `consumer_routes`?")],
    ),
    (
        "a short route without ::",
        "hosts: a\nconsumer_routes:\n  r: libx.so\n",
        &[(3, 6, "consumer_routes.r", "expected `library::Symbol`")],
    ),
    (
        "two unknown keys",
        "hosts: a\nhsts: b\nconsumer_routes: {}\nlgo: 2\n",
        &[
            (2, 1, "hsts", "did you mean `hosts`?"),
            (4, 1, "lgo", "did you mean `log`?"),
        ],
    ),
    (
        "a key twice",
        "hosts: a\nconsumer_routes: {}\nhosts: b\n",
        &[(3, 1, "hosts", "twice, first in line 1")],
    ),
    (
        "a variable that is not set",
        "hosts: ${DEVOUR_TEST_NOT_SET}\nconsumer_routes: {}\n",
        &[(1, 8, "hosts", "the variable `DEVOUR_TEST_NOT_SET` is not set")],
    ),
];

/// The same for routes whose plugins are looked at. `{library}` is a plugin of several consumers, `{ledger}` one that
/// names no topic.
const ROUTES: &[(&str, &str, &[Expected])] = &[
    (
        "a balanced consumer without a group",
        "    path: {library}\n    symbol: Good\n    consumer_type: balanced_consumer\n",
        &[(7, 20, "consumer_routes.r.consumer_type", "consumer_group: NAME")],
    ),
    (
        "no topic anywhere",
        "    path: {ledger}\n    symbol: Ledger\n    config: {consumer_group: g}\n    settings: {file: /dev/null}\n",
        &[(
            4,
            3,
            "consumer_routes.r",
            "neither the route nor `Ledger` names a topic",
        )],
    ),
    (
        "a plugin file that is missing",
        "    path: libdevour_test_hostil.so\n    symbol: Good\n",
        &[(
            5,
            11,
            "consumer_routes.r.path",
            "there is libdevour_test_hostile.so",
        )],
    ),
    (
        "a symbol that is missing",
        "    path: {library}\n    symbol: Goood\n",
        &[(6, 13, "consumer_routes.r.symbol", "did you mean `Good`?")],
    ),
    (
        "a symbol that only a dependency has",
        "    path: {library}\n    symbol: printf\n",
        &[(6, 13, "consumer_routes.r.symbol", "no consumer `printf`")],
    ),
    (
        "settings that the plugin refuses",
        "    path: {library}\n    symbol: Good\n    settings: {currency: 5}\n",
        &[(7, 26, "consumer_routes.r.settings.currency", "type")],
    ),
];

fn the_sample_is_right() -> Outcome {
    let sample = workspace::target_dir()
        .with_file_name("config")
        .join("devour.yaml");
    let home = Home::new("check-sample")?;
    let done = command::run(
        home.command()?.arg("check").arg("--settings").arg(&sample),
        SECONDS,
    )?;
    done.expect("the sample", 0)
        .says("the sample", ["0 routes, nothing wrong"]);
    assert_eq!(done.stderr, "");
    Ok(())
}

fn every_wrong_setting_is_placed() -> Outcome {
    let home = Home::new("check-settings")?;
    for (name, text, expected) in SETTINGS {
        placed(&home, name, &check(&home, text.as_bytes())?, expected);
    }
    Ok(())
}

fn every_wrong_route_is_placed() -> Outcome {
    let home = Home::new("check-routes")?;
    for (name, route, expected) in ROUTES {
        let dirs = plugin_dir();
        let text = format!(
            "hosts: 127.0.0.1:1\nplugin_dirs: [{}]\nconsumer_routes:\n  r:\n{route}",
            dirs.display()
        );
        let text = text
            .replace("{library}", "libdevour_test_hostile.so")
            .replace("{ledger}", "libdevour_test_ledger.so");
        placed(&home, name, &check(&home, text.as_bytes())?, expected);
    }
    let short = format!(
        "hosts: a\nplugin_dirs: [{}]\nconsumer_routes:\n  r: libnone.so::A\n",
        plugin_dir().display()
    );
    placed(
        &home,
        "a short route",
        &check(&home, short.as_bytes())?,
        &[(4, 6, "consumer_routes.r.path", "no such file")],
    );
    Ok(())
}

fn what_is_no_settings_file_is_said_to_be_none() -> Outcome {
    let home = Home::new("check-no-settings")?;
    let laughs: String = (1..32)
        .map(|n| format!("l{n}: &l{n} [*l{0}, *l{0}, *l{0}, *l{0}]\n", n - 1))
        .collect();
    // Bytes of no pattern, the same in every run; the first is no UTF-8.
    let noise: Vec<u8> = (0..5000_u32)
        .map(|n| (n.wrapping_add(1).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mappings = "{a: ".repeat(100_000);
    // Name, content, the place where there is one, words.
    let cases: [(&str, Vec<u8>, &str, &str); 9] = [
        ("not YAML", b"hosts: [a\n".into(), ":2:1", "this is not YAML"),
        (
            "a sentence",
            b"all is well\n".into(),
            ":1:1",
            "expected settings (a mapping of keys)",
        ),
        ("empty", b"".into(), "", "the file holds no settings"),
        (
            "only comments",
            b"# hosts: a\n".into(),
            "",
            "the file holds no settings",
        ),
        ("noise", noise, ":1:1", "is this a settings file?"),
        (
            "10 MB",
            b"# hosts\n".repeat(10_000_000 / 8),
            "",
            "longer than 1 MiB",
        ),
        (
            "lists 100,000 deep",
            b"[".repeat(100_000),
            ":1:",
            "more than 64 deep",
        ),
        (
            "mappings 100,000 deep",
            mappings.into(),
            ":1:",
            "more than 64 deep",
        ),
        (
            "a billion laughs",
            format!("l0: &l0 [ha]\n{laughs}").into(),
            ":",
            "more than 200000 values",
        ),
    ];
    for (name, content, place, words) in cases {
        let done = check(&home, &content)?;
        let place = format!("--> {}{place}", home.settings_file().display());
        done.expect(name, 78).says(name, ["error: ", words, &place]);
        // Whatever the file is, the message is one for people.
        assert!(
            done.printed().len() < 4096,
            "{name}: {} bytes",
            done.printed().len()
        );
    }
    let cases = [
        ("a directory", ".", "this is a directory"),
        ("a missing file", "./none.yaml", "there is no such file"),
    ];
    for (name, path, words) in cases {
        let done = command::run(home.command()?.args(["--settings", path, "check"]), SECONDS)?;
        done.expect(name, 78)
            .says(name, ["error: ", words, &format!("--> {path}")]);
    }
    Ok(())
}

fn json_has_the_same_findings() -> Outcome {
    let home = Home::new("check-json")?;
    fs::write(
        home.settings_file(),
        "hosts: a\nsocket_timeout_ms: soon\nconsumer_routes: {}\n",
    )?;
    let done = command::run(home.command()?.args(["check", "--json"]), SECONDS)?;
    done.expect("as JSON", 78);
    let report: serde_json::Value = serde_json::from_str(&done.stdout)?;
    assert_eq!(
        (&report["file"], &report["ok"]),
        (&"settings.yaml".into(), &false.into()),
        "{report}"
    );
    let finding = &report["findings"][0];
    assert_eq!(
        (finding["line"].as_i64(), finding["column"].as_i64()),
        (Some(2), Some(20)),
        "{report}"
    );
    assert_eq!(finding["key"], "socket_timeout_ms", "{report}");
    Ok(())
}

/// `devourd check` on a file of this content.
fn check(home: &Home, content: &[u8]) -> Result<Finished, libtest_mimic::Failed> {
    fs::write(home.settings_file(), content)?;
    let mut command = home.command()?;
    // A panic would show a backtrace.
    command
        .env("RUST_BACKTRACE", "1")
        .arg("check")
        .arg("--settings")
        .arg(home.settings_file());
    Ok(command::run(&mut command, SECONDS)?)
}

/// Exactly these findings, each at its place and under its key.
#[track_caller]
fn placed(home: &Home, name: &str, done: &Finished, expected: &[Expected]) {
    done.expect(name, 78);
    for (line, column, key, words) in expected {
        let place = format!("--> {}:{line}:{column}\n", home.settings_file().display());
        done.says(name, [&*place, &*format!("error: {key}: "), *words]);
    }
    let count = done
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    assert_eq!(count, expected.len(), "{name}: findings in {}", done.stderr);
}
