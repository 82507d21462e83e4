//! Plugins that turn on what they were given: they truncate, write and re-open every memfd, scribble over the page of
//! their cells, send rubbish, a million frames of it, close descriptors that they do not own, and fork grandchildren in
//! sessions of their own that keep every descriptor. The daemon stands, the other route's digests go on, nothing is lost,
//! what broke the rules is named, and no grandchild outlives its plugin.

use std::{fs, path::Path, time::Duration};

use devour_tests::{
    kafka::Kafka,
    misdeeds::{Case, Scene},
    scenario::{Isolation, Outcome, Run},
    wait, workspace,
};

pub const RUNS: &[Run] = &[Run::Shared("", run)];

fn run(kafka: &Kafka) -> Outcome {
    let dir = workspace::scratch_dir("reports")?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (memfds, kept, wiped) = (file("memfds"), file("kept"), file("wiped"));
    let broke = "its process broke the protocol";
    let cases = vec![
        Case::new("memfds", "memfds", "").with(&[&memfds]),
        // The daemon accepts only what moves forward inside a call: rubbish in a cell is no progress.
        Case::new("scribbles", "scribble", "").replaying(),
        Case::new("rubbish", "rubbish", broke).replaying(),
        Case::new("frames", "frames", broke).replaying(),
        Case::new("closes", "close-descriptors", "plugin down").replaying(),
        Case::new("forks", "fork", "").with(&[&kept]),
        Case::new("forks-wiped", "fork-without-environment", "").with(&[&wiped]),
    ];
    let mut scene = Scene::start(kafka, Isolation::Process, cases)?;
    scene.see_through()?;
    assert_eq!(fs::read_to_string(&memfds)?, "", "what could be done to the daemon's memory");

    for (route, report) in [("forks", &kept), ("forks-wiped", &wiped)] {
        let grandchild = fs::read_to_string(report)?;
        // The one without its environment goes with whichever plugin dies first.
        if route == "forks" {
            assert!(lives(&grandchild), "{route} has no grandchild {grandchild}");
        }
        scene.daemon.kill_plugin(route)?;
        let end = format!("the end of {route}'s grandchild {grandchild}");
        wait::until(&end, Duration::from_secs(10), || {
            (!lives(&grandchild)).then_some(())
        })?;
    }
    scene.end()?;
    Ok(())
}

fn lives(pid: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
