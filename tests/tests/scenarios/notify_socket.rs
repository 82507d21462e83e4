//! What systemd hears of a daemon, at a played notify socket: READY once every route has its first outcome, RELOADING with
//! its moment in one datagram and READY again for a good and for a bad file, a status that names the stuck routes, a sign
//! of life in every watchdog period although three routes are blocked for ever (the other digests on), STOPPING, and more
//! time while the stop drains. Plugins hear nothing of the manager.

use std::time::{Duration, Instant};

use devour_tests::{
    daemon::{Daemon, SOON, Settings, Signal},
    kafka::Kafka,
    ledger::monotonic_ns,
    manager::Manager,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use serde_json::json;

pub const RUNS: &[Run] = &[Run::Shared("", run)];

const WATCHDOG: Duration = Duration::from_secs(3);
/// Longer than what is asked for at once (15 s) would hide a request that is missing.
const DRAIN: Duration = Duration::from_secs(7);

fn run(kafka: &Kafka) -> Outcome {
    let mut digests = Stage::new(kafka, "notified", 2)?;
    // Each has one message, which blocks for ever.
    let blocked = |name: &str| -> Result<Stage<'_>, libtest_mimic::Failed> {
        let mut stage = Stage::new(kafka, name, 1)?;
        stage.produce(0..1)?;
        Ok(stage)
    };
    let (late, stuck, never) = (blocked("late")?, blocked("stuck")?, blocked("never")?);
    let block = |stage: &Stage<'_>, isolation| {
        stage
            .route(isolation)
            .faults(json!([{"kind": "block", "numbers": [0], "times": 1_000_000}]))
            .quick_again()
    };
    let settings = Settings::of(kafka.bootstrap())
        .with("shutdown_timeout", json!(format!("{}s", DRAIN.as_secs())))
        .route("digests", digests.route(Isolation::Process))
        // Found, ended, started again, for ever.
        .route("late", block(&late, Isolation::Process).with("digest_timeout", json!("300ms")))
        // Found; a thread cannot be ended.
        .route("stuck", block(&stuck, Isolation::Thread).with("digest_timeout", json!("300ms")))
        // Nobody looks for it.
        .route("never", block(&never, Isolation::Process).with("digest_timeout", json!("none")));
    let home = &digests.home;
    home.write(&settings)?;
    let manager = Manager::listen(home.file("notify"), Some(WATCHDOG))?;
    let mut command = home.command()?;
    command.arg("--settings").arg(home.settings_file());
    manager.supervise(&mut command);
    let mut daemon = Daemon::spawn(&mut command)?;

    manager.await_changes(1, SOON)?;
    for route in ["digests", "late", "stuck", "never"] {
        let up = |line: &devour_tests::daemon::Line| line.says("plugin up") && line.text("route") == Some(route);
        assert!(!daemon.log().all(up).is_empty(), "{route} was up before READY");
    }
    knows_no_manager(&daemon)?;

    let load = digests.load(200)?;
    let good = settings.clone().route(
        "digests",
        digests.route(Isolation::Process).commit_every_ms(300),
    );
    reload(&daemon, &manager, || Ok(digests.home.write(&good)?), "reloaded", 3)?;
    let bad = good.clone().route("digests", digests.route(Isolation::Process).with("topik", json!("t")));
    reload(&daemon, &manager, || Ok(digests.home.write(&bad)?), "reload refused", 5)?;

    manager.await_status("a status that names the stuck routes", SOON, |status| {
        status.contains("; late ") && status.contains("; stuck in backoff: the digest of ")
    })?;
    wait::until("the message that nobody looks for to be in hand", SOON, || {
        never.ledger.path().with_extension("struck-0").exists().then_some(())
    })?;
    for period in 0..3 {
        let end = Instant::now() + WATCHDOG;
        let before = digests.ledger.lines()?.records.len();
        wait::pace(end);
        let digested = digests.ledger.lines()?.records.len() - before;
        assert!(digested > 100, "{digested} digests in period {period}");
    }
    digests.take_load(load)?;
    digests.await_all()?;

    let stopped = Instant::now();
    daemon.signal(Signal::TERM)?;
    assert_eq!(
        daemon.wait(scale::patience(SOON))?,
        Exit::Status(75),
        "what is blocked is left"
    );
    let took = stopped.elapsed();
    assert!(took >= DRAIN && took < DRAIN + Duration::from_secs(20), "{took:?}");
    told(&manager, stopped);
    digests.all_is_committed()?;
    digests.verdict()?.once_in_order()?;
    Ok(())
}

fn reload(
    daemon: &Daemon,
    manager: &Manager,
    write: impl Fn() -> Outcome,
    says: &str,
    changes: usize,
) -> Outcome {
    write()?;
    let (from, before) = (daemon.log().len(), monotonic_ns() / 1000);
    daemon.signal(Signal::HUP)?;
    daemon.wait_for_from(from, says, SOON, |line| line.says(says))?;
    manager.await_changes(changes, SOON)?;
    let reloading = manager.changes()[changes - 2].clone();
    let moment = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .and_then(|moment| moment.parse().ok())
        .ok_or_else(|| format!("not RELOADING and its moment: {reloading:?}"))?;
    assert!((before..=monotonic_ns() / 1000).contains(&moment), "{moment} since {before}");
    Ok(())
}

/// What the manager was told in all.
fn told(manager: &Manager, stopped: Instant) {
    let mut changes = manager.changes();
    for change in &mut changes {
        change.truncate(change.find('\n').unwrap_or(change.len()));
    }
    let reload = ["RELOADING=1", "READY=1"];
    assert_eq!(
        changes,
        [&["READY=1"][..], &reload, &reload, &["STOPPING=1"]].concat()
    );

    let signs: Vec<Instant> = manager.all("WATCHDOG=1").iter().map(|sign| sign.at).collect();
    let gap = signs.windows(2).map(|two| two[1] - two[0]).max();
    assert!(gap.is_some_and(|gap| gap < WATCHDOG), "{gap:?} between signs of life");
    let last = signs.last().copied();
    assert!(last > Some(stopped + DRAIN / 2), "signs of life while it drains");

    let mut extensions = manager.all("EXTEND_TIMEOUT_USEC=");
    extensions.retain(|one| one.at >= stopped);
    assert!(extensions.len() >= 2, "{extensions:?}");
    let again = extensions.windows(2).map(|two| two[1].at - two[0].at).max();
    assert!(again < Some(Duration::from_secs(15)), "{extensions:?}");
}

/// No plugin's process has the manager's variables.
fn knows_no_manager(daemon: &Daemon) -> Outcome {
    let children = daemon.children();
    assert!(children.len() >= 3, "{children:?}");
    for (pid, _) in children {
        // It may have ended meanwhile.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("NOTIFY_SOCKET"), "{environment}");
        assert!(!environment.contains("WATCHDOG"), "{environment}");
    }
    Ok(())
}
