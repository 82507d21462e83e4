//! What the shim does with a call: failures hold their partition, cuts end it, panics and fatal errors break it, a batch
//! is in hand until it returns, and what is taken ends later.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use devour::{
    abi::{
        Call, CallCell, CallHost, ConstructRequest, ConsumerModuleRef, CutNumber, Failure, FailureKind,
        HeaderView, Host, HostServices, HostedCall, LogLevel, MessageView, OwnedMessage, ProduceRecord,
        Progress, TimestampType, abi_stable::std_types::ROption,
    },
    prelude::*,
    testing::{Outcome, TestMessage, Tester},
};
use serde_json::json;

/// Does what the message's text says.
#[derive(Default)]
pub struct Obedient {
    taken: Vec<TakenMessage>,
    started: bool,
}

impl Consumer for Obedient {
    type Settings = NoSettings;
    type Message<'m> = Object<'m>;

    fn construct(_: NoSettings, _: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self::default())
    }

    fn digest(&mut self, _: i64, message: Object<'_>) -> Result<(), DigestError> {
        match message.payload().unwrap_or_default() {
            b"retry" if message.attempt() == 1 => Err(DigestError::retry("once more")),
            b"later" => Err(DigestError::retry_after("later", Duration::from_secs(3))),
            b"reject" => Err(DigestError::reject("no")),
            b"fatal" => Err(DigestError::fatal("the end")),
            b"panic" => panic!("ouch"),
            b"take" => {
                self.taken.push(message.take()?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), DigestError> {
        for (place, taken) in self.taken.drain(..).enumerate() {
            match place {
                0 => taken.done(),
                1 => taken.fail(DigestError::reject("second")),
                _ => drop(taken),
            }
        }
        Ok(())
    }

    fn started(&mut self) -> Result<(), DigestError> {
        assert!(!self.started, "started twice");
        self.started = true;
        Ok(())
    }
}

export_consumer!(Obedient);

fn say(text: &str, partition: i32) -> TestMessage {
    TestMessage::raw(text).partition(partition)
}

fn names(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(Outcome::name).collect()
}

#[test]
fn a_retry_holds_its_partition_and_no_other() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    let report = tester.feed([
        say("a", 0),
        say("retry", 0),
        say("b", 1),
        say("c", 0),
        say("d", 0),
        say("e", 1),
    ]);
    assert_eq!(
        names(&report.outcomes),
        ["done", "retry", "done", "not begun", "not begun", "done"]
    );
    // The next call knows it still, until the tag is released.
    assert_eq!(
        names(&tester.feed([say("f", 0), say("g", 1)]).outcomes),
        ["not begun", "done"]
    );
    assert_eq!(
        names(&tester.feed_again().outcomes),
        ["done", "done", "done", "done"]
    );
    assert!(tester.feed([say("h", 0)]).all_done());
}

#[test]
fn a_reject_holds_its_partition_only_if_the_route_stops_there() {
    let messages = || [say("reject", 0), say("a", 0)];
    let mut tester = Tester::<Obedient>::new().unwrap();
    assert_eq!(names(&tester.feed(messages()).outcomes), ["rejected", "done"]);
    let mut tester = Tester::<Obedient>::builder().stop_on_reject().build().unwrap();
    assert_eq!(
        names(&tester.feed(messages()).outcomes),
        ["rejected", "not begun"]
    );
}

#[test]
fn a_delay_comes_with_the_retry() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    let report = tester.feed([say("later", 0)]);
    let delay = Some(Duration::from_secs(3));
    assert_eq!(
        report.outcomes,
        [Outcome::Retry {
            message: "later".into(),
            delay
        }]
    );
}

