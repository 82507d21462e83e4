//! Where things stand: paths of keys, lines and columns, and the lines of the file themselves for drawing.

use std::collections::BTreeMap;
use std::fmt;

use super::text::{escaped, is_secret_key};

/// A place in a settings file: line and column, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The way from the top of the file to a setting: `consumer_routes.orders.topic[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<Segment>);

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub start: Position,
    pub end: Position,
}

/// The lines of a file, with secrets blotted out, and where each key stands.
#[derive(Clone, Default)]
pub(super) struct SourceMap {
    lines: Vec<String>,
    places: BTreeMap<KeyPath, Span>,
}

// === impl Position ===

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

// === impl KeyPath ===

impl KeyPath {
    /// The top of the file.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// `consumer_routes.NAME`.
    #[must_use]
    pub fn route(name: &str) -> Self {
        Self::root().key("consumer_routes").key(name)
    }

    /// This path and a key below it.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        self.with(Segment::Key(name.to_owned()))
    }

    /// This path and an item of its list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// The steps, from the top.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The last key of the path, if it ends with one.
    pub(super) fn last_key(&self) -> Option<&str> {
        match self.0.last() {
            Some(Segment::Key(name)) => Some(name),
            _ => None,
        }
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The path with what follows `librdkafka` as one key (it may have been taken apart at every dot).
    fn property_joined(&self) -> Option<Self> {
        let at = self
            .0
            .iter()
            .position(|segment| *segment == Segment::Key("librdkafka".to_owned()))?;
        let (head, tail) = self.0.split_at(at + 1);
        let names: Vec<&str> = tail
            .iter()
            .filter_map(|segment| match segment {
                Segment::Key(name) => Some(name.as_str()),
                Segment::Index(_) => None,
            })
            .collect();
        if names.len() < 2 {
            return None;
        }
        let mut segments = head.to_vec();
        segments.push(Segment::Key(names.join(".")));
        Some(Self(segments))
    }

    /// Where the same setting may stand instead: a route's key in `defaults`, a key of the cluster in `client`.
    fn elsewhere(&self) -> Option<Self> {
        let (head, rest): (&str, _) = match self.0.as_slice() {
            [Segment::Key(first), Segment::Key(_), rest @ ..]
                if first == "consumer_routes" && !rest.is_empty() =>
            {
                ("defaults", rest)
            }
            [Segment::Key(_), ..] => ("client", self.0.as_slice()),
            _ => return None,
        };
        let mut segments = vec![Segment::Key(head.to_owned())];
        segments.extend_from_slice(rest);
        Some(Self(segments))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(name) => {
                    let dot = if at == 0 { "" } else { "." };
                    write!(f, "{dot}{}", escaped(name))?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

// === impl Span ===

impl Span {
    /// The place at `line` and `column` alone.
    pub(super) fn at(line: usize, column: usize) -> Self {
        let start = Position { line, column };
        Self {
            start,
            end: Position {
                line,
                column: column + 1,
            },
        }
    }
}

// === impl SourceMap ===

/// Not the lines: settings that are printed need no second copy of their file.
impl fmt::Debug for SourceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.lines.len())
    }
}

