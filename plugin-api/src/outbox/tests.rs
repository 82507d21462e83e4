//! The relay on a store in memory and a host that can be told what becomes of records.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use devour_abi::{
    ConstructRequest, Delivered, Delivery, Host, HostErrorKind, HostFailure, HostServices, LogLevel,
    MessageId, ProduceRecord,
};

use super::*;
use crate::ConsumerContext;

/// Keeps what is produced; the next so many fail.
#[derive(Default)]
struct FakeHost {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Default)]
struct Said {
    sent: Vec<String>,
    /// What becomes of the next records, one each; then they are delivered.
    next: VecDeque<Fate>,
    kept: Vec<Delivery>,
    counted: u64,
}

enum Fate {
    Delivered,
    Fails,
    /// Nothing is said of it.
    Silence,
}

/// A table that both a test and a relay see.
#[derive(Clone, Default)]
struct Table(Arc<(Mutex<Rows>, Condvar)>);

#[derive(Default)]
struct Rows {
    rows: Vec<OutboxEntry>,
    another_claims: bool,
    next: i64,
    looks: u64,
    /// What the next calls do.
    breaks: u32,
    panics: u32,
}

const SOON: Duration = Duration::from_secs(20);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostServices for FakeHost {
    fn log(&self, _: LogLevel, _: &str, _: &str, _: &str) {}
    fn log_enabled(&self, _: LogLevel) -> bool {
        false
    }
    fn count(&self, name: &str, by: u64) {
        if name == relay::RELAYED {
            locked(&self.said).counted += by;
        }
    }
    fn time(&self, _: &str, _: u64) {}
    fn settings(&self) -> String {
        "{}".to_owned()
    }
    fn stop_requested(&self) -> bool {
        false
    }
    fn produce(&self, _: &ProduceRecord<'_>) -> Result<(), String> {
        Err("a relay has to hear what becomes of its records".to_owned())
    }
    fn produce_then(&self, record: &ProduceRecord<'_>, _: MessageId, delivery: Delivery) {
        let mut said = locked(&self.said);
        let payload = record
            .payload
            .into_option()
            .map(|payload| payload.as_slice().to_vec());
        said.sent
            .push(String::from_utf8(payload.unwrap_or_default()).expect("a text"));
        match said.next.pop_front().unwrap_or(Fate::Delivered) {
            Fate::Delivered => delivery.tell(Ok(Delivered {
                partition: 0,
                offset: 0,
            })),
            Fate::Fails => delivery.tell(Err(HostFailure::new(HostErrorKind::FAILED, "no broker"))),
            Fate::Silence => said.kept.push(delivery),
        }
        self.changed.notify_all();
    }
    fn pause(&self, _: &str, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn resume(&self, _: &str, _: i32) -> Result<(), String> {
        Ok(())
    }
}

impl FakeHost {
    fn fates(fates: impl IntoIterator<Item = Fate>) -> Arc<Self> {
        let host = Self::default();
        locked(&host.said).next.extend(fates);
        Arc::new(host)
    }

    fn relay(self: &Arc<Self>, table: &Table, options: RelayOptions) -> Relay {
        let context = ConsumerContext::new(Host::new(Arc::clone(self)), &ConstructRequest::default());
        Relay::start(table.clone(), &context, options).expect("a thread")
    }

    fn await_sent(&self, count: usize) -> Vec<String> {
        let said = locked(&self.said);
        let (said, waited) = self
            .changed
            .wait_timeout_while(said, SOON, |said| said.sent.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{:?}", said.sent);
        said.sent.clone()
    }
}

impl Table {
    fn write(&self, texts: &[&str]) {
        let mut table = locked(&self.0.0);
        for text in texts {
            table.next += 1;
            let record = Record::to("t").payload(*text);
            let id = table.next;
            table.rows.push(OutboxEntry { id, record });
        }
    }

    fn of(texts: &[&str]) -> Self {
        let table = Self::default();
        table.write(texts);
        table
    }

    fn await_that(&self, what: &str, is: impl Fn(&Rows) -> bool) {
        let table = locked(&self.0.0);
        let (_table, waited) = self
            .0
            .1
            .wait_timeout_while(table, SOON, |table| !is(table))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{what}");
    }

    fn await_empty(&self) {
        self.await_that("an empty table", |table| table.rows.is_empty());
    }

    fn look(&self) -> Result<MutexGuard<'_, Rows>, String> {
        let mut table = locked(&self.0.0);
        if table.panics > 0 {
            table.panics -= 1;
            drop(table);
            panic!("a store that panics");
        }
        if table.breaks > 0 {
            table.breaks -= 1;
            return Err("no database".to_owned());
        }
        Ok(table)
    }
}

impl OutboxStore for Table {
    type Error = String;

    fn claim(&mut self) -> Result<bool, String> {
        let mut table = self.look()?;
        table.looks += 1;
        self.0.1.notify_all();
        Ok(!table.another_claims)
    }

    fn oldest(&mut self, most: usize) -> Result<Vec<OutboxEntry>, String> {
        Ok(self.look()?.rows.iter().take(most).cloned().collect())
    }

    fn delete(&mut self, ids: &[i64]) -> Result<(), String> {
        self.look()?.rows.retain(|entry| !ids.contains(&entry.id));
        self.0.1.notify_all();
        Ok(())
    }
}

/// Nothing happens by the clock but the back-off.
fn quick() -> RelayOptions {
    RelayOptions {
        every: Duration::from_secs(3600),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(2),
        ..RelayOptions::default()
    }
}

#[test]
fn what_is_left_of_before_is_relayed_at_the_start_in_its_order() {
    let table = Table::of(&["a", "b", "c"]);
    let host = FakeHost::fates([]);
    let relay = host.relay(&table, RelayOptions { batch: 2, ..quick() });
    table.await_empty();
    relay.stop();
    assert_eq!(locked(&host.said).sent, ["a", "b", "c"]);
    assert_eq!(locked(&host.said).counted, 3);
}

#[test]
fn a_wake_has_it_look_and_one_before_it_sleeps_is_not_lost() {
    let table = Table::default();
    let host = FakeHost::fates([]);
    let relay = host.relay(&table, quick());
    for n in 1..=50 {
        table.write(&[&n.to_string()]);
        relay.waker().wake();
        table.await_empty();
    }
    relay.stop();
    assert_eq!(locked(&host.said).sent.len(), 50);
}

#[test]
fn what_failed_and_what_came_behind_it_is_sent_again_in_its_order() {
    let table = Table::of(&["a", "b", "c"]);
    let host = FakeHost::fates([Fate::Delivered, Fate::Fails, Fate::Delivered]);
    let relay = host.relay(&table, quick());
    table.await_empty();
    relay.stop();
    assert_eq!(locked(&host.said).sent, ["a", "b", "c", "b", "c"]);
}

#[test]
fn a_database_that_fails_or_panics_is_tried_again() {
    let table = Table::of(&["a"]);
    {
        let mut rows = locked(&table.0.0);
        rows.breaks = 3;
        rows.panics = 2;
    }
    let host = FakeHost::fates([]);
    let relay = host.relay(&table, quick());
    table.await_empty();
    relay.stop();
}

#[test]
fn while_another_relay_is_at_work_it_waits() {
    let table = Table::of(&["a"]);
    locked(&table.0.0).another_claims = true;
    let host = FakeHost::fates([]);
    let relay = host.relay(&table, quick());
    table.await_that("a look", |table| table.looks > 0);
    relay.waker().wake();
    table.await_that("another look", |table| table.looks > 1);
    assert!(locked(&host.said).sent.is_empty());
    locked(&table.0.0).another_claims = false;
    relay.waker().wake();
    table.await_empty();
    relay.stop();
}

#[test]
fn an_end_relays_what_is_committed_and_waits_for_no_broker_beyond_its_grace() {
    let table = Table::default();
    let host = FakeHost::fates([]);
    let relay = host.relay(&table, quick());
    table.await_that("a look", |table| table.looks > 0);
    // Nobody wakes it.
    table.write(&["a"]);
    relay.stop();
    assert_eq!(locked(&host.said).sent, ["a"]);

    let table = Table::of(&["a", "b"]);
    let host = FakeHost::fates([Fate::Delivered, Fate::Silence]);
    let options = RelayOptions {
        grace: Duration::from_millis(20),
        ..quick()
    };
    let relay = host.relay(&table, options);
    host.await_sent(2);
    relay.stop();
    let left: Vec<i64> = locked(&table.0.0).rows.iter().map(|entry| entry.id).collect();
    assert_eq!(
        left,
        [2],
        "what the broker has is deleted, what nobody knows of is not"
    );
    // The next one sends it.
    let host = FakeHost::fates([]);
    let relay = host.relay(&table, quick());
    table.await_empty();
    drop(relay);
    assert_eq!(locked(&host.said).sent, ["b"]);
}
