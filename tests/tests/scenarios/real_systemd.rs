//! A real systemd with our package, from its installation to its removal: the unit is sound and closed (exposure 2.0 or
//! less), the settings that come with it start, a good reload succeeds and a bad one fails, a daemon that stands still or
//! crashes is started again, a plugin that the kernel takes for its memory costs the others nothing, a stop drains, an
//! upgrade restarts, a removal stops. Through all of it nothing is lost. `real_systemd.sh` is what happens inside.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use devour_tests::{
    daemon::{Route, Settings, plugin_dir},
    kafka::Kafka,
    ledger::Ledger,
    nspawn::{Container, Image, Suite},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use libtest_mimic::Failed;
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Systemd("debian_13", Suite::Trixie, run),
    Run::Systemd("debian_12", Suite::Bookworm, run),
];

const SCRIPT: &str = include_str!("real_systemd.sh");
const WALK: Duration = Duration::from_secs(240);
/// Short waits, and a bound in which the daemon and two modest plugins have room.
const DROP_IN: &str = "\
[Service]
WatchdogSec=4s
RestartSec=100ms
MemoryMax=400M
ReadWritePaths=/scenario/ledgers
";

fn run(kafka: &Kafka, image: &Image) -> Outcome {
    let mut orders = Stage::new(kafka, "systemd", 2)?;
    let mut hungry = Stage::new(kafka, "systemd-hungry", 1)?;
    hungry.produce(0..1)?;
    let dir = orders.home.file("scenario");
    prepare(&dir, image, &orders, &hungry)?;
    orders.ledger = Ledger::at(dir.join("ledgers/orders"));

    let load = orders.load(200)?;
    let mut container = image.boot(&dir, SCRIPT)?;
    let drain = dir.join("drain");
    wait::until_told("the walk to come to its end", scale::patience(WALK), || {
        match (drain.exists(), container.is_alive()) {
            (true, _) => Ok(()),
            (false, true) => Err(last_words(&dir)),
            // Nothing comes any more; what it found says why.
            (false, false) => Ok(()),
        }
    })
    .map_err(|error| failed(&error.to_string(), &dir, &container))?;
    orders.take_load(load)?;
    if container.is_alive() {
        orders.await_all().map_err(|error| failed(error.message().unwrap_or_default(), &dir, &container))?;
        fs::write(dir.join("drained"), "")?;
    }
    container.wait(Duration::from_secs(120))?;
    judge(&Findings::read(&dir)?).map_err(|wrong| failed(&wrong, &dir, &container))?;
    orders.all_is_committed()?;
    // A crash digests again what was not committed, in its order.
    orders.verdict()?.in_order()?;
    Ok(())
}

/// What the container finds in its `/scenario`.
fn prepare(dir: &Path, image: &Image, orders: &Stage<'_>, hungry: &Stage<'_>) -> Outcome {
    let ledgers = dir.join("ledgers");
    fs::create_dir_all(&ledgers)?;
    // The daemon's user in the container is nobody here.
    fs::set_permissions(&ledgers, fs::Permissions::from_mode(0o777))?;
    fs::copy(&image.package, dir.join("devourd.deb"))?;
    let library = "libdevour_test_ledger.so";
    fs::copy(plugin_dir().join(library), dir.join(library))?;
    fs::write(dir.join("drop-in.conf"), DROP_IN)?;

    let route = |stage: &Stage<'_>, name: &str| {
        let ledger = Path::new("/scenario/ledgers").join(name);
        Route::ledger(Isolation::Process, &stage.topic, &stage.group, &ledger).commit_every_ms(300)
    };
    let first = Settings::of(orders.kafka.bootstrap())
        .with("state_dir", json!("/var/lib/devour"))
        .with("control_socket", json!("/run/devour/control.sock"))
        .with("plugin_dirs", json!(["/usr/lib/devour/plugins"]))
        .route("orders", route(orders, "orders"));
    let leaks = route(hungry, "hungry").faults(json!([{"kind": "leak", "numbers": [0]}]));
    let bad = first.clone().route("orders", route(orders, "orders").with("symbol", json!("NoSuchConsumer")));
    for (name, settings) in [
        ("bad", bad),
        ("hungry", first.clone().route("hungry", leaks)),
        ("first", first),
    ] {
        orders.home.write(&settings)?;
        fs::copy(orders.home.settings_file(), dir.join(format!("settings.{name}")))?;
    }
    Ok(())
}

