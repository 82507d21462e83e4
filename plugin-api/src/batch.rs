//! A batch as a consumer sees it that digests many messages at once.

use std::cell::RefCell;

use crate::DigestError;

/// The messages of one call, decoded, all in hand until `digest_batch` returns. What was not said to have
/// [failed](Batch::fail) is then digested; an error that `digest_batch` returns is one of every message.
///
/// Messages that come after a failed one of their partition are handed in again, after it: order is kept.
#[derive(Debug)]
pub struct Batch<M> {
    entries: Vec<BatchEntry<M>>,
    failures: RefCell<Vec<(usize, DigestError)>>,
}

/// One message of a batch.
#[derive(Debug)]
pub struct BatchEntry<M> {
    /// Its place, to say that it failed.
    pub place: Place,
    /// Its offset in its partition.
    pub offset: i64,
    /// The message.
    pub message: M,
}

/// The place of a message in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(usize);

impl<M> Batch<M> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            failures: RefCell::new(Vec::new()),
        }
    }

    pub(crate) fn push(&mut self, offset: i64, message: M) {
        let place = Place(self.entries.len());
        self.entries.push(BatchEntry {
            place,
            offset,
            message,
        });
    }

    /// The failures by place; of several at one place the first counts.
    pub(crate) fn into_failures(self) -> Vec<(usize, DigestError)> {
        let mut failures = self.failures.into_inner();
        failures.sort_by_key(|(place, _)| *place);
        failures.dedup_by_key(|(place, _)| *place);
        failures
    }

    /// How many messages the batch has left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the messages were all drained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The messages, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, BatchEntry<M>> {
        self.entries.iter()
    }

    /// Moves the messages out, in order.
    pub fn drain(&mut self) -> std::vec::IntoIter<BatchEntry<M>> {
        std::mem::take(&mut self.entries).into_iter()
    }

    /// Says that one message failed.
    pub fn fail(&self, place: Place, error: impl Into<DigestError>) {
        self.failures.borrow_mut().push((place.0, error.into()));
    }
}

impl<'b, M> IntoIterator for &'b Batch<M> {
    type Item = &'b BatchEntry<M>;
    type IntoIter = std::slice::Iter<'b, BatchEntry<M>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
