//! The sample on SQLite: rows are written once however often a message comes, each change is produced once with its event,
//! and what is not to be produced is not.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use devour::{
    Event, Schema,
    abi::{IsolationDemand, SwapMode},
    serde_json::{self, Value, json},
    testing::{Outcome, TestMessage, Tester},
};
use devour_orders::{
    Connection, Database, ModelSchema, Order, Orders, Outbox, Place, ProducerModel, Producers, Saving,
    Written,
};

fn order(id: i64, version: i64) -> Order {
    Order {
        id,
        customer: "Ada".to_owned(),
        cents: 250,
        status: "open".to_owned(),
        version,
    }
}

/// A database in a directory that ends with the test.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.dir.path().join("orders.db").display())
    }

    fn place(&self) -> Place {
        Place::parse(&self.url()).unwrap()
    }

    fn database(&self, producers: Value) -> Database {
        let producers: Producers = serde_json::from_value(producers).unwrap();
        Database::new(self.place(), producers)
    }

    fn connection(&self) -> Connection {
        self.place().connect().unwrap()
    }

    fn orders(&self) -> Vec<Order> {
        Order::all(&mut self.connection()).unwrap()
    }

    /// Topic, key and message of what waits in the outbox.
    fn waiting(&self) -> Vec<(String, String, Value)> {
        use devour::outbox::OutboxStore;
        let mut outbox = Outbox::new(self.place());
        let entries = outbox.oldest(100).unwrap();
        let parts = entries.into_iter().map(|entry| {
            let parts = entry.record.into_parts();
            let key = String::from_utf8(parts.key.unwrap_or_default()).unwrap();
            (
                parts.topic,
                key,
                serde_json::from_slice(&parts.payload.unwrap()).unwrap(),
            )
        });
        parts.collect()
    }
}

#[test]
fn a_message_becomes_a_row_and_each_change_of_it_is_produced_once() {
    let home = Home::new();
    let mut tester = Tester::<Orders>::builder()
        .settings(json!({"database": home.url()}))
        .build()
        .unwrap();
    tester.started().unwrap();
    let messages = [
        json!({"id": 7, "version": 1, "customer": "Ada", "cents": 250, "status": "open"}),
        json!({"id": 8, "version": 1, "customer": "Bo", "cents": 5, "status": "open"}),
        json!({"id": 7, "version": 2, "customer": "Ada", "cents": 250, "status": "paid"}),
        json!({"id": 8, "version": 2, "deleted": true}),
    ];
    let feed = |tester: &mut Tester<Orders>| {
        let report = tester.feed(
            messages
                .iter()
                .map(|message| TestMessage::json(&message.to_string())),
        );
        assert_eq!(
            report.outcomes,
            [Outcome::Done, Outcome::Done, Outcome::Done, Outcome::Done]
        );
    };
    feed(&mut tester);
    let paid = Order {
        status: "paid".to_owned(),
        ..order(7, 2)
    };
    assert_eq!(home.orders(), std::slice::from_ref(&paid));
    // The last two come again, as after a crash.
    let again = messages[2..]
        .iter()
        .map(|message| TestMessage::json(&message.to_string()));
    tester.feed(again);
    assert_eq!(home.orders(), [paid]);
    let incomplete = tester.feed([TestMessage::json(
        r#"{"id": 9, "version": 1, "customer": "Cy", "cents": 1}"#,
    )]);
    assert!(matches!(&incomplete.outcomes[0], Outcome::Rejected { message } if message.contains("`status`")));
    // What is committed is relayed before the end.
    tester.stopped().unwrap();
    let produced: Vec<(String, String, Value)> = tester
        .produced()
        .into_iter()
        .map(|record| {
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            (
                record.topic,
                key,
                serde_json::from_slice(&record.payload.unwrap()).unwrap(),
            )
        })
        .collect();
    let message = |id: i64, version: i64, customer: &str, cents: i64, status: &str, event: &str| {
        let message = json!({
            "id": id, "version": version, "customer": customer, "cents": cents, "status": status, "event": event,
        });
        ("orders__order".to_owned(), id.to_string(), message)
    };
    let expected = [
        message(7, 1, "Ada", 250, "open", "create"),
        message(8, 1, "Bo", 5, "open", "create"),
        message(7, 2, "Ada", 250, "paid", "update"),
        message(8, 1, "Bo", 5, "open", "delete"),
    ];
    assert_eq!(produced, expected);
    assert_eq!(home.waiting(), []);
}

#[test]
fn a_row_and_its_message_are_there_together_or_not_at_all() {
    let home = Home::new();
    let mut database = home.database(json!({}));
    let undone: Result<(), _> = database.transaction(|database| {
        order(1, 1).save(database, &Saving::new())?;
        order(2, 1).save(database, &Saving::new())?;
        Err(devour_orders::ModelError::Query(
            diesel::result::Error::RollbackTransaction,
        ))
    });
    assert!(undone.is_err());
    assert_eq!((home.orders(), home.waiting()), (Vec::new(), Vec::new()));
    let done = database.transaction(|database| {
        order(1, 1).save(database, &Saving::new())?;
        order(2, 1).save(database, &Saving::new())
    });
    assert_eq!(done.unwrap(), Written::Created);
    assert_eq!((home.orders().len(), home.waiting().len()), (2, 2));
}

