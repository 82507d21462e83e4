//! The finished offsets above a partition's frontier, and the text that carries them in the metadata of its commit.
//! Pure.
//!
//! The text is base64 of: three bytes that read `devo` in base64, a version, a checksum, and the lengths of the runs
//! from the frontier on: unfinished, finished, unfinished, ..., finished. Each of the two kinds of length has the code
//! that is shortest for it: a Rice code, which with no low bits is a bitmap, or an exponential Golomb code, which bears
//! a few very long runs among short ones. Content in bytes, of 3,072 that there are:
//!
//! | finished | roaring, run-optimised | bitmap | runs as varints | this |
//! |---|---|---|---|---|
//! | 5,000 of 10,000, at random | 8,208 | 1,250 | 5,024 | 1,260 |
//! | every second of 20,000 | 8,208 | 2,500 | 20,000 | 2,510 |
//! | all of 50,000 but the first | 15 | 6,251 | 4 | 13 |
//! | 99 % of 100,000, at random | 3,909 | 12,500 | 2,227 | 1,124 |
//! | half of 10,000, then all of 50,000 | 8,208 | 7,500 | 4,916 | 1,425 |
//!
//! The checksum covers the frontier: a text that somebody put beside another offset is not believed.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// What Kafka takes beside an offset by default (`offset.metadata.max.bytes`) is 4,096 characters: so many bytes.
pub const ROOM: usize = 3072;
/// Above this size new work on the partition waits: what is in hand may still make the set more ragged.
pub const CROWDED: usize = ROOM / 4 * 3;
/// A set that reaches no further than this above the frontier is never crowded: as a bitmap it is small enough.
pub const NEVER_CROWDED: i64 = ((CROWDED - HEADER) * 8) as i64;

const MARK: [u8; 3] = [0x75, 0xeb, 0xe8];
const VERSION: u8 = 1;
const CHECKSUM: usize = 4;
/// Mark, version, checksum, and the codes of the two kinds of length.
const HEADER: usize = MARK.len() + 1 + CHECKSUM + 2;
/// Low bits that a code can have: more than this many are not worth trying in so little room.
const MAX_LOW_BITS: u32 = 15;

/// Finished offsets, as ranges that ascend and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    runs: Vec<Range<i64>>,
}

/// Why a text beside a commit says nothing about finished offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not ours.
    #[error("it was written by another program")]
    Foreign,
    /// It is ours, of a version that this one does not know.
    #[error("it was written by a newer devourd (format {0})")]
    Version(u8),
    /// It is ours, and it is not what was written.
    #[error("it is damaged, or was written for another offset")]
    Damaged,
}

/// How lengths become bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    kind: Kind,
    low_bits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rice,
    Golomb,
}

/// The lengths of an unfinished run and of the finished one behind it.
type Pair = (u64, u64);

/// The text for `completed` above `frontier`, and whether it says all: where there is no room for all, it says as many
/// of the lowest as fit. Nothing finished is an empty text.
#[must_use]
pub fn encode(frontier: i64, completed: &Completed) -> (String, bool) {
    let mut pairs = completed.pairs(frontier);
    let all = pairs.len();
    let budget = ((ROOM - HEADER) * 8) as u64;
    let mut codes = best_codes(&pairs);
    let (mut fits, mut more) = (0, codes.fitting(&pairs, budget));
    // The codes that suit what fits may let more fit.
    while fits < more && more < all {
        fits = more;
        codes = best_codes(&pairs[..fits]);
        more = codes.fitting(&pairs, budget);
    }
    pairs.truncate(more);
    if pairs.is_empty() {
        return (String::new(), all == 0);
    }
    let mut bits = BitWriter::default();
    for (unfinished, finished) in &pairs {
        codes.unfinished.write(*unfinished, &mut bits);
        codes.finished.write(*finished, &mut bits);
    }
    let mut content = Vec::with_capacity(HEADER + bits.bytes.len());
    content.extend(MARK);
    content.push(VERSION);
    content.extend([0; CHECKSUM]);
    content.extend([codes.unfinished.to_byte(), codes.finished.to_byte()]);
    content.extend(bits.bytes);
    let checksum = checksum(frontier, &content[HEADER - 2..]);
    content[MARK.len() + 1..HEADER - 2].copy_from_slice(&checksum);
    (STANDARD_NO_PAD.encode(content), pairs.len() == all)
}

