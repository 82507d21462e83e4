//! What a daemon said: one JSON object a line on standard error, and whatever it prints.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::wait::TimedOut;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// As it was printed.
    pub raw: String,
    /// Its fields, if it is a line of the log.
    pub fields: Value,
}

/// A daemon's output, which goes on while it runs. Clones share it, also beyond the daemon's end.
#[derive(Clone, Debug, Default)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    readers: usize,
}

// === impl Line ===

impl Line {
    fn new(raw: String) -> Self {
        // A plugin in a thread prints to the same descriptor, also pieces of lines: the log's may begin behind one.
        let begin = raw.find("{\"timestamp\":").unwrap_or(0);
        let fields = serde_json::from_str(&raw[begin..]).unwrap_or(Value::Null);
        Self { raw, fields }
    }

    /// True if its message begins so.
    pub fn says(&self, message: &str) -> bool {
        self.text("message").is_some_and(|text| text.starts_with(message))
    }

    /// A field's text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// A field's number.
    pub fn number(&self, field: &str) -> Option<i64> {
        self.fields.get(field)?.as_i64()
    }

    /// `ERROR`, `WARN`, `INFO`, ...; empty for a line that is not the log's.
    pub fn level(&self) -> &str {
        self.text("level").unwrap_or_default()
    }
}

// === impl Log ===

impl Log {
    pub(super) fn of(
        stdout: Option<impl Read + Send + 'static>,
        stderr: Option<impl Read + Send + 'static>,
    ) -> Self {
        let log = Self::default();
        log.read(stdout);
        log.read(stderr);
        log
    }

    /// How many lines there are: where a later wait may begin.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// True if nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// Every line so far that `wanted` wants.
    pub fn all(&self, mut wanted: impl FnMut(&Line) -> bool) -> Vec<Line> {
        self.lock()
            .lines
            .iter()
            .filter(|line| wanted(line))
            .cloned()
            .collect()
    }

    /// The first line from number `from` on that `wanted` wants, now or within a time. Gives up early when the output
    /// has ended.
    pub fn wait_for(
        &self,
        from: usize,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&Line) -> bool,
    ) -> Result<Line, TimedOut> {
        let begin = Instant::now();
        let mut next = from;
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.iter().skip(next).find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            next = next.max(state.lines.len());
            let left = within.saturating_sub(begin.elapsed());
            if left.is_zero() || state.readers == 0 {
                let last = if left.is_zero() {
                    ""
                } else {
                    "the end of its output"
                };
                return Err(TimedOut {
                    what: what.to_owned(),
                    waited: begin.elapsed(),
                    last: last.to_owned(),
                });
            }
            state = self
                .shared
                .more
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The last lines, for an error.
    pub fn tail(&self) -> String {
        const LINES: usize = 40;
        let state = self.lock();
        let from = state.lines.len().saturating_sub(LINES);
        state.lines[from..]
            .iter()
            .map(|line| line.raw.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn read(&self, from: Option<impl Read + Send + 'static>) {
        let Some(from) = from else { return };
        self.lock().readers += 1;
        let log = self.clone();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut bytes = Vec::new();
            while from.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                let line = Line::new(String::from_utf8_lossy(&bytes).trim_end().to_owned());
                bytes.clear();
                log.lock().lines.push(line);
                log.shared.more.notify_all();
            }
            log.lock().readers -= 1;
            log.shared.more.notify_all();
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
