//! The host's side of a call that a test makes.

use std::{cell::RefCell, sync::Arc};

use devour_abi::{Failure, HeaderView, HostedCall, MessageView, OwnedCompletion, OwnedMessage};

use super::{Outcome, TestMessage, host::TestHost};

/// One call: what is said about its messages, as it is said.
pub(super) struct TestCall<'c> {
    messages: &'c [TestMessage],
    headers: Vec<Vec<HeaderView<'c>>>,
    outcomes: RefCell<Vec<Option<Outcome>>>,
    host: Arc<TestHost>,
}

/// A message beyond its call.
struct Taken {
    message: TestMessage,
    host: Arc<TestHost>,
}

thread_local! {
    /// Which messages of the present test's call were passed over; the daemon needs only their number.
    static PASSED: RefCell<Option<Vec<u32>>> = const { RefCell::new(None) };
}

/// Tells a test, if one is running on this thread, that a tombstone was passed over.
pub(crate) fn note_passed(index: u32) {
    PASSED.with_borrow_mut(|passed| {
        if let Some(passed) = passed {
            passed.push(index);
        }
    });
}

// === impl TestCall ===

impl<'c> TestCall<'c> {
    pub(super) fn new(messages: &'c [TestMessage], host: Arc<TestHost>) -> Self {
        PASSED.set(Some(Vec::new()));
        Self {
            messages,
            headers: messages.iter().map(TestMessage::header_views).collect(),
            outcomes: RefCell::new(vec![None; messages.len()]),
            host,
        }
    }

    /// What became of each message, given how far the call came and what broke it.
    pub(super) fn into_outcomes(self, finished: usize, broken: Option<Failure>) -> Vec<Outcome> {
        let passed = PASSED.take().unwrap_or_default();
        let mut broken = broken;
        let outcomes = self.outcomes.into_inner().into_iter().enumerate();
        outcomes
            .map(|(index, said)| match said {
                Some(said) => said,
                None if index < finished && passed.contains(&(index as u32)) => Outcome::Passed,
                None if index < finished => Outcome::Done,
                None => broken.take().map_or(Outcome::NotReached, Outcome::of),
            })
            .collect()
    }

    fn say(&self, index: u32, outcome: Outcome) {
        let mut outcomes = self.outcomes.borrow_mut();
        let said = outcomes[index as usize].replace(outcome);
        assert!(
            matches!(said, None | Some(Outcome::Taken)),
            "message {index} has two outcomes"
        );
    }
}

impl HostedCall for TestCall<'_> {
    fn failed(&self, index: u32, failure: Failure) {
        self.say(index, Outcome::of(failure));
    }

    fn not_begun(&self, first: u32, count: u32) {
        for index in first..first + count {
            self.say(index, Outcome::NotBegun);
        }
    }

    fn headers(&self, index: u32) -> &[HeaderView<'_>] {
        &self.headers[index as usize]
    }

    fn take(&self, index: u32) -> Result<OwnedMessage, String> {
        self.say(index, Outcome::Taken);
        self.host.take();
        let message = self.messages[index as usize].clone();
        Ok(OwnedMessage::new(Taken {
            message,
            host: Arc::clone(&self.host),
        }))
    }
}

// === impl Taken ===

impl OwnedCompletion for Taken {
    fn view(&self) -> MessageView<'_> {
        self.message.view(0)
    }

    fn headers(&self) -> Vec<HeaderView<'_>> {
        self.message.header_views()
    }

    fn complete(self, outcome: Option<Failure>) {
        let outcome = outcome.map_or(Outcome::Done, Outcome::of);
        self.host.complete(self.message, outcome);
    }
}