/// How many of [`ROOM`] the set takes, which may be more than there are.
#[must_use]
pub fn size(frontier: i64, completed: &Completed) -> usize {
    let pairs = completed.pairs(frontier);
    HEADER + best_codes(&pairs).bits(&pairs).div_ceil(8) as usize
}

/// The finished offsets that a text beside the committed offset `frontier` names.
///
/// # Errors
/// When the text is not one that [`encode`] wrote for this frontier.
pub fn decode(frontier: i64, text: &[u8]) -> Result<Completed, Unreadable> {
    if text.is_empty() {
        return Ok(Completed::default());
    }
    if text.len() > ROOM / 3 * 4 || !text.starts_with(STANDARD_NO_PAD.encode(MARK).as_bytes()) {
        return Err(Unreadable::Foreign);
    }
    let content = STANDARD_NO_PAD.decode(text).map_err(|_| Unreadable::Damaged)?;
    match content.get(MARK.len()) {
        Some(&VERSION) if content.len() > HEADER => {}
        Some(&version) if version > VERSION => return Err(Unreadable::Version(version)),
        _ => return Err(Unreadable::Damaged),
    }
    let (head, rest) = content.split_at(HEADER - 2);
    if head[MARK.len() + 1..] != checksum(frontier, rest) {
        return Err(Unreadable::Damaged);
    }
    read_runs(frontier, rest).ok_or(Unreadable::Damaged)
}

fn read_runs(frontier: i64, content: &[u8]) -> Option<Completed> {
    let [unfinished, finished, bits @ ..] = content else {
        return None;
    };
    let (unfinished, finished) = (Code::from_byte(*unfinished)?, Code::from_byte(*finished)?);
    let mut bits = BitReader { bytes: bits, at: 0 };
    let mut completed = Completed::default();
    let mut at = frontier;
    while !bits.is_over() {
        let start = at.checked_add_unsigned(unfinished.read(&mut bits)?)?;
        at = start.checked_add_unsigned(finished.read(&mut bits)?)?;
        completed.push(start..at);
    }
    (!completed.is_empty()).then_some(completed)
}

fn checksum(frontier: i64, content: &[u8]) -> [u8; CHECKSUM] {
    let hash = Sha256::new()
        .chain_update([VERSION])
        .chain_update(frontier.to_be_bytes())
        .chain_update(content)
        .finalize();
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&hash[..CHECKSUM]);
    checksum
}

// === impl Completed ===

impl Completed {
    /// Adds offsets, none of which is below one that is here.
    pub fn push(&mut self, run: Range<i64>) {
        match self.runs.last_mut() {
            _ if run.is_empty() => {}
            Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
            _ => self.runs.push(run),
        }
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn runs(&self) -> &[Range<i64>] {
        &self.runs
    }

    /// How many offsets it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.end.abs_diff(run.start)).sum()
    }

    /// The lengths from `frontier` on, which is unfinished by its name.
    fn pairs(&self, frontier: i64) -> Vec<Pair> {
        let mut at = frontier;
        let above = self.runs.iter().filter_map(|run| {
            let start = run.start.max(frontier.saturating_add(1));
            let pair = (start < run.end).then(|| (start.abs_diff(at), run.end.abs_diff(start)));
            at = run.end.max(at);
            pair
        });
        above.collect()
    }
}

impl FromIterator<Range<i64>> for Completed {
    fn from_iter<I: IntoIterator<Item = Range<i64>>>(runs: I) -> Self {
        let mut completed = Self::default();
        runs.into_iter().for_each(|run| completed.push(run));
        completed
    }
}

// === impl Code ===

/// The codes of the two kinds of length.
struct Codes {
    unfinished: Code,
    finished: Code,
}

impl Codes {
    fn bits_of(&self, (unfinished, finished): &Pair) -> u64 {
        self.unfinished
            .bits(*unfinished)
            .saturating_add(self.finished.bits(*finished))
    }

    fn bits(&self, pairs: &[Pair]) -> u64 {
        pairs
            .iter()
            .fold(0, |sum, pair| sum.saturating_add(self.bits_of(pair)))
    }

