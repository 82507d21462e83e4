//! What one run of the scenarios changes in every route that does not say it itself: `DEVOUR_TEST_ROUTE`, a JSON object
//! of a route's keys, such as `{"concurrency": {"order": "key", "lanes": 4}}`. The judge asks for the order that it names.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::judge::Order;

const VARIABLE: &str = "DEVOUR_TEST_ROUTE";

static KEYS: LazyLock<Map<String, Value>> = LazyLock::new(|| match std::env::var(VARIABLE) {
    Ok(text) if !text.is_empty() => serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{VARIABLE}={text} is no JSON object: {error}")),
    _ => Map::new(),
});

/// A route's keys, and those of the variant that it has not.
pub(crate) fn vary(mut route: Value) -> Value {
    if let Value::Object(route) = &mut route {
        lay_under(route, &KEYS);
    }
    route
}

/// The order that a variant's routes keep: that of a route without one, a partition's.
pub fn order() -> Order {
    match KEYS
        .get("concurrency")
        .and_then(|keys| keys.get("order")?.as_str())
    {
        Some("key") => Order::Key,
        Some("none") => Order::None,
        _ => Order::Partition,
    }
}

fn lay_under(there: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        match (there.get_mut(key), value) {
            (None, value) => {
                there.insert(key.clone(), value.clone());
            }
            (Some(Value::Object(there)), Value::Object(more)) => lay_under(there, more),
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_route_says_itself_stays() {
        let mut route = json!({"batch": {"max_messages": 50}, "isolation": "thread"});
        let more =
            json!({"batch": {"max_messages": 7, "max_bytes": 100}, "isolation": "process", "memory": 1});
        if let (Value::Object(route), Value::Object(more)) = (&mut route, &more) {
            lay_under(route, more);
        }
        assert_eq!(
            route,
            json!({"batch": {"max_messages": 50, "max_bytes": 100}, "isolation": "thread", "memory": 1})
        );
    }
}
