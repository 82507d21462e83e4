//! A message that was taken beyond its call: its bytes stay where they are until it is completed, from any thread.

use std::{ops::Range, sync::Arc};

use devour_abi::{Failure, HeaderView, MessageView, OwnedCompletion};

use super::{
    CallNumber,
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

/// The host's side of an owned message.
pub(super) struct Taken<S: Sink> {
    pub memory: Arc<SharedView>,
    /// Where its record lies.
    pub range: Range<usize>,
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
        let bytes = self.memory.get(self.range.clone());
        let read = bytes.and_then(layout::read);
        read.map(|(fields, _)| fields).unwrap_or_default()
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
        Headers::of(self.fields().headers)
            .map(|(name, value)| views::header(name, value))
            .collect()
    }

    fn complete(self, outcome: Option<Failure>) {
        match outcome {
            None => self.sink.completed(self.call, self.index),
            Some(failure) => self.sink.failed(self.call, self.index, failure),
        }
    }
}
