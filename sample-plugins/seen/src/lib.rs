//! What a sample plugin saw, one line per digested message in a file, so that a judge can say what was lost, seen twice
//! or out of order.
//!
//! A line is `topic partition offset number`, or `-` where a message has no number. It is written before its digest
//! returns, with one `write` to a file opened for appending: a plugin that dies loses none, and several processes may
//! share the file.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

/// A ledger to append to.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    line: String,
}

/// The first run of digits in a message's bytes, for messages that hold a number in some form.
///
/// ```
/// assert_eq!(devour_seen::number_in(br#"{"id": 17, "variables": [4, 6]}"#), Some(17));
/// assert_eq!(devour_seen::number_in(b"no number"), None);
/// ```
#[must_use]
pub fn number_in(bytes: &[u8]) -> Option<u64> {
    let begin = bytes.iter().position(u8::is_ascii_digit)?;
    let digits = bytes[begin..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.into_iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

// === impl Ledger ===

impl Ledger {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it cannot be opened; the text names it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| {
                io::Error::new(error.kind(), format!("the ledger {}: {error}", path.display()))
            })?;
        Ok(Self {
            file,
            line: String::new(),
        })
    }

    /// Writes one message down.
    ///
    /// # Errors
    /// If the file cannot be written: then the message must count as not digested.
    pub fn saw(&mut self, topic: &str, partition: i32, offset: i64, number: Option<u64>) -> io::Result<()> {
        self.line.clear();
        let written = match number {
            Some(number) => writeln!(self.line, "{topic} {partition} {offset} {number}"),
            None => writeln!(self.line, "{topic} {partition} {offset} -"),
        };
        written.map_err(io::Error::other)?;
        self.file.write_all(self.line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_line_is_in_the_file_as_soon_as_it_was_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let (mut one, mut other) = (Ledger::open(&path).unwrap(), Ledger::open(&path).unwrap());
        one.saw("math", 0, 0, Some(5)).unwrap();
        other.saw("echo", 1, 7, None).unwrap();
        one.saw("math", 0, 1, Some(6)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "math 0 0 5\necho 1 7 -\nmath 0 1 6\n"
        );
    }

    #[test]
    fn a_ledger_that_cannot_be_opened_is_named() {
        let error = Ledger::open(Path::new("/no/such/ledger")).unwrap_err();
        assert!(
            error.to_string().starts_with("the ledger /no/such/ledger: "),
            "{error}"
        );
    }

    #[test]
    fn a_number_too_large_is_none() {
        assert_eq!(number_in(b"99999999999999999999"), None);
        assert_eq!(number_in(b"x=0042;7"), Some(42));
    }
}