#[test]
fn a_fatal_error_and_a_panic_break_the_instance_at_their_message() {
    for (text, kind, message) in [
        ("fatal", FailureKind::FATAL, "the end"),
        ("panic", FailureKind::PANIC, "ouch"),
    ] {
        let mut tester = Tester::<Obedient>::new().unwrap();
        let report = tester.feed([say("a", 0), say(text, 0), say("b", 1)]);
        let broken = Outcome::Broken {
            kind,
            message: message.into(),
        };
        assert_eq!(report.outcomes, [Outcome::Done, broken, Outcome::NotReached]);
    }
}

#[test]
fn a_cut_call_reaches_nothing() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.cut_next();
    assert_eq!(names(&tester.feed([say("a", 0)]).outcomes), ["not reached"]);
    assert!(tester.feed_again().all_done());
}

#[test]
fn what_is_taken_ends_when_its_handle_says_so() {
    let mut tester = Tester::<Obedient>::new().unwrap();
    tester.started().unwrap();
    let report = tester.feed([
        say("take", 0),
        say("take", 0).header("h", "1"),
        say("take", 0),
        say("a", 0),
    ]);
    assert_eq!(names(&report.outcomes), ["taken", "taken", "taken", "done"]);
    assert_eq!(tester.completed(), []);
    tester.flush().unwrap();
    let completed = tester.completed();
    assert_eq!(completed[0], (0, 0, Outcome::Done));
    assert_eq!(
        completed[1],
        (
            0,
            1,
            Outcome::Rejected {
                message: "second".into()
            }
        )
    );
    assert!(matches!(&completed[2], (0, 2, Outcome::Retry { message, .. }) if message.contains("dropped")));
}

/// Digests batches: what says "bad" fails, "all" fails the whole.
#[derive(Default)]
pub struct Batches {
    sizes: Vec<usize>,
}

#[consumer(topic = "batches")]
impl Batches {
    fn digest_batch(&mut self, batch: &mut Batch<Json<String>>) -> Result<(), DigestError> {
        self.sizes.push(batch.len());
        info!(size = batch.len(), "a batch");
        for entry in batch.iter() {
            match entry.message.as_str() {
                "bad" => batch.fail(
                    entry.place,
                    DigestError::retry(format!("bad at {}", entry.offset)),
                ),
                "worse" => batch.fail(entry.place, DigestError::reject("worse")),
                "all" => return Err(DigestError::retry("all")),
                "end" => return Err(DigestError::fatal("end")),
                _ => {}
            }
        }
        Ok(())
    }
}

fn text(text: &str, partition: i32) -> TestMessage {
    TestMessage::json(&json!(text).to_string()).partition(partition)
}

#[test]
fn a_batch_reports_single_failures_and_keeps_order_behind_them() {
    let mut tester = Tester::<Batches>::new().unwrap();
    let report = tester.feed([
        text("a", 0),
        text("bad", 0),
        TestMessage::json("{"),
        text("worse", 1),
        text("b", 1),
        text("c", 0),
        TestMessage::tombstone(),
    ]);
    assert_eq!(
        names(&report.outcomes),
        [
            "done",
            "retry",
            "undecodable",
            "rejected",
            "done",
            "not begun",
            "passed"
        ]
    );
    assert_eq!(tester.logs()[0].fields, json!({"size": 5}));
    let digests = Tester::<Batches>::descriptor(json!({})).unwrap().digests;
    assert!(digests[0].takes_batches);
    // What is held is not even in the next batch; nothing to hand over is no call.
    assert_eq!(
        names(&tester.feed([text("d", 0), text("e", 1)]).outcomes),
        ["not begun", "done"]
    );
    assert_eq!(tester.logs()[1].fields, json!({"size": 1}));
    assert_eq!(names(&tester.feed([text("f", 0)]).outcomes), ["not begun"]);
    assert_eq!(tester.logs().len(), 2);
}

