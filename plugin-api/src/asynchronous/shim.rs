//! Between an async consumer and the boundary: makes it and its runtime, and leads both through calls and life.

use std::{marker::PhantomData, sync::Arc};

use abi_stable::std_types::ROption;
use devour_abi::{
    Call, CallReturn, ConstructRequest, DescribeRequest, Descriptor, Failure, FailureKind, Host, Instance,
    LifecycleAnswer, LifecycleCall, PluginConsumer, PluginInstance, abi_stable,
};
use serde_json::Value;

use super::{
    plugin::{AsyncDigestEntry, AsyncPlugin},
    run::Tasks,
    runtime::OwnRuntime,
};
use crate::{
    Attributes, ConsumerContext, DigestError, Revoked, log,
    plugin::Exported,
    run::Lane,
    shim::{self, choose_digest, descriptor_of, read_settings},
};

/// What the symbol of the async consumer `C` stands for.
pub struct AsyncShim<C>(PhantomData<C>);

/// An instance of `C` as the host calls it.
struct Running<C> {
    // Before the consumer, which its tasks hold on to: dropped in this order, the consumer goes last.
    runtime: OwnRuntime,
    consumer: Arc<C>,
    run: fn(&Tasks<'_, C>, &Call<'_>, &mut Lane) -> CallReturn,
    lane: Lane,
    context: ConsumerContext,
}

// === impl AsyncShim ===

impl<C: Exported + AsyncPlugin> PluginConsumer for AsyncShim<C> {
    fn describe(request: DescribeRequest) -> Result<Descriptor, Failure> {
        // Settings that do not fit are a finding of `check`; what the consumer is can be said without them.
        let attributes = match read_settings(request.settings) {
            Ok(settings) => C::describe(&settings, C::attributes()),
            Err(_) => C::attributes(),
        };
        let digests = C::digests().into_iter().map(|entry| entry.info);
        let descriptor = descriptor_of::<C, C::Settings>(attributes.asynchronous(), digests.collect());
        if descriptor.buffering {
            return Err(refuse(
                "it is async and says that it is buffering: an async digest is done when it returns, so there is \
                 nothing to flush",
            ));
        }
        Ok(descriptor)
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
        let mut digests: Vec<AsyncDigestEntry<C>> = C::digests();
        let infos: Vec<_> = digests.iter().map(|entry| &entry.info).collect();
        let (place, dump) = choose_digest(&infos, &request).map_err(refuse)?;
        let entry = digests.swap_remove(place);
        let settings = read_settings(request.settings).map_err(refuse)?;
        let attributes: Attributes = C::describe(&settings, C::attributes());
        let runtime = OwnRuntime::new(attributes.worker_threads(), &context)
            .map_err(|error| refuse(format!("its runtime cannot be made: {error}")))?;
        let consumer = {
            let _inside = runtime.enter();
            C::construct(settings, context.clone()).map_err(DigestError::into_failure)?
        };
        drop(entered);
        Ok(Instance::new(Running {
            runtime,
            consumer: Arc::new(consumer),
            run: entry.run,
            lane: Lane::new(dump, request.reject_tombstones),
            context,
        }))
    }
}

fn refuse(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::FATAL, text)
}

// === impl Running ===

impl<C: AsyncPlugin> PluginInstance for Running<C> {
    fn digest(&mut self, call: &Call<'_>) -> CallReturn {
        let _entered = self.context.enter();
        let Some(runtime) = self.runtime.handle() else {
            return CallReturn {
                finished: 0,
                broken: ROption::RSome(refuse("it was stopped and is called again")),
            };
        };
        let tasks = Tasks {
            consumer: &self.consumer,
            runtime,
        };
        let returned = (self.run)(&tasks, call, &mut self.lane);
        shim::count_tombstones(&mut self.lane, &self.context);
        returned
    }

    fn lifecycle(&mut self, call: LifecycleCall) -> Result<LifecycleAnswer, Failure> {
        let _entered = self.context.enter();
        let (runtime, consumer) = (&self.runtime, &*self.consumer);
        let mut answer = LifecycleAnswer::default();
        let done = match call {
            LifecycleCall::Started => runtime.block_on(consumer.started()),
            LifecycleCall::Assigned { partitions, .. } => runtime
                .block_on(consumer.assigned(&partitions))
                .map(|offsets| answer.start_offsets = offsets),
            LifecycleCall::Revoked { partitions, lost } => {
                runtime.block_on(consumer.revoked(&Revoked { partitions, lost }))
            }
            // Only a buffering consumer has something to flush.
            LifecycleCall::Flush => Ok(()),
            LifecycleCall::Stopped => {
                let stopped = runtime.block_on(consumer.stopped());
                self.runtime.end();
                stopped
            }
        };
        done.map(|()| answer).map_err(DigestError::into_failure)
    }
}
