//! What the boundary itself costs: a call of 1,000 messages of 100 bytes into a plugin's library that adds up their
//! lengths, without Kafka and without a lane.

use std::{hint::black_box, sync::Arc, time::Instant};

use abi_stable::std_types::{ROption, RSlice, RStr};
use devour_abi::{
    Call, CallCell, CallHost, ConstructRequest, CutNumber, Failure, HeaderView, Host, HostServices,
    HostedCall, LogLevel, MessageView, OwnedMessage, ProduceRecord, TimestampType,
};
use devourd::{
    plugin::{Store, open_copy},
    settings::FileChecks,
};
use serde_json::json;

use crate::{
    Effort, Result,
    daemon::built,
    figure::{Bench, Figure},
};

pub(crate) const BENCH: Bench = Bench::alone("abi_batch_1000_ns", "ns");

const MESSAGES: usize = 1000;

/// A host that nobody asks for anything.
struct Silent;

pub(crate) fn measure(effort: Effort) -> Result<Figure> {
    let library = Store::in_memory().admit(&built()?.join("libdevour_test_sum.so"), FileChecks::Off)?;
    let module = open_copy(&library, "Sum")?;
    // Far more messages than will come.
    let settings =
        json!({ "warm_up": 1u64 << 60, "measured": 1, "report": "/dev/null", "beside_daemon": false });
    let request = ConstructRequest {
        route: "bench".into(),
        lanes: 1,
        generation: 1,
        settings,
        ..Default::default()
    };
    let mut instance = module
        .construct_instance(&request, Host::new(Arc::new(Silent)))
        .map_err(|failure| format!("the plugin cannot be constructed: {}", failure.message))?;

    let payload = vec![b'x'; MESSAGES * 100];
    let views: Vec<MessageView<'_>> = payload
        .chunks(100)
        .zip(0i64..)
        .map(|(value, offset)| view(value, offset))
        .collect();
    let (cell, cut) = (CallCell::new(), CutNumber::new());
    let mut number = 0;
    let mut values = Vec::new();
    let calls = (effort.seconds * 20_000.0) as u64;
    for _ in 0..effort.runs {
        let begin = Instant::now();
        for _ in 0..calls {
            number += 1;
            let returned = instance.digest(&Call {
                number,
                messages: RSlice::from_slice(black_box(&views)),
                released: RSlice::EMPTY,
                held: RSlice::EMPTY,
                hold_on_reject: true,
                cell: &cell,
                cut: &cut,
                host: CallHost::new(&Silent),
                more: ROption::RNone,
            });
            if returned.finished as usize != MESSAGES || returned.broken.is_some() {
                return Err(format!("the plugin did not digest a call: {returned:?}").into());
            }
        }
        values.push(begin.elapsed().as_nanos() as f64 / (calls * MESSAGES as u64) as f64);
    }
    Ok(Figure { bench: BENCH, values })
}

fn view(value: &[u8], offset: i64) -> MessageView<'_> {
    MessageView {
        topic: RStr::from_str("bench"),
        key: ROption::RNone,
        payload: ROption::RSome(RSlice::from_slice(value)),
        offset,
        timestamp_ms: 0,
        order_tag: 0,
        partition: 0,
        attempt: 1,
        timestamp_type: TimestampType::CREATE_TIME,
        more: ROption::RNone,
    }
}

impl HostedCall for Silent {
    fn failed(&self, _: u32, _: Failure) {}

    fn not_begun(&self, _: u32, _: u32) {}

    fn headers(&self, _: u32) -> &[HeaderView<'_>] {
        &[]
    }

    fn take(&self, _: u32) -> std::result::Result<OwnedMessage, String> {
        Err("nothing can be taken here".into())
    }
}

impl HostServices for Silent {
    fn log(&self, _: LogLevel, _: &str, _: &str, _: &str) {}

    fn log_enabled(&self, _: LogLevel) -> bool {
        false
    }

    fn count(&self, _: &str, _: u64) {}

    fn time(&self, _: &str, _: u64) {}

    fn settings(&self) -> String {
        String::new()
    }

    fn stop_requested(&self) -> bool {
        false
    }

    fn produce(&self, _: &ProduceRecord<'_>) -> std::result::Result<(), String> {
        Err("nothing can be produced here".into())
    }

    fn pause(&self, _: &str, _: i32) -> std::result::Result<(), String> {
        Err("nothing can be paused here".into())
    }

    fn resume(&self, _: &str, _: i32) -> std::result::Result<(), String> {
        Err("nothing can be resumed here".into())
    }
}
