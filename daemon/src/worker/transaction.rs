//! `delivery: exactly_once`: what is read, produced and given up in a while is committed in one Kafka transaction, or not
//! at all.
//!
//! A transaction is a barrier. It begins with the first message that is read, takes a bounded number of them, and ends
//! when every lane and task has given back what it had, and the brokers have all that was produced: then the offsets, which
//! are the frontiers alone, go into it and it is committed. Nothing is handed out meanwhile. Where a digest fails, the plugin
//! dies with something in hand, or partitions are taken away, it is doomed: it is aborted once nobody holds anything of it,
//! and its messages are read again. What is known of those that failed is kept in [`notes`] until they are committed.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

mod failures;
mod hooks;
mod link;
mod notes;

use link::Phase;
pub(super) use link::{Link, TransactionalOutlet};
use notes::{GivenUp, Notes, SKIPPED};

use super::retry::backoff;
use crate::{
    kafka::{ClientProperties, TransactionalProducer},
    lane::Slot,
    settings::{Backoff, RouteName},
};

/// What the transactions of a route are made of.
#[derive(Clone, PartialEq, Eq)]
pub struct TransactionConfig {
    /// Properties of the producer, with its `transactional.id`.
    pub properties: ClientProperties,
    /// The brokers abort what is open for longer.
    pub timeout: Duration,
}

/// The transactions of a route, one after the other.
pub(super) struct Transaction {
    config: TransactionConfig,
    route: RouteName,
    /// Shared with what sends records.
    pub(super) link: Rc<Link>,
    /// Messages that were read in this one.
    read: usize,
    /// Messages that an earlier one had left.
    left: usize,
    /// How many may be read.
    most: usize,
    /// Brokers have refused a record of it, and with it all that stood in one batch.
    refused: bool,
    /// The calls that are in hand were cut.
    is_cut: bool,
    /// It ends as soon as it can.
    ends: bool,
    /// The next one begins, or the producer is made, no sooner.
    resume_at: Instant,
    /// A new producer is to be made once nothing of this one is in hand.
    renew: bool,
    /// Nobody knows whether the last commit counts: the group does.
    unsure: bool,
    /// Producers in a row that did not come to a transaction.
    failures: u32,
    /// Where the partitions stand if the commit on its way counts.
    sent: Vec<(Slot, i64)>,
    /// The same of a commit whose answer did not come.
    in_doubt: Vec<(Slot, i64)>,
    /// When positions that moved without a message are committed.
    positions_at: Instant,
    notes: Notes,
}

/// A transaction ends at this age, if there is more to do.
const LONG: Duration = Duration::from_millis(250);
/// And at this one, if there is not.
const SHORT: Duration = Duration::from_millis(10);
/// Messages of a first transaction, and of any.
const FIRST: usize = 1000;
const MOST: usize = 1_000_000;
/// Positions that moved without a message are committed so often.
const POSITIONS: Duration = Duration::from_secs(5);
/// Waits between attempts to have a producer.
const AGAIN: Backoff = Backoff {
    initial: Duration::from_millis(200),
    max: Duration::from_secs(10),
};

// === impl Transaction ===