impl SourceMap {
    /// Takes the text apart into lines. A line ends as in YAML: with LF, CR LF or CR.
    pub(super) fn new(text: &str) -> Self {
        let unified = text.replace("\r\n", "\n").replace('\r', "\n");
        Self {
            lines: unified.split('\n').map(str::to_owned).collect(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn record(&mut self, path: KeyPath, span: Span) {
        self.places.entry(path).or_insert(span);
    }

    pub(super) fn line(&self, line: usize) -> Option<&str> {
        self.lines.get(line.checked_sub(1)?).map(String::as_str)
    }

    /// Where `path` itself stands.
    pub(super) fn exact(&self, path: &KeyPath) -> Option<Span> {
        let joined = || path.property_joined().and_then(|joined| self.places.get(&joined));
        self.places.get(path).or_else(joined).copied()
    }

    /// Where the same setting stands instead.
    pub(super) fn find_elsewhere(&self, path: &KeyPath) -> Option<Span> {
        path.elsewhere().and_then(|other| self.exact(&other))
    }

    /// Where `path` stands, else where the same setting stands instead, else its nearest ancestor.
    pub(super) fn find(&self, path: &KeyPath) -> Option<Span> {
        if let Some(span) = self.exact(path).or_else(|| self.find_elsewhere(path)) {
            return Some(span);
        }
        let mut ancestor = path.parent();
        while let Some(path) = ancestor {
            if let Some(span) = self.places.get(&path) {
                return Some(*span);
            }
            ancestor = path.parent();
        }
        None
    }

    /// Blots out a secret: its characters become `*`, so that columns stay true.
    pub(super) fn blot(&mut self, span: Span) {
        for number in span.start.line..=span.end.line {
            let Some(line) = number.checked_sub(1).and_then(|at| self.lines.get_mut(at)) else {
                continue;
            };
            let from = if number == span.start.line {
                span.start.column - 1
            } else {
                0
            };
            let to = if number == span.end.line {
                span.end.column.saturating_sub(1)
            } else {
                usize::MAX
            };
            *line = line
                .chars()
                .enumerate()
                .map(|(at, c)| {
                    if at >= from && at < to && !c.is_whitespace() {
                        '*'
                    } else {
                        c
                    }
                })
                .collect();
        }
    }

    /// Blots out by the look of the text, for a file whose values have no known place (it does not parse).
    pub(super) fn blot_by_looks(&mut self) {
        for line in &mut self.lines {
            let secret = line
                .match_indices(':')
                .find(|(at, _)| is_secret_key(last_word(&line[..*at])))
                .map(|(at, _)| at + 1);
            if let Some(at) = secret {
                let tail: String = line[at..]
                    .chars()
                    .map(|c| if c.is_whitespace() { c } else { '*' })
                    .collect();
                line.replace_range(at.., &tail);
            }
        }
    }
}

/// The key that ends `text`, without quotes.
fn last_word(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    text.rsplit(|c: char| c.is_whitespace() || matches!(c, '{' | ',' | '"' | '\''))
        .next()
        .unwrap_or(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map() -> SourceMap {
        let mut map = SourceMap::new("a\r\nb\rc\n");
        map.record(KeyPath::route("orders"), Span::at(5, 1));
        map.record(
            KeyPath::route("orders").key("librdkafka").key("client.id"),
            Span::at(7, 1),
        );
        map.record(KeyPath::root().key("defaults").key("topic"), Span::at(2, 3));
        map.record(KeyPath::root().key("client").key("hosts"), Span::at(1, 9));
        map
    }

    #[test]
    fn a_path_reads_as_people_write_it() {
        let path = KeyPath::route("orders").key("topic").index(1);
        assert_eq!(path.to_string(), "consumer_routes.orders.topic[1]");
    }

    #[test]
    fn a_key_that_is_not_in_the_file_is_looked_for_where_it_may_come_from() {
        let map = map();
        let line = |path: &KeyPath| map.find(path).map(|span| span.start.line);
        assert_eq!(line(&KeyPath::route("orders").key("topic")), Some(2));
        assert_eq!(line(&KeyPath::route("orders").key("symbol")), Some(5));
        assert_eq!(line(&KeyPath::root().key("hosts")), Some(1));
        assert_eq!(line(&KeyPath::root().key("log")), None);
        let dotted = KeyPath::route("orders").key("librdkafka").key("client").key("id");
        assert_eq!(line(&dotted), Some(7));
    }

    #[test]
    fn lines_end_as_in_yaml() {
        let map = map();
        assert_eq!(
            (map.line(1), map.line(2), map.line(3)),
            (Some("a"), Some("b"), Some("c"))
        );
        assert_eq!((map.line(0), map.line(9)), (None, None));
    }

    #[test]
    fn secrets_are_blotted_by_place_and_by_looks() {
        let mut map = SourceMap::new("password: héllo x\nssl: {password: a, \"sasl.password\" : b}");
        map.blot(Span {
            start: Position { line: 1, column: 11 },
            end: Position { line: 1, column: 16 },
        });
        assert_eq!(map.line(1), Some("password: ***** x"));
        map.blot_by_looks();
        assert_eq!(map.line(2), Some("ssl: {password: ** *************** * **"));
    }
}
