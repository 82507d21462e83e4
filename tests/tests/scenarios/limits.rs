//! What bounds a plugin's process: one that leaks is ended at its limit of memory and one that opens files gets no more
//! than its limit, while the other route's digests go on and nothing is lost; niceness, user and groups are what the route
//! says and no capability is left; and in a sandbox no socket is opened and no file is written but where the route
//! lets it.

use std::{fs, time::Duration};

use devour_tests::{
    command,
    daemon::{Home, Route, Settings},
    kafka::Kafka,
    misdeeds::{Case, Scene},
    process::Exit,
    scenario::{Isolation, Outcome, Run},
    workspace,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("limits", limits), Run::Shared("user_and_sandbox", user_and_sandbox),
    Run::Alone("findings", findings)];

fn limits(kafka: &Kafka) -> Outcome {
    let dir = workspace::scratch_dir("limits")?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (files, who) = (file("files"), file("who"));
    let cases = vec![
        // The allocator gives up, and Rust aborts; in a control group the kernel ends it.
        Case::new("leaks", "leak", "plugin down").key("limits", json!({"memory": "256MiB"})),
        Case::new("opens", "open-files", "").with(&[&files]).key("limits", json!({"open_files": 100})),
        Case::new("stands-back", "who-am-i", "").with(&[&who]).key("limits", json!({"nice": 7})),
    ];
    let mut scene = Scene::start(kafka, Isolation::Process, cases)?;
    scene.see_through()?;
    let opened: u64 = fs::read_to_string(&files)?.parse()?;
    assert!((20..100).contains(&opened), "{opened} more files at a limit of 100");
    assert!(fs::read_to_string(&who)?.contains("\nNice:\t7\n"));
    let log = scene.end()?;
    let down = log.all(|line| line.says("plugin down") && line.text("route") == Some("leaks"));
    let cause = down[0].text("cause").unwrap_or_default();
    assert!(cause == "killed by SIGABRT" || cause.contains("its limit of 256"), "{cause}");
    Ok(())
}

fn user_and_sandbox(kafka: &Kafka) -> Outcome {
    let dir = workspace::scratch_dir("bounds")?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (open, closed, who) = (file("open"), file("closed"), file("who"));
    fs::write(&closed, "as it was")?;
    fs::create_dir(&open)?;
    let report = format!("{open}/report");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // The other user writes its ledger and its report there.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(dir.path(), mode)?;
    }
    let mut stages = vec![
        Case::new("trespasses", "trespass", "").with(&[&report, &closed]),
    ];
    if is_root {
        stages.push(Case::new("another", "who-am-i", "").with(&[&who]).key("user", json!("nobody")));
    } else {
        eprintln!("`user` is not tried: only root may change it");
    }
    let mut scene = Scene::start_changed(kafka, Isolation::Process, stages, |case, stage| match case.name {
        "trespasses" => {
            let home = stage.ledger.path().parent().unwrap_or(stage.ledger.path()).to_owned();
            case.key("sandbox", json!({"write": [open, home]}))
        }
        _ => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            let home = stage.ledger.path().parent().unwrap_or(stage.ledger.path());
            let _ = fs::set_permissions(home, mode);
            case
        }
    })?;
    scene.see_through()?;
    assert_eq!(fs::read_to_string(&report)?, "write refused\nmode refused\nsocket refused\n");
    assert_eq!(fs::read_to_string(&closed)?, "as it was");
    if is_root {
        let who = fs::read_to_string(&who)?;
        for line in ["Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Home:\t/nonexistent"] {
            assert!(who.contains(line), "{line} is not in\n{who}");
        }
    }
    scene.end()?;
    Ok(())
}

/// What cannot be held is found before anything runs.
fn findings() -> Outcome {
    let home = Home::new("bounds")?;
    let route = |key: &str, value: serde_json::Value| {
        Route::ledger(Isolation::Process, "t", "g", &home.file("ledger")).with(key, value)
    };
    home.write(
        &Settings::of("127.0.0.1:9")
            .route("nobody-here", route("user", json!("no-such-user-here")))
            .route("nowhere", route("sandbox", json!({"write": ["/no/such/place", "here"]})))
            .route("thread", route("isolation", json!("thread")).with("limits", json!({"nice": 5}))),
    )?;
    let check = |more: &[&str]| -> Result<String, libtest_mimic::Failed> {
        let mut command = home.command()?;
        command.arg("--settings").arg(home.settings_file()).arg("check").args(more);
        let done = command::run(&mut command, Duration::from_secs(60))?;
        assert_eq!(done.exit, Exit::Status(78), "{done:?}");
        Ok(done.stderr)
    };
    // What the file says by itself comes first...
    assert!(check(&[])?.contains("`limits` bounds a process of the plugin's own"));
    // ...then what this system says.
    home.write(
        &Settings::of("127.0.0.1:9")
            .route("nobody-here", route("user", json!("no-such-user-here")))
            .route("nowhere", route("sandbox", json!({"write": ["/no/such/place", "here"]}))),
    )?;
    let told = check(&[])?;
    for text in [
        "this system has no user `no-such-user-here`",
        "`/no/such/place` must be there before a sandbox is built around it",
        "`here` is not absolute",
    ] {
        assert!(told.contains(text), "{text} is not in\n{told}");
    }
    Ok(())
}
