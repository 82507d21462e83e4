//! Async consumers: all that is handed out runs at once, each message ends with its future, and what ends early (an error,
//! a panic, a stop) is told as what it is.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use devour::{
    abi::{ConsumerModuleRef, DescribeRequest, FailureKind},
    prelude::*,
    testing::{Outcome, TestMessage, Tester},
    tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::{Barrier, Notify},
        task::{spawn_blocking, yield_now},
        time::sleep,
    },
};
use serde_json::json;

const MANY: usize = 1_000;

/// Goes on only when so many digests are in flight as there are messages.
pub struct Together {
    barrier: Barrier,
}

#[consumer(dump_raw)]
impl Together {
    fn construct(_context: ConsumerContext) -> Result<Self, DigestError> {
        let barrier = Barrier::new(MANY);
        Ok(Self { barrier })
    }

    async fn digest(&self, _offset: i64, _value: Raw<'_>) {
        self.barrier.wait().await;
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_thousand_messages_are_in_flight_at_once_on_one_thread() {
    let mut tester = Tester::<Together>::new().unwrap();
    let partitions = 0..i32::try_from(MANY).unwrap();
    let report = tester.feed(partitions.map(|partition| TestMessage::raw("x").partition(partition)));
    assert_eq!(report.counts(), [("taken", MANY)].into());
    let completed = tester.settle();
    assert_eq!(completed.len(), MANY);
    assert!(completed.iter().all(|(_, _, outcome)| *outcome == Outcome::Done));
    assert_eq!(tester.in_hand(), 0);
}

/// Does what the message's text says, with an await before it.
#[derive(Default)]
pub struct Obedient {
    go: Arc<Notify>,
}

impl AsyncConsumer for Obedient {
    type Settings = NoSettings;
    type Message<'m> = Object<'m>;

    fn construct(_: NoSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self::default())
    }

    async fn digest(&self, _: i64, message: Object<'_>) -> Result<(), DigestError> {
        yield_now().await;
        match message.payload().unwrap_or_default() {
            b"retry" if message.attempt() == 1 => Err(DigestError::retry("once more")),
            b"later" => Err(DigestError::retry_after("later", Duration::from_secs(3))),
            b"reject" => Err(DigestError::reject("no")),
            b"fatal" => Err(DigestError::fatal("the end")),
            b"panic" if message.attempt() == 1 => panic!("ouch"),
            b"take" => message.take().map(drop).map_err(Into::into),
            b"wait" if message.attempt() == 1 => {
                self.go.notified().await;
                Ok(())
            }
            b"go" => {
                self.go.notify_one();
                Ok(())
            }
            b"block" => {
                info!("blocks");
                loop {
                    std::thread::park();
                }
            }
            _ => Ok(()),
        }
    }
}

export_async_consumer!(Obedient);

fn say(text: &str, partition: i32) -> TestMessage {
    TestMessage::raw(text).partition(partition)
}

fn names(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(Outcome::name).collect()
}

/// What became of messages, by partition and offset.
fn by_place(completed: Vec<(i32, i64, Outcome)>) -> Vec<(i32, i64, Outcome)> {
    let mut completed = completed;
    completed.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    completed
}

/// Waits without looking at what ended.
fn until(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::yield_now();
    }
}

#[test]
fn each_message_ends_with_what_its_future_returned() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.feed([
        say("a", 0),
        say("retry", 1),
        say("later", 2),
        say("reject", 3),
        say("take", 4),
    ]);
    let completed = by_place(tester.settle());
    let outcomes: Vec<_> = completed.into_iter().map(|(_, _, outcome)| outcome).collect();
    let retry = |message: &str, delay| Outcome::Retry {
        message: message.into(),
        delay,
    };
    assert_eq!(
        outcomes,
        [
            Outcome::Done,
            retry("once more", None),
            retry("later", Some(Duration::from_secs(3))),
            Outcome::Rejected { message: "no".into() },
            retry("the message is taken already: its digest is async", None),
        ]
    );
}

