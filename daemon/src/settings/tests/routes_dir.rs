//! Routes in files of their own.

use super::*;

const MAIN: &str =
    "hosts: a:1\nroutes_dir: /r\ndefaults: {memory: 8MiB}\nconsumer_routes:\n  mine: a.so::A\n";

fn world() -> World {
    World::default()
        .file(
            "/r/b-orders.yaml",
            "# of the orders team\nconsumer_routes:\n  orders: b.so::B\n",
        )
        .file("/r/a-billing.yaml", "consumer_routes: {billing: c.so::C}\n")
        .file("/r/.hidden.yaml", "hosts: x\n")
        .file("/r/README", "not a route\n")
        .file("/r/empty.yaml", "# nothing yet\n")
}

/// Every finding, one line each.
fn findings(world: &World, text: &str) -> Vec<String> {
    match read_in(text, world) {
        Ok(settings) => settings
            .findings()
            .sorted()
            .iter()
            .map(ToString::to_string)
            .collect(),
        Err(findings) => findings.sorted().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_files_are_read_by_name_after_the_settings_file_and_with_its_defaults() {
    let settings = read_in(MAIN, &world()).unwrap();
    let names: Vec<&str> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["mine", "billing", "orders"]);
    assert!(settings.routes.iter().all(|route| route.memory == 8 << 20));
    let alone = "hosts: a\nroutes_dir: /r\n";
    assert_eq!(
        read_in(alone, &world()).unwrap().routes.len(),
        2,
        "no `consumer_routes` is needed"
    );
}

#[test]
fn what_is_wrong_is_named_in_its_own_file() {
    let world = world()
        .file(
            "/r/c.yaml",
            "consumer_routes:\n  x:\n    path: x.so\n    symbol: X\n    memry: 1MiB\n",
        )
        .file("/r/d.yaml", "consumer_routes:\n  y: 5\n  z: [\n")
        .file("/r/e.yaml", "- a list\n");
    assert_eq!(
        findings(&world, &MAIN.replace("8MiB", "[]")),
        [
            "settings.yaml:3:12: error: defaults.memory: expected a size such as `64KiB`, `1MiB`, `500KB`, found a list",
            "/r/c.yaml:5:5: error: consumer_routes.x.memry: there is no key `memry` (did you mean `memory`?)",
            "/r/d.yaml:4:1: error: this is not YAML: did not find expected node content, while parsing a flow node",
            "/r/e.yaml:1:1: error: expected `consumer_routes:` and the routes of this file below it",
        ]
    );
}

#[test]
fn what_several_keys_together_get_wrong_is_named_where_the_key_stands() {
    let world = world().file(
        "/r/c.yaml",
        "consumer_routes:\n  x: {path: x.so, symbol: X, drain_timeout: 2m}\n",
    );
    let found = findings(&world, MAIN);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("/r/c.yaml:2:45: error: consumer_routes.x.drain_timeout"),
        "{found:?}"
    );
    let world = World::default().file("/r/c.yaml", "consumer_routes:\n  x: x.so::X\n");
    let text = "hosts: a\nroutes_dir: /r\ndefaults:\n  drain_timeout: 2m\n";
    let found = findings(&world, text);
    assert!(
        found[0].starts_with("settings.yaml:4:18: error: consumer_routes.x.drain_timeout"),
        "{found:?}"
    );
}

#[test]
fn what_other_parts_find_is_named_in_the_routes_file_and_drawn_there() {
    let settings = read_in(MAIN, &world()).unwrap();
    let mut findings = settings.findings();
    findings.add_at(
        Severity::Error,
        &KeyPath::route("orders").key("path"),
        "there is no such file",
    );
    findings.add_at(
        Severity::Error,
        &KeyPath::route("mine").key("path"),
        "there is no such file",
    );
    let drawn = findings.render();
    assert!(
        drawn.contains("--> /r/b-orders.yaml:3:11")
            && drawn.contains("3 |   orders: b.so::B")
            && drawn.contains("--> settings.yaml:5:9"),
        "{drawn}"
    );
}

