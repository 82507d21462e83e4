//! A thousand restarts of a plugin's process (a tenth in CI), by SIGKILL: the daemon has no more descriptors, threads,
//! children or zombies than after the first few, and every message is digested once.

use std::fs;

use devour_tests::{
    daemon::Daemon,
    kafka::Kafka,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
};

pub const RUNS: &[Run] = &[Run::Shared("", run)];

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "restarts", 2)?;
    stage.produce(0..1000)?;
    let route = stage.route(Isolation::Process).quick_again();
    let daemon = stage.home.start(&stage.settings(route))?;
    stage.await_all()?;
    for _ in 0..5 {
        daemon.kill_plugin(ROUTE)?;
    }
    let before = count(&daemon)?;
    for _ in 0..scale::messages(1000) {
        daemon.kill_plugin(ROUTE)?;
    }
    let after = count(&daemon)?;
    assert_eq!(after.zombies, 0, "{after:?}");
    assert!(
        after.descriptors <= before.descriptors + 2 && after.threads <= before.threads && after.children <= before.children,
        "before {before:?}, after {after:?}"
    );
    stage.produce(1000..2000)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

#[derive(Debug)]
struct Count {
    descriptors: usize,
    threads: usize,
    children: usize,
    zombies: usize,
}

fn count(daemon: &Daemon) -> Result<Count, std::io::Error> {
    let entries = |what: &str| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).map(Iterator::count);
    let (mut children, mut zombies) = (0, 0);
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))?.flatten() {
        for child in fs::read_to_string(task.path().join("children"))?.split_whitespace() {
            children += 1;
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            zombies += usize::from(stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')));
        }
    }
    Ok(Count {
        descriptors: entries("fd")?,
        threads: entries("task")?,
        children,
        zombies,
    })
}
