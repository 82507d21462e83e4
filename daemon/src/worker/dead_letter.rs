//! Messages on their way to the dead-letter topic. None is given up: one that cannot be written is tried again after a
//! wait, and the partition (or key) that it holds back waits with it. Pure: the sending is behind [`Post`], and time
//! comes as an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub mod headers;
mod hooks;
mod post;

pub use post::{DeadLetterConfig, KafkaPost, Letters};

use super::retry::backoff;
use crate::{
    kafka::ErrorCode,
    lane::{Record, Slot},
    settings::Backoff,
};

/// Waits between attempts to write a letter.
const POLICY: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(10),
};
/// Time between two lines of the log that say that letters cannot be written.
const QUIET: Duration = Duration::from_secs(60);

/// A message that is given up, and why.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Topic of the message.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// The message.
    pub record: Record,
    /// Attempts made.
    pub attempts: u32,
    /// When the first failed, milliseconds since the epoch.
    pub first_failure_ms: i64,
    /// When the last failed.
    pub last_failure_ms: i64,
    /// The last failure's kind.
    pub kind: &'static str,
    /// Its text.
    pub error: String,
}

/// The number of a letter, in the life of a route's worker.
pub type LetterId = u64;

/// Where letters are written.
pub trait Post {
    /// Hands a letter over without waiting. Its outcome comes by [`Post::outcomes`], unless this is an error.
    ///
    /// # Errors
    /// When it cannot be handed over now.
    fn post(&mut self, id: LetterId, letter: &Letter) -> Result<(), PostError>;
    /// What became of letters that were handed over.
    fn outcomes(&mut self) -> Vec<(LetterId, Result<(), PostError>)>;
}

/// Why a letter was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostError {
    /// What librdkafka or the broker said.
    pub text: String,
    /// As a number, where there is one.
    pub code: Option<ErrorCode>,
}

/// The letters of a route.
pub struct DeadLetters<P> {
    post: P,
    letters: BTreeMap<LetterId, InHand>,
    /// To be handed over now, in this order.
    next: VecDeque<LetterId>,
    /// To be handed over again, by when.
    later: BTreeSet<(Instant, LetterId)>,
    bytes: usize,
    last_id: LetterId,
    /// When it was last said that letters cannot be written.
    told_at: Option<Instant>,
    /// It was said, and not yet that they are written again.
    is_told: bool,
}

struct InHand {
    letter: Letter,
    state: State,
    /// Attempts to write it that failed.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In `next`.
    Next,
    /// Handed over; no outcome yet.
    OnItsWay,
    /// In `later`, with this time.
    Later(Instant),
}

/// What [`DeadLetters::serve`] did.
#[derive(Debug, Default)]
pub struct Served {
    /// Letters that the brokers have acknowledged: their messages are finished.
    pub written: Vec<Written>,
    /// Some could not be written now.
    pub failed: bool,
    /// To be said in the log.
    pub notice: Option<Notice>,
}

/// A letter that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its message's partition.
    pub slot: Slot,
    /// The order tag that it held back.
    pub tag: u64,
    /// Its message's offset.
    pub offset: i64,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A letter cannot be written; said at the first failure, and then once a minute at most.
    Failing {
        /// Topic of its message.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Why.
        error: PostError,
        /// Letters that wait.
        waiting: usize,
    },
    /// Letters that could not be written are written.
    Working,
}

// === impl DeadLetters ===

impl<P: Post> DeadLetters<P> {
    /// None yet.
    pub fn new(post: P) -> Self {
        Self {
            post,
            letters: BTreeMap::new(),
            next: VecDeque::new(),
            later: BTreeSet::new(),
            bytes: 0,
            last_id: 0,
            told_at: None,
            is_told: false,
        }
    }

    /// Takes a letter; [`DeadLetters::serve`] sends it.
    pub fn send(&mut self, letter: Letter) {
        self.last_id += 1;
        self.bytes += letter.record.bytes();
        let in_hand = InHand {
            letter,
            state: State::Next,
            failures: 0,
        };
        self.letters.insert(self.last_id, in_hand);
        self.next.push_back(self.last_id);
    }

