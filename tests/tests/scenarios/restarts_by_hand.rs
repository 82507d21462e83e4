//! `devourd restart` a thousand times under load (a hundred in CI): no growth of descriptors, threads or children, no
//! rebalance, no restart that counts, and every message is digested once and in order. The same, fewer times, with every
//! kind of consumer and isolation; with `--client`, where the member comes back to what it had; with a plugin that does
//! not give its message back in time, whose successor gets it; and while reloads swap the same plugin.

use std::fs;

use devour_tests::{
    control::{await_status, control, status, status_of},
    daemon::{Daemon, Route, SOON, Signal},
    judge::Order,
    kafka::Kafka,
    process::Exit,
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("thousand", |kafka| {
        restarts(kafka, Isolation::Process, "Ledger", scale::messages(1000))
    }),
    Run::Shared("thread", |kafka| {
        restarts(kafka, Isolation::Thread, "Ledger", scale::messages(200))
    }),
    Run::Shared("async", |kafka| {
        restarts(kafka, Isolation::Process, "AsyncLedger", scale::messages(200))
    }),
    Run::Shared("buffering", |kafka| {
        restarts(kafka, Isolation::Process, "BufferLedger", scale::messages(200))
    }),
    Run::Shared("lanes", |kafka| restarts(kafka, Isolation::Process, "Lanes", scale::messages(200))),
    Run::Shared("client", client),
    Run::Shared("blocked", blocked),
    Run::Shared("during_reloads", during_reloads),
];

const PARTITIONS: i32 = 4;

/// What a leak would show in.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    children: usize,
}

impl Held {
    /// By a daemon and what it has started, zombies included.
    fn by(daemon: &Daemon) -> Result<Self, Failed> {
        let count = |what: &str| -> Result<usize, Failed> { Ok(fs::read_dir(format!("/proc/{}/{what}", daemon.pid()))?.count()) };
        let mut children = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid()))?.flatten() {
            // A thread may end while it is looked at.
            let of_thread = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children += of_thread.split_ascii_whitespace().count();
        }
        Ok(Self {
            descriptors: count("fd")?,
            threads: count("task")?,
            children,
        })
    }

    fn is_no_more_than(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors && self.threads <= before.threads && self.children <= before.children
    }
}

fn route(stage: &Stage<'_>, isolation: Isolation, kind: &str) -> Route {
    let symbol = if kind == "Lanes" { "Ledger" } else { kind };
    let route = Route::of(symbol, isolation, &stage.topic, &stage.group, stage.ledger.path());
    let route = route.commit_every_ms(200);
    match kind {
        "Lanes" => route.work_us(100).lanes(Order::Partition, 3),
        "BufferLedger" => route.with("flush", json!({"max_wait": "100ms", "max_messages": 200})),
        "AsyncLedger" => route.with("settings", json!({"wait_us": 500})),
        _ => route.work_us(100),
    }
}