#[test]
fn a_route_in_two_files_is_named_with_both_places() {
    let world = world().file(
        "/r/c.yaml",
        "consumer_routes:\n  mine: x.so::X\n  orders: y.so::Y\n",
    );
    assert_eq!(
        findings(&world, MAIN),
        [
            "/r/c.yaml:2:3: error: consumer_routes.mine: this route is named twice: first in settings.yaml:5:3",
            "/r/c.yaml:3:3: error: consumer_routes.orders: this route is named twice: first in /r/b-orders.yaml:3:3",
        ]
    );
}

#[test]
fn nothing_of_the_whole_daemon_stands_in_a_fragment() {
    let world = world().file(
        "/r/c.yaml",
        "hosts: b:1\ndefaults: {memory: 1MiB}\nconsumer_route: {}\nweather: fine\n",
    );
    let found = findings(&world, MAIN);
    assert_eq!(found.len(), 4, "{found:#?}");
    for (line, words) in found.iter().zip([
        ":1:1: error: hosts: `hosts` is for the whole daemon and stands in the settings file",
        ":2:1: error: defaults: `defaults` is for the whole daemon",
        ":3:1: error: consumer_route: there is no key `consumer_route` here: a file of `routes_dir` holds \
         `consumer_routes` alone; did you mean `consumer_routes`?",
        ":4:1: error: weather: there is no key `weather` here",
    ]) {
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn a_directory_that_is_not_there_and_names_that_are_passed_over_are_told() {
    assert_eq!(
        findings(&World::default(), MAIN),
        ["settings.yaml:2:13: error: routes_dir: there is no such directory: make it, or take this key out"]
    );
    let world = world().file("/r/late.yml", "consumer_routes: {}\n");
    assert_eq!(
        findings(&world, MAIN),
        [
            "settings.yaml:2:13: warning: routes_dir: /r/late.yml is not read: its name does not end with `.yaml`"
        ]
    );
    let long = "#".repeat(2 << 20);
    let found = findings(&self::world().file("/r/z.yaml", &long), MAIN);
    assert_eq!(
        found,
        ["/r/z.yaml: error: the file is longer than 1 MiB: are these routes?"]
    );
}

#[test]
fn secrets_of_a_fragment_are_blotted_out_too() {
    let world = World::default().file(
        "/r/a.yaml",
        "consumer_routes: {x: {path: x.so, symbol: X, memry: 1, settings: {password: hunter2}}}\n",
    );
    let error = read_in(MAIN, &world).unwrap_err().render();
    assert!(error.contains("memry") && !error.contains("hunter2"), "{error}");
}

#[test]
fn an_autoloaded_route_is_the_defaults() {
    let settings = good("hosts: a\nautoload: true\ndefaults: {memory: 8MiB, topic: t, settings: {a: 1}}\n");
    let route = settings.autoloaded("orders".parse().unwrap(), "liborders.so", "Orders");
    let route = route.unwrap();
    assert_eq!(
        (route.path.as_str(), route.symbol.as_str(), route.memory),
        ("liborders.so", "Orders", 8 << 20)
    );
    assert_eq!(route.topic, Some(Topics::Names(vec!["t".into()])));
    assert!(
        good("hosts: a\nconsumer_routes: {}\n")
            .autoloaded("x".parse().unwrap(), "x.so", "X")
            .is_none()
    );
    // What `defaults` get wrong together is said once, where it stands.
    let found = lines("hosts: a\nautoload: true\ndefaults:\n  drain_timeout: 2m\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("settings.yaml:4:18: error: defaults.drain_timeout"),
        "{found:?}"
    );
}

#[test]
fn a_pin_is_the_whole_hash() {
    let hash = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
    let text = format!("hosts: a\nconsumer_routes: {{x: {{path: x.so, symbol: X, sha256: {hash}}}}}\n");
    let route = good(&text).route("x").unwrap().clone();
    assert_eq!(route.sha256, Some(hash.to_lowercase()));
    let unpinned = good("hosts: a\nconsumer_routes: {x: {path: x.so, symbol: X}}\n");
    assert_eq!(
        &route,
        unpinned.route("x").unwrap(),
        "a pin is no reason to do anything about a route that runs"
    );
    let found = lines("hosts: a\nconsumer_routes: {x: {path: x.so, symbol: X, sha256: e3b0}}\n");
    assert!(
        found[0].contains("64 hexadecimal digits, as `sha256sum FILE` prints them"),
        "{found:?}"
    );
}
