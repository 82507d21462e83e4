//! What devourd is compared with: librdkafka's batch loop and nothing else, in a process of its own, with the daemon's
//! allocator and with the properties that the daemon would give its client for the same settings file.

use std::{path::Path, time::Duration};

use devour_test_sum::{SumSettings, moment::Meter};
use devourd::{
    kafka::{Batch, Consumer, Rebalance, Revocation, Start, TopicPartition, consumer_properties},
    settings::{ConsumerType, ProcessEnvironment, Topics, load},
};

use crate::{Result, daemon::ROUTE};

/// Takes what comes, from where the properties say.
struct Anything;

impl Rebalance for Anything {
    fn assigned(&mut self, _: &Consumer, _: Vec<TopicPartition>) -> Vec<Start> {
        Vec::new()
    }

    fn revoked(&mut self, _: &Consumer, _: Vec<TopicPartition>, _: Revocation) {}
}

const CLOSES_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn run(settings: &Path) -> Result<()> {
    let settings = load(settings, &ProcessEnvironment).map_err(|findings| format!("{findings:?}"))?;
    let route = settings.route(ROUTE).ok_or("no such route")?;
    let Some(Topics::Names(topics)) = &route.topic else {
        return Err("the route names no topic".into());
    };
    let asked: SumSettings = serde_json::from_value(route.settings.clone())?;
    let properties = consumer_properties(
        &route.cluster,
        ConsumerType::Balanced,
        &route.config,
        &route.name,
        None,
    )
    .map_err(|findings| format!("{findings:?}"))?;
    let client = Consumer::create(&properties, route.name.clone())?;
    client.subscribe(topics)?;

    let mut batch = Batch::with_capacity(route.batch.max_messages);
    let mut meter = Meter::new(None);
    let (mut messages, mut bytes, mut next) = (0, 0, asked.warm_up);
    let measured = loop {
        client.batch(
            route.batch.max_messages,
            Duration::from_secs(1),
            &mut Anything,
            &mut batch,
        )?;
        for message in batch.iter() {
            bytes += message.payload().map_or(0, <[u8]>::len) as u64;
        }
        messages += batch.len() as u64;
        if messages >= next && !batch.is_empty() {
            next = asked.warm_up + asked.measured;
            if let Some(measured) = meter.mark(messages, bytes)? {
                break measured;
            }
        }
    };
    measured.write(&asked.report)?;
    batch.clear();
    let _ = client.close(CLOSES_WITHIN, &mut Anything);
    Ok(())
}
