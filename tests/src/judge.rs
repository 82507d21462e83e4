//! The judge: what was produced against what the ledger says was digested.
//!
//! - **lost**: produced and never digested.
//! - **duplicated**: digested more than once. A failed attempt is no digest; a digest whose process died before the
//!   host heard of it is one.
//! - **out of order**: digested for the *first* time after a higher offset of its partition was. A replay after a
//!   crash is thus duplicated, but not out of order.
//! - **went back**: a *single* process digested an offset after a higher one of the same partition. After a crash the
//!   replay is another process's, so this is zero unless a process was handed messages again.
//!   (Both count within a key where [`Expected::in_order_of`] says so.)
//! - **foreign**: digested, but never produced, or with another number than was produced at that offset.
//!
//! Digests are ordered by the moment they were written down, over all processes.

mod expected;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use expected::{Expected, Order};

use expected::Produced;

use crate::ledger::{Lines, Record};

/// A partition of a topic.
pub type Partition = (String, i32);

/// A message's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A message that was digested more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Which one.
    pub place: Place,
    /// Its digests, in order.
    pub digests: Vec<Record>,
}

/// Messages that one process digested though they had been digested before: `from..=to` without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The process that digested them again.
    pub pid: u32,
    /// First offset.
    pub from: i64,
    /// Last offset.
    pub to: i64,
}

/// What the judge says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages produced.
    pub expected: u64,
    /// Of these, digested at least once.
    pub digested: u64,
    /// Produced and never digested.
    pub lost: Vec<Place>,
    /// Digested more than once.
    pub duplicated: Vec<Duplicate>,
    /// First digested after a higher offset of the partition.
    pub out_of_order: Vec<Place>,
    /// Digested by a process that had digested a higher offset of the partition.
    pub went_back: Vec<Place>,
    /// Digested and not produced so.
    pub foreign: Vec<Record>,
    /// The duplicates as ranges.
    pub replays: Vec<Replay>,
    /// Processes (or instances) that died on order.
    pub deaths: u64,
    /// Lines that a death tore.
    pub torn: usize,
    /// The same counts per partition.
    pub partitions: BTreeMap<Partition, Counts>,
}

/// One partition's counts; see [`Verdict`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages produced.
    pub expected: u64,
    /// Of these, digested at least once.
    pub digested: u64,
    /// Never digested.
    pub lost: u64,
    /// Digested more than once.
    pub duplicated: u64,
    /// First digested after a higher one.
    pub out_of_order: u64,
}

/// A promise was broken; the text is the whole verdict with the first culprits.
#[derive(Debug, thiserror::Error)]
#[error("{promise}, but:\n{verdict}")]
pub struct Broken {
    promise: String,
    verdict: String,
}

/// Judges `lines` by what was produced.
pub fn judge(expected: &Expected, lines: &Lines) -> Verdict {
    let mut verdict = Verdict {
        torn: lines.torn,
        ..Verdict::default()
    };
    verdict.deaths = lines
        .records
        .iter()
        .filter(|record| record.outcome.is_death())
        .count() as u64;

    let mut digests: BTreeMap<Partition, Vec<&Record>> = BTreeMap::new();
    for record in lines.records.iter().filter(|record| record.outcome.is_digested()) {
        if expected.knows(record) {
            digests
                .entry((record.topic.clone(), record.partition))
                .or_default()
                .push(record);
        } else {
            verdict.foreign.push(record.clone());
        }
    }
    for (partition, messages) in &expected.partitions {
        let mut digests = digests.remove(partition).unwrap_or_default();
        // Stable: lines of one moment stay in the order of the file.
        digests.sort_by_key(|record| record.at);
        verdict.judge_partition(partition, messages, expected.order, &digests);
    }
    verdict
}

// === impl Verdict ===

impl Verdict {
    /// Everything digested, once, in order, and nothing else.
    pub fn once_in_order(&self) -> Result<(), Broken> {
        self.holds("every message is digested once", self.duplicated.is_empty())?;
        self.in_order()
    }

    /// Everything digested, in order, and nothing that was not produced; some maybe twice.
    pub fn in_order(&self) -> Result<(), Broken> {
        self.nothing_lost()?;
        let order = self.out_of_order.is_empty() && self.went_back.is_empty();
        self.holds("messages are digested in their order", order)
    }

    /// Everything digested, and nothing that was not produced.
    pub fn nothing_lost(&self) -> Result<(), Broken> {
        self.holds(
            "nothing is lost",
            self.lost.is_empty() && self.digested == self.expected,
        )?;
        self.holds("only what was produced is digested", self.foreign.is_empty())
    }

    /// Every duplicate is one that `allowed` lets pass; `promise` says which those are.
    pub fn twice_only(&self, promise: &str, allowed: impl Fn(&Duplicate) -> bool) -> Result<(), Broken> {
        let culprits: Vec<_> = self
            .duplicated
            .iter()
            .filter(|one| !allowed(one))
            .cloned()
            .collect();
        if culprits.is_empty() {
            return Ok(());
        }
        let text = format!(
            "{self}\n  not allowed: {}: {}",
            culprits.len(),
            first(&culprits, |one| one.to_string())
        );
        Err(Broken {
            promise: format!("twice only {promise}"),
            verdict: text,
        })
    }

