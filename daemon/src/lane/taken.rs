//! A message that was taken beyond its call: its bytes stay where they are until it is completed, from any thread.

use std::{ops::Range, sync::Arc};

use devour_abi::{Failure, HeaderView, MessageId, MessageView, OwnedCompletion};

use super::{
    CallNumber, Record,
    calls::of_record,
    layout::{self, Headers},
    views,
};
use crate::os::SharedView;

/// Hears how messages end that were taken. Called from any thread.
pub(super) trait Sink: Send + Sync + 'static {
    /// It is digested.
    fn completed(&self, call: CallNumber, index: u32);
    /// It failed.
    fn failed(&self, call: CallNumber, index: u32, failure: Failure);
}

/// Where a taken message lies.
pub(super) enum Lies {
    /// In shared memory.
    Memory(Arc<SharedView>, Range<usize>),
    /// In a copy of its own.
    Copy(Arc<[Record]>, usize),
}

/// The host's side of an owned message.
pub(super) struct Taken<S: Sink> {
    pub lies: Lies,
    pub topic: Arc<str>,
    pub partition: i32,
    pub reads_headers: bool,
    pub call: CallNumber,
    pub index: u32,
    pub sink: Arc<S>,
}

// === impl Taken ===

impl<S: Sink> Taken<S> {
    fn fields(&self) -> layout::Fields<'_> {
        match &self.lies {
            Lies::Memory(memory, range) => {
                let read = memory.get(range.clone()).and_then(layout::read);
                read.map(|(fields, _)| fields).unwrap_or_default()
            }
            Lies::Copy(records, index) => records.get(*index).map(of_record).unwrap_or_default(),
        }
    }
}

impl<S: Sink> OwnedCompletion for Taken<S> {
    fn view(&self) -> MessageView<'_> {
        views::view(&self.fields(), &self.topic, self.partition)
    }

    fn headers(&self) -> Vec<HeaderView<'_>> {
        if !self.reads_headers {
            return Vec::new();
        }
        match &self.lies {
            Lies::Memory(..) => Headers::of(self.fields().headers)
                .map(|(name, value)| views::header(name, value))
                .collect(),
            Lies::Copy(records, index) => {
                let headers = records.get(*index).map_or(&[][..], |record| &record.headers);
                headers
                    .iter()
                    .map(|(name, value)| views::header(name, value.as_deref()))
                    .collect()
            }
        }
    }

    fn id(&self) -> MessageId {
        MessageId {
            call: self.call,
            index: self.index,
        }
    }

    fn complete(self, outcome: Option<Failure>) {
        match outcome {
            None => self.sink.completed(self.call, self.index),
            Some(failure) => self.sink.failed(self.call, self.index, failure),
        }
    }
}