#[test]
fn of_a_partition_one_message_is_in_flight_and_a_failed_one_holds_the_rest() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    let report = tester.feed([
        say("wait", 0),
        say("a", 0),
        say("go", 1),
        say("retry", 1),
        say("b", 1),
    ]);
    assert_eq!(
        names(&report.outcomes),
        ["taken", "not begun", "taken", "not begun", "not begun"]
    );
    let completed = by_place(tester.settle());
    let ended: Vec<_> = completed
        .iter()
        .map(|(partition, offset, outcome)| (*partition, *offset, outcome.name()))
        .collect();
    assert_eq!(
        ended,
        [(0, 0, "done"), (0, 1, "done"), (1, 0, "done"), (1, 1, "retry")]
    );
    // What comes now waits behind the retry, until that is handed in again.
    assert_eq!(names(&tester.feed([say("c", 1)]).outcomes), ["not begun"]);
    assert_eq!(tester.in_hand(), 0);
    assert_eq!(
        names(&tester.feed_again().outcomes),
        ["taken", "not begun", "not begun"]
    );
    let completed = tester.settle();
    let again: Vec<_> = completed[4..]
        .iter()
        .map(|(partition, offset, outcome)| (*partition, *offset, outcome.name()))
        .collect();
    assert_eq!(again, [(1, 1, "done"), (1, 2, "done"), (1, 3, "done")]);
}

#[test]
fn a_panic_and_a_fatal_error_end_with_their_message_and_give_back_the_others() {
    for (text, kind, message) in [
        ("fatal", FailureKind::FATAL, "the end"),
        ("panic", FailureKind::PANIC, "ouch"),
    ] {
        let mut tester = Tester::<Obedient>::new().unwrap();
        tester.feed([say("wait", 0), say(text, 1), say("a", 1)]);
        let completed = by_place(tester.settle());
        assert_eq!(completed.len(), 2, "{completed:?}");
        assert!(
            matches!(&completed[0].2, Outcome::Retry { message, .. } if message.contains("dropped")),
            "{completed:?}"
        );
        let broken = Outcome::Broken {
            kind,
            message: message.into(),
        };
        assert_eq!(completed[1], (1, 0, broken));
        if kind == FailureKind::PANIC {
            tester.restart().unwrap();
            tester.feed_again();
            let again = by_place(tester.settle().split_off(2));
            assert_eq!(
                again,
                [
                    (0, 0, Outcome::Done),
                    (1, 0, Outcome::Done),
                    (1, 1, Outcome::Done)
                ]
            );
        }
    }
}

#[test]
fn a_thread_outlives_the_panics_of_its_futures() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.feed([say("panic", 0), say("panic", 1), say("a", 2)]);
    until(|| tester.in_hand() == 0);
    let completed = by_place(tester.completed());
    let ended: Vec<_> = completed.iter().map(|(_, _, outcome)| outcome.name()).collect();
    assert_eq!(ended, ["broken", "broken", "done"]);
    // The host has not ended the instance yet: its runtime is as it was.
    tester.feed([say("b", 3)]);
    until(|| tester.in_hand() == 0);
    assert_eq!(tester.completed()[3], (3, 0, Outcome::Done));
}

#[test]
fn what_is_in_flight_when_the_instance_ends_comes_back() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.feed([say("wait", 0), say("wait", 1)]);
    assert_eq!(tester.in_hand(), 2);
    tester.stopped().unwrap();
    assert_eq!(tester.in_hand(), 0);
    for (_, _, outcome) in tester.completed() {
        assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    }
    // Nothing can begin after that.
    let report = tester.feed([say("a", 2)]);
    assert!(
        matches!(
            &report.outcomes[0],
            Outcome::Broken {
                kind: FailureKind::FATAL,
                ..
            }
        ),
        "{report:?}"
    );
    tester.restart().unwrap();
    tester.feed_again();
    assert_eq!(by_place(tester.settle().split_off(2)).len(), 3);
}

