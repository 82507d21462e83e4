use super::*;

const HOME: &str = "hosts: a:1\nconsumer_routes: {}\n";

/// The only error of a text.
#[track_caller]
fn only(text: &str) -> String {
    let lines = lines(text);
    assert_eq!(lines.len(), 1, "{text}\n{lines:#?}");
    lines.into_iter().next().unwrap()
}

/// The only finding about a file with `line` as its third line.
#[track_caller]
fn third(line: &str) -> String {
    only(&format!("{HOME}{line}\n"))
}

/// The only finding about a route with that line in it, the fifth.
#[track_caller]
fn in_route(line: &str) -> String {
    only(&format!(
        "hosts: a:1\nconsumer_routes:\n  r:\n    {{path: a.so, symbol: B,\n     {line}}}\n"
    ))
}

#[test]
fn what_must_be_there_is_missed() {
    assert_eq!(
        only("consumer_routes: {}\n"),
        "settings.yaml:1:1: error: hosts: the key `hosts` is missing (add `hosts: \"127.0.0.1:9092\"`)"
    );
    assert!(only("hosts: a\n").contains("consumer_routes: the key `consumer_routes` is missing"));
    let ssl = third("ssl_config: {certfile: a}");
    assert!(
        ssl.starts_with("settings.yaml:3:1: error: ssl_config.cafile: the key `cafile` is missing"),
        "{ssl}"
    );
    let zookeeper = lines("zookeeper_hosts: zk:2181\nconsumer_routes: {}\n");
    assert_eq!(zookeeper.len(), 2, "{zookeeper:#?}");
    assert!(
        only("hosts: a\nconsumer_routes: {r: {path: a}}\n")
            .contains("consumer_routes.r.symbol: the key `symbol` is missing")
    );
}

#[test]
fn a_misspelt_key_finds_the_one_that_was_meant() {
    assert_eq!(
        only("hosts: a\nconsumer_routs: {}\n"),
        "settings.yaml:2:1: error: consumer_routs: there is no key `consumer_routs` (did you mean `consumer_routes`?)"
    );
    let two = lines(&format!("{HOME}weather: fine\nlogg: {{}}\n"));
    assert_eq!(two.len(), 2, "{two:?}");
    assert!(
        two[0].contains(":3:1:") && two[0].ends_with("`weather`"),
        "{two:?}"
    );
    assert!(
        two[1].contains(":4:1:") && two[1].contains("did you mean `log`?"),
        "{two:?}"
    );
    assert!(in_route("config: {consumer_grup: x}").contains("did you mean `consumer_group`?"));
    assert!(in_route("consumer_group: x").contains("`consumer_group` is a key of a route's `config`"));
    assert!(third("isolation: thread").contains("is a key of a route, or of `defaults`"));
}

#[test]
fn a_wrong_value_says_what_was_expected() {
    assert_eq!(
        third("socket_timeout_ms: soon"),
        "settings.yaml:3:20: error: socket_timeout_ms: expected a whole number of milliseconds from 10 to 300000, found `soon`"
    );
    assert!(third("socket_timeout_ms: 30s").contains("(write 30000)"));
    assert!(third("socket_timeout_ms: 1.5").contains("found `1.5`"));
    assert!(third("socket_timeout_ms: -1").contains("found `-1`"));
    assert!(
        third("socket_timeout_ms: 5")
            .contains("warning: socket_timeout_ms: 5 is beyond the 10 to 300000 milliseconds")
    );
    assert!(third("socket_timeout_ms: 99999999999999999999999").contains("socket_timeout_ms"));
    assert!(third("socket_timeout_ms:").contains("it has no value"));
    assert!(third("core_dumps: yes").contains("(write true)"));
    assert!(third("log: {level: inf}").contains("(did you mean `info`?)"));
    assert!(third("shutdown_timeout: 30").contains("a duration needs a unit"));
    assert!(third("shutdown_timeout: 0s").contains("it is less than 1ms"));
    assert!(third("shutdown_timeout: -1s").contains("it is negative"));
    assert!(third("shutdown_timeout: .nan").contains("needs a unit"));
    assert!(third("source_address: 127.0.0.1:80").contains("it has a port"));
    assert!(third("source_address: localhost").contains("expected an IP address"));
    assert!(third("plugin_dirs: {a: b}").contains("found a mapping"));
    assert!(
        third("librdkafka: {client.id: [a]}")
            .contains("librdkafka.client.id: expected text, a number or true/false, found a list")
    );
    assert!(third("librdkafka: {group.id: a}").contains("use `config: {consumer_group: ...}`"));
    assert!(third("log: 5").contains("log: expected a mapping, found `5`"));
    assert!(in_route("memory: -5").contains("it is negative"));
    assert!(in_route("memory: 1KiB").contains("it is less than 1MiB"));
    assert!(in_route("memory: lots").contains("expected a size"));
    assert!(in_route("memory: 1M").contains("MiB (1024)"));
    assert!(in_route("topic: []").contains("the list is empty"));
    assert!(in_route("topic: 'a b'").contains("` ` is not allowed"));
    assert!(in_route("topic: 'a,b'").contains("several are a list"));
    assert!(in_route("topic: [a, a]").contains("`a` is listed twice"));
    assert!(in_route("on_error: {attempts: 0}").contains("from 1"));
    assert!(in_route("config: {consumer_group: ''}").contains("it is empty"));
    assert!(in_route("config: {consumer_group: grüppe}").contains("ASCII"));
    assert!(in_route("config: {consumer_group: 5}").contains("put it in quotes"));
    assert!(in_route("settings: 5").contains("expected a mapping"));
    assert!(in_route("settings: {a: .nan}").contains("JSON has no such number"));
    for hosts in [
        "''",
        "'a,,b'",
        "'http://a'",
        "'a:0'",
        "'a:x'",
        "'::1'",
        "'[::1'",
        "5",
        "[]",
        "{a: b}",
        "':9092'",
    ] {
        let finding = only(&format!("hosts: {hosts}\nconsumer_routes: {{}}\n"));
        assert!(finding.contains(": error: hosts"), "{finding}");
    }
    for hosts in ["'a'", "'[::1]:9092'", "['a:1', 'b:2']", "'a:1, b:2'"] {
        good(&format!("hosts: {hosts}\nconsumer_routes: {{}}\n"));
    }
}

