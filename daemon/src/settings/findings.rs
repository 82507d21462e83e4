//! What is wrong with a settings file, all of it at once: each finding with file, line and column, drawn under its
//! line, or as data for `--json`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet, renderer::DecorStyle};
use serde::ser::SerializeStruct;

use super::positions::{KeyPath, Position, SourceMap, Span};
use super::sources::{Source, Sources};
use super::text::escaped;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The settings cannot be used.
    Error,
    /// The settings can be used; the reader should know.
    Warning,
}

/// One thing to say about a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The settings file, or a file of its `routes_dir`.
    pub file: PathBuf,
    /// Where in it, if it can be said.
    pub position: Option<Position>,
    /// The setting; the root for the file as a whole.
    pub key: KeyPath,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do, such as the nearest valid name.
    pub help: Option<String>,
    span: Option<Span>,
}

/// Everything there is to say about a settings file and those of its `routes_dir`, in the order of their lines.
#[derive(Clone)]
pub struct Findings {
    sources: Sources,
    list: Vec<Finding>,
    seen: BTreeSet<(PathBuf, Severity, Option<Position>, String)>,
}

/// Drawing stops here; the rest is counted. (A file of 1 MiB can hold 100,000 unknown keys.)
const DRAWN: usize = 200;

/// A line longer than this is named but not drawn.
const LINE: usize = 400;

// === impl Finding ===

impl Finding {
    pub(super) fn new(
        severity: Severity,
        key: &KeyPath,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            file: PathBuf::new(),
            position: span.map(|span| span.start),
            key: key.clone(),
            message: message.into(),
            help: None,
            span,
        }
    }

    /// The finding with a word on what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `consumer_routes.orders.topic: expected ...`, or the message alone for the whole file.
    #[must_use]
    pub fn title(&self) -> String {
        let key = self.key.to_string();
        if key.is_empty() {
            self.message.clone()
        } else {
            format!("{key}: {}", self.message)
        }
    }

    fn draw(&self, renderer: &Renderer, source: &SourceMap) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let file = escaped(&self.file.to_string_lossy());
        let title = level.primary_title(self.title());
        let help = self
            .help
            .as_deref()
            .map(|help| Level::HELP.message(help.to_owned()));
        let line = self
            .span
            .and_then(|span| Some((span, source.line(span.start.line)?)));
        let group = match line {
            Some((span, line)) if line.len() <= LINE => {
                let snippet = Snippet::source(line)
                    .line_start(span.start.line)
                    .path(file)
                    .fold(false)
                    .annotation(AnnotationKind::Primary.span(bytes(line, span)));
                match help {
                    Some(help) => title.element(snippet).element(help),
                    None => title.element(snippet),
                }
            }
            _ => {
                let mut origin = Origin::path(file);
                if let Some(position) = self.position {
                    origin = origin.line(position.line).char_column(position.column);
                }
                match help {
                    Some(help) => title.element(origin).element(help),
                    None => title.element(origin),
                }
            }
        };
        renderer.render(&[group])
    }
}

/// One line: `FILE:LINE:COLUMN: error: KEY: MESSAGE (HELP)`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escaped(&self.file.to_string_lossy()))?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {}", self.title())?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// `{"severity","file","line","column","key","message","help"}`; what is not known is null.
impl serde::Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = self.key.to_string();
        let mut out = serializer.serialize_struct("Finding", 7)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("file", &self.file.to_string_lossy())?;
        out.serialize_field("line", &self.position.map(|position| position.line))?;
        out.serialize_field("column", &self.position.map(|position| position.column))?;
        out.serialize_field("key", &(!key.is_empty()).then_some(key))?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("help", &self.help)?;
        out.end()
    }
}

/// The bytes of `line` that `span` covers, at least one character where there is one.
fn bytes(line: &str, span: Span) -> std::ops::Range<usize> {
    let offset = |column: usize| {
        line.char_indices()
            .nth(column.saturating_sub(1))
            .map_or(line.len(), |(at, _)| at)
    };
    let start = offset(span.start.column);
    let end = if span.end.line == span.start.line {
        offset(span.end.column)
    } else {
        line.trim_end().len()
    };
    let next = line[start..]
        .chars()
        .next()
        .map_or(start, |c| start + c.len_utf8());
    start..end.max(next)
}

// === impl Findings ===

impl Findings {
    pub(super) fn new(file: &Path, source: Arc<SourceMap>) -> Self {
        Self::of(Sources::new(file, source))
    }

