//! Libraries that kill, hang and misbehave when they are opened or asked, and what is said of them.

use std::time::Instant;

use serde_json::json;

use super::*;

/// Probes a library whose initialiser does this.
#[track_caller]
fn probe_initialiser(initialiser: &str) -> PluginError {
    let dir = tempfile::tempdir().unwrap();
    let library = admit(&library_in_c(dir.path(), initialiser)).unwrap();
    let begin = Instant::now();
    let error = prober()
        .probe(&library, "Hostile", &json!({}), PATIENCE)
        .unwrap_err();
    assert!(begin.elapsed() < PATIENCE / 2, "{error}");
    assert!(
        error.to_string().contains("libhostile_c.so::Hostile: its probe "),
        "{error}"
    );
    error
}

#[track_caller]
fn death_of(initialiser: &str) -> Death {
    match *probe_initialiser(initialiser).fault {
        PluginFault::ProbeDied {
            stage: Stage::Open,
            how,
            ..
        } => how,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_initialiser_that_dies_is_told_by_its_death() {
    assert_eq!(death_of("abort();"), Death::Signal(libc::SIGABRT));
    assert_eq!(death_of("*(volatile int *)0 = 1;"), Death::Signal(libc::SIGSEGV));
    assert_eq!(death_of("kill(getpid(), SIGKILL);"), Death::Signal(libc::SIGKILL));
    assert_eq!(death_of("exit(0);"), Death::Exited(0));
    assert_eq!(death_of("_exit(3);"), Death::Exited(3));
    assert_eq!(death_of("if (fork()) _exit(0);"), Death::Exited(0));
}

#[test]
fn what_it_printed_is_shown() {
    let error = probe_initialiser(r#"fprintf(stderr, "\033[1mno licence\n"); abort();"#).to_string();
    assert!(
        error.contains("its probe was killed by SIGABRT while the library was opened"),
        "{error}"
    );
    assert!(error.contains("\n  plugin: it printed:\n"), "{error}");
    assert!(error.contains("\u{fffd}[1mno licence"), "{error}");
    let error = probe_initialiser(r#"for (int i = 0; i < 100000; i++) puts("noise noise noise"); abort();"#)
        .to_string();
    assert!(
        error.contains("(and more)") && error.len() < 10_000,
        "{}",
        error.len()
    );
}

#[test]
fn an_initialiser_that_closes_every_descriptor_is_found() {
    assert_eq!(
        death_of("for (int i = 0; i < 1024; i++) close(i);"),
        Death::ClosedDescriptors
    );
    assert_eq!(
        death_of("for (int i = 0; i < 1024; i++) close(i); for (;;) pause();"),
        Death::ClosedDescriptors
    );
    // What took the place of the socket is not spoken to.
    let opens =
        r#"for (int i = 0; i < 1024; i++) close(i); for (int i = 0; i < 64; i++) open("/dev/null", O_RDWR);"#;
    assert_eq!(death_of(opens), Death::ClosedDescriptors);
}

#[test]
fn an_initialiser_that_forks_is_found_and_what_it_forked_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let note = dir.path().join("pid");
    assert_eq!(death_of("fork();"), Death::Forked);
    let initialiser = format!(
        r#"int go[2]; pipe(go);
           if (!fork()) {{
               setsid();
               if (fork()) _exit(0);
               FILE *f = fopen("{}", "w"); fprintf(f, "%d", getpid()); fclose(f);
               close(go[1]); close(go[0]);
               for (;;) pause();
           }}
           char c; close(go[1]); read(go[0], &c, 1);"#,
        note.display()
    );
    assert_eq!(death_of(&initialiser), Death::Forked);
    let pid = std::fs::read_to_string(note).unwrap();
    assert!(
        !Path::new("/proc").join(pid.trim()).exists(),
        "process {pid} lives on"
    );
}

#[test]
fn an_initialiser_that_never_returns_is_ended_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let library = admit(&library_in_c(dir.path(), "for (;;) pause();")).unwrap();
    let after = Duration::from_secs(1);
    let error = prober()
        .probe(&library, "Hostile", &json!({}), after)
        .unwrap_err();
    match &*error.fault {
        // The child may not even have begun on a machine that is busy.
        PluginFault::ProbeTimedOut {
            stage: Stage::Open | Stage::Start,
            after: told,
            ..
        } => assert_eq!(*told, after),
        other => panic!("{other:?}"),
    }
    assert!(
        error.to_string().contains("did not come to an end within 1s"),
        "{error}"
    );
}

#[test]
fn a_header_of_nothing_but_its_magic_kills_only_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let library = admit(&library_in_c(dir.path(), "")).unwrap();
    let error = prober()
        .probe(&library, "Hostile", &json!({}), PATIENCE)
        .unwrap_err();
    assert!(
        matches!(
            *error.fault,
            PluginFault::ProbeDied {
                stage: Stage::Compare,
                how: Death::Signal(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_dependency_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let library = library_in_c(dir.path(), "");
    let needs = dir.path().join("libneeds.so");
    std::fs::write(dir.path().join("empty.c"), "").unwrap();
    let absent = dir.path().join("libabsent.so");
    let cc = |args: &[&Path]| {
        assert!(
            Command::new("cc")
                .args(["-shared", "-w", "-o"])
                .args(args)
                .status()
                .unwrap()
                .success()
        )
    };
    cc(&[&absent, &dir.path().join("empty.c")]);
    cc(&[
        &needs,
        Path::new("-fPIC"),
        &dir.path().join("hostile.c"),
        Path::new("-Wl,--no-as-needed"),
        &absent,
    ]);
    std::fs::remove_file(&absent).unwrap();
    drop(library);
    let error = prober()
        .probe(&admit(&needs).unwrap(), "Hostile", &json!({}), PATIENCE)
        .unwrap_err();
    let PluginFault::NotLoadable { reason } = &*error.fault else {
        panic!("{error}")
    };
    assert!(
        reason.contains("libabsent.so: cannot open shared object file"),
        "{error}"
    );
    assert!(!error.to_string().contains("/proc/self/fd"), "{error}");
}

#[test]
fn a_good_consumer_answers_and_is_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let library = admit(&plugin(dir.path())).unwrap();
    let prober = prober();
    let probe = prober
        .probe(
            &library,
            "Good",
            &json!({ "topic": "orders", "currency": "DM" }),
            PATIENCE,
        )
        .unwrap();
    assert_eq!(probe.descriptor.topic.unwrap().names(), ["orders"]);
    assert_eq!(probe.findings, ["currency: there is no such currency any more"]);
    let other = prober.probe(&library, "Good", &json!({}), PATIENCE).unwrap();
    assert_eq!(other.descriptor.topic.unwrap().names(), ["hostile"]);
    // No child can answer within no time: this is remembered.
    prober
        .probe(&library, "Good", &json!({}), Duration::ZERO)
        .unwrap();
    prober.keep_only(&[]);
    prober
        .probe(&library, "Good", &json!({}), Duration::ZERO)
        .unwrap_err();
}

#[test]
fn consumers_that_misbehave_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let library = admit(&plugin(dir.path())).unwrap();
    let prober = prober();
    let construct = |symbol: &str, timeout| {
        let request = devour_abi::ConstructRequest {
            settings: json!({}),
            ..Default::default()
        };
        prober.construct(&library, symbol, request, timeout)
    };
    let told = |symbol: &str, expected: &str| {
        let error = construct(symbol, PATIENCE).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let logs = construct("Good", PATIENCE).unwrap().logs;
    assert_eq!(logs, ["INFO good: constructed for "]);
    told(
        "ConstructorPanics",
        "::ConstructorPanics: its constructor panicked\n  plugin: the constructor does not like",
    );
    told(
        "ConstructorFails",
        "::ConstructorFails: its constructor failed\n  plugin: no database at localhost",
    );
    told(
        "ConstructorExits",
        "its probe exited with status 0 while it constructed a consumer",
    );
    told(
        "DescriptorPanics",
        "its descriptor panicked\n  plugin: nobody knows what this is",
    );
    told(
        "CheckAborts",
        "its probe was killed by SIGABRT while it checked its settings",
    );
    told("CheckAborts", "these settings are the last straw");
    told(
        "SettingsRefused",
        "it refuses its settings\n  plugin: settings name no `topic` to read from",
    );
    let error = construct("ConstructorHangs", Duration::from_secs(3)).unwrap_err();
    assert!(
        matches!(*error.fault, PluginFault::ProbeTimedOut { .. }),
        "{error}"
    );
}

#[test]
fn inspecting_tells_of_every_consumer() {
    let dir = tempfile::tempdir().unwrap();
    let file = plugin(dir.path());
    let prober = prober();
    let settings = json!({ "topic": "orders" });
    let inspector = Inspector {
        plugin_dirs: &[],
        checks: FileChecks::Enforce,
        prober: &prober,
        settings: &settings,
        construct: false,
        timeout: PATIENCE,
    };
    let inspection = inspect(file.to_str().unwrap(), &inspector).unwrap();
    assert!(inspection.first_error().is_some());
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["file"], json!(file));
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["hash"].as_str().unwrap().len(), 64);
    let consumers = json["consumers"].as_array().unwrap();
    let of = |symbol: &str| {
        consumers
            .iter()
            .find(|consumer| consumer["symbol"] == symbol)
            .unwrap()
    };
    assert_eq!(of("Good")["topic"], "orders");
    assert!(of("Good")["error"].is_null() && of("Good")["constructed"].is_null());
    assert!(
        of("DescriptorPanics")["error"]
            .as_str()
            .unwrap()
            .contains("its descriptor panicked")
    );
    let text = inspection.to_string();
    assert!(
        text.contains("\n\nGood\n  package       devour-test-hostile"),
        "{text}"
    );

    let killer = library_in_c(dir.path(), "abort();");
    let error = inspect(killer.to_str().unwrap(), &inspector).unwrap_err();
    assert!(error.to_string().contains("libhostile_c.so"), "{error}");
}
