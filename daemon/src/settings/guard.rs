//! Looks at the text before anything builds a tree of it: what cannot be YAML for people is refused here, cheaply and
//! without recursion.

use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::positions::{Position, Span};

/// A settings file is at most this long, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// Mappings and lists stand in one another at most this deep. (serde_yaml itself stops at 128.)
pub(super) const DEEPEST: usize = 64;

/// Where the parts of a document stand: the shape of its tree without its values.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub span: Span,
    pub shape: Rc<Shape>,
    /// How deep it is and how many values it has, aliases followed: a chain of aliases is deep without looking so.
    depth: usize,
    size: usize,
}

#[derive(Debug)]
pub(super) enum Shape {
    Scalar { plain: bool },
    List(Vec<Spot>),
    Map(Vec<(Spot, Spot)>),
}

/// A document has at most this many values, aliases followed.
pub(super) const VALUES: usize = 200_000;

/// What a look at the text found.
pub(super) enum Look {
    /// A document, or nothing at all.
    Document(Option<Spot>),
    /// It is refused, whatever serde_yaml would say.
    Refused { at: Span, message: String },
    /// The span-aware parser does not understand it; serde_yaml may still (and then there are no positions).
    Unclear { at: Span, message: String },
}

/// Bytes as text: UTF-8, perhaps with a byte order mark, without control characters.
///
/// # Errors
/// Where and what is the first thing that is no text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, (Span, String)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        (
            end_of(&good),
            format!("the byte 0x{byte:02x} is no UTF-8 text: is this a settings file?"),
        )
    })?;
    // what YAML calls printable
    let legal = |c: char| {
        !c.is_control() && c != '\u{feff}' && !matches!(c, '\u{fffe}' | '\u{ffff}')
            || matches!(c, '\t' | '\n' | '\r' | '\u{85}')
    };
    match text.char_indices().find(|(_, c)| !legal(*c)) {
        Some((at, c)) => Err((
            end_of(&text[..at]),
            format!(
                "the character U+{:04X} is not allowed in YAML: is this a settings file?",
                c as u32
            ),
        )),
        None => Ok(text),
    }
}

/// Reads the events of the text without building values, and stops at the first thing that is refused.
pub(super) fn look(text: &str) -> Look {
    let mut build = Build::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok((event, span)) => (event, place(&span)),
            Err(error) => {
                let marker = error.marker();
                let at = Span::at(marker.line().max(1), marker.col() + 1);
                // the parser's own limit is 255 flow collections in one another
                if error.info().contains("recursion") || crude_depth(text) > 1_000 {
                    return too_deep(at);
                }
                return Look::Unclear {
                    at,
                    message: error.info().to_owned(),
                };
            }
        };
        if let Err((at, message)) = build.take(event, span) {
            return Look::Refused { at, message };
        }
        if build.open.len() > DEEPEST {
            return too_deep(span);
        }
    }
    Look::Document(build.root)
}

fn too_deep(at: Span) -> Look {
    Look::Refused {
        at,
        message: format!("mappings and lists stand in one another more than {DEEPEST} deep"),
    }
}

/// The position after `text`.
fn end_of(text: &str) -> Span {
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = unified.matches('\n').count() + 1;
    let column = unified.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Span::at(line, column)
}

fn place(span: &saphyr_parser::Span) -> Span {
    let position = |marker: &saphyr_parser::Marker| Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    };
    Span {
        start: position(&span.start),
        end: position(&span.end),
    }
}

/// How deep the text may nest, judged by brackets and dashes alone: too high for brackets in quotes, never too low
/// by much. Only for a text that the span-aware parser gave up on, because serde_yaml's time is quadratic in it.
fn crude_depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let dashes = |line: &str| line.matches("- ").count() + line.matches("? ").count();
    text.lines().map(dashes).max().unwrap_or(0).max(deepest)
}

/// Builds the tree of spots from events, with a stack of its own.
#[derive(Default)]
struct Build {
    root: Option<Spot>,
    documents: usize,
    open: Vec<Open>,
    anchors: std::collections::HashMap<usize, Spot>,
}

struct Open {
    anchor: usize,
    start: Span,
    children: Vec<Spot>,
    is_map: bool,
}