#[test]
fn dead_letters_need_a_topic_that_the_route_does_not_read() {
    assert!(in_route("on_error: {then: dead_letter}").contains("need a topic"));
    let own = "topic: [a, b], on_error: {then: dead_letter, dead_letter: {topic: b}}";
    assert!(in_route(own).contains("the route itself reads `b`"));
    assert!(in_route("on_error: {then: dead_letter, dead_letter: {topic: ^b}}").contains("one topic"));
}

#[test]
fn a_rate_has_a_number_and_a_time() {
    for rate in ["0/s", "5", "/s", "5/d", "-1/s", "x/s"] {
        assert!(
            in_route(&format!("rate_limit: \"{rate}\"")).contains("rate"),
            "{rate}"
        );
    }
}

#[test]
fn the_routes_budgets_fit_into_the_daemons() {
    let text = "hosts: a:1\nmemory: 32MiB\nconsumer_routes: {r: a.so::B}\n";
    assert!(only(text).contains("more than the 32MiB of the daemon"));
}

#[test]
fn a_registry_has_a_url() {
    let registry = |url: &str| {
        in_route(&format!(
            "deserializer: avro, schema_registry: {{url: \"{url}\"}}"
        ))
    };
    assert!(registry("registry:8081").contains("begins with `http://` or `https://`"));
    assert!(registry("http:///x").contains("names no host"));
    assert!(registry("http://ada:secret@a:1").contains("user and password are `credentials`"));
}

#[test]
fn attributes_are_names_with_lists() {
    let schema = |list: &str| in_route(&format!("schema: {{attributes: {list}}}"));
    assert!(schema("[]").contains("the list is empty: nothing would be taken"));
    assert!(schema("[id, id]").contains("`id` is listed twice"));
    assert!(schema("[{a: [b, b]}]").contains("`b` is listed twice"));
    assert!(schema("[5]").contains("expected a name, or a name with a list"));
    assert!(schema("[{a: b}]").contains("expected a list of names"));
    assert!(schema("id").contains("expected a list of names"));
    assert!(in_route("schema: {attribute: [id]}").contains("did you mean `attributes`?"));
}

#[test]
fn what_this_version_cannot_do_is_said_and_not_ignored() {
    assert!(in_route("swap: x").contains("not available in this version of devourd"));
    for line in ["lanes: 8", "order: key", "in_flight: 10"] {
        assert!(in_route(line).contains("concurrency"), "{line}");
    }
    assert!(in_route("dead_letter: {topic: t}").contains("on_error"));
    assert!(in_route("config: {generation_id: 5}").contains("only -1 can be honoured"));
    assert!(in_route("config: {consumer_id: x}").contains("client.id"));
    assert!(in_route("config: {deserializer: x}").contains("cannot be set here"));
    assert!(in_route("config: {use_greenlets: true}").contains("move it to the top"));
}

