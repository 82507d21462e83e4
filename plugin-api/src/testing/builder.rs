//! How a consumer under test is set up.

use std::{
    collections::{BTreeSet, HashMap},
    marker::PhantomData,
    sync::Arc,
};

use devour_abi::{CallCell, ConstructRequest, CutNumber, DumpMode};
use serde_json::Value;

use super::{TestError, Tester, hand::Hand, host::TestHost};
use crate::plugin::Exported;

/// How a [`Tester`] is set up.
pub struct TesterBuilder<C> {
    pub(super) request: ConstructRequest,
    pub(super) hold_on_reject: bool,
    pub(super) consumer: PhantomData<fn() -> C>,
}

// === impl TesterBuilder ===

impl<C: Exported> TesterBuilder<C> {
    /// The plugin's settings of the route.
    #[must_use]
    pub fn settings(mut self, settings: Value) -> Self {
        self.request.settings = settings;
        self
    }

    /// Which of several digests.
    #[must_use]
    pub fn digest_name(mut self, name: impl Into<String>) -> Self {
        self.request.digest_name = Some(name.into());
        self
    }

    /// The dump mode that the route sets.
    #[must_use]
    pub fn dump(mut self, dump: DumpMode) -> Self {
        self.request.dump = Some(dump);
        self
    }

    /// Tombstones are rejects, as with the route's `tombstones: reject`.
    #[must_use]
    pub fn reject_tombstones(mut self) -> Self {
        self.request.reject_tombstones = true;
        self
    }

    /// A reject holds its partition, as with the route's `then: stop`.
    #[must_use]
    pub fn stop_on_reject(mut self) -> Self {
        self.hold_on_reject = true;
        self
    }

    /// Which lane of how many the instance is.
    #[must_use]
    pub fn lane(mut self, lane: u32, of: u32) -> Self {
        self.request.lane = lane;
        self.request.lanes = of;
        self
    }

    /// Makes the consumer.
    ///
    /// # Errors
    /// What the constructor says, or why it was not called.
    pub fn build(self) -> Result<Tester<C>, TestError> {
        let host = Arc::new(TestHost::new(&self.request.settings));
        let descriptor = Tester::<C>::descriptor(self.request.settings.clone())?;
        let mut tester = Tester {
            instance: None,
            host,
            request: self.request,
            hand: if descriptor.asynchronous {
                Hand::Flight
            } else if descriptor.buffering {
                Hand::Buffer
            } else {
                Hand::Call
            },
            cell: CallCell::new(),
            cut: CutNumber::new(),
            calls: 0,
            hold_on_reject: self.hold_on_reject,
            tags: HashMap::new(),
            next_offsets: HashMap::new(),
            parked: Vec::new(),
            held: BTreeSet::new(),
            buffered: Vec::new(),
            in_flight: BTreeSet::new(),
            waiting: Vec::new(),
            consumer: PhantomData,
        };
        tester.restart()?;
        Ok(tester)
    }
}
