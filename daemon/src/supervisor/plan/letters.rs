//! The dead-letter topic of a route: what its letters are made of, and that the route does not read them itself.

use devour_abi::Descriptor;

use super::PlanFinding;
use crate::{
    kafka::{self, TopicPattern},
    settings::{Route, Then},
    worker::dead_letter::{DeadLetterConfig, headers::Origin},
};

/// What the dead letters of a route are made of; `None` where it has none.
pub(super) fn config(
    route: &Route,
    descriptor: &Descriptor,
    group: Option<String>,
) -> Result<Option<DeadLetterConfig>, Vec<PlanFinding>> {
    let (Then::DeadLetter, Some(to)) = (route.on_error.then, &route.on_error.dead_letter) else {
        return Ok(None);
    };
    let told = |findings: Vec<kafka::PropertyFinding>| {
        findings.into_iter().map(PlanFinding::from).collect::<Vec<_>>()
    };
    let properties = kafka::sender_properties(&route.cluster).map_err(told)?;
    let findings = kafka::check_sender(&properties);
    if !findings.is_empty() {
        return Err(told(findings));
    }
    Ok(Some(DeadLetterConfig {
        to: to.clone(),
        origin: Origin {
            route: route.name.clone(),
            group,
            plugin: descriptor.package.clone(),
            version: descriptor.version.clone(),
            symbol: route.symbol.clone(),
        },
        properties,
    }))
}

/// Why the route would digest its own dead letters, if it would. Where the route names its topics this is found with
/// the settings; the plugin's topics, and what a pattern matches, are known here only.
pub(super) fn comes_back(route: &Route, topics: &[String]) -> Option<String> {
    let dead = &route.on_error.dead_letter.as_ref()?.topic;
    let excluded = route.cluster.exclude_internal_topics && kafka::is_internal(dead);
    let reads = |topic: &&String| match TopicPattern::new(topic) {
        Ok(pattern) if kafka::is_pattern(topic) => !excluded && pattern.matches(dead),
        _ => *topic == dead,
    };
    let topic = topics.iter().find(reads)?;
    Some(if topic == dead {
        format!(
            "the route itself reads its dead-letter topic `{dead}`: a dead letter would come back for ever"
        )
    } else {
        format!(
            "the route's `{topic}` matches its own dead-letter topic `{dead}`: a dead letter would come back for ever. \
             Choose a name that it does not match"
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{self, ProcessEnvironment};

    /// A route with dead letters in `dead`, that takes its topics from its plugin.
    fn route(dead: &str, more: &str) -> Route {
        let text = format!(
            "hosts: h:9092\n{more}\nconsumer_routes:\n  orders:\n    path: liborders.so\n    symbol: Orders\n    on_error: \
             {{ then: dead_letter, dead_letter: {{ topic: {dead} }} }}\n"
        );
        let settings = settings::parse(Path::new("s.yaml"), text.as_bytes(), &ProcessEnvironment);
        settings.unwrap().routes.remove(0)
    }

    fn refused(dead: &str, more: &str, topics: &[&str]) -> Option<String> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        comes_back(&route(dead, more), &topics)
    }

    #[test]
    fn a_dead_letter_topic_that_the_route_reads_is_refused_however_it_reads_it() {
        for topics in [
            &["orders.dead"][..],
            &["orders", "orders.dead"],
            &["^orders"],
            &["other", "^.*\\.dead$"],
        ] {
            let error = refused("orders.dead", "", topics).unwrap();
            assert!(
                error.contains("`orders.dead`") && error.contains("for ever"),
                "{error}"
            );
        }
        for topics in [&["orders"][..], &["^orders\\.[0-9]+$"], &["order.?.dead"]] {
            assert_eq!(refused("orders.dead", "", topics), None, "{topics:?}");
        }
    }

    #[test]
    fn a_pattern_that_passes_over_internal_topics_does_not_read_one() {
        assert_eq!(refused("__dead", "", &["^.*"]), None);
        assert!(refused("__dead", "exclude_internal_topics: false", &["^.*"]).is_some());
        assert!(refused("__dead", "", &["__dead"]).is_some());
    }

    #[test]
    fn only_a_route_that_sends_dead_letters_has_what_they_are_made_of() {
        let descriptor: Descriptor = serde_json::from_value(serde_json::json!({
            "abi": "1.0.0", "package": "orders-plugin", "version": "1.2.3", "symbol": "Orders",
        }))
        .unwrap();
        let mut route = route("orders.dead", "librdkafka: { acks: 1 }");
        let config = config(&route, &descriptor, Some("billing".to_owned()))
            .unwrap()
            .unwrap();
        assert_eq!(config.origin.plugin, "orders-plugin");
        assert_eq!(
            config.properties.get("acks"),
            Some("all"),
            "not as other producers'"
        );
        route.on_error.then = Then::Stop;
        assert!(super::config(&route, &descriptor, None).unwrap().is_none());
    }
}
