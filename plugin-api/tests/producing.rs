//! What a digest produces through its context: handed over, waited for, awaited; and what it means that the host refuses.
#![allow(clippy::unwrap_used)]

use devour::{
    prelude::*,
    testing::{Outcome, TestMessage, Tester},
};

/// Passes on what it reads, and counts where it went.
pub struct Relay {
    context: ConsumerContext,
}

#[consumer(dump_raw)]
impl Relay {
    fn construct(context: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self { context })
    }

    fn digest(&mut self, _offset: i64, value: Raw<'_>) -> Result<(), DigestError> {
        let record = Record::to("relayed")
            .payload(value.0.unwrap_or_default())
            .partition(2);
        let at: Delivered = self.context.produce_sync(&record)?;
        assert_eq!(at.partition, 2);
        self.context.count("offsets", at.offset as u64);
        Ok(())
    }
}

#[test]
fn a_digest_that_waits_for_its_record_is_told_where_it_went() {
    let mut tester = Tester::<Relay>::new().unwrap();
    let report = tester.feed(["a", "b", "c"].map(TestMessage::raw));
    assert_eq!(report.outcomes, [Outcome::Done, Outcome::Done, Outcome::Done]);
    assert_eq!(tester.counter("offsets"), 3, "0, 1 and 2");
    let produced: Vec<_> = tester
        .produced()
        .into_iter()
        .map(|record| record.payload.unwrap())
        .collect();
    assert_eq!(produced, [b"a", b"b", b"c"]);
}

/// The same without holding a thread.
pub struct AsyncRelay {
    context: ConsumerContext,
}

#[consumer(dump_raw)]
impl AsyncRelay {
    fn construct(context: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self { context })
    }

    async fn digest(&self, _offset: i64, value: Raw<'_>) -> Result<(), DigestError> {
        let record = Record::to("relayed").payload(value.0.unwrap_or_default());
        let at = self.context.produce_async(&record).await?;
        self.context.count("offsets", at.offset as u64);
        Ok(())
    }
}

#[test]
fn an_async_digest_awaits_its_record() {
    let mut tester = Tester::<AsyncRelay>::new().unwrap();
    tester.feed((0..10).map(|partition| TestMessage::raw("x").partition(partition)));
    let completed = tester.settle();
    assert!(completed.iter().all(|(_, _, outcome)| *outcome == Outcome::Done));
    assert_eq!(completed.len(), 10);
    assert_eq!(tester.counter("offsets"), 45);
}
