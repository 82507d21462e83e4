//! A plugin's file in a plugin directory is replaced under load, in every way in which files are: by a rename, in pieces
//! with a long pause between them, by a swap of the link beside it, by its removal, by one that is no such plugin, and
//! while the settings file is half edited. Only whole files count, the group notices none of it, nothing is lost or
//! digested twice, and what is wrong is said. In thread isolation a route refuses versions beyond `max_generations`.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::Path,
};

use devour_tests::{
    daemon::{Daemon, Line, SOON, plugin_dir},
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::{ROUTE, Stage},
    versions::Versions,
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("process", every_way),
    Run::Shared("thread", max_generations),
];

const LIBRARY: &str = "libdevour_test_ledger.so";
const PER_SECOND: u64 = 1000;

fn every_way(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "dropped", 4)?;
    let versions = Versions::new(&stage.home, LIBRARY)?;
    versions.put(0)?;
    let route = stage.route(Isolation::Process).commit_every_ms(200);
    let settings = stage.settings(route).with("plugin_dirs", json!([versions.dir()]));
    let daemon = stage.home.start(&settings)?;
    daemon.await_state(ROUTE, "running")?;
    let load = stage.load(PER_SECOND)?;
    stage.await_digested(PER_SECOND / 10)?;
    let before = stage.admin.generations(&stage.group)?;

    // By a rename, as package managers do.
    let from = daemon.log().len();
    versions.put(1)?;
    swapped(&daemon, from)?;

    // In pieces, in place. Half of it stays long enough to be named; the route goes on.
    let from = daemon.log().len();
    let bytes = versions.bytes(2)?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    fs::write(versions.path(), first)?;
    daemon.wait_for_from(from, "the half to be named", SOON, |line| {
        line.says("a plugin's file cannot be used as it is") && line.raw.contains("truncated")
    })?;
    await_more(&mut stage)?;
    fs::File::options().append(true).open(versions.path())?.write_all(second)?;
    swapped(&daemon, from)?;
    assert_eq!(reloads(&daemon, from), 1, "the half led to nothing");

    // By links, as Kubernetes does: the directory behind `..data` is another, the file's own link is the same.
    for version in [3, 4] {
        let from = daemon.log().len();
        swap_links(&versions, version)?;
        swapped(&daemon, from)?;
    }

    // It goes away: the route goes on with the copy that it has, also when its process dies.
    let from = daemon.log().len();
    fs::remove_file(versions.path())?;
    stays(&daemon, from, "no such file")?;
    daemon.kill_plugin(ROUTE)?;
    await_more(&mut stage)?;

    // A library without that consumer, and then a good one again.
    let from = daemon.log().len();
    put(&versions, &fs::read(plugin_dir().join("libdevour_test_hostile.so"))?)?;
    daemon.wait_for_from(from, "the refusal", SOON, |line| line.says("reload refused"))?;
    let why = daemon.log().all(|line| line.raw.contains("no consumer `Ledger`"));
    assert!(!why.is_empty(), "the log says what is wrong");
    await_more(&mut stage)?;
    let from = daemon.log().len();
    versions.put(5)?;
    swapped(&daemon, from)?;

    // While somebody edits the settings: neither the half nor a whole change is applied.
    for text in [
        "hosts: [half".to_owned(),
        fs::read_to_string(stage.home.settings_file())?.replace("\"ledger\": {", "\"renamed\": {"),
    ] {
        fs::write(stage.home.settings_file(), text)?;
        let from = daemon.log().len();
        versions.put(6 + from as u64)?;
        let receipt = swapped(&daemon, from)?;
        assert_eq!((receipt.number("added"), receipt.number("removed")), (Some(0), Some(0)));
    }

    stage.take_load(load)?;
    stage.await_all()?;
    let after = stage.admin.generations(&stage.group)?;
    assert_eq!(after, before, "the group saw a plugin being replaced");
    let copies = stage.home.file("state").join("plugins");
    wait::until_told("old copies to be swept", SOON, || {
        let count = fs::read_dir(&copies).map_err(|error| error.to_string())?.count();
        if count <= 2 { Ok(()) } else { Err(format!("{count} copies")) }
    })?;
    daemon.stop()?;
    stage.all_is_committed()?;
    // One plugin process was killed: what it had in hand is digested again.
    let verdict = stage.verdict()?;
    verdict.nothing_lost()?;
    verdict.in_order()?;
    verdict.twice_only_in_hand()?;
    Ok(())
}

