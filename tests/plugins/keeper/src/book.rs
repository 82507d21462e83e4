//! How far each partition is written: what a [`Keeper`](crate::Keeper) reads from its own file before it begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use devour_test_ledger::record::Record;

/// The offsets that are written, by topic and partition. They begin at 0 and have no gaps in the topic.
#[derive(Debug, Default)]
pub struct Book {
    written: BTreeMap<(String, i32), BTreeSet<i64>>,
}

// === impl Book ===

impl Book {
    /// Reads `file`; one that is not there is empty. A line that a death tore is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(file: &Path) -> io::Result<Self> {
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut book = Self::default();
        let lines = bytes.split(|&byte| byte == b'\n');
        for record in lines.filter_map(|line| Record::parse(std::str::from_utf8(line).ok()?)) {
            book.written
                .entry((record.topic, record.partition))
                .or_default()
                .insert(record.offset);
        }
        Ok(book)
    }

    /// The lowest offset that is not written.
    pub fn next(&self, topic: &str, partition: i32) -> i64 {
        let Some(written) = self.written.get(&(topic.to_owned(), partition)) else {
            return 0;
        };
        (0..)
            .zip(written)
            .find(|(at, offset)| at != *offset)
            .map_or(written.len() as i64, |(at, _)| at)
    }

    /// True if this offset is written.
    pub fn holds(&self, topic: &str, partition: i32, offset: i64) -> bool {
        self.written
            .get(&(topic.to_owned(), partition))
            .is_some_and(|written| written.contains(&offset))
    }
}
