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