    /// Takes the outcomes that came, and hands over what is due.
    pub fn serve(&mut self, now: Instant) -> Served {
        let mut served = Served::default();
        let mut last_error = None;
        for (id, outcome) in self.post.outcomes() {
            // One that was forgotten meanwhile is nobody's any more.
            if self
                .letters
                .get(&id)
                .is_none_or(|in_hand| in_hand.state != State::OnItsWay)
            {
                continue;
            }
            match outcome {
                Ok(()) => served.written.extend(self.remove(id).map(|letter| Written {
                    slot: letter.record.slot,
                    tag: letter.record.tag,
                    offset: letter.record.offset,
                })),
                Err(error) => {
                    self.failed(id, now);
                    last_error = Some((id, error));
                }
            }
        }
        while let Some((_, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            if let Some(in_hand) = self.letters.get_mut(&id) {
                in_hand.state = State::Next;
                self.next.push_back(id);
            }
        }
        while let Some(id) = self.next.pop_front() {
            let Some(in_hand) = self.letters.get_mut(&id) else {
                continue;
            };
            match self.post.post(id, &in_hand.letter) {
                Ok(()) => in_hand.state = State::OnItsWay,
                Err(error) => {
                    self.failed(id, now);
                    last_error = Some((id, error));
                }
            }
        }
        served.failed = last_error.is_some();
        served.notice = self.notice(last_error, !served.written.is_empty(), now);
        served
    }

    /// A letter could not be written: it waits, longer each time.
    fn failed(&mut self, id: LetterId, now: Instant) {
        let Some(in_hand) = self.letters.get_mut(&id) else {
            return;
        };
        in_hand.failures = in_hand.failures.saturating_add(1);
        let at = now + backoff(&POLICY, in_hand.failures, spread(id, in_hand.failures));
        in_hand.state = State::Later(at);
        self.later.insert((at, id));
    }

    fn notice(
        &mut self,
        failed: Option<(LetterId, PostError)>,
        written: bool,
        now: Instant,
    ) -> Option<Notice> {
        if let Some((id, error)) = failed {
            let is_quiet = |told_at| now.saturating_duration_since(told_at) < QUIET;
            if self.told_at.is_some_and(is_quiet) {
                return None;
            }
            (self.told_at, self.is_told) = (Some(now), true);
            let letter = &self.letters.get(&id)?.letter;
            return Some(Notice::Failing {
                topic: Arc::clone(&letter.topic),
                partition: letter.partition,
                offset: letter.record.offset,
                error,
                waiting: self.failing(),
            });
        }
        if self.is_told && self.failing() == 0 {
            self.is_told = false;
            return written.then_some(Notice::Working);
        }
        None
    }

    /// Letters that failed and are not written yet.
    fn failing(&self) -> usize {
        self.letters
            .values()
            .filter(|in_hand| in_hand.failures > 0)
            .count()
    }

    /// When something is due; what is on its way wakes by itself.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.next.is_empty() {
            self.later.first().map(|(at, _)| *at)
        } else {
            Some(now)
        }
    }

    /// The messages of this partition are another's now, or are read again.
    pub fn forget(&mut self, slot: Slot) {
        let ids: Vec<LetterId> = self
            .letters
            .iter()
            .filter(|(_, in_hand)| in_hand.letter.record.slot == slot)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// The letter of this one message is not wanted any more. Whether there was one.
    pub fn forget_one(&mut self, slot: Slot, offset: i64) -> bool {
        let of_message = |(_, in_hand): &(&LetterId, &InHand)| {
            in_hand.letter.record.slot == slot && in_hand.letter.record.offset == offset
        };
        let id = self.letters.iter().find(of_message).map(|(id, _)| *id);
        id.and_then(|id| self.remove(id)).is_some()
    }

    fn remove(&mut self, id: LetterId) -> Option<Letter> {
        let InHand { letter, state, .. } = self.letters.remove(&id)?;
        if let State::Later(at) = state {
            self.later.remove(&(at, id));
        }
        self.bytes -= letter.record.bytes();
        Some(letter)
    }

    /// Whether letters of these partitions have been handed over, or are about to be, for the first time or again: their
    /// outcome is worth waiting for. What waits after a failure is not.
    #[must_use]
    pub fn are_on_their_way(&self, slots: &[Slot]) -> bool {
        self.letters.values().any(|in_hand| {
            !matches!(in_hand.state, State::Later(_)) && slots.contains(&in_hand.letter.record.slot)
        })
    }

    /// Letters that are not written.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.letters.len()
    }

    /// Bytes that they hold, counted against the route's budget.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where they are written.
    pub fn post_mut(&mut self) -> &mut P {
        &mut self.post
    }
}

/// A number between 0 and 1, another one for each letter and try: what failed together does not come back together.
fn spread(id: LetterId, failures: u32) -> f64 {
    let mixed = (id ^ (u64::from(failures) << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

// === impl PostError ===

impl PostError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.code {
            Some(
                ErrorCode::UNKNOWN_TOPIC | ErrorCode::UNKNOWN_TOPIC_OR_PART | ErrorCode::UNKNOWN_PARTITION,
            ) => "create the topic: it does not exist, and these brokers do not create one that is asked for",
            Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED) => {
                "give the daemon's user the right to write it (operation Write on the topic)"
            }
            Some(ErrorCode::MSG_SIZE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE) => {
                "raise its `max.message.bytes`: a dead letter is larger than its message, by its headers"
            }
            Some(ErrorCode::INVALID_TIMESTAMP) => {
                "raise its `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`: a dead letter keeps \
                 its message's timestamp"
            }
            Some(ErrorCode::INVALID_RECORD) => {
                "set its `cleanup.policy` to `delete`: a compacted topic takes no message without a key"
            }
            Some(code) if code.class() == crate::kafka::ErrorClass::GoOn => {
                "it is written when the brokers take it"
            }
            _ => "mend what the brokers name",
        }
    }
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({code})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests;
