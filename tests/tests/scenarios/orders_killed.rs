//! The sample with a database is killed (SIGKILL), it or its daemon, between a row and the row's message, again and again: in
//! the end rows and messages agree. Each row is what the last message of its key says, what was deleted has a last message
//! that says so, every change was produced, and in its order. On SQLite and on PostgreSQL.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use devour_orders::{Order, Outbox, Place};
use devour_tests::{
    chance::{Chance, seed},
    command,
    daemon::{Home, Route, SOON, Settings, Signal},
    kafka::{Kafka, Record},
    scale,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
    wait,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

pub const RUNS: &[Run] = &[
    Run::Shared("sqlite", |kafka| {
        let home = Home::new("orders-sqlite")?;
        run(kafka, &format!("sqlite:{}", home.file("orders.db").display()))
    }),
    Run::Postgres("postgres", |kafka, postgres| run(kafka, &postgres.url())),
    Run::Alone("thread", a_thread_is_refused),
];

const PARTITIONS: i32 = 4;
/// How many orders there are, and how many messages come before each kill.
const ORDERS: i64 = 40;
const CHUNK: i64 = 200;
/// The model's generic topic.
const PRODUCED: &str = "orders__order";
const NAME: &str = "orders";

/// What was sent.
struct Sent {
    /// Orders begin here: the topic that the sample produces to is every run's.
    base: i64,
    messages: i64,
    /// Each order's versions, and what it is at last.
    versions: BTreeMap<i64, Vec<i64>>,
    last: BTreeMap<i64, Option<Order>>,
}

fn run(kafka: &Kafka, url: &str) -> Outcome {
    let stage = Stage::new(kafka, "orders", PARTITIONS)?;
    // The other run may have been quicker.
    let _ = stage.admin.create_topic(PRODUCED, PARTITIONS);
    let place = Place::parse(url)?;
    let mut outbox = Outbox::new(place.clone());
    let route = Route::from_library("libdevour_orders.so", "Orders", Isolation::Process, &stage.topic, &stage.group)
        .with("settings", json!({"database": url}))
        .commit_every_ms(200)
        .quick_again();
    let settings = Settings::of(kafka.bootstrap()).route(NAME, route);
    let mut daemon = stage.home.start(&settings)?;
    daemon.plugin_pid(NAME)?;

    let mut chance = Chance::new(seed("orders_killed"));
    let mut sent = Sent::new();
    let kills = scale::messages(100);
    let mut between = 0;
    for kill in 0..kills {
        let (mut from, pid) = (daemon.log().len(), daemon.plugin_pid(NAME)?);
        // While messages come: a record that waits has its row, and nobody knows whether the broker has it.
        let found = std::thread::scope(|scope| -> Result<bool, Failed> {
            let sending = scope.spawn(|| sent.send(&stage));
            let waits = || outbox.waiting().is_ok_and(|count| count > 0).then_some(());
            let found = wait::until("a record that waits", Duration::from_secs(2), waits).is_ok();
            wait::pace(std::time::Instant::now() + Duration::from_millis(chance.below(20) as u64));
            if kill % 5 != 4 {
                daemon.signal_plugin(NAME, Signal::KILL)?;
            }
            sending.join().map_err(|_| "the thread that sends panicked")??;
            Ok(found)
        })?;
        between += u64::from(found);
        if kill % 5 == 4 {
            daemon.kill()?;
            daemon = stage.home.start_again()?;
            from = 0;
        }
        daemon.wait_for_from(from, "another plugin", SOON, |line| {
            line.says("plugin up") && line.number("pid") != Some(i64::from(pid))
        })?;
    }
    assert!(between * 2 > kills, "only {between} of {kills} kills found a record that waits");
    wait::until_told("all to be digested", scale::patience(SOON), || {
        stage.all_is_committed().map_err(|error| error.message().unwrap_or_default().to_owned())
    })?;
    wait::until_told("the outbox to be empty", SOON, || match outbox.waiting() {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    daemon.stop()?;
    agree(&sent, kafka, &place)?;
    eprintln!("{kills} kills, {between} of them with a record that waits, {} messages", sent.messages);
    Ok(())
}

/// Rows, messages and what was sent say the same.
fn agree(sent: &Sent, kafka: &Kafka, place: &Place) -> Outcome {
    let rows = Order::all(&mut place.connect()?)?;
    let expected: Vec<&Order> = sent.last.values().flatten().collect();
    assert_eq!(rows.iter().collect::<Vec<_>>(), expected, "the rows are what was sent last");

    let mut produced: BTreeMap<i64, Vec<(Order, String, String)>> = BTreeMap::new();
    for message in kafka.read(PRODUCED, PARTITIONS)? {
        let mut value: Value = serde_json::from_slice(message.payload.as_deref().unwrap_or_default())?;
        let event = value["event"].as_str().unwrap_or_default().to_owned();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("event");
        }
        let order: Order = serde_json::from_value(value)?;
        if (sent.base..sent.base + ORDERS).contains(&order.id) {
            assert_eq!(message.key, Some(order.id.to_string().into_bytes()));
            produced.entry(order.id).or_default().push((order, event, format!("{}@{}", message.partition, message.offset)));
        }
    }
    for (id, last) in &sent.last {
        let messages = produced.get(id).ok_or_else(|| format!("no message of order {id}"))?;
        let told: Vec<String> = messages.iter().map(|(order, event, at)| format!("{event} {} {at}", order.version)).collect();
        let told = format!("order {id}: {}", told.join(", "));
        let (state, event, _) = messages.last().ok_or("it is not empty")?;
        match last {
            Some(row) => assert_eq!((state, event != "delete"), (row, true), "the last message is the row: {told}"),
            None => assert_eq!(event, "delete", "the row is gone: {told}"),
        }
        // In the order of their first coming, every version that was saved.
        let mut seen = BTreeSet::new();
        let saved = messages.iter().filter(|(_, event, _)| event != "delete");
        let first: Vec<i64> = saved.map(|(order, ..)| order.version).filter(|version| seen.insert(*version)).collect();
        assert_eq!(first, sent.versions[id], "{told}");
    }
    let total: usize = produced.values().map(Vec::len).sum();
    eprintln!("{} rows, {total} messages produced", rows.len());
    Ok(())
}

/// Two copies of SQLite in one process would drop each other's locks: `tests/locks.rs` of the sample shows it.
fn a_thread_is_refused() -> Outcome {
    let home = Home::new("orders-thread")?;
    let route = Route::from_library("libdevour_orders.so", "Orders", Isolation::Thread, "orders", "g")
        .with("settings", json!({"database": format!("sqlite:{}", home.file("orders.db").display())}));
    home.write(&Settings::of("127.0.0.1:1").route(NAME, route))?;
    let mut check = home.command()?;
    check.arg("--settings").arg(home.settings_file()).arg("check");
    command::run(&mut check, SOON)?
        .expect("isolation: thread", 78)
        .says("isolation: thread", ["`Orders` demands a process of its own: `isolation: process`"]);
    Ok(())
}

// === impl Sent ===

impl Sent {
    fn new() -> Self {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            base: since.as_millis() as i64 * 1000,
            messages: 0,
            versions: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// Sends the next messages, those of an order to one partition.
    fn send(&mut self, stage: &Stage<'_>) -> Result<(), Failed> {
        let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        for n in self.messages..self.messages + CHUNK {
            let (place, version) = (n % ORDERS, n / ORDERS + 1);
            let id = self.base + place;
            // Some are deleted now and then, and come again.
            let is_deleted = place % 5 == 0 && version % 7 == 0;
            let order = Order {
                id,
                customer: format!("customer {place}"),
                cents: n,
                status: "open".to_owned(),
                version,
            };
            let payload = if is_deleted {
                json!({"id": id, "version": version, "deleted": true})
            } else {
                self.versions.entry(id).or_default().push(version);
                serde_json::to_value(&order)?
            };
            self.last.insert(id, (!is_deleted).then_some(order));
            records.entry(place as i32 % PARTITIONS).or_default().push(Record {
                n: n as u64,
                key: Some(id.to_string().into_bytes()),
                payload: Some(payload.to_string().into_bytes()),
                ..Record::default()
            });
        }
        let producer = stage.kafka.producer()?;
        for (partition, records) in records {
            producer.send(&stage.topic, partition, &records)?;
        }
        self.messages += CHUNK;
        Ok(())
    }
}
