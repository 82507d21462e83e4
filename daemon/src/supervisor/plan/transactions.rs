//! `delivery: exactly_once`: what the transactions of a route are made of, and what the plugin's side of the route has to be
//! for them.

use std::time::Duration;

use devour_abi::Descriptor;

use super::{Choices, PlanFinding};
use crate::{
    kafka,
    settings::{ConsumerType, Delivery, Route},
    worker::{WorkerConfig, transaction::TransactionConfig},
};

/// The transactions of a route; `None` where it has none. `id` is the same after every restart, and no other route's.
pub(super) fn config(
    route: &Route,
    descriptor: &Descriptor,
    choices: &Choices,
    id: &str,
) -> Result<Option<TransactionConfig>, Vec<PlanFinding>> {
    if route.delivery != Delivery::ExactlyOnce {
        return Ok(None);
    }
    let mut findings = Vec::new();
    let mut refuse = |why: &str| {
        findings.push(PlanFinding::new(
            "delivery",
            format!("{why}: `delivery: at_least_once`"),
        ))
    };
    if choices.consumer_type != ConsumerType::Balanced {
        refuse(
            "exactly_once needs a balanced_consumer with a consumer_group, which tells who may commit; else",
        );
    }
    if !choices.config.commits() {
        refuse(
            "exactly_once commits offsets in transactions, and the plugin says `auto_commit_enable: false`",
        );
    }
    if descriptor.keeps_offsets {
        refuse("the plugin keeps its own offsets, which are in no transaction of Kafka");
    }
    if descriptor.buffering {
        refuse("the plugin buffers: what it has taken spans transactions");
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let told = |findings: Vec<kafka::PropertyFinding>| {
        findings.into_iter().map(PlanFinding::from).collect::<Vec<_>>()
    };
    let properties = kafka::transaction_properties(&route.cluster, id).map_err(told)?;
    let findings = kafka::check_sender(&properties);
    if !findings.is_empty() {
        return Err(told(findings));
    }
    let timeout = Duration::from_millis(properties.transaction_timeout_ms());
    Ok(Some(TransactionConfig { properties, timeout }))
}

/// A digest may take a quarter of a transaction's time: what it began with must be able to end in the rest.
pub(super) fn bound(worker: &mut WorkerConfig) {
    if let Some(transaction) = &worker.transaction {
        let most = transaction.timeout / 4;
        let deadline = &mut worker.home.digest_timeout;
        *deadline = Some(deadline.map_or(most, |asked| asked.min(most)));
    }
}
