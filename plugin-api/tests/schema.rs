//! The table of what a schema does: alone, on a consumer's messages, and in what `plugins inspect` shows.

#![allow(clippy::unwrap_used)]

use devour::{
    AnySchema,
    prelude::*,
    serde_json::{Map, Value, json},
    testing::{Outcome, TestMessage, Tester},
};

#[derive(Schema, Deserialize, Debug, PartialEq)]
#[serde(crate = "devour::serde")]
struct Customer {
    id: u64,
    name: String,
}

#[derive(Schema, Deserialize, Debug, PartialEq)]
#[serde(crate = "devour::serde", rename_all = "camelCase")]
struct Order {
    order_id: u64,
    customer: Customer,
    #[serde(default)]
    lines: Vec<Line>,
    #[schema(whole)]
    payer: Option<Customer>,
    #[serde(rename(deserialize = "type"), alias = "kind")]
    sort: Option<String>,
    tags: Option<Vec<String>>,
    #[serde(skip)]
    cached: u8,
}

#[derive(Schema, Deserialize, Debug, PartialEq)]
#[serde(crate = "devour::serde")]
struct Line {
    #[serde(default)]
    sku: String,
}

#[derive(Schema)]
#[schema(all, name = "Anything")]
#[allow(dead_code)]
struct Everything {
    listed: u8,
}

#[derive(Schema)]
struct Unlisted;

/// A schema that stands within itself.
#[derive(Schema, Deserialize)]
#[serde(crate = "devour::serde")]
#[allow(dead_code)]
struct Node {
    name: String,
    #[serde(default)]
    children: Vec<Node>,
}

#[derive(Schema)]
#[allow(dead_code)]
struct Borrowing<'a> {
    text: &'a str,
    inner: std::borrow::Cow<'a, str>,
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn order() -> Value {
    json!({
        "orderId": 7,
        "order_id": "no attribute: serde's name is another",
        "customer": {"id": 1, "name": "Ada", "card": "4111"},
        "lines": [{"sku": "a", "price": 1}, {"sku": "b", "price": 2}, {}],
        "payer": {"id": 2, "name": "Bo", "card": "4242"},
        "kind": "b2b",
        "secret": {"id": 3},
        "cached": 9,
    })
}

fn cut_order() -> Value {
    json!({
        "orderId": 7,
        "customer": {"id": 1, "name": "Ada"},
        "lines": [{"sku": "a"}, {"sku": "b"}, {}],
        "payer": {"id": 2, "name": "Bo", "card": "4242"},
        "kind": "b2b",
    })
}

#[test]
fn present_attributes_are_taken_absent_ones_left_out_nested_ones_cut_by_their_own_schema_or_taken_whole() {
    assert_eq!(Order::cut(order(), Map::new()), cut_order());
    assert_eq!(Order::cut(json!({}), Map::new()), json!({}));
    assert_eq!(
        Order::cut(json!({"tags": null, "customer": null}), Map::new()),
        json!({"tags": null, "customer": null})
    );
    assert_eq!(
        Order::cut(json!({"customer": [{"id": 1, "x": 2}]}), Map::new()),
        json!({"customer": [{"id": 1}]})
    );
    assert_eq!(
        Order::cut(json!({"customer": "Ada"}), Map::new()),
        json!({"customer": "Ada"})
    );
}

#[test]
fn no_list_of_attributes_means_all() {
    assert_eq!(Everything::cut(order(), Map::new()), order());
    assert_eq!(Unlisted::cut(order(), Map::new()), order());
    assert_eq!(Everything::NAME, "Anything");
}