fn restarts(kafka: &Kafka, isolation: Isolation, kind: &str, count: u64) -> Outcome {
    let mut stage = Stage::in_order_of(Order::Partition, kafka, "restarts", PARTITIONS)?;
    let daemon = stage.home.start(&stage.settings(route(&stage, isolation, kind)))?;
    let load = stage.load(1000)?;
    stage.await_digested(200)?;
    let generations = stage.admin.generations(&stage.group)?;
    let mut before = None;
    let mut pid = status_of(&stage.home, ROUTE)?["pid"].clone();
    for round in 0..count {
        control(&stage.home, &["restart", ROUTE])?.expect("restart", 0);
        if round == 2 {
            before = Some(Held::by(&daemon)?);
        }
        if round % 10 == 0 {
            let now = status_of(&stage.home, ROUTE)?["pid"].clone();
            assert!(isolation == Isolation::Thread || now != pid, "another process");
            pid = now;
        }
    }
    let before = before.ok_or("it was looked at")?;
    wait::until_told("no more to be held than at the beginning", SOON, || match Held::by(&daemon) {
        Ok(now) if now.is_no_more_than(&before) => Ok(()),
        now => Err(format!("{now:?}, at first {before:?}")),
    })?;
    stage.take_load(load)?;
    stage.await_all()?;
    let status = status_of(&stage.home, ROUTE)?;
    assert_eq!(status["restarts"], json!({"plugin": 0, "client": 0}), "what was ordered does not count: {status}");
    assert_eq!(status["last_error"], json!(null), "{status}");
    assert_eq!(stage.admin.generations(&stage.group)?, generations, "no rebalance");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn client(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "restarts-client", PARTITIONS)?;
    let daemon = stage.home.start(&stage.settings(route(&stage, Isolation::Process, "Ledger")))?;
    let load = stage.load(1000)?;
    for round in 1..=3 {
        stage.await_digested(round * 300)?;
        let before = status_of(&stage.home, ROUTE)?;
        let number = |stage: &Stage<'_>| -> Result<Option<i32>, Failed> {
            Ok(stage.admin.generations(&stage.group)?.last().map(|one| one.number))
        };
        let generation = number(&stage)?;
        control(&stage.home, &["restart", ROUTE, "--client"])?.expect("restart --client", 0);
        let after = await_status(&stage.home, ROUTE, "it to run", SOON, |route| route["state"] == "running")?;
        assert_ne!(after["pid"], before["pid"], "the plugin is a new one too");
        assert_eq!(after["assignment"].as_array().map(Vec::len), Some(PARTITIONS as usize), "{after}");
        assert_eq!(after["restarts"], json!({"plugin": 0, "client": 0}), "{after}");
        assert!(after["counts"]["digested"].as_u64() >= before["counts"]["digested"].as_u64(), "{after}");
        assert_eq!(number(&stage)?, generation, "a static member comes back to what it had");
    }
    stage.take_load(load)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn blocked(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "restarts-blocked", 1)?;
    stage.produce(0..200)?;
    let route = route(&stage, Isolation::Process, "Ledger")
        .faults(json!([{"kind": "block", "numbers": [77], "times": 1}]))
        .with("digest_timeout", json!("10m"))
        .with("drain_timeout", json!("1s"));
    let daemon = stage.home.start(&stage.settings(route))?;
    await_status(&stage.home, ROUTE, "the blocked message", SOON, |route| {
        route["at_work"].as_str().is_some_and(|at_work| at_work.contains("at offset 77"))
    })?;
    control(&stage.home, &["restart", ROUTE])?.expect("restart", 0);
    stage.await_all()?;
    let status = status_of(&stage.home, ROUTE)?;
    assert_eq!(status["restarts"]["plugin"], 0, "{status}");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

fn during_reloads(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "restarts-reloads", PARTITIONS)?;
    let route = route(&stage, Isolation::Process, "Ledger");
    let settings = |work_us: u64| stage.settings(route.clone().work_us(work_us));
    let versions = [settings(100), settings(120)];
    let daemon = stage.home.start(&versions[0])?;
    let load = stage.load(1000)?;
    stage.await_digested(200)?;
    let generations = stage.admin.generations(&stage.group)?;
    let (mut done, mut refused) = (0, 0);
    for round in 1..=scale::messages(200) as usize {
        stage.home.write(&versions[round % 2])?;
        let from = daemon.log().len();
        daemon.signal(Signal::HUP)?;
        // Before the swap, in the midst of it or behind it, as it comes.
        let restart = control(&stage.home, &["restart", ROUTE])?;
        if restart.exit == Exit::Status(0) {
            done += 1;
        } else {
            restart.says("a restart in the midst of a swap", ["a reload is giving it another plugin"]);
            refused += 1;
        }
        daemon.wait_for_from(from, "the reload", SOON, |line| line.says("reloaded"))?;
        let last = status(&stage.home)?["last_reload"].clone();
        assert_eq!(last["outcome"], "done", "round {round}: {last}");
        assert_eq!(last["routes"][0]["change"], "swapped", "round {round}: {last}");
    }
    assert!(done > 0, "{done} done, {refused} refused");
    stage.take_load(load)?;
    stage.await_all()?;
    assert_eq!(stage.admin.generations(&stage.group)?, generations, "no rebalance");
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
