//! Between an author's type and the boundary: describes and makes consumers, and leads them through calls and life.

use std::marker::PhantomData;

use devour_abi::{
    ABI_VERSION, Call, CallReturn, ConstructRequest, DescribeRequest, Descriptor, Failure, FailureKind, Host,
    Instance, LifecycleAnswer, LifecycleCall, PluginConsumer, PluginInstance,
};
use serde_json::{Map, Value};

use crate::{
    ConsumerContext, Revoked,
    extract::describe_modes,
    log,
    plugin::{DigestEntry, Exported, Plugin},
    run::Lane,
};

/// Counter of the tombstones that a digest with JSON parameters passed over.
pub const TOMBSTONES_PASSED: &str = "tombstones_passed";

/// What the symbol of `C` stands for.
pub struct Shim<C>(PhantomData<C>);

/// An instance of `C` as the host calls it.
struct Running<C> {
    consumer: C,
    run: fn(&mut C, &Call<'_>, &mut Lane) -> CallReturn,
    lane: Lane,
    context: ConsumerContext,
}

// === impl Shim ===

impl<C: Exported> PluginConsumer for Shim<C> {
    fn describe(request: DescribeRequest) -> Result<Descriptor, Failure> {
        let mut attributes = C::attributes();
        // Settings that do not fit are a finding of `check`; what the consumer is can be said without them.
        if let Ok(settings) = read_settings::<C>(request.settings) {
            attributes = C::describe(&settings, attributes);
        }
        let headers = attributes.headers();
        let mut descriptor = attributes.into_descriptor();
        descriptor.abi = ABI_VERSION.to_owned();
        descriptor.package = C::PACKAGE.to_owned();
        descriptor.version = C::VERSION.to_owned();
        descriptor.symbol = C::SYMBOL.to_owned();
        descriptor.digests = C::digests().into_iter().map(|entry| entry.info).collect();
        for digest in &mut descriptor.digests {
            digest.reads_headers = headers.unwrap_or(digest.reads_headers);
        }
        descriptor.settings_schema = Some(schemars::schema_for!(C::Settings).to_value());
        Ok(descriptor)
    }

    fn check(settings: Value) -> Vec<String> {
        match read_settings::<C>(settings) {
            Ok(settings) => C::check(&settings),
            Err(error) => vec![error],
        }
    }

    fn construct(request: ConstructRequest, host: Host) -> Result<Instance, Failure> {
        log::install();
        let context = ConsumerContext::new(host, &request);
        let entered = context.enter();
        let refuse = |text: String| Failure::new(FailureKind::FATAL, text);
        let entry = pick_digest::<C>(request.digest_name.as_deref()).map_err(refuse)?;
        let dump = request.dump.unwrap_or(entry.info.dump);
        if !entry.info.accepts.contains(&dump) {
            return Err(refuse(format!(
                "the digest `{}` takes {}, which its parameters decide; it cannot take {}",
                entry.info.name,
                describe_modes(&entry.info.accepts),
                dump.attribute(),
            )));
        }
        let settings = read_settings::<C>(request.settings).map_err(refuse)?;
        let consumer = C::construct(settings, context.clone()).map_err(crate::DigestError::into_failure)?;
        drop(entered);
        let lane = Lane::new(dump, request.reject_tombstones);
        Ok(Instance::new(Running {
            consumer,
            run: entry.run,
            lane,
            context,
        }))
    }
}

fn pick_digest<C: Plugin>(name: Option<&str>) -> Result<DigestEntry<C>, String> {
    let mut digests = C::digests();
    let Some(name) = name else {
        return if digests.is_empty() {
            Err("it has no digest".to_owned())
        } else {
            Ok(digests.swap_remove(0))
        };
    };
    match digests.iter().position(|entry| entry.info.name == name) {
        Some(place) => Ok(digests.swap_remove(place)),
        None => {
            let names: Vec<_> = digests
                .iter()
                .map(|entry| format!("`{}`", entry.info.name))
                .collect();
            Err(format!(
                "it has no digest named `{name}`; it has {}",
                names.join(", ")
            ))
        }
    }
}

fn read_settings<C: Plugin>(settings: Value) -> Result<C::Settings, String> {
    let settings = if settings.is_null() {
        Value::Object(Map::new())
    } else {
        settings
    };
    serde_json::from_value(settings).map_err(|error| format!("its settings: {error}"))
}

// === impl Running ===

impl<C: Plugin> PluginInstance for Running<C> {
    fn digest(&mut self, call: &Call<'_>) -> CallReturn {
        let _entered = self.context.enter();
        self.lane.hold_and_release(call);
        let returned = (self.run)(&mut self.consumer, call, &mut self.lane);
        let tombstones = self.lane.take_tombstones();
        if tombstones != 0 {
            self.context.count(TOMBSTONES_PASSED, tombstones);
        }
        returned
    }

    fn lifecycle(&mut self, call: LifecycleCall) -> Result<LifecycleAnswer, Failure> {
        let _entered = self.context.enter();
        let consumer = &mut self.consumer;
        let mut answer = LifecycleAnswer::default();
        let done = match call {
            LifecycleCall::Started => consumer.started(),
            LifecycleCall::Assigned { partitions, .. } => consumer
                .assigned(&partitions)
                .map(|offsets| answer.start_offsets = offsets),
            LifecycleCall::Revoked { partitions, lost } => consumer.revoked(&Revoked { partitions, lost }),
            LifecycleCall::Flush => consumer.flush(),
            LifecycleCall::Stopped => consumer.stopped(),
        };
        done.map(|()| answer).map_err(crate::DigestError::into_failure)
    }
}
