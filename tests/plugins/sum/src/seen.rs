//! What all instances of a process have seen together: lanes are measured as one.

use std::{io, path::Path};

use crate::moment::{self, Measured, Meter};

/// Messages, and bytes of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub messages: u64,
    /// Of their values.
    pub bytes: u64,
    /// Of their headers' values.
    pub header_bytes: u64,
}

/// Which messages are measured, and what with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    /// Messages before them.
    pub warm_up: u64,
    pub measured: u64,
    pub report: &'a Path,
    /// The parent process counts too.
    pub beside_daemon: bool,
}

/// All that was counted so far. Kept in a static, one for each kind of consumer.
#[derive(Debug)]
pub(crate) struct Seen {
    all: Count,
    /// Bytes of headers before the measured messages.
    header_bytes_before: u64,
    meter: Option<Meter>,
}

// === impl Seen ===

impl Seen {
    pub(crate) const fn new() -> Self {
        Self {
            all: Count {
                messages: 0,
                bytes: 0,
                header_bytes: 0,
            },
            header_bytes_before: 0,
            meter: None,
        }
    }

    /// Counts what was seen since the last time. The measured messages begin with the first count that reaches their
    /// number, and end likewise; then the report is written.
    pub(crate) fn add(&mut self, more: Count, span: Span<'_>) -> io::Result<()> {
        let before = self.all.messages;
        self.all.messages += more.messages;
        self.all.bytes += more.bytes;
        self.all.header_bytes += more.header_bytes;
        let reaches = |number: u64| before < number && self.all.messages >= number;
        if reaches(span.warm_up) || reaches(span.warm_up.saturating_add(span.measured)) {
            self.mark(span)?;
        }
        Ok(())
    }

    #[cold]
    fn mark(&mut self, span: Span<'_>) -> io::Result<()> {
        let daemon = || span.beside_daemon.then(moment::parent);
        let meter = self.meter.get_or_insert_with(|| Meter::new(daemon()));
        match meter.mark(self.all.messages, self.all.bytes)? {
            None => self.header_bytes_before = self.all.header_bytes,
            Some(measured) => Measured {
                header_bytes: self.all.header_bytes - self.header_bytes_before,
                ..measured
            }
            .write(span.report)?,
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_the_two_numbers_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("report");
        let span = Span {
            warm_up: 5,
            measured: 4,
            report: &report,
            beside_daemon: false,
        };
        let mut seen = Seen::new();
        let more = Count {
            messages: 3,
            bytes: 30,
            header_bytes: 6,
        };
        for _ in 0..2 {
            seen.add(more, span).unwrap();
            assert!(!report.exists());
        }
        // It begins at six, the first count that reaches five, and ends at nine.
        seen.add(more, span).unwrap();
        let measured: Measured = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        assert_eq!(
            (measured.messages, measured.bytes, measured.header_bytes),
            (3, 30, 6)
        );
        std::fs::remove_file(&report).unwrap();
        seen.add(more, span).unwrap();
        assert!(!report.exists(), "it is written once");
    }
}