#[test]
fn a_digest_that_blocks_its_thread_does_not_block_the_end() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.feed([say("block", 0)]);
    until(|| !tester.logs().is_empty());
    tester.stopped().unwrap();
    // It keeps its message: nothing could take that away from a thread.
    assert_eq!(tester.in_hand(), 1);
}

#[test]
fn a_cut_call_begins_nothing() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.cut_next();
    assert_eq!(
        names(&tester.feed([say("a", 0), say("b", 1)]).outcomes),
        ["not reached", "not reached"]
    );
    tester.feed_again();
    assert_eq!(
        by_place(tester.settle()),
        [(0, 0, Outcome::Done), (1, 0, Outcome::Done)]
    );
}

/// Fields of JSON, borrowed over an await; several digests; a life.
pub struct Orders {
    context: ConsumerContext,
    names: Mutex<Vec<String>>,
}

#[settings]
pub struct OrdersSettings {
    #[serde(default)]
    workers: usize,
}

#[consumer(topic = "orders", settings = OrdersSettings, digests(digest, other), workers = 2, keeps_offsets)]
impl Orders {
    fn construct(_settings: OrdersSettings, context: ConsumerContext) -> Result<Self, DigestError> {
        // A socket needs the runtime.
        drop(TcpListener::from_std(listener()?)?);
        Ok(Self {
            context,
            names: Mutex::default(),
        })
    }

    fn describe(settings: &OrdersSettings, attributes: Attributes) -> Attributes {
        match settings.workers {
            0 => attributes,
            workers => attributes.workers(workers),
        }
    }

    async fn started(&self) {
        sleep(Duration::from_millis(1)).await;
        info!("started");
    }

    async fn assigned(&self, partitions: &[AssignedPartition]) -> Vec<StartOffset> {
        yield_now().await;
        let begin = |p: &AssignedPartition| StartOffset {
            topic: p.topic.clone(),
            partition: p.partition,
            offset: 7,
        };
        partitions.iter().map(begin).collect()
    }

    fn revoked(&self, revoked: &Revoked) {
        info!(partitions = revoked.partitions.len(), "revoked");
    }

    async fn stopped(&self) -> Result<(), DigestError> {
        info!(asked = self.context.stop_requested(), "stopped");
        Err(DigestError::retry("not in order"))
    }

    async fn digest(
        &self,
        offset: i64,
        message: Message<'_>,
        name: &str,
        note: Option<&str>,
        parts: &[u64],
    ) -> Result<(), DigestError> {
        yield_now().await;
        self.names.lock().unwrap().push(name.to_owned());
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let header = message
            .header("h")
            .map(|value| String::from_utf8_lossy(value).into_owned());
        info!(offset, name, note, parts = ?parts, thread, header, "ordered");
        Ok(())
    }

    #[digest(dump_raw)]
    async fn other(&self, _offset: i64, bytes: &[u8]) -> Result<(), DigestError> {
        let count = || devour::context().unwrap().count("seen", 1);
        count();
        devour::tokio::spawn(async move { count() }).await?;
        spawn_blocking(count).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut to = TcpStream::connect(listener.local_addr()?).await?;
        let (mut from, _) = listener.accept().await?;
        to.write_all(bytes).await?;
        drop(to);
        let mut read = Vec::new();
        from.read_to_end(&mut read).await?;
        assert_eq!(read, bytes);
        Ok(())
    }
}

fn listener() -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.context.count("dropped", 1);
    }
}