    /// How many pairs, from the first, take no more than `budget` bits.
    fn fitting(&self, pairs: &[Pair], budget: u64) -> usize {
        let mut bits = 0_u64;
        let fits = pairs.iter().take_while(|pair| {
            bits = bits.saturating_add(self.bits_of(pair));
            bits <= budget
        });
        fits.count()
    }
}

fn best_codes(pairs: &[Pair]) -> Codes {
    Codes {
        unfinished: Code::best(pairs.iter().map(|(unfinished, _)| *unfinished)),
        finished: Code::best(pairs.iter().map(|(_, finished)| *finished)),
    }
}

impl Code {
    /// The shortest for these lengths.
    fn best(lengths: impl Iterator<Item = u64> + Clone) -> Self {
        let each = (0..=MAX_LOW_BITS)
            .flat_map(|low_bits| [Kind::Rice, Kind::Golomb].map(|kind| Self { kind, low_bits }));
        let mut best = Self {
            kind: Kind::Rice,
            low_bits: 0,
        };
        let mut least = u64::MAX;
        for code in each {
            // Most codes are found to be longer after a few lengths.
            let bits = lengths.clone().try_fold(0_u64, |sum, length| {
                let sum = sum.saturating_add(code.bits(length));
                (sum < least).then_some(sum)
            });
            if let Some(bits) = bits {
                (best, least) = (code, bits);
            }
        }
        best
    }

    fn to_byte(self) -> u8 {
        let kind = match self.kind {
            Kind::Rice => 0,
            Kind::Golomb => 0x80,
        };
        kind | self.low_bits as u8
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let code = Self {
            kind: if byte & 0x80 == 0 {
                Kind::Rice
            } else {
                Kind::Golomb
            },
            low_bits: u32::from(byte & 0x7f),
        };
        (code.low_bits <= MAX_LOW_BITS).then_some(code)
    }

    /// Bits that `length`, which is at least one, takes.
    fn bits(self, length: u64) -> u64 {
        let high = (length - 1) >> self.low_bits;
        let high = match self.kind {
            Kind::Rice => high.saturating_add(1),
            Kind::Golomb => 2 * u64::from((high + 1).ilog2()) + 1,
        };
        high.saturating_add(self.low_bits.into())
    }

    fn write(self, length: u64, out: &mut BitWriter) {
        let high = (length - 1) >> self.low_bits;
        match self.kind {
            Kind::Rice => {
                (0..high).for_each(|_| out.write(0, 1));
                out.write(1, 1);
            }
            Kind::Golomb => {
                let more = (high + 1).ilog2();
                out.write(0, more);
                out.write(high + 1, more + 1);
            }
        }
        out.write(length - 1, self.low_bits);
    }

    fn read(self, bits: &mut BitReader<'_>) -> Option<u64> {
        let zeros = bits.zeros()?;
        let high = match self.kind {
            Kind::Rice => zeros,
            Kind::Golomb if zeros < 63 => ((1 << zeros) | bits.read(zeros as u32)?) - 1,
            Kind::Golomb => return None,
        };
        let low = bits.read(self.low_bits)?;
        let length = high.checked_mul(1 << self.low_bits)?.checked_add(low)?;
        length.checked_add(1)
    }
}

// === bits ===

/// Bits into bytes, the first one highest.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 when it is full, or there is none.
    used: u32,
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitWriter {
    /// The lowest `count` bits of `value`.
    fn write(&mut self, value: u64, count: u32) {
        for bit in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }
}

impl BitReader<'_> {
    fn next(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Zeros up to the next one, which is passed.
    fn zeros(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while !self.next()? {
            zeros += 1;
        }
        Some(zeros)
    }

    fn read(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u64::from(self.next()?);
        }
        Some(value)
    }

    /// Nothing is left but what fills the last byte.
    fn is_over(&self) -> bool {
        let left = self.bytes.len() * 8 - self.at;
        let last = self.bytes.last().copied().unwrap_or(0);
        left == 0 || (left < 8 && last << (8 - left) == 0)
    }
}

#[cfg(test)]
#[path = "completed_tests.rs"]
mod tests;
