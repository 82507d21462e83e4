//! Reading what the ledger plugin wrote: all processes of a route append to one file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

pub use devour_test_ledger::record::{Outcome, Record, monotonic_ns};

use crate::wait::{self, TimedOut};

/// A ledger file that is read while plugins append to it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    read: u64,
    partial: Vec<u8>,
    lines: Lines,
}

/// All that stands in ledger files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Whole lines, in the order of the file.
    pub records: Vec<Record>,
    /// Lines that a death tore.
    pub torn: usize,
}

/// A ledger that cannot be read, or did not fill in time.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file could not be read.
    #[error("ledger {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// What was waited for did not come.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

// === impl Ledger ===

impl Ledger {
    /// The ledger at `path`, which the plugin creates with its first line.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read: 0,
            partial: Vec::new(),
            lines: Lines::default(),
        }
    }

    /// What to give the plugin as its setting `file`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything written so far. A last line without its newline counts as torn only in [`Ledger::close`]: its writer
    /// may be about to finish it.
    pub fn lines(&mut self) -> Result<&Lines, LedgerError> {
        self.read_on().map_err(|source| LedgerError::Read {
            path: self.path.clone(),
            source,
        })?;
        Ok(&self.lines)
    }

    /// Everything, once all writers have ended.
    pub fn close(mut self) -> Result<Lines, LedgerError> {
        self.lines()?;
        let rest = std::mem::take(&mut self.partial);
        self.lines.add(&rest);
        Ok(self.lines)
    }

    /// Waits until `enough` says yes to what was written.
    pub fn await_that(
        &mut self,
        what: &str,
        within: Duration,
        mut enough: impl FnMut(&Lines) -> bool,
    ) -> Result<&Lines, LedgerError> {
        let mut failed = None;
        wait::until_told(what, within, || match self.lines() {
            Ok(lines) if enough(lines) => Ok(()),
            Ok(lines) => Err(format!(
                "{} digests, the last: {:?}",
                lines.records.len(),
                lines.records.last()
            )),
            Err(error) => {
                failed = Some(error);
                Ok(())
            }
        })?;
        failed.map_or(Ok(&self.lines), Err)
    }

    /// Waits until `count` messages were digested (each counted once).
    pub fn await_digested(&mut self, count: u64, within: Duration) -> Result<&Lines, LedgerError> {
        let mut seen = std::collections::HashSet::new();
        let mut looked = 0;
        self.await_that(&format!("{count} digested messages"), within, |lines| {
            let new = lines.records[looked..]
                .iter()
                .filter(|record| record.outcome.is_digested());
            seen.extend(new.map(|record| (record.topic.clone(), record.partition, record.offset)));
            looked = lines.records.len();
            seen.len() as u64 >= count
        })
    }

    fn read_on(&mut self) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_end(&mut self.partial)? as u64;
        if let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let whole = std::mem::replace(&mut self.partial, rest);
            self.lines.add(&whole);
        }
        Ok(())
    }
}

// === impl Lines ===

impl Lines {
    /// Reads the bytes of a ledger file.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut lines = Self::default();
        lines.add(bytes);
        lines
    }

    fn add(&mut self, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match std::str::from_utf8(line).ok().and_then(Record::parse) {
                Some(record) => self.records.push(record),
                None => self.torn += 1,
            }
        }
    }

    /// Lines of several files as one.
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |mut all, part| {
            all.records.extend(part.records);
            all.torn += part.torn;
            all
        })
    }
}
