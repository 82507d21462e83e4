//! What devourd is compared with: librdkafka and nothing else, in a process of its own, with the daemon's allocator and
//! with the properties that the daemon would give its client for the same settings file. A batch loop for what is about
//! throughput; a poll loop, one message a call, for what is about latency.

use std::{path::Path, time::Duration};

use devour_test_sum::{
    LatencySettings, PassSettings, SumSettings,
    latency::Ages,
    moment::{Measured, Meter},
};
use devourd::{
    kafka::{
        Batch, ClientProperties, Consumer, Rebalance, Revocation, Start, TopicPartition, consumer_properties,
        output_properties,
    },
    settings::{ConsumerType, ProcessEnvironment, Route, Topics, load},
};
use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord},
};

use crate::{Result, daemon::ROUTE, data::produce_one};

/// The one route of a settings file.
pub(crate) struct Bare {
    route: Route,
    topics: Vec<String>,
    properties: ClientProperties,
}

/// Takes what comes, from where the properties say.
struct Anything;

impl Rebalance for Anything {
    fn assigned(&mut self, _: &Consumer, _: Vec<TopicPartition>) -> Vec<Start> {
        Vec::new()
    }

    fn revoked(&mut self, _: &Consumer, _: Vec<TopicPartition>, _: Revocation) {}
}

const CLOSES_WITHIN: Duration = Duration::from_secs(10);

/// Does what the route's plugin would do, without a plugin.
pub(crate) fn run(settings: &Path) -> Result<()> {
    let bare = Bare::of(settings)?;
    match bare.route.symbol.as_str() {
        "Latency" => bare.poll(),
        "Pass" => bare.pass(),
        symbol => bare.sum(symbol == "SumHeaders"),
    }
}

// === impl Bare ===

impl Bare {
    pub(crate) fn of(settings: &Path) -> Result<Self> {
        let settings = load(settings, &ProcessEnvironment).map_err(|findings| format!("{findings:?}"))?;
        let route = settings.route(ROUTE).ok_or("no such route")?.clone();
        let Some(Topics::Names(topics)) = route.topic.clone() else {
            return Err("the route names no topic".into());
        };
        let properties = consumer_properties(
            &route.cluster,
            ConsumerType::Balanced,
            &route.config,
            &route.name,
            None,
        )
        .map_err(|findings| format!("{findings:?}"))?;
        Ok(Self {
            route,
            topics,
            properties,
        })
    }

    /// Reads batches until `took` has had enough.
    pub(crate) fn batches(&self, mut took: impl FnMut(&Batch) -> Result<bool>) -> Result<()> {
        let client = Consumer::create(&self.properties, self.route.name.clone())?;
        client.subscribe(&self.topics)?;
        let size = self.route.batch.max_messages;
        let mut batch = Batch::with_capacity(size);
        loop {
            client.batch(size, Duration::from_secs(1), &mut Anything, &mut batch)?;
            if !batch.is_empty() && took(&batch)? {
                break;
            }
        }
        batch.clear();
        let _ = client.close(CLOSES_WITHIN, &mut Anything);
        Ok(())
    }

    fn sum(&self, with_headers: bool) -> Result<()> {
        let asked: SumSettings = serde_json::from_value(self.route.settings.clone())?;
        let mut meter = Meter::new(None);
        let (mut messages, mut bytes, mut next) = (0, 0, asked.warm_up);
        let (mut header_bytes, mut header_bytes_before) = (0, 0);
        self.batches(|batch| {
            for message in batch.iter() {
                bytes += message.payload().map_or(0, <[u8]>::len) as u64;
                if with_headers {
                    for (_, value) in message.headers() {
                        header_bytes += value.map_or(0, <[u8]>::len) as u64;
                    }
                }
            }
            messages += batch.len() as u64;
            if messages < next {
                return Ok(false);
            }
            next = asked.warm_up + asked.measured;
            match meter.mark(messages, bytes)? {
                None => header_bytes_before = header_bytes,
                Some(measured) => {
                    Measured {
                        header_bytes: header_bytes - header_bytes_before,
                        ..measured
                    }
                    .write(&asked.report)?;
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// As much as librdkafka has room for by itself.
    fn pass(&self) -> Result<()> {
        let asked: PassSettings = serde_json::from_value(self.route.settings.clone())?;
        let properties =
            output_properties(&self.route.cluster).map_err(|findings| format!("{findings:?}"))?;
        let producer: BaseProducer = properties
            .client_config()
            .set("queue.buffering.max.messages", "100000")
            .create()?;
        let mut meter = Meter::new(None);
        let (mut messages, mut bytes, mut next) = (0, 0, asked.sum.warm_up);
        self.batches(|batch| {
            for message in batch.iter() {
                let value = message.payload().unwrap_or_default();
                bytes += value.len() as u64;
                produce_one(&producer, BaseRecord::to(&asked.to).payload(value))?;
            }
            producer.poll(Duration::ZERO);
            messages += batch.len() as u64;
            if messages < next {
                return Ok(false);
            }
            next = asked.sum.warm_up + asked.sum.measured;
            match meter.mark(messages, bytes)? {
                None => Ok(false),
                Some(measured) => {
                    measured.write(&asked.sum.report)?;
                    Ok(true)
                }
            }
        })
    }

    fn poll(&self) -> Result<()> {
        let asked: LatencySettings = serde_json::from_value(self.route.settings.clone())?;
        let mut ages = Ages::new(asked);
        let client: BaseConsumer = self.properties.client_config().create()?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics)?;
        loop {
            if let Some(polled) = client.poll(Duration::from_secs(1))
                && ages.take(polled?.payload())?
            {
                return Ok(());
            }
        }
    }
}