impl Transaction {
    /// None has begun, and there is no producer yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn new(config: TransactionConfig, route: RouteName, now: Instant) -> std::io::Result<Self> {
        Ok(Self {
            config,
            route,
            link: Rc::new(Link::new()?),
            read: 0,
            left: 0,
            most: FIRST,
            refused: false,
            is_cut: false,
            ends: false,
            resume_at: now,
            renew: false,
            unsure: false,
            failures: 0,
            sent: Vec::new(),
            in_doubt: Vec::new(),
            positions_at: now + POSITIONS,
            notes: Notes::default(),
        })
    }

    fn phase(&self) -> Phase {
        self.link.phase()
    }

    /// More may be read.
    fn may_read(&self) -> bool {
        matches!(self.phase(), Phase::Ready | Phase::Open)
    }

    /// Makes the producer and takes its id.
    fn start(&mut self, now: Instant) {
        let made =
            TransactionalProducer::create(&self.config.properties, self.route.clone(), self.link.wake());
        match made {
            Ok(producer) => {
                producer.init();
                self.link.use_producer(producer);
            }
            Err(error) => self.failed(&error, now),
        }
    }

    /// There is no producer: another one is made after a wait.
    fn failed(&mut self, error: &dyn std::fmt::Display, now: Instant) {
        self.link.end_producer();
        self.link.enter(Phase::Starting);
        self.failures = self.failures.saturating_add(1);
        let wait = backoff(&AGAIN, self.failures, 0.5);
        self.resume_at = now + wait;
        let wait_ms = wait.as_millis() as u64;
        if self.failures <= 3 {
            tracing::warn!(route = %self.route, %error, wait_ms, "no transaction can be begun; it is tried again");
        } else {
            tracing::error!(route = %self.route, %error, wait_ms, attempts = self.failures,
                "no transaction can be begun: nothing is digested until one can. The daemon's user needs the rights Describe \
                 and Write on the transactional id");
        }
    }

    fn age(&self, now: Instant) -> Duration {
        self.link
            .begun()
            .map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun))
    }

    /// Half of its time is over: what is not finished is cut.
    fn half(&self) -> Duration {
        self.config.timeout / 2
    }

    /// So much of its time is over that it could not be committed before the brokers abort it.
    fn too_late(&self) -> Duration {
        self.config.timeout / 8 * 7
    }

    /// As large as what a quarter of a second has room for.
    fn adapt(&mut self, took: Duration) {
        if took > 2 * LONG {
            self.most = (self.most / 2).max(1);
        } else if took < LONG / 2 && self.read >= self.most {
            self.most = (self.most * 2).min(MOST);
        }
    }

    /// What was read is read again: the next ones are smaller, so that a message which fails again takes less with it, and
    /// what could not be finished in time can be.
    fn shrink(&mut self) {
        self.most = (self.read / 2).clamp(1, self.most);
    }

    /// Nothing is of it yet.
    fn begin_anew(&mut self) {
        (self.read, self.left, self.is_cut, self.refused) = (0, 0, false, false);
    }

    /// A record of it was refused.
    pub(super) fn is_refused(&mut self) {
        self.refused = true;
    }

    /// A record was refused, and nobody knows whose: brokers refuse whole batches. It is found out with one message at a
    /// time.
    fn is_anybodys(&self) -> bool {
        self.refused && self.read + self.left > 1
    }

    /// Messages that may still be read in it.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.read).max(1)
    }

    /// One is on its way, or there is something to be read again.
    pub(super) fn is_at_work(&self) -> bool {
        self.phase() != Phase::Ready
    }

    /// When something is to be done that nothing wakes for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        /// What became of a step may have been heard where nothing could be done about it.
        const LOOK: Duration = Duration::from_millis(100);
        let begun = self.link.begun();
        match self.phase() {
            Phase::Starting if self.link.has_producer() => Some(Instant::now() + LOOK),
            Phase::Starting | Phase::Waiting => Some(self.resume_at),
            Phase::Ready => Some(self.positions_at),
            Phase::Open => begun.map(|begun| begun + if begun.elapsed() < SHORT { SHORT } else { LONG }),
            Phase::Closing if self.is_cut => begun.map(|begun| begun + self.too_late()),
            Phase::Closing => begun.map(|begun| begun + self.half()),
            Phase::Flushing => begun.map(|begun| begun + self.too_late()),
            Phase::Committing | Phase::Aborting => Some(Instant::now() + LOOK),
            Phase::Doomed => None,
        }
    }

    /// A person wants a message passed by, also where it is read again.
    pub(super) fn skip(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        let note = self.notes.of(topic, partition, offset);
        note.deaths = None;
        note.given_up = Some(GivenUp {
            kind: SKIPPED,
            error: String::new(),
            attempts: note.attempts,
        });
    }

    /// What its failed messages say from now on: another plugin, or a person, wants them tried again.
    pub(super) fn forgive(&mut self) {
        self.notes.forgive();
    }
}
