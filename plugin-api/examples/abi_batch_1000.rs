//! What the boundary costs a message: a raw digest that sums lengths, called through an instance's table of functions in
//! batches of 1,000. `cargo run --release -p devour --example abi_batch_1000` prints the median of five runs, in time on
//! the processor, so that other work on the machine counts less.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use devour::{
    abi::{
        Call, CallCell, CallHost, ConstructRequest, ConsumerModuleRef, CutNumber, Failure, HeaderView, Host,
        HostServices, HostedCall, LifecycleCall, LogLevel, MessageView, OwnedMessage, ProduceRecord,
        TimestampType, abi_stable::std_types::ROption,
    },
    prelude::*,
};

#[derive(Default)]
pub struct SumLengths {
    total: u64,
}

#[consumer(topic = "bench", dump_raw)]
impl SumLengths {
    fn digest(&mut self, _offset: i64, payload: Raw<'_>) -> Result<(), DigestError> {
        self.total += payload.bytes().len() as u64;
        Ok(())
    }

    fn stopped(&mut self) {
        TOTAL.store(self.total, Ordering::Relaxed);
    }
}

/// What the consumer summed up, so that nobody can say that it did nothing.
static TOTAL: AtomicU64 = AtomicU64::new(0);

struct Nothing;

impl HostServices for Nothing {
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
    fn produce(&self, _: &ProduceRecord<'_>) -> Result<(), String> {
        Ok(())
    }
    fn pause(&self, _: &str, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn resume(&self, _: &str, _: i32) -> Result<(), String> {
        Ok(())
    }
}

impl HostedCall for Nothing {
    fn failed(&self, _: u32, _: Failure) {}
    fn not_begun(&self, _: u32, _: u32) {}
    fn headers(&self, _: u32) -> &[HeaderView<'_>] {
        &[]
    }
    fn take(&self, _: u32) -> Result<OwnedMessage, String> {
        Err("not here".to_owned())
    }
}

fn main() -> Result<(), String> {
    const BATCH: usize = 1_000;
    const CALLS: u64 = 100_000;
    let payload = [7u8; 100];
    let view = |offset| MessageView {
        topic: "bench".into(),
        key: ROption::RNone,
        payload: ROption::RSome(payload.as_slice().into()),
        offset,
        timestamp_ms: -1,
        order_tag: 1,
        partition: 0,
        attempt: 1,
        timestamp_type: TimestampType::NOT_AVAILABLE,
        more: ROption::RNone,
    };
    let views: Vec<MessageView<'_>> = (0i64..).map(view).take(BATCH).collect();
    let module = ConsumerModuleRef::of::<devour::shim::Shim<SumLengths>>();
    let mut instance = module
        .construct_instance(&ConstructRequest::default(), Host::new(Arc::new(Nothing)))
        .map_err(|failure| failure.message.into_string())?;
    let (cell, cut, host) = (CallCell::new(), CutNumber::new(), Nothing);
    let mut runs: Vec<f64> = Vec::new();
    for run in 0..5 {
        let begun = on_processor()?;
        for call in 1..=CALLS {
            let returned = instance.digest(&Call {
                number: run * CALLS + call,
                messages: views.as_slice().into(),
                released: [].as_slice().into(),
                held: [].as_slice().into(),
                hold_on_reject: false,
                cell: &cell,
                cut: &cut,
                host: CallHost::new(&host),
                more: ROption::RNone,
            });
            assert_eq!(returned.finished as usize, BATCH);
        }
        runs.push((on_processor()? - begun) / (CALLS as f64 * BATCH as f64));
    }
    instance
        .lifecycle(&LifecycleCall::Stopped)
        .map_err(|failure| failure.message.into_string())?;
    let expected = 5 * CALLS * BATCH as u64 * payload.len() as u64;
    assert_eq!(TOTAL.load(Ordering::Relaxed), expected, "bytes summed up");
    runs.sort_by(f64::total_cmp);
    println!(
        "{:.2} ns a message (of five runs: {:.2} to {:.2})",
        runs[2], runs[0], runs[4]
    );
    Ok(())
}

/// Nanoseconds that this thread was on a processor.
fn on_processor() -> Result<f64, String> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").map_err(|error| error.to_string())?;
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .ok_or_else(|| format!("schedstat: {text}"))
}