#[test]
fn an_error_of_a_batch_is_one_of_every_message() {
    let mut tester = Tester::<Batches>::new().unwrap();
    let report = tester.feed([text("a", 0), text("all", 0), text("b", 1)]);
    assert_eq!(names(&report.outcomes), ["retry", "not begun", "retry"]);
    let mut tester = Tester::<Batches>::new().unwrap();
    let report = tester.feed([text("a", 0), text("end", 0), text("b", 1)]);
    assert_eq!(names(&report.outcomes), ["broken", "not reached", "not reached"]);
}

// === the order in which the host is told, seen from the boundary itself ===

/// A host that writes down what it is told, with the cell as it stands then.
struct Scribe<'c> {
    cell: &'c CallCell,
    lines: Mutex<Vec<(String, Progress)>>,
}

impl Scribe<'_> {
    fn line(&self, text: String) {
        self.lines.lock().unwrap().push((text, self.cell.load()));
    }
}

impl HostedCall for Scribe<'_> {
    fn failed(&self, index: u32, failure: Failure) {
        self.line(format!("{index} {}", failure.kind.name()));
    }
    fn not_begun(&self, first: u32, count: u32) {
        self.line(format!("{first}+{count} not begun"));
    }
    fn headers(&self, _: u32) -> &[HeaderView<'_>] {
        &[]
    }
    fn take(&self, _: u32) -> Result<OwnedMessage, String> {
        Err("not available yet".to_owned())
    }
}

struct Silent;

impl HostServices for Silent {
    fn log(&self, _: LogLevel, _: &str, _: &str, _: &str) {}
    fn log_enabled(&self, _: LogLevel) -> bool {
        false
    }
    fn count(&self, _: &str, _: u64) {}
    fn time(&self, _: &str, _: u64) {}
    fn settings(&self) -> String {
        "{}".to_owned()
    }
    fn stop_requested(&self) -> bool {
        false
    }
    fn produce(&self, _: &ProduceRecord<'_>) -> Result<(), String> {
        Err("not available yet".to_owned())
    }
    fn pause(&self, _: &str, _: i32) -> Result<(), String> {
        Err("not available yet".to_owned())
    }
    fn resume(&self, _: &str, _: i32) -> Result<(), String> {
        Err("not available yet".to_owned())
    }
}