/// What the walk said: `name=value`, and the outputs.
struct Findings(BTreeMap<String, String>);

// === impl Findings ===

impl Findings {
    fn read(dir: &Path) -> Result<Self, Failed> {
        let mut all = BTreeMap::new();
        for line in fs::read_to_string(dir.join("findings"))?.lines() {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            all.insert(name.to_owned(), value.to_owned());
        }
        for entry in fs::read_dir(dir)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("out.") {
                all.insert(name, String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
            }
        }
        Ok(Self(all))
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("(not found)", String::as_str)
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        let text = self.text(name);
        text.parse().map_err(|_| format!("{name}: {text}"))
    }

    fn is(&self, name: &str, expected: &str) -> Result<(), String> {
        match self.text(name) {
            found if found == expected => Ok(()),
            found => Err(format!("{name}: expected `{expected}`, found `{found}`")),
        }
    }

    fn says(&self, name: &str, part: &str) -> Result<(), String> {
        match self.text(name) {
            found if found.contains(part) => Ok(()),
            found => Err(format!("{name}: `{part}` is missing in `{found}`")),
        }
    }
}

fn judge(found: &Findings) -> Result<(), String> {
    for command in [
        "install", "verify", "check", "demo", "start_default", "stop_default", "start", "reload_good", "upgrade", "stop",
        "remove", "purge",
    ] {
        found
            .is(&format!("{command}.status"), "0")
            .map_err(|wrong| format!("{wrong}\n{}", found.text(&format!("out.{command}"))))?;
    }
    for event in [
        "running",
        "digests",
        "same_after_bad",
        "hungry_digested",
        "others_went_on",
        "same_after_oom",
        "well_after_oom",
        "watchdog",
        "digests_after_watchdog",
        "after_ABRT",
        "digests_after_ABRT",
        "after_KILL",
        "digests_after_KILL",
        "upgraded",
        "kept_settings",
        "drained",
    ] {
        found.is(event, "yes")?;
    }

    found.is("user", "devour:devour")?;
    found.is("settings", "root:devour:640")?;
    found.is("plugins", "0")?;
    found.is("after_install", "inactive")?;
    found.is("out.verify", "")?;
    let exposure = found.number("exposure")?;
    if exposure > 2.0 {
        return Err(format!("exposure {exposure}:\n{}", found.text("out.security")));
    }
    found.says("out.demo", "\"lost\":0,\"duplicated\":0")?;
    found.is("default_status", "no routes")?;
    found.says("out.status", "Status: \"1 running\"")?;

    if found.number("reload_bad.status")? == 0.0 {
        return Err("a bad reload succeeded".to_owned());
    }
    found.says("out.reload_bad", "devourd.service")?;
    found.is("after_bad", "active:1 running")?;
    found.is("taken", "1")?;
    if found.number("bound_met")? < 1.0 {
        return Err("the unit's bound was not what the plugin died of".to_owned());
    }
    found.says("out.journal", "Watchdog timeout")?;
    // One by the watchdog, two by crashes; what a person orders does not count.
    found.is("restarts", "3")?;

    let stop = found.number("stop.ms")?;
    if stop > 30_000.0 {
        return Err(format!("the stop took {stop} ms"));
    }
    found.is("after_stop", "inactive:success:0")?;
    found.is("after_remove", "0:inactive")?;
    found.is("plugin_stays", "libdevour_test_ledger.so")?;
    found.is("unit_gone", "1")?;
    found.is("left", "0")
}

fn last_words(dir: &Path) -> String {
    let found = fs::read_to_string(dir.join("findings")).unwrap_or_default();
    found.lines().last().unwrap_or("nothing found yet").to_owned()
}

/// All that the walk left, for whoever mends it.
fn failed(wrong: &str, dir: &Path, container: &Container) -> Failed {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let journal = read("out.journal");
    let skip = journal.lines().count().saturating_sub(150);
    let journal: Vec<&str> = journal.lines().skip(skip).collect();
    let console = container.console();
    let console: String = console.chars().rev().take(1500).collect::<Vec<_>>().into_iter().rev().collect();
    format!(
        "{wrong}\n--- findings:\n{}\n--- walk.log:\n{}\n--- journal:\n{}\n--- console:\n{console}",
        read("findings"),
        read("walk.log"),
        journal.join("\n"),
    )
    .into()
}
