//! Whether partitions move. What librdkafka passed over without giving us a message (control records, aborted
//! transactions, compaction) moves the position; a partition that stands still though it has messages is stalled, and
//! its reading begins anew. The decisions are pure: time comes as an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Ended, Event, Remedy, RouteStats, engine::Engine};
use crate::{
    kafka::{Consumer, PartitionStatistics, Start, StartOffset, TopicPartition},
    lane::Slot,
};

/// What is known of all partitions' progress, from one report of librdkafka to the next.
pub(super) struct Progress {
    /// None: nothing is ever called stalled.
    stall_timeout: Option<Duration>,
    watched: HashMap<Slot, Watched>,
    /// librdkafka's queue was found empty since the last report.
    drained: bool,
}

/// A partition as it stands when a report came.
#[derive(Clone, Copy, Debug)]
struct Standing<'a> {
    position: Option<i64>,
    frontier: Option<i64>,
    /// Nothing of it is in hand and nothing waits.
    at_rest: bool,
    paused: bool,
    /// See [`crate::kafka::Statistics`].
    changes: u64,
    drained: bool,
    report: &'a PartitionStatistics,
}

/// What was seen of one partition.
struct Watched {
    position: Option<i64>,
    frontier: Option<i64>,
    next_offset: Option<i64>,
    /// It has not reached the end of what may be read.
    behind: bool,
    last_progress: Instant,
    passed: Option<Passed>,
    standstill: Option<Standstill>,
}

/// The fetch position of a report, which is beyond ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passed {
    to: i64,
    from: Option<i64>,
    changes: u64,
    broker: i32,
    fetches: u64,
}

/// It has messages and none comes.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    since: Instant,
    /// Since when nothing was tried and nothing moved.
    waited_from: Instant,
    sought: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// Nothing below this offset is left to be read.
    Passed(i64),
    /// It has stood still for so long.
    Stalled(Remedy, Duration),
}

/// A seek waits for librdkafka's own thread, which answers at once unless it is the one that stands still.
const SEEK_TIMEOUT: Duration = Duration::from_secs(2);

// === impl Progress ===

impl Progress {
    pub(super) fn new(stall_timeout: Option<Duration>) -> Self {
        Self {
            stall_timeout,
            watched: HashMap::new(),
            drained: false,
        }
    }

    /// Messages were read; `drained` says that none is left in librdkafka's queue.
    pub(super) fn read(&mut self, drained: bool) {
        self.drained |= drained;
    }

    /// When the partition last moved, as far as reports show; none before the first one.
    pub(super) fn last_progress(&self, slot: Slot) -> Option<Instant> {
        self.watched.get(&slot).map(|watched| watched.last_progress)
    }

    /// The partitions that have messages to read.
    fn behind(&self) -> impl Iterator<Item = Slot> + '_ {
        let behind = self.watched.iter().filter(|(_, watched)| watched.behind);
        behind.map(|(slot, _)| *slot)
    }

    fn look(&mut self, slot: Slot, standing: Standing<'_>, now: Instant) -> Option<Finding> {
        let drained = self.drained;
        let watched = self
            .watched
            .entry(slot)
            .or_insert_with(|| Watched::new(standing, now));
        let passed = watched.passed(standing);
        let stalled = watched.standstill(standing, drained, self.stall_timeout, now);
        passed.map(Finding::Passed).or(stalled)
    }
}

// === impl Watched ===

impl Watched {
    fn new(standing: Standing<'_>, now: Instant) -> Self {
        Self {
            position: standing.position,
            frontier: standing.frontier,
            next_offset: None,
            behind: false,
            last_progress: now,
            passed: None,
            standstill: None,
        }
    }

    /// How far the position may be moved without a message: to the fetch position, if two reports in a row show it
    /// beyond ours, all that was fetched has been given to us, and still nothing moved.
    ///
    /// Why no fetched message is passed (librdkafka 2.12.1): a broker's thread appends what a fetch brought to the
    /// client's queue before it moves the partition's fetch position (`rd_kafka_msgset_reader_run`), and a report shows
    /// that position as it was at the thread's last turn (`rktp_offsets_fin`). So when a report shows `next_offset`,
    /// every message below it was in the queue, and when the queue was found empty after that, each had been given to us
    /// and had moved our position. That leaves messages that librdkafka dropped from the queue. It drops them at a change
    /// of what is fetched, then goes back to what we had got; but until the broker's thread takes its next turn, reports
    /// still show the old fetch position. Therefore both reports are from after the last change, and two more fetch
    /// requests were sent to the broker between them: the thread makes one at a time, and visits all its partitions
    /// before it does, which sets those that are active back (`rd_kafka_toppar_fetch_decide`). The second of the two was
    /// made wholly after the first report, so the second report shows where fetching is now.
    fn passed(&mut self, standing: Standing<'_>) -> Option<i64> {
        let report = standing.report;
        let beyond = report
            .next_offset
            .filter(|next| standing.position.is_none_or(|position| *next > position));
        let settled = standing.at_rest && !standing.paused && report.active && report.broker >= 0;
        let now = beyond.filter(|_| settled).map(|to| Passed {
            to,
            from: standing.position,
            changes: standing.changes,
            broker: report.broker,
            fetches: report.fetches,
        });
        match (self.passed, now) {
            (Some(first), Some(now))
                if first
                    == (Passed {
                        fetches: first.fetches,
                        ..now
                    }) =>
            {
                let certain = standing.drained && now.fetches >= first.fetches + 2;
                self.passed.take_if(|_| certain).map(|first| first.to)
            }
            _ => {
                self.passed = now;
                None
            }
        }
    }