#[test]
fn what_bounds_a_process_is_checked_and_needs_one() {
    assert!(in_route("limits: {memory: 1KiB}").contains("it is less than 16MiB"));
    assert!(in_route("limits: {nice: -5}").contains("limits.nice"));
    assert!(in_route("limits: {open_files: 5}").contains("limits.open_files"));
    assert!(in_route("user: 'a b'").contains("` ` is not allowed in it"));
    assert!(in_route("sandbox: strict").contains("sandbox"));
    assert!(in_route("sandbox: {netwrok: true}").contains("did you mean `network`?"));
    for bound in ["limits: {nice: 5}", "user: nobody", "sandbox: {}"] {
        let key = bound.split(':').next().unwrap();
        let finding = in_route(&format!("isolation: thread, {bound}"));
        assert!(
            finding.contains(&format!("`{key}` bounds a process")),
            "{finding}"
        );
    }
    let undone = "hosts: a\ndefaults: {sandbox: {}, user: x, limits: {nice: 5}}\nconsumer_routes:\n  \
                  r: {path: a, symbol: B, isolation: thread, sandbox: none, user: none, limits: none}\n";
    assert!(lines(undone).is_empty(), "{:?}", lines(undone));
}

#[test]
fn routes_are_named_and_written_as_they_must_be() {
    let route = |text: &str| only(&format!("hosts: a\nconsumer_routes:\n  {text}\n"));
    assert_eq!(
        route("r: libexample.so"),
        "settings.yaml:3:6: error: consumer_routes.r: expected `library::Symbol`, as in `libexample.so::ExampleConsumer`, found `libexample.so`: it has no `::`"
    );
    assert!(route("r: my_proj.path.to.Consumer").contains("Python path"));
    assert!(route("r: '::B'").contains("the library is missing"));
    assert!(route("r: 'a::'").contains("expected letters"));
    assert!(route("r: 'a::b::c'").contains("more than one `::`"));
    assert!(route("r:").contains("found nothing"));
    assert!(route("r: [a]").contains("found a list"));
    assert!(route("a b: x::y").contains("not ` `"));
    assert!(route("'': x::y").contains("1 to 64"));
    assert!(route(".r: x::y").contains("does not begin with `.`"));
    assert!(route(&format!("{}: x::y", "r".repeat(65))).contains("this one has 65"));
    assert!(route("5: x::y").contains("the key `5` is not text"));
    assert!(route("r: {path: 'a::B', symbol: C}").contains("a key of its own"));
    assert!(
        only("hosts: a\nconsumer_routes: [a]\n")
            .contains("expected a mapping of names to routes, found a list")
    );
}

#[test]
fn keys_that_do_not_go_together_are_found() {
    assert!(
        in_route("batch: {max_bytes: 2MiB}, memory: 1MiB").contains("batch.max_bytes: a batch is larger")
    );
    assert!(
        in_route("restart: {initial: 2m}")
            .contains("restart.initial: the first wait (2m) is longer than the longest (1m)")
    );
    assert!(in_route("on_error: {backoff: {max: 1ms}}").contains("on_error.backoff.initial"));
    assert!(in_route("drain_timeout: 45s").contains("not less than the session timeout"));
    assert!(in_route("config: {fetch_wait_max_ms: 60000}").contains("not less than the socket timeout"));
    assert!(
        in_route("config: {heartbeat_interval_ms: 1}, librdkafka: {group.protocol: consumer}")
            .contains("classic group protocol")
    );
    assert!(third("ssl_config: {cafile: a, keyfile: b}").contains("`keyfile` needs a `certfile`"));
    let from_defaults = only("hosts: a\ndefaults: {drain_timeout: 1h}\nconsumer_routes: {r: 'a::B'}\n");
    assert!(
        from_defaults.starts_with("settings.yaml:2:27: error: consumer_routes.r.drain_timeout"),
        "{from_defaults}"
    );
}

#[test]
fn a_key_twice_is_placed_at_the_second() {
    assert_eq!(
        only("hosts: a\nconsumer_routes: {}\nhosts: b\n"),
        "settings.yaml:3:1: error: hosts: this key stands twice, first in line 1"
    );
    assert!(
        only("hosts: a\nconsumer_routes:\n  r: a::B\n  r: a::C\n")
            .contains(":4:3: error: consumer_routes.r: this key stands twice")
    );
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    assert_eq!(
        third("log: {level: '${LEVEL}'}"),
        "settings.yaml:3:14: error: log.level: the variable `LEVEL` is not set (a default is written `${LEVEL:-value}`)"
    );
    assert!(
        only("hosts: ${H}\nconsumer_routes: {}\n")
            .contains(":1:8: error: hosts: the variable `H` is not set")
    );
    assert!(in_route("settings: {a: [\"${X}\"]}").contains("settings.a[0]: the variable `X`"));
    assert!(third("state_dir: ${credential:x}").contains("CREDENTIALS_DIRECTORY is not set"));
}