#[test]
fn extras_are_added_last_and_win() {
    let extras = map(json!({"orderId": 8, "event": "create", "secret": 1}));
    let mut expected = cut_order();
    expected["orderId"] = json!(8);
    expected["event"] = json!("create");
    expected["secret"] = json!(1);
    assert_eq!(Order::cut(order(), extras.clone()), expected);
    assert_eq!(
        Customer::cut(json!([{"id": 1, "x": 1}]), map(json!({"e": 1}))),
        json!([{"id": 1, "e": 1}])
    );
    assert_eq!(Customer::cut(Value::Null, map(json!({"e": 1}))), json!({"e": 1}));
    assert_eq!(Customer::cut(json!(4), map(json!({"e": 1}))), json!(4));
    assert_eq!(
        Unlisted::cut(json!({"a": 1}), map(json!({"a": 2}))),
        json!({"a": 2})
    );
}

#[test]
fn a_schema_within_itself_cuts_at_every_depth() {
    let payload = json!({"name": "a", "x": 1, "children": [{"name": "b", "x": 1, "children": [{"name": "c", "x": 1}]}]});
    let expected = json!({"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]});
    assert_eq!(Node::cut(payload, Map::new()), expected);
    let info = AnySchema::of::<Node>().info();
    assert_eq!(info.to_string(), "{ name: String, children: Vec<Node> { .. } }");
}

/// Takes whatever the schema leaves, and repeats it in its failure.
#[derive(Default)]
pub struct Whatever;

#[consumer(topic = "orders", schema_class = Order)]
impl Whatever {
    fn digest(&mut self, _offset: i64, order: Json<Value>) -> Result<(), DigestError> {
        Err(DigestError::reject(order.0.to_string()))
    }
}

/// Takes the schema's own type.
#[derive(Default)]
pub struct Itself;

#[consumer(topic = "orders", schema_class = Order)]
impl Itself {
    #[digest]
    fn digest(&mut self, _offset: i64, order: Json<Order>) -> Result<(), DigestError> {
        Err(DigestError::reject(format!("{:?}", order.0)))
    }

    #[digest(dump_raw)]
    fn raw(&mut self, _offset: i64, bytes: &[u8]) -> Result<(), DigestError> {
        Err(DigestError::reject(format!("{} bytes", bytes.len())))
    }
}

/// Takes some of the attributes.
#[derive(Default)]
pub struct Some2;

#[consumer(topic = "orders", schema_class = Order)]
impl Some2 {
    fn digest(
        &mut self,
        _offset: i64,
        #[field("orderId")] id: u64,
        customer: Value,
        kind: Option<&str>,
    ) -> Result<(), DigestError> {
        Err(DigestError::reject(format!("{id} {customer} {kind:?}")))
    }
}

/// Takes many at once.
#[derive(Default)]
pub struct Many;

#[consumer(topic = "orders", schema_class = Order)]
impl Many {
    fn digest_batch(&mut self, batch: &mut Batch<Json<Value>>) -> Result<(), DigestError> {
        let text: Vec<String> = batch.iter().map(|entry| entry.message.0.to_string()).collect();
        Err(DigestError::reject(text.join(" ")))
    }
}

/// Awaits.
#[derive(Default)]
pub struct Later;

#[consumer(topic = "orders", schema_class = Order)]
impl Later {
    async fn digest(&self, _offset: i64, order: Json<Value>) -> Result<(), DigestError> {
        Err(DigestError::reject(order.0.to_string()))
    }
}

fn rejected(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Rejected { message } => message,
        other => panic!("{other:?}"),
    }
}

fn undecodable(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Undecodable { message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_consumers_digest_takes_what_its_schema_leaves() {
    let message = || TestMessage::json(&order().to_string());
    let report = Tester::<Whatever>::new().unwrap().feed([message()]);
    assert_eq!(rejected(&report.outcomes[0]), cut_order().to_string());
    let report = Tester::<Some2>::new().unwrap().feed([message()]);
    assert_eq!(
        rejected(&report.outcomes[0]),
        r#"7 {"id":1,"name":"Ada"} Some("b2b")"#
    );
    let report = Tester::<Many>::new().unwrap().feed([message()]);
    assert_eq!(rejected(&report.outcomes[0]), cut_order().to_string());
    let report = Tester::<Itself>::new().unwrap().feed([message()]);
    assert!(
        rejected(&report.outcomes[0])
            .starts_with("Order { order_id: 7, customer: Customer { id: 1, name: \"Ada\" }")
    );
    let mut tester = Tester::<Itself>::builder().digest_name("raw").build().unwrap();
    let report = tester.feed([TestMessage::raw("no JSON")]);
    assert_eq!(rejected(&report.outcomes[0]), "7 bytes", "raw bytes are not cut");
    let mut tester = Tester::<Later>::new().unwrap();
    tester.feed([message()]);
    let settled = tester.settle();
    assert_eq!(rejected(&settled[0].2), cut_order().to_string());
}

#[test]
fn a_message_that_does_not_fit_says_which_field_of_what_type_at_which_byte() {
    let wrong = [
        r#"{"orderId": 1, "customer": {"id": "one", "name": "Ada"}}"#,
        r#"{"orderId": 1, "customer": {"name": "Ada"}}"#,
        r#"{"orderId": 1, "customer": {"id": 1, "name": "Ada"}, "lines": [{"sku": "a"}, {"sku": 5}]}"#,
        r#"{"orderId": 1, "customer": "#,
        r#"{"customer": {"id": 1, "name": "Ada"}}"#,
    ];
    let expected = [
        "field `customer.id`: invalid type: string \"one\", expected u64 at line 1 column 39 (byte 34)",
        "field `customer`: missing field `id` at line 1 column 42 (byte 41), expected u64",
        "field `lines[1].sku`: invalid type: integer `5`, expected a string at line 1 column 86 (byte 85)",
        "not JSON: field `customer`: EOF while parsing a value at line 1 column 27 (byte 25)",
        "missing field `orderId` at line 1 column 38 (byte 37), expected u64",
    ];
    fn check<C: devour::plugin::Exported>(wrong: &[&str], expected: &[&str]) {
        let mut tester = Tester::<C>::new().unwrap();
        for (json, expected) in wrong.iter().zip(expected) {
            let report = tester.feed([TestMessage::json(json)]);
            assert_eq!(undecodable(&report.outcomes[0]), *expected, "{json}");
        }
    }
    check::<Whatever>(&wrong, &expected);
    check::<Itself>(&wrong, &expected);
    check::<Some2>(&wrong, &expected);
    check::<Later>(&wrong, &expected);
}

#[test]
fn a_tombstone_is_what_it_is_without_a_schema() {
    let report = Tester::<Whatever>::new()
        .unwrap()
        .feed([TestMessage::tombstone()]);
    assert_eq!(rejected(&report.outcomes[0]), "null");
    let report = Tester::<Itself>::new().unwrap().feed([TestMessage::tombstone()]);
    assert_eq!(report.outcomes[0], Outcome::Passed);
}

#[test]
fn the_attributes_of_a_schema_stand_in_the_descriptor() {
    let descriptor = Tester::<Whatever>::descriptor(json!({})).unwrap();
    assert_eq!(descriptor.schema_class.as_deref(), Some("Order"));
    let schema = descriptor.schema.unwrap();
    assert_eq!(
        schema.to_string(),
        "{ orderId: u64, customer: Customer { id: u64, name: String }, lines: Vec<Line> { sku: String }, \
         payer: Option<Customer>, type: Option<String>, kind: Option<String>, tags: Option<Vec<String>> }"
    );
    let shown = json!(schema);
    assert_eq!(
        shown["attributes"][1]["schema"]["attributes"][0],
        json!({"name": "id", "type": "u64"})
    );
    assert_eq!(AnySchema::of::<Everything>().info().to_string(), "{ all }");
    assert_eq!(
        AnySchema::of::<Borrowing<'_>>().info().to_string(),
        "{ text: &'a str, inner: std::borrow::Cow<'a, str> }"
    );
}