fn view(text: &'static str, tag: u64) -> MessageView<'static> {
    MessageView {
        topic: "t".into(),
        key: ROption::RNone,
        payload: ROption::RSome(text.as_bytes().into()),
        offset: 0,
        timestamp_ms: -1,
        order_tag: tag,
        partition: 0,
        attempt: 1,
        timestamp_type: TimestampType::NOT_AVAILABLE,
        more: ROption::RNone,
    }
}

#[test]
fn failures_and_passed_over_ranges_are_told_before_the_cell_moves_past_them() {
    let module = ConsumerModuleRef::of::<devour::shim::Shim<Obedient>>();
    let mut instance = module
        .construct_instance(&ConstructRequest::default(), Host::new(Arc::new(Silent)))
        .unwrap();
    let (cell, cut) = (CallCell::new(), CutNumber::new());
    let scribe = Scribe {
        cell: &cell,
        lines: Mutex::default(),
    };
    let views = [
        view("retry", 1),
        view("a", 1),
        view("b", 1),
        view("c", 2),
        view("d", 3),
        view("take", 2),
        view("e", 1),
    ];
    let returned = instance.digest(&Call {
        number: 9,
        messages: views.as_slice().into(),
        released: [].as_slice().into(),
        held: [3].as_slice().into(),
        hold_on_reject: false,
        cell: &cell,
        cut: &cut,
        host: CallHost::new(&scribe),
        more: ROption::RNone,
    });
    assert_eq!((returned.finished, returned.broken), (7, ROption::RNone));
    let at = |index| Progress { call: 9, index };
    let lines = scribe.lines.into_inner().unwrap();
    let expected = [
        ("0 retry".to_owned(), at(0)),
        ("1+2 not begun".to_owned(), at(0)),
        ("4+1 not begun".to_owned(), at(3)),
        // `take` is refused by this host in its words, which is a retry.
        ("5 retry".to_owned(), at(5)),
        ("6+1 not begun".to_owned(), at(5)),
    ];
    assert_eq!(lines, expected);
    assert_eq!(cell.load(), at(7));
}

/// An async consumer, to be called as the host calls it.
#[derive(Default)]
pub struct Nap;

#[consumer(dump_raw)]
impl Nap {
    async fn digest(&self, _offset: i64, _text: &str) {}
}

#[test]
fn an_async_call_stores_each_message_before_it_is_taken_and_holds_no_tag() {
    let module = ConsumerModuleRef::of::<<Nap as devour::plugin::Exported>::Shim>();
    let mut instance = module
        .construct_instance(&ConstructRequest::default(), Host::new(Arc::new(Silent)))
        .unwrap();
    let (cell, cut) = (CallCell::new(), CutNumber::new());
    let scribe = Scribe {
        cell: &cell,
        lines: Mutex::default(),
    };
    let mut garbled = view("", 1);
    garbled.payload = ROption::RSome([0xff].as_slice().into());
    let mut tombstone = view("", 1);
    tombstone.payload = ROption::RNone;
    let views = [view("a", 1), garbled, tombstone, view("b", 1)];
    let returned = instance.digest(&Call {
        number: 4,
        messages: views.as_slice().into(),
        released: [].as_slice().into(),
        held: [1].as_slice().into(),
        hold_on_reject: true,
        cell: &cell,
        cut: &cut,
        host: CallHost::new(&scribe),
        more: ROption::RNone,
    });
    assert_eq!((returned.finished, returned.broken), (4, ROption::RNone));
    let at = |index| Progress { call: 4, index };
    let lines = scribe.lines.into_inner().unwrap();
    // This host gives nothing beyond a call, which is a retry.
    let expected = [
        ("0 retry".to_owned(), at(0)),
        ("1 undecodable".to_owned(), at(1)),
        ("3 retry".to_owned(), at(3)),
    ];
    assert_eq!(lines, expected);
    assert_eq!(cell.load(), at(4));
}

/// Cuts its own calls.
pub struct Cutter {
    cut: &'static CutNumber,
}

static CUT: CutNumber = CutNumber::new();

#[consumer(dump_raw)]
impl Cutter {
    fn construct(_context: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self { cut: &CUT })
    }

    fn digest(&mut self, _offset: i64, text: &str) -> Result<(), DigestError> {
        match text {
            "cut" => self.cut.raise(2),
            "retry" => return Err(DigestError::retry("once more")),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_cut_ends_this_call_and_the_next_at_their_next_message() {
    let module = ConsumerModuleRef::of::<devour::shim::Shim<Cutter>>();
    let mut instance = module
        .construct_instance(&ConstructRequest::default(), Host::new(Arc::new(Silent)))
        .unwrap();
    let cell = CallCell::new();
    let scribe = Scribe {
        cell: &cell,
        lines: Mutex::default(),
    };
    let views = [
        view("retry", 1),
        view("a", 2),
        view("cut", 2),
        view("b", 1),
        view("c", 2),
    ];
    let mut digest = |number| {
        instance.digest(&Call {
            number,
            messages: views.as_slice().into(),
            released: [1].as_slice().into(),
            held: [].as_slice().into(),
            hold_on_reject: false,
            cell: &cell,
            cut: &CUT,
            host: CallHost::new(&scribe),
            more: ROption::RNone,
        })
    };
    // "b" waits for the first message's retry and is passed over, cut or not.
    assert_eq!(digest(1).finished, 4);
    assert_eq!(cell.load(), Progress { call: 1, index: 4 });
    // The message that was not begun stands in the cell.
    assert_eq!(digest(2).finished, 0);
    assert_eq!(cell.load(), Progress { call: 2, index: 0 });
    assert_eq!(digest(3).finished, 5);
    assert_eq!(cell.load(), Progress { call: 3, index: 5 });
}

#[test]
fn what_a_cut_passes_over_is_told_and_what_it_ends_stands_in_the_cell() {
    let module = ConsumerModuleRef::of::<devour::shim::Shim<Cutter>>();
    let mut instance = module
        .construct_instance(&ConstructRequest::default(), Host::new(Arc::new(Silent)))
        .unwrap();
    let (cell, cut) = (CallCell::new(), CutNumber::new());
    let scribe = Scribe {
        cell: &cell,
        lines: Mutex::default(),
    };
    let views = [view("a", 7), view("b", 7), view("c", 8), view("d", 9)];
    cut.raise(3);
    let returned = instance.digest(&Call {
        number: 3,
        messages: views.as_slice().into(),
        released: [].as_slice().into(),
        held: [7].as_slice().into(),
        hold_on_reject: false,
        cell: &cell,
        cut: &cut,
        host: CallHost::new(&scribe),
        more: ROption::RNone,
    });
    assert_eq!((returned.finished, returned.broken), (2, ROption::RNone));
    let lines = scribe.lines.into_inner().unwrap();
    assert_eq!(lines, [("0+2 not begun".to_owned(), Progress::default())]);
    assert_eq!(cell.load(), Progress { call: 3, index: 2 });
}

#[test]
fn a_batch_that_is_cut_is_not_begun() {
    let mut tester = Tester::<Batches>::new().unwrap();
    tester.cut_next();
    let report = tester.feed([text("a", 0), text("b", 1)]);
    assert_eq!(names(&report.outcomes), ["not reached", "not reached"]);
    assert_eq!(tester.logs(), []);
}

/// Looks at its messages from another thread.
#[derive(Default)]
pub struct Elsewhere;

#[consumer(dump_obj)]
impl Elsewhere {
    fn digest(&mut self, _offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        std::thread::scope(|scope| {
            let look = || {
                assert_eq!(message.payload(), Some(b"seen".as_slice()));
                message.take().map(drop)
            };
            let taken = scope.spawn(look).join().expect("the view is fine anywhere");
            let refused = taken.expect_err("the host is not here");
            assert!(refused.to_string().contains("on the thread"), "{refused}");
            let headers = scope.spawn(|| message.headers().len()).join();
            headers.expect_err("the host is not here either");
        });
        assert_eq!(message.headers().len(), 1);
        Ok(())
    }
}

#[test]
fn a_message_may_be_lent_to_a_thread_but_its_host_may_not() {
    let mut tester = Tester::<Elsewhere>::new().unwrap();
    let report = tester.feed([TestMessage::raw("seen").header("h", "1")]);
    assert!(report.all_done(), "{report:?}");
}

/// Logs from a span, and from a thread of its own.
#[derive(Default)]
pub struct Talkative;

#[consumer(topic = "talk")]
impl Talkative {
    fn digest(&mut self, _offset: i64, id: u64) -> Result<(), DigestError> {
        let span = devour::tracing::info_span!("order", id, total = devour::tracing::field::Empty);
        let _entered = span.enter();
        span.record("total", 1.5);
        warn!(target: "elsewhere", ok = true, "inside {}", id);
        devour::context()
            .ok_or_else(|| DigestError::fatal("no context"))?
            .count("seen", 1);
        Ok(())
    }
}

#[test]
fn tracing_reaches_the_host_with_level_target_text_and_fields() {
    let mut tester = Tester::<Talkative>::new().unwrap();
    assert!(tester.feed([TestMessage::json(r#"{"id": 4}"#)]).all_done());
    let logs = tester.logs();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].level, LogLevel::WARN);
    assert_eq!(logs[0].target, "elsewhere");
    assert_eq!(logs[0].message, "inside 4");
    assert_eq!(logs[0].fields, json!({"id": 4, "total": 1.5, "ok": true}));
    assert_eq!(tester.counter("seen"), 1);
}
