//! The daemon as the first process of a container (a PID namespace with a /proc of its own): its plugins run, it reaps
//! every orphan that comes to it, and SIGTERM drains it as anywhere.

use std::process::{Command, Stdio};

use devour_tests::{
    command,
    daemon::{Daemon, SOON},
    kafka::Kafka,
    process::{Exit, children_of},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use rustix::process::{Pid, Signal, kill_process};

pub const RUNS: &[Run] = &[Run::Root("", run)];

const ORPHANS: usize = 50;
const MESSAGES: u64 = 50_000;

fn run(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "pid-one", 2)?;
    // More than it digests until it is stopped, however slow the machine is.
    stage.produce(0..MESSAGES)?;
    stage.home.write(&stage.settings(stage.route(Isolation::Process).work_us(1000)))?;
    let program = stage.home.command()?;
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(program.get_program())
        .arg("--settings")
        .arg(stage.home.settings_file())
        .stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        if value.is_none() {
            command.env_remove(name);
        }
    }
    let mut outside = Daemon::spawn(&mut command)?;
    stage.await_digested(200)?;
    let children = outside.children();
    let first = children.first().ok_or("unshare has a child")?.0;
    let status = std::fs::read_to_string(format!("/proc/{first}/status"))?;
    let is_first = |line: &str| line.starts_with("NSpid:") && line.split_whitespace().last() == Some("1");
    assert!(status.lines().any(is_first), "{status}");

    // They end four seconds after who started them.
    let mut orphans = Command::new("nsenter");
    orphans
        .arg(format!("--target={first}"))
        .args(["--pid", "--mount", "sh", "-c"])
        .arg(format!("for n in $(seq {ORPHANS}); do sleep 4 & done"));
    command::run(&mut orphans, SOON)?.expect("what leaves orphans", 0);
    let asleep = || {
        let children = children_of(first).into_iter();
        children.filter(|(_, words)| words.first().is_some_and(|word| word == "sleep")).count()
    };
    // The last of them may be forked, and not be what it will be yet.
    wait::until_told("all orphans to be there", SOON, || {
        if asleep() == ORPHANS {
            Ok(())
        } else {
            Err(format!("{:?}", children_of(first)))
        }
    })?;
    wait::until_told("all orphans to be reaped", SOON, || {
        let (asleep, zombies) = (asleep(), zombies_of(first));
        if asleep + zombies == 0 {
            Ok(())
        } else {
            Err(format!("{asleep} sleep, {zombies} are zombies"))
        }
    })?;

    // As a container's runtime does, from outside.
    let pid = i32::try_from(first).ok().and_then(Pid::from_raw).ok_or("a process")?;
    kill_process(pid, Signal::TERM)?;
    assert_eq!(outside.wait(scale::patience(SOON))?, Exit::Status(0), "{}", outside.log().tail());
    let digested = stage.ledger.lines()?.records.len();
    assert!((digested as u64) < MESSAGES, "it was stopped midway: {digested}");

    let daemon = stage.home.start(&stage.settings(stage.route(Isolation::Process)))?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn zombies_of(parent: u32) -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_one = |stat: String| {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let is_zombie = fields.next()? == "Z";
        Some(is_zombie && fields.next()?.parse() == Ok(parent))
    };
    entries
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| is_one(stat.clone()) == Some(true))
        .count()
}