fn max_generations(kafka: &Kafka) -> Outcome {
    let mut stage = Stage::new(kafka, "generations", 4)?;
    let versions = Versions::new(&stage.home, LIBRARY)?;
    versions.put(0)?;
    let route = stage.route(Isolation::Thread).commit_every_ms(200);
    let settings = stage
        .settings(route)
        .with("plugin_dirs", json!([versions.dir()]))
        .with("max_generations", json!(3));
    let daemon = stage.home.start(&settings)?;
    daemon.await_state(ROUTE, "running")?;
    let load = stage.load(PER_SECOND)?;
    stage.await_digested(PER_SECOND / 10)?;
    let before = stage.admin.generations(&stage.group)?;
    for version in [1, 2] {
        let from = daemon.log().len();
        versions.put(version)?;
        swapped(&daemon, from)?;
    }
    let from = daemon.log().len();
    versions.put(3)?;
    stays(&daemon, from, "systemctl restart devourd")?;
    await_more(&mut stage)?;
    let up = daemon.log().all(|line| line.says("plugin swapped"));
    let generations: Vec<_> = up.iter().map(|line| line.number("generation")).collect();
    assert_eq!(generations, [Some(2), Some(3)]);
    stage.take_load(load)?;
    stage.await_all()?;
    assert_eq!(stage.admin.generations(&stage.group)?, before);
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}

/// Waits for the receipt of a changed plugin file, in which the route is swapped.
fn swapped(daemon: &Daemon, from: usize) -> Result<Line, Failed> {
    let line = daemon.wait_for_from(from, "the plugin to be swapped", SOON, |line| {
        line.says("reloaded") && line.number("swapped") == Some(1)
    })?;
    assert_eq!(line.text("reason"), Some("Plugins"), "{}", line.raw);
    Ok(line)
}

/// Waits until the route is said to go on as it is, for a reason with these words.
fn stays(daemon: &Daemon, from: usize, words: &str) -> Outcome {
    daemon.wait_for_from(from, "the route to stay", SOON, |line| {
        line.says("the route goes on with the plugin that it has") && line.raw.contains(words)
    })?;
    daemon.wait_for_from(from, "the receipt", SOON, |line| {
        line.says("reloaded") && line.number("kept") == Some(1)
    })?;
    Ok(())
}

fn reloads(daemon: &Daemon, from: usize) -> usize {
    let lines = daemon.log().lines();
    lines[from..].iter().filter(|line| line.says("reloaded")).count()
}

/// Waits until the route has digested more than it has now.
fn await_more(stage: &mut Stage<'_>) -> Outcome {
    let digested = stage.ledger.lines()?.records.len() as u64;
    stage.await_digested(digested + PER_SECOND / 10)
}

fn put(versions: &Versions, bytes: &[u8]) -> Outcome {
    let half = versions.dir().join("half");
    fs::write(&half, bytes)?;
    fs::rename(half, versions.path())?;
    Ok(())
}

fn swap_links(versions: &Versions, version: u64) -> Outcome {
    let (dir, name) = (versions.dir(), format!("..{version}"));
    fs::create_dir(dir.join(&name))?;
    fs::write(dir.join(&name).join(LIBRARY), versions.bytes(version)?)?;
    let link = |target: &Path, at: &Path| {
        let half = dir.join("..half");
        symlink(target, &half)?;
        fs::rename(half, at)
    };
    link(Path::new(&name), &dir.join("..data"))?;
    if !versions.path().is_symlink() {
        link(&Path::new("..data").join(LIBRARY), &versions.path())?;
    }
    Ok(())
}