#[test]
fn saving_says_whether_it_changed_anything_and_produces_only_then() {
    let home = Home::new();
    let mut database = home.database(json!({}));
    let mut save = |version| order(1, version).save(&mut database, &Saving::new()).unwrap();
    assert_eq!(
        (save(2), save(2), save(1), save(3)),
        (
            Written::Created,
            Written::Unchanged,
            Written::Unchanged,
            Written::Updated
        )
    );
    // An older delete neither.
    assert_eq!(order(1, 3).delete(&mut database, &Saving::new()).unwrap(), None);
    assert_eq!(
        order(1, 4).delete(&mut database, &Saving::new()).unwrap(),
        Some(order(1, 3))
    );
    assert_eq!(order(1, 4).delete(&mut database, &Saving::new()).unwrap(), None);
    let events: Vec<Value> = home
        .waiting()
        .iter()
        .map(|(_, _, message)| message["event"].clone())
        .collect();
    assert_eq!(events, ["create", "update", "delete"]);
}

#[test]
fn settings_and_the_one_who_saves_decide_what_is_produced() {
    let events = |producers: Value, saving: Saving| {
        let home = Home::new();
        let mut database = home.database(producers);
        order(1, 1).save(&mut database, &saving).unwrap();
        order(1, 2).delete(&mut database, &saving).unwrap();
        assert_eq!(home.orders(), [], "saved and deleted all the same");
        let messages = home.waiting().into_iter();
        messages
            .map(|(_, _, message)| message["event"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let auto = Saving::new;
    assert_eq!(events(json!({}), auto()), ["create", "delete"]);
    assert_eq!(events(json!({"exclude": ["post_save"]}), auto()), ["delete"]);
    assert_eq!(events(json!({"exclude": ["post_delete"]}), auto()), ["create"]);
    assert!(events(json!({"exclude": ["post_save", "post_delete"]}), auto()).is_empty());
    assert!(events(json!({"auto_produce": false}), auto()).is_empty());
    assert!(events(json!({}), auto().produce(false)).is_empty());
    assert_eq!(
        events(json!({"auto_produce": false}), auto().produce(true)),
        ["create", "delete"]
    );
}

#[test]
fn extras_are_added_and_win_and_the_context_makes_headers() {
    let home = Home::new();
    let mut database = home.database(json!({}));
    let saving = Saving::new()
        .produce_context(devour::ProduceContext::new().header("source", "shop"))
        .produce_extras(devour::Extras::new().with("by", "Bo").with("cents", 0));
    order(1, 1).save(&mut database, &saving).unwrap();
    let (_, _, message) = home.waiting().remove(0);
    assert_eq!(message["by"], "Bo");
    assert_eq!(message["cents"], 0);
    assert_eq!(message["event"], Event::Create.name());
    let mut outbox = Outbox::new(home.place());
    let entry = devour::outbox::OutboxStore::oldest(&mut outbox, 1)
        .unwrap()
        .remove(0);
    assert_eq!(
        entry.record.into_parts().headers,
        [("source".to_owned(), Some(b"shop".to_vec()))]
    );
}

#[test]
fn the_schema_of_a_model_is_its_columns() {
    let names: Vec<&str> = ModelSchema::<Order>::ATTRIBUTES
        .unwrap()
        .iter()
        .map(|column| column.name)
        .collect();
    assert_eq!(names, ["id", "customer", "cents", "status", "version"]);
    let of_a_row = serde_json::to_value(order(1, 1)).unwrap();
    assert_eq!(
        ModelSchema::<Order>::cut(of_a_row.clone(), Default::default()),
        of_a_row
    );
}

#[test]
fn one_relay_of_a_database_is_at_work_at_a_time() {
    use devour::outbox::OutboxStore;
    let home = Home::new();
    let mut first = Outbox::new(home.place());
    let mut second = Outbox::new(home.place());
    assert!(first.claim().unwrap() && first.claim().unwrap());
    assert!(!second.claim().unwrap());
    drop(first);
    assert!(second.claim().unwrap());
}

#[test]
fn it_demands_a_process_and_to_be_swapped_after_the_old_one() {
    let descriptor = Tester::<Orders>::descriptor(json!({"database": "sqlite:/x"})).unwrap();
    assert_eq!(descriptor.isolation, IsolationDemand::Process);
    assert_eq!(descriptor.swap, SwapMode::After);
    let findings = |database: &str| Tester::<Orders>::check(&json!({"database": database})).unwrap();
    assert!(findings("sqlite:/x").is_empty());
    assert!(findings("mysql://secret@x")[0].contains("`sqlite:/path/to/file`"));
    assert!(!findings("mysql://secret@x")[0].contains("secret"));
}

#[test]
fn a_database_that_is_not_there_is_said_at_the_start_and_tried_again() {
    let home = Home::new();
    let settings = json!({"database": "sqlite:/no/such/directory/orders.db"});
    let mut tester = Tester::<Orders>::builder().settings(settings).build().unwrap();
    let error = tester.started().unwrap_err();
    assert!(error.message.contains("no connection to the database"), "{error}");
    drop(home);
}

#[test]
fn many_writers_wait_for_each_other() {
    let home = Home::new();
    drop(home.connection());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let home = &home;
            scope.spawn(move || {
                let mut database = home.database(json!({}));
                for n in 0..25 {
                    order(writer * 100 + n, 1)
                        .save(&mut database, &Saving::new())
                        .unwrap();
                }
            });
        }
    });
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!((home.orders().len(), home.waiting().len()), (100, 100));
}