    /// Twice only what was not yet committed when `committed` (per partition the next offset) was read, which must
    /// have been after the crash and before the restart.
    pub fn twice_only_uncommitted(&self, committed: &BTreeMap<i32, i64>) -> Result<(), Broken> {
        self.twice_only("what was not yet committed", |one| {
            committed
                .get(&one.place.partition)
                .is_none_or(|&next| one.place.offset >= next)
        })
    }

    /// Twice only what was in hand at a death: the digest before the last one ended its process.
    pub fn twice_only_in_hand(&self) -> Result<(), Broken> {
        self.twice_only("what was in hand at a death", |one| {
            one.digests
                .iter()
                .rev()
                .skip(1)
                .all(|record| record.outcome.is_death())
        })
    }

    fn holds(&self, promise: &str, holds: bool) -> Result<(), Broken> {
        if holds {
            return Ok(());
        }
        Err(Broken {
            promise: promise.to_owned(),
            verdict: self.to_string(),
        })
    }

    fn judge_partition(
        &mut self,
        partition: &Partition,
        messages: &BTreeMap<i64, Produced>,
        order: Order,
        digests: &[&Record],
    ) {
        let mut by_offset: BTreeMap<i64, Vec<Record>> = BTreeMap::new();
        // By what keeps its order, over all processes and in each.
        let mut highest: BTreeMap<Option<&[u8]>, i64> = BTreeMap::new();
        let mut highest_of: BTreeMap<(u32, Option<&[u8]>), i64> = BTreeMap::new();
        let mut counts = Counts {
            expected: messages.len() as u64,
            ..Counts::default()
        };
        for record in digests {
            let of_offset = by_offset.entry(record.offset).or_default();
            let place = || Place::in_partition(partition, record.offset);
            if !of_offset.is_empty() {
                self.note_replay(record);
            }
            if let Some(line) = messages.get(&record.offset).and_then(|one| order.line_of(one)) {
                let highest = highest.entry(line).or_insert(i64::MIN);
                if of_offset.is_empty() && record.offset < *highest {
                    self.out_of_order.push(place());
                    counts.out_of_order += 1;
                }
                *highest = record.offset.max(*highest);
                let own = highest_of.entry((record.pid, line)).or_insert(i64::MIN);
                if record.offset < *own {
                    self.went_back.push(place());
                }
                *own = record.offset.max(*own);
            }
            of_offset.push((*record).clone());
        }
        let seen: BTreeSet<i64> = by_offset.keys().copied().collect();
        let lost = messages.keys().filter(|offset| !seen.contains(offset));
        let before = self.lost.len();
        self.lost
            .extend(lost.map(|&offset| Place::in_partition(partition, offset)));
        counts.lost = (self.lost.len() - before) as u64;
        counts.digested = seen.len() as u64;
        for (offset, digests) in by_offset.into_iter().filter(|(_, digests)| digests.len() > 1) {
            self.duplicated.push(Duplicate {
                place: Place::in_partition(partition, offset),
                digests,
            });
            counts.duplicated += 1;
        }
        self.expected += counts.expected;
        self.digested += counts.digested;
        self.partitions.insert(partition.clone(), counts);
    }

    fn note_replay(&mut self, record: &Record) {
        let goes_on = |last: &&mut Replay| {
            last.topic == record.topic
                && last.partition == record.partition
                && last.pid == record.pid
                && record.offset == last.to + 1
        };
        match self.replays.last_mut().filter(goes_on) {
            Some(last) => last.to = record.offset,
            None => self.replays.push(Replay {
                topic: record.topic.clone(),
                partition: record.partition,
                pid: record.pid,
                from: record.offset,
                to: record.offset,
            }),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            digested,
            deaths,
            torn,
            ..
        } = self;
        writeln!(
            f,
            "  expected {expected}, digested {digested}, deaths {deaths}, torn lines {torn}"
        )?;
        let places = |places: &[Place]| format!("{}: {}", places.len(), first(places, Place::to_string));
        writeln!(f, "  lost {}", places(&self.lost))?;
        let duplicates = first(&self.duplicated, Duplicate::to_string);
        writeln!(f, "  duplicated {}: {duplicates}", self.duplicated.len())?;
        writeln!(
            f,
            "  replays {}: {}",
            self.replays.len(),
            first(&self.replays, Replay::to_string)
        )?;
        writeln!(f, "  out of order {}", places(&self.out_of_order))?;
        writeln!(f, "  went back {}", places(&self.went_back))?;
        write!(
            f,
            "  foreign {}: {}",
            self.foreign.len(),
            first(&self.foreign, Record::to_string)
        )
    }
}

/// The first few, in words.
fn first<T>(all: &[T], text: impl Fn(&T) -> String) -> String {
    const FEW: usize = 5;
    let shown: Vec<_> = all.iter().take(FEW).map(text).collect();
    let more = if all.len() > FEW { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

// === impl Place, Duplicate, Replay ===

impl Place {
    fn in_partition((topic, partition): &Partition, offset: i64) -> Self {
        Self {
            topic: topic.clone(),
            partition: *partition,
            offset,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by: Vec<_> = self
            .digests
            .iter()
            .map(|one| format!("{} {:?}", one.pid, one.outcome))
            .collect();
        write!(f, "{} by {}", self.place, by.join(" then "))
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}@{}..={} by {}",
            self.topic, self.partition, self.from, self.to, self.pid
        )
    }
}

#[cfg(test)]
mod tests;