    pub(super) fn of(sources: Sources) -> Self {
        Self {
            sources,
            list: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Findings about a file of which nothing could be read.
    pub(super) fn unread(file: &Path, message: impl Into<String>) -> Self {
        let mut findings = Self::new(file, Arc::default());
        findings.add(Finding::new(Severity::Error, &KeyPath::root(), None, message));
        findings
    }

    /// Adds a finding, at its place or where its key stands; one that was said before of the same place is passed
    /// over.
    pub fn add(&mut self, mut finding: Finding) {
        let is_placed = finding.span.is_some();
        if finding.file.as_os_str().is_empty() {
            let (file, span) = self.sources.find(&finding.key);
            if is_placed {
                finding.file = self.sources.file().to_owned();
            } else {
                finding.file = file.to_owned();
                finding.span = span;
            }
        } else if !is_placed {
            finding.span = self.sources.find_in(&finding.file, &finding.key);
        }
        finding.position = finding.span.map(|span| span.start);
        let said = (
            finding.file.clone(),
            finding.severity,
            finding.position,
            finding.message.clone(),
        );
        if self.seen.insert(said) {
            self.list.push(finding);
        }
    }

    /// The same, which may also be about these files.
    pub(super) fn with_fragments(mut self, fragments: impl IntoIterator<Item = Source>) -> Self {
        self.sources = self.sources.with_fragments(fragments);
        self
    }

    /// Adds what another part (`plugin/`, `kafka/`) found about the setting at `key`, at the place where that setting,
    /// or what comes nearest to it, stands in the file.
    pub fn add_at(&mut self, severity: Severity, key: &KeyPath, message: impl Into<String>) {
        self.add(Finding::new(severity, key, None, message));
    }

    /// Whether any of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them in the order of the file.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Finding> {
        let mut sorted: Vec<&Finding> = self.list.iter().collect();
        sorted.sort_by_key(|finding| (self.sources.rank(&finding.file), finding.position));
        sorted
    }

    /// All of them in the order of the file, by value.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Finding> {
        let sources = &self.sources;
        self.list
            .sort_by_key(|finding| (sources.rank(&finding.file), finding.position));
        self.list
    }

    /// Draws every finding under its line, without colour.
    #[must_use]
    pub fn render(&self) -> String {
        self.draw(&Renderer::plain())
    }

    /// Draws every finding under its line, with colour for a terminal.
    #[must_use]
    pub fn render_coloured(&self) -> String {
        self.draw(&Renderer::styled())
    }

    fn draw(&self, renderer: &Renderer) -> String {
        let renderer = renderer.clone().decor_style(DecorStyle::Ascii);
        let sorted = self.sorted();
        let mut drawn: Vec<String> = sorted
            .iter()
            .take(DRAWN)
            .map(|finding| finding.draw(&renderer, self.sources.map(&finding.file)))
            .collect();
        if sorted.len() > DRAWN {
            drawn.push(format!("... and {} more", sorted.len() - DRAWN));
        }
        drawn.join("\n\n")
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl fmt::Debug for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.sorted().iter().map(|finding| finding.to_string()))
            .finish()
    }
}

impl std::error::Error for Findings {}

/// An array of findings in the order of the file.
impl serde::Serialize for Findings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.sorted())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let mut source = SourceMap::new("hosts: a:1\nhöst: \tb\n");
        source.record(KeyPath::root().key("hosts"), Span::at(1, 8));
        let mut findings = Findings::new(Path::new("settings.yaml"), Arc::new(source));
        let span = Span {
            start: Position { line: 2, column: 1 },
            end: Position { line: 2, column: 5 },
        };
        let unknown = Finding::new(
            Severity::Error,
            &KeyPath::root(),
            Some(span),
            "unknown key `höst`",
        );
        findings.add(unknown.clone().help("did you mean `hosts`?"));
        findings.add(unknown);
        findings.add_at(Severity::Warning, &KeyPath::root().key("hosts"), "no port");
        findings
    }

    #[test]
    fn findings_are_drawn_under_their_line_in_order_and_once() {
        let drawn = findings().render();
        let expected = "\
warning: hosts: no port
 --> settings.yaml:1:8
  |
1 | hosts: a:1
  |        ^

error: unknown key `höst`
 --> settings.yaml:2:1
  |
2 | höst:     b
  | ^^^^
  |
  = help: did you mean `hosts`?";
        assert_eq!(drawn, expected);
        assert!(findings().render_coloured().contains("\u{1b}["));
    }

    #[test]
    fn findings_are_data_too() {
        let json = serde_json::to_value(findings()).unwrap();
        assert_eq!(
            json[0],
            serde_json::json!({"severity": "warning", "file": "settings.yaml", "line": 1, "column": 8,
                "key": "hosts", "message": "no port", "help": null})
        );
        let line = findings().sorted()[1].to_string();
        assert_eq!(
            line,
            "settings.yaml:2:1: error: unknown key `höst` (did you mean `hosts`?)"
        );
    }

    #[test]
    fn a_place_beyond_the_file_is_named_and_not_drawn() {
        let mut findings = findings();
        findings.add(Finding::new(
            Severity::Error,
            &KeyPath::root(),
            Some(Span::at(99, 7)),
            "ends too soon",
        ));
        findings.add(Finding::new(
            Severity::Error,
            &KeyPath::root(),
            Some(Span::at(3, 1)),
            "ends here",
        ));
        assert!(findings.render().contains("settings.yaml:99:7"));
    }
}
