//! A plugin built against an older or a newer minor version of `devour-abi` than its host loads and is constructed;
//! one of another major version, or of another layout, is refused with what differs, both versions named.

use std::{path::Path, process::Command, time::Duration};

use devour_tests::{
    abi_variants::{self, AbiVariant, Built},
    command,
    daemon::Home,
    scenario::{Outcome, Run},
    workspace,
};
use libtest_mimic::Failed;
use serde_json::Value;

pub const RUNS: &[Run] = &[Run::Alone("", run)];

const LIMIT: Duration = Duration::from_secs(20);

fn run() -> Outcome {
    let target = workspace::target_dir();
    let root = target.parent().ok_or("the target directory has no parent")?;
    let build = |variant| abi_variants::build(root, &target.join("abi-variants"), variant);
    let (same, newer) = (build(AbiVariant::Unchanged)?, build(AbiVariant::NextMinor)?);
    let (major, layout) = (build(AbiVariant::NextMajor)?, build(AbiVariant::OtherLayout)?);

    the_daemon_takes(&same, AbiVariant::Unchanged)?;
    the_daemon_takes(&newer, AbiVariant::NextMinor)?;
    the_daemon_refuses(
        &major,
        &[
            "built for another major version of devour-abi: 2.0.0",
            "\n  host: devour-abi 1.0.0",
            "\n  plugin: devour-abi 2.0.0",
        ],
    )?;
    the_daemon_refuses(
        &layout,
        &[
            "the types that cross have another layout",
            "\n  host: devour-abi 1.0.0",
            "attempt",
        ],
    )?;

    // The same the other way round: hosts of a later version meet the plugin of this one.
    let (old_plugin, answer) = (&same.plugin, |host: &Built| open(&host.opener, &same.plugin));
    let by_newer = answer(&newer)?;
    assert_eq!(by_newer["opened"], true, "{}: {by_newer}", old_plugin.display());
    assert_eq!(
        by_newer["descriptor"]["abi"],
        AbiVariant::Unchanged.version(),
        "{by_newer}"
    );
    assert_eq!(
        (&by_newer["module_has_appended"], &by_newer["constructed"]),
        (&false.into(), &true.into()),
        "{by_newer}"
    );
    let by_major = answer(&major)?;
    assert_eq!(by_major["opened"], false, "{by_major}");
    let error = by_major["error"].as_str().unwrap_or_default();
    assert!(error.contains("1.0.0") && error.contains("2.0.0"), "{error}");
    Ok(())
}

fn the_daemon_takes(variant: &Built, which: AbiVariant) -> Outcome {
    let home = Home::new("abi-takes")?;
    let mut command = home.command()?;
    command
        .args(["plugins", "inspect", "--construct", "--json"])
        .arg(&variant.plugin);
    let done = command::run(&mut command, LIMIT)?;
    done.expect(which.version(), 0);
    let report: Value = serde_json::from_str(&done.stdout)?;
    let consumer = &report["consumers"][0];
    assert_eq!(
        (&consumer["symbol"], &consumer["abi"]),
        (&"Variant".into(), &which.version().into()),
        "{report}"
    );
    assert_eq!(consumer["constructed"], true, "{report}");
    let log = format!("built against {}", which.version());
    assert!(consumer["logs"].to_string().contains(&log), "{report}");
    Ok(())
}

fn the_daemon_refuses(variant: &Built, words: &[&str]) -> Outcome {
    let home = Home::new("abi-refuses")?;
    let done = command::run(
        home.command()?.args(["plugins", "inspect"]).arg(&variant.plugin),
        LIMIT,
    )?;
    let file = variant.plugin.display().to_string();
    done.expect(&file, 1)
        .says(&file, words.iter().copied())
        .says(&file, [&*file]);
    Ok(())
}

fn open(opener: &Path, plugin: &Path) -> Result<Value, Failed> {
    let done = command::run(Command::new(opener).arg(plugin).arg("Variant"), LIMIT)?;
    done.expect("a host of another version", 0);
    Ok(serde_json::from_str(&done.stdout)?)
}
