use super::*;

fn world() -> World {
    World::default()
        .variable("KEY_PASSWORD", "x")
        .file("/etc/devour/routes.d/team.yaml", "# no routes yet\n")
}

/// Compares a generated file with the tree, or writes it there if `DEVOUR_UPDATE` is set.
fn in_step(file: &str, content: &str, same: fn(&str, &str) -> bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("DEVOUR_UPDATE").is_some() {
        std::fs::write(&path, content).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        same(&there, content),
        "{file} is not what the schema says: run the tests with DEVOUR_UPDATE=1"
    );
}

/// JSON regardless of the order of keys, which depends on features of serde_json that any crate may turn on.
fn same_json(one: &str, other: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    parse(one).is_some() && parse(one) == parse(other)
}

#[test]
fn the_sample_the_json_schema_and_the_reference_are_in_step_with_the_schema() {
    in_step("config/devour.yaml", &sample(), str::eq);
    let schema = format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap());
    in_step("config/devour.schema.json", &schema, same_json);
    in_step("docs/settings.md", &reference(), str::eq);
}

#[test]
fn the_sample_loads_as_it_is_without_a_warning() {
    let settings = good(&sample());
    assert!(settings.routes.is_empty());
    assert!(settings.warnings.is_empty());
    let active: Vec<String> = sample()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert_eq!(active, ["hosts: \"127.0.0.1:9092\"", "consumer_routes: {}"]);
}

/// The sample with the settings of the chosen blocks (between empty lines) uncommented.
fn uncommented(chosen: impl Fn(usize, &str) -> bool) -> String {
    let text = sample();
    let blocks: Vec<&str> = text.split("\n\n").collect();
    let pick: Vec<bool> = blocks
        .iter()
        .enumerate()
        .map(|(at, block)| chosen(at, block))
        .collect();
    let routes = blocks
        .iter()
        .zip(&pick)
        .any(|(block, pick)| *pick && block.contains("\n# consumer_routes:"));
    let mut out = String::new();
    for (block, pick) in blocks.iter().zip(&pick) {
        for line in block.lines() {
            let line = match line.strip_prefix("# ") {
                Some(setting) if *pick => setting,
                _ if routes && line == "consumer_routes: {}" => continue,
                _ => line,
            };
            out.push_str(line);
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_block_of_the_sample_can_be_uncommented_alone() {
    let blocks = sample().split("\n\n").count();
    assert!(blocks > 20);
    let plain = good(&sample());
    for block in 0..blocks {
        let text = uncommented(|at, _| at == block);
        let settings = read_in(&text, &world()).unwrap_or_else(|findings| panic!("{findings}"));
        let loaded = format!("{:?}", settings.log);
        assert_eq!(loaded, format!("{:?}", plain.log));
    }
}

#[test]
fn the_whole_sample_can_be_uncommented_at_once_and_its_defaults_are_the_defaults() {
    // `client` repeats keys of the top
    let text = uncommented(|_, block| !block.contains("\n# client:"));
    let all = read_in(&text, &world()).unwrap_or_else(|findings| panic!("{findings}"));
    assert_eq!(all.routes.len(), 2);
    let orders = all.route("orders").unwrap();
    let short = good("hosts: a\nconsumer_routes: {orders: 'liborders.so::OrderConsumer'}\n");
    let short = short.route("orders").unwrap();
    assert_eq!(orders.batch, short.batch);
    assert_eq!(orders.on_error, short.on_error);
    assert_eq!(orders.restart, short.restart);
    assert_eq!(orders.memory, short.memory);
    assert_eq!(orders.drain_timeout, short.drain_timeout);
    assert_eq!(orders.isolation, short.isolation);
    assert_eq!(orders.digest_timeout, short.digest_timeout);
    let shown = sample();
    for key in super::super::keys::ROOT
        .shown()
        .chain(super::super::keys::ROUTE.shown())
    {
        assert!(
            shown.contains(&format!("{}:", key.name)) || key.name == "concurrency",
            "{} is not shown",
            key.name
        );
    }
}

#[test]
fn the_json_schema_takes_what_the_loader_takes() {
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    let json =
        |text: &str| serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(text).unwrap()).unwrap();
    for text in [
        sample(),
        uncommented(|_, block| !block.contains("\n# client:")),
        super::good::EVERYTHING.to_owned(),
    ] {
        let errors: Vec<String> = validator
            .iter_errors(&json(&text))
            .map(|error| format!("{} {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
    for text in [
        "hosts: a",
        "hosts: a\nconsumer_routes: {}\nhostss: b",
        "hosts: a\nconsumer_routes: {a: b}",
        "hosts: a\nconsumer_routes: {}\nsocket_timeout_ms: soon",
    ] {
        assert!(!validator.is_valid(&json(text)), "{text}");
    }
}

#[test]
fn every_default_of_the_schema_is_valid() {
    use super::super::{check::default_of, consumer_config::CONFIG, keys, schema::Kind};
    fn walk(block: &'static super::super::schema::Block) {
        for key in block.keys {
            if key.default.is_some() {
                assert!(default_of(key).is_some(), "{}.{}", block.name, key.name);
            }
            match key.kind {
                Kind::Block { block, .. } => walk(block),
                Kind::Any => {}
                _ => assert!(
                    key.default.is_some() || key.example.is_some(),
                    "{}.{} shows nothing",
                    block.name,
                    key.name
                ),
            }
        }
    }
    [&keys::ROOT, &keys::ROUTE, &keys::CLIENT, &CONFIG]
        .into_iter()
        .for_each(walk);
}