#[test]
fn parameters_are_borrowed_over_awaits() {
    let mut tester = Tester::<Orders>::new().unwrap();
    let value = json!({"name": "a \"b\"", "note": "c", "parts": [1, 2]}).to_string();
    let message = TestMessage::json(&value).header("h", "1").header("h", "2");
    let report = tester.feed([
        message,
        TestMessage::json(r#"{"name": 1}"#).partition(1),
        TestMessage::tombstone().partition(2),
    ]);
    assert_eq!(names(&report.outcomes), ["taken", "undecodable", "passed"]);
    assert!(
        matches!(&report.outcomes[1], Outcome::Undecodable { message } if message.contains("field `name`")),
        "{report:?}"
    );
    assert_eq!(tester.counter(devour::shim::TOMBSTONES_PASSED), 1);
    assert_eq!(tester.settle(), [(0, 0, Outcome::Done)]);
    let line = &tester.logs()[0];
    assert_eq!(line.message, "ordered");
    let thread = line.fields["thread"].as_str().unwrap().to_owned();
    assert!(["digest-0", "digest-1"].contains(&thread.as_str()), "{thread}");
    let expected = json!({"offset": 0, "name": "a \"b\"", "note": "c", "parts": "[1, 2]", "thread": thread,
        "header": "2"});
    assert_eq!(line.fields, expected);
    let mut tester = Tester::<Orders>::builder().reject_tombstones().build().unwrap();
    assert_eq!(
        names(&tester.feed([TestMessage::tombstone()]).outcomes),
        ["rejected"]
    );
}

#[test]
fn sockets_and_the_context_are_there_in_futures_and_what_they_spawn() {
    // Two at once: each thread knows its own instance.
    let mut testers = [(); 2].map(|()| Tester::<Orders>::builder().digest_name("other").build().unwrap());
    for tester in &mut testers {
        tester.feed([say("bytes", 0)]);
    }
    for tester in &mut testers {
        assert_eq!(tester.settle(), [(0, 0, Outcome::Done)]);
        assert_eq!(tester.counter("seen"), 3);
    }
}

#[test]
fn a_life_is_awaited_step_by_step() {
    let mut tester = Tester::<Orders>::new().unwrap();
    tester.started().unwrap();
    assert_eq!(tester.assigned(&[("orders", 3)]).unwrap()[0].offset, 7);
    tester.revoked(&[("orders", 3)]).unwrap();
    tester.flush().unwrap();
    assert_eq!(tester.stopped().unwrap_err().message, "not in order");
    let lines: Vec<_> = tester.logs().into_iter().map(|line| line.message).collect();
    assert_eq!(lines, ["started", "revoked", "stopped"]);
    tester.restart().unwrap();
    assert_eq!(tester.counter("dropped"), 1);
}

#[test]
fn a_descriptor_says_that_it_is_async() {
    let descriptor = Tester::<Orders>::descriptor(json!({})).unwrap();
    assert!(descriptor.asynchronous && !descriptor.buffering && descriptor.keeps_offsets);
    let digests: Vec<_> = descriptor
        .digests
        .iter()
        .map(|digest| (digest.name.as_str(), digest.reads_headers, digest.takes_batches))
        .collect();
    assert_eq!(digests, [("digest", false, false), ("other", false, false)]);
    let by_hand = Tester::<Obedient>::descriptor(json!({})).unwrap();
    assert!(by_hand.asynchronous && by_hand.digests[0].reads_headers);
    assert_eq!(by_hand.symbol, "Obedient");
}

/// Says that it is both.
pub struct Both;

impl AsyncConsumer for Both {
    type Settings = NoSettings;
    type Message<'m> = Raw<'m>;

    fn attributes() -> Attributes {
        Attributes::new().buffering()
    }

    fn construct(_: NoSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self)
    }

    async fn digest(&self, _: i64, _: Raw<'_>) -> Result<(), DigestError> {
        Ok(())
    }
}

export_async_consumer!(Both as "neither");

#[test]
fn an_async_consumer_is_not_buffering() {
    let module = ConsumerModuleRef::of::<<Both as devour::plugin::Exported>::Shim>();
    let refused = module.describe_consumer(&DescribeRequest::default()).unwrap_err();
    assert_eq!(refused.kind, FailureKind::FATAL);
    assert!(refused.message.contains("nothing to flush"), "{refused:?}");
}
