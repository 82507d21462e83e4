//! The reference page, `docs/settings.md`.

use std::fmt::Write;

use super::consumer_config::CONFIG;
use super::keys::{RESERVED, ROOT, ROUTE};
use super::schema::{Block, Key, Kind, Standing};

const HEAD: &str = r#"# Settings

<!-- Generated from the schema in daemon/src/settings; change it there and run the tests with DEVOUR_UPDATE=1. -->

devourd reads one YAML file: the one that `--settings FILE` names, else the one that `KAFKA_SETTINGS_PATH` names, else
`settings.yaml` in the working directory. `devourd check` reports everything that is wrong with it at once, each
finding with its file, line and column, and exits with 78 if anything is an error. `devourd schema` prints a JSON Schema for
editors. An annotated sample with every setting is `config/devour.yaml`.

```yaml
hosts: "kafka1:9092,kafka2:9092"
consumer_routes:
  my_consumer: libexample.so::ExampleConsumer        # short form: library, symbol
  orders:                                            # long form
    path: liborders.so
    symbol: OrderConsumer
    config: { consumer_group: billing }
    settings: { currency: EUR }                      # the plugin's own
```

- **Durations** have a unit: `250ms`, `5s`, `1m`, `2h`, `1d`. Keys that end in `_ms` take a whole number of milliseconds.
- **Sizes** are bytes, or have a unit: `500KB` (1000), `64KiB` (1024), `1MiB`, `1GiB`.
- **Substitution**: text may hold `${VAR}`, `${VAR:-default}` (where VAR is unset or empty), `${file:PATH}` (without its last
  line end) and `${credential:NAME}` (systemd's); `$$` is a dollar. It happens in values after the YAML is read, so a value
  cannot add a key. A number or a boolean may come from one. In a plugin's `settings`, `${PORT}` without quotes
  becomes a number if it is one, and `"${PORT}"` stays text. A variable that is used outside a plugin's `settings` is taken
  out of the plugin's environment.
- **Relative paths** start at the working directory.
- **Aliases and merge keys** (`*name`, `<<`) work. A key that stands twice is an error, and so is an unknown key.
- A file is at most 1 MiB.
- **Secrets** are never shown: values of keys whose names end in `password`, `secret` and the like are blotted out wherever a
  line of the file is drawn.
"#;

/// The reference page, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    section(&mut out, "The file", "", &ROOT);
    section(
        &mut out,
        "A route",
        "Keys of each route under `consumer_routes`, and of `defaults`. A route's key wins over that of `defaults`; in a \
         mapping, key by key. Names of routes have 1 to 64 letters, digits, `.`, `_` and `-`.",
        &ROUTE,
    );
    section(
        &mut out,
        "A route's `config`",
        "The consumer options of the seed. They win over the plugin's own, key by key.",
        &CONFIG,
    );
    out.push_str("\n## Properties of librdkafka that cannot be set\n\n| property | instead |\n|---|---|\n");
    for (name, instead) in RESERVED {
        let _ = writeln!(out, "| `{name}` | {instead} |");
    }
    out
}

fn section(out: &mut String, title: &str, words: &str, block: &'static Block) {
    let _ = write!(out, "\n## {title}\n\n");
    if !words.is_empty() {
        let _ = write!(out, "{words}\n\n");
    }
    out.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    rows(out, "", block);
    list(
        out,
        "Accepted, warned about, and without effect:",
        block,
        |key| match key.standing {
            Standing::Ignored(reason) => Some(reason.to_owned()),
            _ => None,
        },
    );
    list(out, "Refused:", block, |key| match key.standing {
        Standing::Refused(reason) => Some(reason.to_owned()),
        _ => None,
    });
    let planned: Vec<String> = unavailable("", block);
    if !planned.is_empty() {
        let _ = write!(
            out,
            "\nNot available in this version, and an error: {}.\n",
            planned.join(", ")
        );
    }
}

fn rows(out: &mut String, prefix: &str, block: &'static Block) {
    for key in block
        .shown()
        .filter(|key| !matches!(key.standing, Standing::Ignored(_)))
    {
        let name = format!("{prefix}{}", key.name);
        let mut kind = key.kind.words();
        if key.none {
            kind.push_str(", or `none`");
        }
        let default = match (key.required, key.default, key.otherwise) {
            (true, ..) => "required".to_owned(),
            (_, Some(default), None) => format!("`{default}`"),
            (_, _, Some(otherwise)) => otherwise.to_owned(),
            _ => String::new(),
        };
        let mut doc = key.doc.to_owned();
        if let Some((value, reason)) = key.warn {
            let _ = write!(doc, " `{value}` is warned about: {reason}.");
        }
        if let Standing::Only(only, reason) = key.standing {
            let _ = write!(doc, " Only `{only}`: {reason}.");
        }
        let inner = match key.kind {
            Kind::Block { block, .. } => Some(block),
            _ => None,
        };
        if inner.is_some_and(|inner| inner.shown().next().is_none()) {
            continue;
        }
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(
            out,
            "| `{name}` | {} | {} | {} |",
            cell(&kind),
            cell(&default),
            cell(&doc)
        );
        // blocks with a section or an example of their own are not repeated
        if let (Some(inner), None, false) = (inner, key.example, key.name == "config") {
            let repeated = std::ptr::eq(block, &ROUTE) && key.name == "ssl_config";
            if !repeated {
                rows(out, &format!("{name}."), inner);
            }
        }
    }
}

fn list(out: &mut String, title: &str, block: &'static Block, reason: impl Fn(&Key) -> Option<String>) {
    let lines: Vec<String> = block
        .keys
        .iter()
        .filter_map(|key| reason(key).map(|reason| format!("- `{}`: {reason}.", key.name)))
        .collect();
    if !lines.is_empty() {
        let _ = write!(out, "\n{title}\n\n{}\n", lines.join("\n"));
    }
}

fn unavailable(prefix: &str, block: &'static Block) -> Vec<String> {
    let mut names = Vec::new();
    for key in block.keys {
        match (key.standing, key.kind) {
            (Standing::Unavailable(None), _) => names.push(format!("`{prefix}{}`", key.name)),
            (Standing::Unavailable(Some(today)), _) => {
                names.push(format!("`{prefix}{}` (other than `{today}`)", key.name));
            }
            (Standing::Supported, Kind::Block { block: inner, .. })
                if !matches!(key.name, "client" | "defaults" | "config") =>
            {
                names.extend(unavailable(&format!("{prefix}{}.", key.name), inner));
            }
            (Standing::Supported, Kind::Choice { planned, .. }) => {
                names.extend(
                    planned
                        .iter()
                        .map(|word| format!("`{prefix}{}: {word}`", key.name)),
                );
            }
            _ => {}
        }
    }
    names
}
