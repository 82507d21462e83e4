//! The daemon is killed (SIGKILL) while its plugins digest, one of them deaf to everything: no process of a plugin
//! survives it, the next start finds nothing in its way, and nothing is lost. Then the daemon's own program is replaced
//! while it runs and a plugin's process killed: it comes back, as the version that runs.

use std::{fs, time::Duration};

use devour_tests::{
    daemon::{Daemon, Line, SOON},
    kafka::Kafka,
    misdeeds::Case,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};

pub const RUNS: &[Run] = &[Run::Shared("leaves_nothing", leaves_nothing), Run::Shared("replaced", replaced)];

fn leaves_nothing(kafka: &Kafka) -> Outcome {
    let (mut stage, mut blocked) = (Stage::new(kafka, "killed", 4)?, Stage::new(kafka, "deaf", 1)?);
    stage.produce(0..5000)?;
    blocked.produce(0..300)?;
    let deaf = Case::new("deaf", "block", "").key("digest_timeout", serde_json::json!("5m"));
    let settings = stage
        .settings(stage.route(Isolation::Process).work_us(500))
        .route("deaf", deaf.route(Isolation::Process, &blocked));
    let daemon = stage.home.start(&settings)?;
    stage.await_digested(500)?;
    blocked.await_digested(150)?;
    let children = daemon.children();
    assert_eq!(children.len(), 2, "{children:?}");
    daemon.kill()?;
    for (pid, words) in children {
        wait::until(&format!("the end of {words:?}"), Duration::from_secs(5), || ended(pid).then_some(()))?;
    }
    let daemon = stage.home.start_again()?;
    stage.await_all()?;
    blocked.await_all()?;
    daemon.stop()?;
    stage.verdict()?.in_order()?;
    blocked.verdict()?.in_order()?;
    Ok(())
}

fn replaced(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "replaced", 2)?;
    stage.produce(0..1000)?;
    stage.home.write(&stage.settings(stage.route(Isolation::Process).quick_again()))?;
    let program = stage.home.file("devourd");
    let tested = stage.home.command()?;
    fs::copy(tested.get_program(), &program)?;
    let mut command = stage.home.command_of(&program);
    command.arg("--settings").arg(stage.home.settings_file());
    let daemon = Daemon::spawn(&mut command)?;
    stage.await_all()?;

    // As a package manager does: another file under the same name.
    let other = stage.home.file("devourd.new");
    fs::write(&other, "#!/bin/sh\nexit 1\n")?;
    fs::set_permissions(&other, fs::metadata(&program)?.permissions())?;
    fs::rename(&other, &program)?;
    daemon.kill_plugin(ROUTE)?;
    let up = |line: &Line| line.says("plugin up");
    let pid = daemon.log().all(up).last().and_then(|line| line.number("pid")).ok_or("a plugin is up")?;
    let exe = fs::read_link(format!("/proc/{pid}/exe"))?;
    assert!(exe.to_string_lossy().ends_with("devourd (deleted)"), "{}", exe.display());
    stage.produce(1000..2000)?;
    stage.await_all()?;
    daemon.wait_for("the plugin", SOON, up)?;
    daemon.stop()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}
