//! Reads what the sample plugins write down while they digest, and says what is lost, twice or out of order. One line
//! for each digest: `topic partition offset ...`.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

/// What the plugins saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Digests.
    pub digested: u64,
    /// Messages digested at least once.
    pub distinct: u64,
    /// Digests of a message that had been digested before.
    pub duplicated: u64,
    /// First digests of a message after one with a higher offset of its partition.
    pub out_of_order: u64,
}

/// Follows the plugins' files.
pub(super) struct Judge {
    files: Vec<Followed>,
    partitions: HashMap<(String, i32), Seen>,
    verdict: Verdict,
}

struct Followed {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

/// The offsets of one partition.
#[derive(Default)]
struct Seen {
    bits: Vec<u64>,
    highest: Option<u64>,
}

// === impl Verdict ===

impl Verdict {
    /// Messages that were produced and never digested.
    pub(super) fn lost(&self, produced: u64) -> u64 {
        produced.saturating_sub(self.distinct)
    }

    pub(super) fn is_clean(&self, produced: u64) -> bool {
        self.lost(produced) == 0 && self.duplicated == 0 && self.out_of_order == 0
    }
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let follow = |path| Followed {
            path,
            file: None,
            rest: Vec::new(),
        };
        Self {
            files: paths.into_iter().map(follow).collect(),
            partitions: HashMap::new(),
            verdict: Verdict::default(),
        }
    }

    pub(super) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Reads what was written since the last time; how many digests that were.
    pub(super) fn read(&mut self) -> io::Result<u64> {
        let before = self.verdict.digested;
        for index in 0..self.files.len() {
            let mut text = std::mem::take(&mut self.files[index].rest);
            self.files[index].append_to(&mut text)?;
            let end = text
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            self.files[index].rest = text.split_off(end);
            for line in String::from_utf8_lossy(&text).lines() {
                self.note(line)?;
            }
        }
        Ok(self.verdict.digested - before)
    }

    fn note(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split(' ');
        let parsed = (|| {
            Some((
                words.next()?,
                words.next()?.parse().ok()?,
                words.next()?.parse::<u64>().ok()?,
            ))
        })();
        let (topic, partition, offset) =
            parsed.ok_or_else(|| io::Error::other(format!("`{line}` is not `topic partition offset`")))?;
        let seen = self.partitions.entry((topic.to_owned(), partition)).or_default();
        self.verdict.digested += 1;
        if seen.insert(offset) {
            self.verdict.distinct += 1;
            if seen.highest.is_some_and(|highest| offset < highest) {
                self.verdict.out_of_order += 1;
            }
        } else {
            self.verdict.duplicated += 1;
        }
        seen.highest = seen.highest.max(Some(offset));
        Ok(())
    }
}

// === impl Followed ===

impl Followed {
    fn append_to(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                // Not digested yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.file
            .as_mut()
            .map_or(Ok(0), |file| file.read_to_end(text))
            .map(drop)
    }
}

// === impl Seen ===

impl Seen {
    /// Whether it is new.
    fn insert(&mut self, offset: u64) -> bool {
        let (word, bit) = ((offset / 64) as usize, 1_u64 << (offset % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        std::fs::write(&path, text).unwrap();
        let mut judge = Judge::new(vec![path, dir.path().join("absent")]);
        judge.read().unwrap();
        judge.verdict().clone()
    }

    #[test]
    fn what_was_digested_once_in_order_is_clean() {
        let verdict = judge("a 0 0 x\na 1 0 x\na 0 1 x\nb 0 0 x\n");
        assert!(verdict.is_clean(4), "{verdict:?}");
        assert_eq!(verdict.lost(5), 1);
    }

    #[test]
    fn a_repeat_and_a_step_back_are_told_apart() {
        let verdict = judge("a 0 0\na 0 2\na 0 1\na 0 2\n");
        assert_eq!(
            verdict,
            Verdict {
                digested: 4,
                distinct: 3,
                duplicated: 1,
                out_of_order: 1
            }
        );
    }

    #[test]
    fn a_line_that_is_half_written_waits_for_its_end() {
        assert_eq!(judge("a 0 0\na 0 1").digested, 1);
    }
}
