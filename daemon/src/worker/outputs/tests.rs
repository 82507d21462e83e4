use std::{cell::RefCell, os::fd::AsFd, rc::Rc};

use devour_abi::{MessageId, ProduceRecord};

use super::*;
use crate::{
    lane::{Cause, Produced},
    os::EventFd,
};

/// Keeps what is handed over, and says what the test wants it to.
struct Fake {
    state: Rc<RefCell<State>>,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    sent: Vec<(OutputId, String)>,
    room: usize,
    outcomes: Outcomes,
}

impl Outlet for Fake {
    fn send(&mut self, id: OutputId, record: &Record<'_>) -> Result<(), OutputError> {
        let mut state = self.state.borrow_mut();
        if state.room == 0 {
            return Err(error(OutputErrorKind::Full));
        }
        if record.topic == "wrong" {
            return Err(error(OutputErrorKind::Refused));
        }
        state.room -= 1;
        state.sent.push((id, record.topic.to_owned()));
        Ok(())
    }

    fn outcomes(&mut self, into: &mut Outcomes) {
        into.append(&mut self.state.borrow_mut().outcomes);
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

struct Stage {
    outputs: Outputs<Fake>,
    state: Rc<RefCell<State>>,
}

const AT: Result<Delivered, OutputError> = Ok(Delivered {
    partition: 0,
    offset: 0,
});

fn error(kind: OutputErrorKind) -> OutputError {
    OutputError {
        kind,
        topic: "t".to_owned(),
        text: "no".to_owned(),
        code: None,
    }
}

fn stage(room: usize) -> Stage {
    let state = Rc::new(RefCell::new(State {
        room,
        ..State::default()
    }));
    let fake = Fake {
        state: Rc::clone(&state),
        wake: EventFd::new().expect("a descriptor"),
    };
    Stage {
        outputs: Outputs::new(fake, 1 << 20),
        state,
    }
}

impl Stage {
    fn produce(&mut self, owner: Owner) {
        self.produce_to("t", owner);
    }

    fn produce_to(&mut self, topic: &str, owner: Owner) {
        self.produce_asked(topic, owner, 0);
    }

    fn produce_asked(&mut self, topic: &str, owner: Owner, asker: u64) {
        let record = ProduceRecord {
            topic: topic.into(),
            partition: -1,
            key: abi_stable::std_types::ROption::RNone,
            payload: abi_stable::std_types::ROption::RNone,
            headers: abi_stable::std_types::RSlice::EMPTY,
            timestamp_ms: -1,
        };
        let cause = Cause::Message(MessageId { call: 1, index: 0 });
        let produced = Produced::one(cause, asker, 7, &record);
        for output in produced.iter() {
            self.outputs.take(owner, &output, Instant::now());
        }
    }

    fn hear(
        &mut self,
        heard: impl IntoIterator<Item = (OutputId, Result<Delivered, OutputError>)>,
    ) -> Served {
        self.state.borrow_mut().outcomes.extend(heard);
        self.outputs.serve()
    }

    fn ended(
        &mut self,
        heard: impl IntoIterator<Item = (OutputId, Result<Delivered, OutputError>)>,
    ) -> Vec<(u64, u32, bool)> {
        let served = self.hear(heard);
        let ended = served.ended.into_iter();
        ended
            .map(|ended| (ended.call, ended.index, ended.outcome.is_ok()))
            .collect()
    }
}

#[test]
fn a_message_that_produced_nothing_is_finished_at_once() {
    let mut stage = stage(10);
    assert!(stage.outputs.is_quiet());
    assert_eq!(stage.outputs.digested(1, 0), Standing::Finished);
    stage.produce(Owner::Message(1, 1));
    assert_eq!(stage.outputs.digested(1, 0), Standing::Finished);
    assert_eq!(stage.outputs.digested(2, 5), Standing::Finished);
}

#[test]
fn a_message_is_finished_when_all_that_it_produced_is_acknowledged() {
    let mut stage = stage(10);
    stage.produce(Owner::Message(1, 0));
    stage.produce(Owner::Message(1, 0));
    stage.produce(Owner::Message(1, 3));
    assert_eq!(stage.ended([(0, AT)]), []);
    assert_eq!(stage.outputs.digested(1, 0), Standing::Waits);
    assert_eq!(stage.outputs.digested(1, 3), Standing::Waits);
    assert_eq!(stage.ended([(2, AT)]), [(1, 3, true)]);
    assert_eq!((stage.outputs.open(), stage.outputs.bytes() > 0), (1, true));
    assert_eq!(stage.ended([(1, AT)]), [(1, 0, true)]);
    assert_eq!((stage.outputs.open(), stage.outputs.bytes()), (0, 0));
    stage.outputs.forget(1);
    assert!(stage.outputs.is_quiet());
}

#[test]
fn a_record_that_fails_fails_its_message_before_and_after_its_digest_returned() {
    let mut stage = stage(10);
    let refused = || Err(error(OutputErrorKind::Refused));
    stage.produce(Owner::Message(1, 0));
    stage.produce(Owner::Message(1, 1));
    stage.produce(Owner::Message(1, 1));
    assert_eq!(stage.ended([(0, refused())]), [], "its digest is at work");
    let Standing::Failed(failure) = stage.outputs.digested(1, 0) else {
        panic!("it is not finished");
    };
    assert_eq!(failure.kind, FailureKind::REJECT);
    assert_eq!(stage.outputs.digested(1, 1), Standing::Waits);
    assert_eq!(
        stage.ended([(1, Err(error(OutputErrorKind::Failed)))]),
        [(1, 1, false)]
    );
    assert_eq!(stage.ended([(2, AT)]), [], "it was said once");
}

#[test]
fn what_the_outlet_refuses_at_once_is_heard_like_the_rest() {
    let mut stage = stage(10);
    stage.produce_to("wrong", Owner::Message(1, 0));
    assert_eq!(stage.outputs.digested(1, 0), Standing::Waits);
    assert!(stage.outputs.has_heard());
    assert_eq!(stage.ended([]), [(1, 0, false)]);
}

#[test]
fn what_there_is_no_room_for_is_handed_over_later_in_its_order() {
    let mut stage = stage(1);
    for topic in ["a", "b", "wrong", "c"] {
        stage.produce_to(topic, Owner::Nobody);
    }
    assert_eq!(stage.state.borrow().sent, [(0, "a".to_owned())]);
    stage.state.borrow_mut().room = 5;
    stage.hear([]);
    let sent: Vec<String> = stage
        .state
        .borrow()
        .sent
        .iter()
        .map(|sent| sent.1.clone())
        .collect();
    assert_eq!(sent, ["a", "b", "c"]);
    assert_eq!(stage.outputs.open(), 4);
    let served = stage.hear([(0, AT), (1, AT), (3, AT)]);
    assert_eq!((served.acknowledged, served.failed), (3, 1));
}

#[test]
fn a_call_whose_messages_are_digested_at_once_waits_and_fails_as_a_whole() {
    let mut stage = stage(10);
    stage.produce(Owner::Call(4));
    stage.produce(Owner::Call(4));
    assert_eq!(stage.outputs.digested(4, 0), Standing::Waits);
    assert_eq!(stage.outputs.digested(4, 1), Standing::Waits);
    assert_eq!(stage.ended([(0, AT)]), []);
    assert_eq!(stage.ended([(1, AT)]), [(4, 0, true), (4, 1, true)]);
    stage.produce(Owner::Call(5));
    assert_eq!(stage.outputs.digested(5, 0), Standing::Waits);
    assert_eq!(
        stage.ended([(2, Err(error(OutputErrorKind::Refused)))]),
        [(5, 0, false)]
    );
    assert!(matches!(stage.outputs.digested(5, 1), Standing::Failed(_)));
}

#[test]
fn a_record_of_nobody_knows_whom_is_waited_for_by_all_that_returns_behind_it() {
    let mut stage = stage(10);
    stage.produce(Owner::All(2));
    assert_eq!(stage.outputs.digested(1, 0), Standing::Waits);
    stage.produce(Owner::All(3));
    assert_eq!(stage.outputs.digested(2, 0), Standing::Waits);
    assert_eq!(stage.ended([(1, AT)]), []);
    assert_eq!(stage.ended([(0, AT)]), [(1, 0, true), (2, 0, true)]);
    assert_eq!(stage.outputs.digested(3, 0), Standing::Finished);
}

#[test]
fn when_such_a_record_fails_all_in_hand_with_it_are_tried_again_and_no_later_call() {
    let mut stage = stage(10);
    stage.produce(Owner::All(2));
    assert_eq!(stage.outputs.digested(1, 0), Standing::Waits);
    let served = stage.hear([(0, Err(error(OutputErrorKind::Refused)))]);
    let kinds: Vec<_> = served
        .ended
        .iter()
        .map(|ended| ended.outcome.as_ref().map_err(|failure| failure.kind))
        .collect();
    assert_eq!(kinds, [Err(FailureKind::RETRY)]);
    assert!(matches!(stage.outputs.digested(2, 0), Standing::Failed(_)));
    assert_eq!(stage.outputs.digested(3, 0), Standing::Finished);
    stage.outputs.none_before(Some(3));
    stage.outputs.forget(1);
    assert!(stage.outputs.is_quiet());
}

#[test]
fn who_asked_is_told_and_deals_with_it() {
    let mut stage = stage(10);
    stage.produce_asked("t", Owner::Message(1, 0), 9);
    let served = stage.hear([(0, Err(error(OutputErrorKind::Refused)))]);
    let asker = Asker { life: 7, number: 9 };
    assert_eq!(served.answers, [(asker, Err(error(OutputErrorKind::Refused)))]);
    assert_eq!(stage.outputs.digested(1, 0), Standing::Finished);
}
