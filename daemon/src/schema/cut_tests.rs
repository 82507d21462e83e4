#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::settings;

fn schema(yaml: &str) -> Attributes {
    fn named(value: &Value) -> settings::Attributes {
        let attribute = |item: &Value| match item {
            Value::String(name) => settings::Attribute {
                name: name.clone(),
                attributes: None,
            },
            Value::Object(map) => {
                let (name, inner) = map.iter().next().unwrap();
                settings::Attribute {
                    name: name.clone(),
                    attributes: Some(named(inner)),
                }
            }
            other => panic!("{other}"),
        };
        settings::Attributes(value.as_array().unwrap().iter().map(attribute).collect())
    }
    Attributes::from(&named(&serde_yaml::from_str(yaml).unwrap()))
}

fn cut(attributes: &Attributes, text: &str) -> Result<String, CutError> {
    let mut pieces = Pieces::default();
    pieces.cut(text.as_bytes(), attributes)?;
    let mut out = vec![0; pieces.len()];
    pieces.write(text.as_bytes(), &mut out);
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn what_is_named_is_taken_and_what_is_taken_stays_as_it_was_written() {
    let schema = schema("[id, {customer: [id, name]}]");
    let same = |text: &str| assert_eq!(cut(&schema, text).unwrap(), text);
    let becomes = |text: &str, expected: &str| assert_eq!(cut(&schema, text).unwrap(), expected);
    same(r#" { "id" : 7 , "customer":{"id":1} } "#);
    same("{}");
    same("[ ]");
    same("7");
    same(r#"{"id":123456789012345678901234567890.000e-9999}"#);
    same(r#"{"id":1,"id":2}"#);
    becomes(
        r#"{"a":1,"id":7,"b":{"id":[{}]},"customer":{"card":"4111","name":"\"Ad\u0061"}}"#,
        r#"{"id":7,"customer":{"name":"\"Ad\u0061"}}"#,
    );
    becomes(r#"{"x": [1, 2], "y": {}}"#, "{}");
    // A name with escapes is the name that it stands for.
    becomes(r#"{"i\u0064":7,"i\u0065":8}"#, r#"{"i\u0064":7}"#);
    // Objects in arrays are cut, other values of an attribute taken.
    becomes(
        r#"{"customer":[{"id":1,"x":2},[{"name":"n","x":1}],"Ada",null]}"#,
        r#"{"customer":[{"id":1},[{"name":"n"}],"Ada",null]}"#,
    );
    becomes(r#"[{"id":1,"x":1},{"x":1}]"#, r#"[{"id":1},{}]"#);
    becomes(r#"{"id":{"x":{"y":1}},"z":0}"#, r#"{"id":{"x":{"y":1}}}"#);
}

#[test]
fn what_is_no_json_says_where_and_what_was_expected() {
    let schema = schema("[id]");
    let error = |text: &str| cut(&schema, text).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"id": 1, "note": tru}"#),
        "not JSON: expected a value, found `}` at byte 21"
    );
    assert_eq!(
        error(r#"{"id" 1}"#),
        "not JSON: expected `:`, found `1` at byte 6"
    );
    assert_eq!(
        error(r#"{"x": [1, {"y": "z]}"#),
        "not JSON: expected the end of a string, found the end at byte 20"
    );
    assert_eq!(error("{} {}"), "not JSON: expected the end, found `{` at byte 3");
    assert_eq!(error("héllo"), "not JSON: expected a value, found `h` at byte 0");
    assert_eq!(error(""), "the value is empty, expected JSON");
    let mut pieces = Pieces::default();
    let error = pieces.cut(b"{\"id\": \"\xff\"}", &schema).unwrap_err();
    assert_eq!(error.to_string(), "not JSON: not UTF-8 at byte 8");
}

#[test]
fn what_is_dropped_or_taken_whole_may_be_deep_and_what_is_cut_may_not() {
    let schema = schema("[id]");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(cut(&schema, &format!(r#"{{"x":{deep}}}"#)).unwrap(), "{}");
    let whole = format!(r#"{{"id":{deep}}}"#);
    assert_eq!(cut(&schema, &whole).unwrap(), whole);
    assert_eq!(cut(&schema, &deep), Err(CutError::TooDeep { at: 129 }));
}

/// A value of JSON as it may be written.
#[derive(Clone, Debug)]
enum Json {
    Scalar(String),
    Array(Vec<Json>),
    /// Names as they are written, and what they stand for.
    Object(Vec<((String, String), Json)>),
}

/// What a schema leaves of it, by another way.
fn leave(json: &Json, attributes: &Attributes) -> Json {
    match json {
        Json::Scalar(_) => json.clone(),
        Json::Array(items) => Json::Array(items.iter().map(|item| leave(item, attributes)).collect()),
        Json::Object(members) => {
            let kept = members.iter().filter_map(|(name, value)| {
                Some(match attributes.find(name.1.as_bytes())? {
                    Take::Whole => (name.clone(), value.clone()),
                    Take::Cut(inner) => (name.clone(), leave(value, inner)),
                })
            });
            Json::Object(kept.collect())
        }
    }
}

/// Writes it, with the next of `spaces` wherever space may be.
fn write(json: &Json, spaces: &mut dyn FnMut() -> &'static str) -> String {
    let space = spaces();
    let body = match json {
        Json::Scalar(text) => text.clone(),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| write(item, spaces)).collect();
            format!("[{}{}]", spaces(), items.join(","))
        }
        Json::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|((name, _), value)| {
                    let (before, after) = (spaces(), spaces());
                    format!("{before}{name}{after}:{}", write(value, spaces))
                })
                .collect();
            format!("{{{}{}}}", spaces(), members.join(","))
        }
    };
    format!("{space}{body}{}", spaces())
}

/// The text without the space between its tokens.
fn dense(text: &str) -> String {
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for letter in text.chars() {
        if inside {
            inside = letter != '"' || escaped;
            escaped = letter == '\\' && !escaped;
        } else if letter.is_ascii_whitespace() {
            continue;
        } else {
            inside = letter == '"';
        }
        out.push(letter);
    }
    out
}

fn names() -> impl Strategy<Value = (String, String)> {
    let plain = prop_oneof![
        Just("id"),
        Just("name"),
        Just("customer"),
        Just("x"),
        Just(""),
        Just("a\"b\\"),
        Just("größe")
    ];
    (plain, any::<u8>()).prop_map(|(name, escapes)| {
        let write = |(at, letter): (usize, char)| {
            if escapes >> (at % 8) & 1 == 1 || letter == '"' || letter == '\\' {
                format!("\\u{:04x}", letter as u32)
            } else {
                letter.to_string()
            }
        };
        let written: String = name.chars().enumerate().map(write).collect();
        (format!("\"{written}\""), name.to_owned())
    })
}

fn json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?",
        Just("-0.0".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud83d\ude00 \/ \b {[,:]}""#.to_owned()),
    ];
    scalar.prop_map(Json::Scalar).prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            proptest::collection::vec((names(), inner), 0..6).prop_map(Json::Object),
        ]
    })
}

fn written() -> impl Strategy<Value = (Json, String)> {
    let spaces = proptest::collection::vec(
        prop_oneof![3 => Just(""), 1 => Just(" "), 1 => Just("\n\t\r ")],
        1..9,
    );
    (json(), spaces).prop_map(|(json, spaces)| {
        let mut next = spaces.into_iter().cycle();
        let text = write(&json, &mut || next.next().unwrap());
        (json, text)
    })
}

fn schemas() -> impl Strategy<Value = Attributes> {
    prop_oneof![
        Just("[id]"),
        Just("[id, {customer: [id, name]}]"),
        Just("[größe, {customer: [{customer: [x, 'a\"b\\']}, id]}, '']"),
        Just("[nothing]"),
    ]
    .prop_map(schema)
}

/// Decode, drop: what is there twice counts as it does to the decoder, the last.
fn decode_and_drop(value: Value, attributes: &Attributes) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter_map(|(name, value)| match attributes.find(name.as_bytes())? {
                Take::Whole => Some((name, value)),
                Take::Cut(inner) => Some((name, decode_and_drop(value, inner))),
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| decode_and_drop(item, attributes))
            .collect(),
        other => other,
    }
}

proptest! {
    /// The cut leaves what the schema names, byte for byte as it was written, numbers and escapes and doubles too; what
    /// a decoder makes of it is what it makes of the whole, less what was dropped.
    #[test]
    fn cutting_is_decoding_dropping_and_encoding((json, text) in written(), attributes in schemas()) {
        let result = cut(&attributes, &text).unwrap();
        let expected = write(&leave(&json, &attributes), &mut || "");
        prop_assert_eq!(dense(&result), expected, "{}", &text);
        let whole: Value = serde_json::from_str(&text).unwrap();
        let left: Value = serde_json::from_str(&result).unwrap();
        prop_assert_eq!(left, decode_and_drop(whole, &attributes));
    }

    #[test]
    fn cutting_is_idempotent((_, text) in written(), attributes in schemas()) {
        let once = cut(&attributes, &text).unwrap();
        prop_assert_eq!(cut(&attributes, &once).unwrap(), once);
    }

    /// What is taken for JSON is what serde_json takes for it, in what is dropped as in what is taken.
    #[test]
    fn what_is_no_json_is_refused(
        (_, text) in written(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![Just(""), Just("\""), Just("\\"), Just("0"), Just("}"), Just("]"), Just(","), Just(":"), Just("\u{1}"), Just("e")],
        attributes in schemas(),
    ) {
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let place = places[at.index(places.len())];
        let length = text[place..].chars().next().unwrap().len_utf8();
        let broken = format!("{}{with}{}", &text[..place], &text[place + length..]);
        let taken = serde_json::from_str::<serde::de::IgnoredAny>(&broken).is_ok();
        prop_assert_eq!(cut(&attributes, &broken).is_ok(), taken, "{}", broken);
    }
}
