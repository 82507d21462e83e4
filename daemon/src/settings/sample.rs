//! The annotated sample, `config/devour.yaml`: every setting with its default and a word on it. Only what a file must
//! have is active; lines with `# ` are settings to uncomment, lines with `##` are words about them.

use std::fmt::Write;

use super::keys::{ROOT, ROUTE};
use super::schema::{Block, Key, Kind, Standing};

/// Words are broken at this column.
const WIDTH: usize = 100;

const HEAD: [&str; 3] = [
    "Settings of devourd. Lines with ## explain; a line with one # is a setting with its default, or with an example \
     where it has none: take the # and the space away to change it.",
    "Every setting is described in docs/settings.md; `devourd check` says what is wrong with a file.",
    "Durations have units (250ms, 5s, 1m, 2h), sizes may have them (64KiB, 1MiB, 500KB). Text may hold ${VAR}, \
     ${VAR:-default}, ${file:PATH} and ${credential:NAME} (of systemd); $$ is a dollar.",
];

/// The annotated sample.
#[must_use]
pub fn sample() -> String {
    let mut out = String::new();
    HEAD.into_iter().for_each(|words| comment(&mut out, "", words));
    for key in ROOT
        .shown()
        .filter(|key| !matches!(key.standing, Standing::Ignored(_)))
    {
        out.push('\n');
        match key.kind {
            Kind::Routes => routes(&mut out, key),
            _ => entry(&mut out, key, "", key.required),
        }
    }
    out.push('\n');
    comment(
        &mut out,
        "",
        "Options of the seed that are accepted, warned about, and do nothing.",
    );
    for key in ROOT.shown() {
        if let Standing::Ignored(reason) = key.standing {
            out.push('\n');
            comment(&mut out, "", &format!("{}.", capital(reason)));
            setting(&mut out, key, "", false);
        }
    }
    out
}

fn routes(out: &mut String, key: &'static Key) {
    comment(out, "", key.doc);
    comment(
        out,
        "",
        "The commented block below shows both; it takes the place of the line with {}.",
    );
    out.push_str("consumer_routes: {}\n\n");
    comment(
        out,
        "",
        "A route in its short form, and one in its long form with every key there is.",
    );
    out.push_str("# consumer_routes:\n#   my_consumer: libexample.so::ExampleConsumer\n#   orders:\n");
    block(out, &ROUTE, "    ");
}

/// The keys of a block, one after the other.
fn block(out: &mut String, block: &'static Block, indent: &str) {
    for key in block
        .shown()
        .filter(|key| !matches!(key.standing, Standing::Ignored(_)))
    {
        entry(out, key, indent, false);
    }
}

/// Words about a key, and the key.
fn entry(out: &mut String, key: &'static Key, indent: &str, active: bool) {
    if let Kind::Block { block, .. } = key.kind
        && block.shown().next().is_none()
    {
        return;
    }
    let otherwise = match key.otherwise {
        Some(otherwise) => format!(" Default: {otherwise}."),
        None => String::new(),
    };
    let values = match key.kind {
        Kind::Choice { words, .. } => format!(" One of: {}.", words.join(", ")),
        _ => String::new(),
    };
    comment(out, indent, &format!("{}{values}{otherwise}", key.doc));
    setting(out, key, indent, active);
}

fn setting(out: &mut String, key: &'static Key, indent: &str, active: bool) {
    let hash = if active { "" } else { "# " };
    match key.kind {
        // the example stands for a block that would only repeat what is shown elsewhere
        Kind::Block { block: inner, .. } if key.example.is_none() => {
            let _ = writeln!(out, "{hash}{indent}{}:", key.name);
            block(out, inner, &format!("{indent}  "));
        }
        _ => {
            let value = key.shown_value();
            let mut lines = value.lines();
            let first = lines.next().unwrap_or("");
            let _ = writeln!(
                out,
                "{hash}{indent}{}:{}{first}",
                key.name,
                if first.is_empty() { "" } else { " " }
            );
            for line in lines {
                let _ = writeln!(out, "{hash}{indent}{line}");
            }
        }
    }
}

fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        let _ = writeln!(
            out,
            "##{}",
            if line.is_empty() {
                String::new()
            } else {
                format!(" {indent}{line}")
            }
        );
        line.clear();
    };
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.chars().count() + word.chars().count() + 4 > WIDTH {
            flush(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    flush(&mut line);
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
