//! Between an author's type and the boundary: describes and makes consumers, and leads them through calls and life.

use std::marker::PhantomData;

use devour_abi::{
    ABI_VERSION, Call, CallReturn, ConstructRequest, DescribeRequest, Descriptor, DigestInfo, DumpMode,
    Failure, FailureKind, Host, Instance, LifecycleAnswer, LifecycleCall, PluginConsumer, PluginInstance,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    Attributes, ConsumerContext, Revoked,
    extract::describe_modes,
    log,
    plugin::{Exported, Plugin},
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

impl<C: Exported + Plugin> PluginConsumer for Shim<C> {
    fn describe(request: DescribeRequest) -> Result<Descriptor, Failure> {
        // Settings that do not fit are a finding of `check`; what the consumer is can be said without them.
        let attributes = match read_settings(request.settings) {
            Ok(settings) => C::describe(&settings, C::attributes()),
            Err(_) => C::attributes(),
        };
        let digests = C::digests().into_iter().map(|entry| entry.info);
        Ok(descriptor_of::<C, C::Settings>(attributes, digests.collect()))
    }

    fn check(settings: Value) -> Vec<String> {
        match read_settings(settings) {
            Ok(settings) => C::check(&settings),
            Err(error) => vec![error],
        }
    }

    fn construct(request: ConstructRequest, host: Host) -> Result<Instance, Failure> {
        log::install();
        let context = ConsumerContext::new(host, &request);
        let entered = context.enter();
        let refuse = |text: String| Failure::new(FailureKind::FATAL, text);
        let mut digests = C::digests();
        let infos: Vec<_> = digests.iter().map(|entry| &entry.info).collect();
        let (place, dump) = choose_digest(&infos, &request).map_err(refuse)?;
        let entry = digests.swap_remove(place);
        let settings = read_settings(request.settings).map_err(refuse)?;
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

/// What the host is told of a consumer with these attributes and digests.
pub(crate) fn descriptor_of<C: Exported, S: JsonSchema>(
    attributes: Attributes,
    digests: Vec<DigestInfo>,
) -> Descriptor {
    let headers = attributes.headers();
    let mut descriptor = attributes.into_descriptor();
    descriptor.abi = ABI_VERSION.to_owned();
    descriptor.package = C::PACKAGE.to_owned();
    descriptor.version = C::VERSION.to_owned();
    descriptor.symbol = C::SYMBOL.to_owned();
    descriptor.digests = digests;
    for digest in &mut descriptor.digests {
        digest.reads_headers = headers.unwrap_or(digest.reads_headers);
    }
    descriptor.settings_schema = Some(schemars::schema_for!(S).to_value());
    descriptor
}

/// Which of the digests the request asks for, and how that takes messages.
pub(crate) fn choose_digest(
    digests: &[&DigestInfo],
    request: &ConstructRequest,
) -> Result<(usize, DumpMode), String> {
    let place = match &request.digest_name {
        None if digests.is_empty() => return Err("it has no digest".to_owned()),
        None => 0,
        Some(name) => match digests.iter().position(|info| info.name == *name) {
            Some(place) => place,
            None => {
                let names: Vec<_> = digests.iter().map(|info| format!("`{}`", info.name)).collect();
                return Err(format!(
                    "it has no digest named `{name}`; it has {}",
                    names.join(", ")
                ));
            }
        },
    };
    let info = digests[place];
    let dump = request.dump.unwrap_or(info.dump);
    if !info.accepts.contains(&dump) {
        return Err(format!(
            "the digest `{}` takes {}, which its parameters decide; it cannot take {}",
            info.name,
            describe_modes(&info.accepts),
            dump.attribute(),
        ));
    }
    Ok((place, dump))
}

pub(crate) fn read_settings<S: DeserializeOwned>(settings: Value) -> Result<S, String> {
    let settings = if settings.is_null() {
        Value::Object(Map::new())
    } else {
        settings
    };
    serde_json::from_value(settings).map_err(|error| format!("its settings: {error}"))
}

/// Tells the host how many tombstones were passed over in a call.
pub(crate) fn count_tombstones(lane: &mut Lane, context: &ConsumerContext) {
    let tombstones = lane.take_tombstones();
    if tombstones != 0 {
        context.count(TOMBSTONES_PASSED, tombstones);
    }
}

// === impl Running ===

impl<C: Plugin> PluginInstance for Running<C> {
    fn digest(&mut self, call: &Call<'_>) -> CallReturn {
        let _entered = self.context.enter();
        self.lane.hold_and_release(call);
        let returned = (self.run)(&mut self.consumer, call, &mut self.lane);
        count_tombstones(&mut self.lane, &self.context);
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