// === impl Build ===

impl Build {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), (Span, String)> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err((
                        span,
                        "a second document begins here; a settings file is one document".into(),
                    ));
                }
            }
            Event::Scalar(_, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                self.close(
                    anchor,
                    Spot {
                        span,
                        shape: Rc::new(Shape::Scalar { plain }),
                        depth: 0,
                        size: 1,
                    },
                )?;
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(spot) => {
                    let spot = Spot { span, ..spot.clone() };
                    self.close(0, spot)?;
                }
                None => return Err((span, "this alias stands inside what it refers to".into())),
            },
            Event::SequenceStart(anchor, _) => self.open.push(Open {
                anchor,
                start: span,
                children: Vec::new(),
                is_map: false,
            }),
            Event::MappingStart(anchor, _) => self.open.push(Open {
                anchor,
                start: span,
                children: Vec::new(),
                is_map: true,
            }),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let span = Span {
                        start: open.start.start,
                        end: span.end,
                    };
                    let depth = 1 + open.children.iter().map(|child| child.depth).max().unwrap_or(0);
                    let size = open
                        .children
                        .iter()
                        .fold(1, |sum: usize, child| sum.saturating_add(child.size));
                    self.close(
                        open.anchor,
                        Spot {
                            span,
                            depth,
                            size,
                            shape: Rc::new(open.shape()),
                        },
                    )?;
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn close(&mut self, anchor: usize, spot: Spot) -> Result<(), (Span, String)> {
        if spot.depth > DEEPEST {
            return Err((
                spot.span,
                format!("aliases stand in one another more than {DEEPEST} deep"),
            ));
        }
        if spot.size > VALUES {
            return Err((
                spot.span,
                format!("with its aliases followed it has more than {VALUES} values"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, spot.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(spot),
            None => self.root = Some(spot),
        }
        Ok(())
    }
}

impl Open {
    fn shape(self) -> Shape {
        if !self.is_map {
            return Shape::List(self.children);
        }
        let mut children = self.children.into_iter();
        let mut entries = Vec::new();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            entries.push((key, value));
        }
        Shape::Map(entries)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_refused_before_anything_recurses() {
        for text in [
            "[".repeat(100_000),
            "{a: ".repeat(100_000),
            "- ".repeat(100_000),
            "? ".repeat(100_000),
            format!("\"\\q\"{}", "[".repeat(100_000)),
        ] {
            let started = std::time::Instant::now();
            assert!(matches!(look(&text), Look::Refused { .. }), "{}", &text[..8]);
            assert!(started.elapsed().as_secs() < 2);
        }
    }

    #[test]
    fn what_is_no_text_is_placed() {
        let (at, message) = text(b"ab\nc\xff").unwrap_err();
        assert_eq!((at.start.line, at.start.column), (2, 2));
        assert!(message.contains("0xff"), "{message}");
        let (at, message) = text(b"\xef\xbb\xbfab\r\nc\x07").unwrap_err();
        assert_eq!((at.start.line, at.start.column), (2, 2));
        assert!(message.contains("U+0007"), "{message}");
        assert_eq!(text(b"\xef\xbb\xbfa\tb").unwrap(), "a\tb");
    }

    #[test]
    fn a_second_document_and_an_alias_to_itself_are_refused() {
        assert!(matches!(look("a: 1\n---\nb: 2\n"), Look::Refused { at, .. } if at.start.line == 2));
        assert!(matches!(look("a: &x [*x]\n"), Look::Refused { .. }));
        let chain: String = (1..50_000).map(|n| format!("- &a{n} [*a{}]\n", n - 1)).collect();
        assert!(matches!(
            look(&format!("- &a0 [x]\n{chain}")),
            Look::Refused { .. }
        ));
        let laughs: String = (1..30)
            .map(|n| format!("l{n}: &l{n} [*l{0}, *l{0}, *l{0}]\n", n - 1))
            .collect();
        assert!(matches!(
            look(&format!("l0: &l0 [ha]\n{laughs}")),
            Look::Refused { .. }
        ));
        assert!(matches!(look("a: [1\n"), Look::Unclear { .. }));
        assert!(matches!(look("# nothing\n"), Look::Document(None)));
    }
}