    /// Whether it stands still, and what is next against that.
    fn standstill(
        &mut self,
        standing: Standing<'_>,
        drained: bool,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Option<Finding> {
        let report = standing.report;
        let ours = (standing.position, standing.frontier) != (self.position, self.frontier);
        // Long stretches of aborted messages bring nothing and are progress all the same.
        let fetched = report.next_offset > self.next_offset;
        (self.position, self.frontier, self.next_offset) =
            (standing.position, standing.frontier, report.next_offset);
        if ours || fetched {
            self.last_progress = now;
        }
        let there_are = standing.position < report.ls_offset && standing.position.is_some();
        // At the end there is nothing left to fetch: what is missing up to it is no message.
        let at_end = report.active && report.next_offset >= report.ls_offset;
        // Without its broker it cannot move, and a new client could not either; the broker is named elsewhere.
        let may_move = standing.at_rest && !standing.paused && report.reachable;
        self.behind = there_are;
        if ours || !there_are || at_end || !may_move {
            self.standstill = None;
        }
        let timeout = timeout.filter(|_| !ours && there_are && !at_end && may_move)?;
        let standstill = self.standstill.get_or_insert(Standstill {
            since: now,
            waited_from: now,
            sought: false,
        });
        // Behind a queue that was never empty its messages may only wait for their turn.
        if fetched || !drained {
            standstill.waited_from = now;
        }
        if now.saturating_duration_since(standstill.waited_from) < timeout {
            return None;
        }
        let remedy = if std::mem::replace(&mut standstill.sought, true) {
            Remedy::NewClient
        } else {
            Remedy::Seek
        };
        standstill.waited_from = now;
        Some(Finding::Stalled(
            remedy,
            now.saturating_duration_since(standstill.since),
        ))
    }
}

// === impl Engine ===

impl Engine {
    /// Takes librdkafka's report, if there is one, and does what it asks for.
    pub(super) fn mind_progress(&mut self, client: &Consumer, now: Instant) -> Result<(), Ended> {
        let Some(statistics) = client.take_statistics() else {
            return Ok(());
        };
        let mut stalled = Vec::new();
        for report in &statistics.partitions {
            let at = &report.partition;
            let Some(slot) = self.partitions.find(&at.topic, at.partition) else {
                continue;
            };
            let held_back = self.held_back;
            // Its rate lets nothing through now.
            let limited = self.rate.as_ref().is_some_and(|rate| rate.next() > now);
            let partition = self.partitions.get_mut(slot);
            let standing = Standing {
                position: partition.tracker.position(),
                frontier: partition.tracker.frontier(),
                at_rest: partition.in_hand == 0 && partition.tracker.unfinished() == 0,
                paused: partition.paused || held_back || limited,
                changes: statistics.changes,
                drained: statistics.drained,
                report,
            };
            match self.progress.look(slot, standing, now) {
                Some(Finding::Passed(to)) => partition.tracker.advance_to(to),
                Some(Finding::Stalled(remedy, waited)) => stalled.push((slot, remedy, waited)),
                None => {}
            }
        }
        self.progress.drained = false;
        let partitions = &self.partitions;
        self.progress
            .watched
            .retain(|slot, _| partitions.get(*slot).assigned);
        for (slot, remedy, waited) in stalled {
            self.begin_anew(client, slot, remedy, waited)?;
        }
        Ok(())
    }

    /// The partitions that have messages to read and when they moved last, for the log: the first twenty.
    pub(super) fn describe_progress(&self, now: Instant) -> String {
        let mut behind: Vec<Slot> = self.progress.behind().collect();
        behind.sort_unstable();
        let describe = |slot: Slot| {
            let moved = self.progress.last_progress(slot)?;
            let ago = now.saturating_duration_since(moved).as_secs();
            let partition = self.partitions.get(slot);
            Some(format!("{} moved {ago} s ago", partition.name()))
        };
        let lines: Vec<String> = behind.into_iter().filter_map(describe).take(20).collect();
        lines.join(", ")
    }

    fn begin_anew(
        &mut self,
        client: &Consumer,
        slot: Slot,
        remedy: Remedy,
        waited: Duration,
    ) -> Result<(), Ended> {
        let partition = self.partitions.get(slot);
        let Some(offset) = partition.tracker.frontier() else {
            return Ok(());
        };
        let at = TopicPartition::new(std::sync::Arc::clone(&partition.topic), partition.number);
        self.tell(Event::Stalled {
            topic: at.topic.to_string(),
            partition: at.partition,
            offset,
            waited,
            remedy,
        });
        match remedy {
            Remedy::Seek => {
                RouteStats::add(&self.stats.stall_seeks, 1);
                let start = Start {
                    partition: at,
                    offset: StartOffset::At(offset),
                    leader_epoch: None,
                };
                if let Err(error) = client.seek(&[start], SEEK_TIMEOUT) {
                    tracing::warn!(route = %self.config.route, %error, offset, "cannot seek in a stalled partition");
                }
                Ok(())
            }
            Remedy::NewClient => {
                RouteStats::add(&self.stats.stall_restarts, 1);
                Err(Ended::ClientFailed(format!(
                    "stalled: {}/{} has messages at offset {offset} and brought none for {} s, also after a seek",
                    at.topic,
                    at.partition,
                    waited.as_secs()
                )))
            }
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