#[test]
fn what_is_no_settings_file_at_all_is_said_to_be_none() {
    let nested = "[".repeat(100_000);
    let laughs: String = (1..30)
        .map(|n| format!("l{n}: &l{n} [*l{0}, *l{0}, *l{0}, *l{0}]\n", n - 1))
        .collect();
    for (text, part) in [
        ("", "holds no settings"),
        ("# only words\n\n", "holds no settings"),
        ("---\n", "holds no settings"),
        (
            "just text",
            "expected settings (a mapping of keys), found `just text`",
        ),
        ("[a, b]", "found a list"),
        ("hosts: [a\n", ":2:1: error: this is not YAML"),
        ("a: b: c\n", ":1:5: error: this is not YAML"),
        ("\thosts: a\n", ":1:1: error: this is not YAML"),
        (
            "hosts: a\n---\nhosts: b\n",
            ":2:1: error: a second document begins here",
        ),
        ("hosts: a\u{0}b\n", ":1:9: error: the character U+0000"),
        (nested.as_str(), "64 deep"),
        (&format!("l0: &l0 [ha]\n{laughs}"), "more than 200000 values"),
        ("hosts: !secret a\nconsumer_routes: {}\n", ":1:"),
    ] {
        let finding = only(text);
        assert!(finding.contains(part), "{finding}");
    }
    let noise: Vec<u8> = (0..5000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let findings = parse(Path::new("f"), &noise, &World::default()).unwrap_err();
    assert!(findings.render().contains("is this a settings file?"));
    let long = parse(Path::new("f"), &vec![b'#'; 10 << 20], &World::default()).unwrap_err();
    assert!(long.to_string().contains("longer than 1 MiB"));
    let directory = tempfile::tempdir().unwrap();
    let findings = load(directory.path(), &ProcessEnvironment).unwrap_err();
    assert!(findings.to_string().contains("this is a directory"));
    let findings = load(&directory.path().join("none"), &ProcessEnvironment).unwrap_err();
    assert!(findings.to_string().contains("no such file"));
}

#[test]
fn everything_is_reported_at_once_and_drawn() {
    let findings = read("hosts: a\nsocket_timeout_ms: soon\nconsumer_routes:\n  r: x\n  s: {path: a, symbol: B, memory: lots, batch: {max_messages: 0}}\nfoo: 1\n").unwrap_err();
    assert_eq!(findings.len(), 5, "{findings}");
    let drawn = findings.render();
    assert!(
        drawn.contains(
            " --> settings.yaml:2:20\n  |\n2 | socket_timeout_ms: soon\n  |                    ^^^^"
        ),
        "{drawn}"
    );
}

#[test]
fn a_file_full_of_mistakes_is_reported_in_good_time() {
    let text: String = (0..60_000).map(|n| format!("key_{n}: x\n")).collect();
    let started = std::time::Instant::now();
    let findings = read(&text).unwrap_err();
    assert!(findings.len() > 60_000);
    assert!(findings.render().ends_with("more"));
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn what_does_not_go_with_exactly_once_is_refused_by_its_key() {
    for (more, key) in [
        ("config: {auto_commit_enable: false}", "auto_commit_enable"),
        ("consumer_type: simple_consumer", "consumer_type"),
        ("concurrency: {order: key}", "on_error.then"),
        (
            "librdkafka: {isolation.level: read_uncommitted}",
            "read_committed",
        ),
    ] {
        let route = format!("{{path: a.so, symbol: B, delivery: exactly_once, {more}}}");
        let found = lines(&format!("hosts: a:1\nconsumer_routes:\n  r: {route}\n"));
        let refused = |line: &&String| line.contains(key) && line.contains("exactly_once");
        assert!(found.iter().any(|line| refused(&line)), "{more}: {found:?}");
    }
    assert!(in_route("delivery: twice").contains("at_least_once"));
}

#[test]
fn where_the_control_socket_is_can_be_told_of_a_file_with_other_errors() {
    let asked = |text: &str| control_socket(Path::new("/s.yaml"), &World::default().file("/s.yaml", text));
    let told = |text: &str| asked(text).unwrap();
    assert_eq!(told("weather: fine\ncontrol_socket: /a\n"), Some("/a".into()));
    assert_eq!(told("hosts: a\n"), None);
    assert_eq!(told(""), None);
    // A default in their place could be another daemon's.
    for wrong in [
        "hosts: [1\ncontrol_socket: /a\n",
        "- control_socket\n",
        "word\n",
        "control_socket: [a]\n",
        "control_socket: !x /a\n",
        "control_socket: ${NOT_SET}\n",
        "control_socket: /a\ncontrol_socket: /b\n",
    ] {
        assert!(asked(wrong).is_err(), "{wrong}");
    }
}
