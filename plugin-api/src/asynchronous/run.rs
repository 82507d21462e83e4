//! The loop over a call of an async consumer: what can be decoded is taken beyond the call and becomes a task; and what
//! a task does with its message.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
};

use devour_abi::{Call, CallReturn, DumpMode, Failure, FailureKind, LentCallHost, MessageId, OwnedMessage};
use tokio::runtime::Handle;

use super::plugin::AsyncHandler;
use crate::{
    DigestError, Message,
    context::poll_for,
    run::{Lane, cut_at, finish, may_begin},
};

/// Where the tasks of an instance begin.
pub struct Tasks<'a, C> {
    pub(super) consumer: &'a Arc<C>,
    pub(super) runtime: &'a Handle,
}

/// Begins a task for each message. The host hands out no message of an order tag while another of that tag is not
/// completed, so no tag is held here and nothing waits for anything.
pub(super) fn spawn_each<C: Send + Sync + 'static, H: AsyncHandler<C>>(
    tasks: &Tasks<'_, C>,
    call: &Call<'_>,
    lane: &mut Lane,
) -> CallReturn {
    let host = LentCallHost::new(call.host);
    for (index, view) in (0u32..).zip(call.messages.as_slice()) {
        if !may_begin(call, index) {
            return cut_at(index);
        }
        // Decoded here to know whether it can be, and again in the task, from bytes that last as long as the task: what
        // is decoded may borrow from them. So what cannot be decoded is told at once and is never in flight.
        let decoded = H::extract(Message::new(view, &host, index), lane.dump());
        let failure = match decoded {
            Ok(Some(_)) => match call.host.take(index) {
                Ok(owned) => {
                    let consumer = Arc::clone(tasks.consumer);
                    tasks.runtime.spawn(task::<C, H>(consumer, owned, lane.dump()));
                    continue;
                }
                Err(refused) => Failure::new(FailureKind::RETRY, refused),
            },
            Ok(None) => match lane.tombstone(index) {
                None => continue,
                Some(failure) => failure,
            },
            Err(undecodable) => undecodable.into_failure(),
        };
        call.host.failed(index, failure);
    }
    finish(call, 0)
}

/// One message from its first await to its end. Dropped on the way (its instance ended), it gives the message back:
/// dropping the handle asks for a retry.
async fn task<C: Send + Sync + 'static, H: AsyncHandler<C>>(
    consumer: Arc<C>,
    owned: OwnedMessage,
    dump: DumpMode,
) {
    let ended = caught(owned.id(), digest::<C, H>(&consumer, &owned, dump)).await;
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(Failure::of_panic(panic)),
    };
    owned.complete(failure);
}

async fn digest<C: Send + Sync + 'static, H: AsyncHandler<C>>(
    consumer: &C,
    owned: &OwnedMessage,
    dump: DumpMode,
) -> Result<(), Failure> {
    let view = owned.view();
    match H::extract(Message::taken(&view, owned), dump) {
        Ok(Some(message)) => H::digest(consumer, view.offset, message)
            .await
            .map_err(DigestError::into_failure),
        // Neither comes, unless an extraction says one thing now and another then.
        Ok(None) => Ok(()),
        Err(undecodable) => Err(undecodable.into_failure()),
    }
}

/// Runs the future of a message to its end, or to its panic; that of its drop is caught too.
async fn caught<F: Future>(cause: MessageId, future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut place = pin!(Some(future));
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = place.as_mut().as_pin_mut();
            let future = future.expect("it is polled until it ends");
            let ended = ready!(poll_for(cause, future, context));
            place.set(None);
            Poll::Ready(ended)
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(ended)) => Poll::Ready(Ok(ended)),
            Err(panic) => {
                // What is left of it may panic once more: the first panic is the one to tell.
                if let Err(again) = catch_unwind(AssertUnwindSafe(|| place.set(None))) {
                    std::mem::forget(again);
                }
                Poll::Ready(Err(panic))
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped.
    struct Spring;

    impl Drop for Spring {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    fn text(panic: Box<dyn Any + Send>) -> String {
        Failure::of_panic(panic).message.into_string()
    }

    #[test]
    fn a_panic_of_a_future_is_caught_wherever_it_happens() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers");
        let fine = runtime.block_on(caught(MessageId::NONE, async {
            tokio::task::yield_now().await;
            7
        }));
        assert_eq!(fine.ok(), Some(7));
        let late = runtime.block_on(caught(MessageId::NONE, async {
            tokio::task::yield_now().await;
            panic!("late");
        }));
        let _: () = late
            .map_err(text)
            .map_or_else(|text| assert_eq!(text, "late"), |()| panic!("fine"));
        let spring = Spring;
        let dropped = runtime.block_on(caught(MessageId::NONE, async move {
            tokio::task::yield_now().await;
            let _spring = spring;
        }));
        assert_eq!(dropped.map_err(text), Err("dropped".to_owned()));
        // A future whose first poll panics and that then panics in its drop: the first is told.
        let mut spring = Some(Spring);
        let both = runtime.block_on(caught(
            MessageId::NONE,
            poll_fn(move |_| {
                assert!(spring.as_mut().is_none(), "polled");
                Poll::Ready(())
            }),
        ));
        assert_eq!(both.map_err(text), Err("polled".to_owned()));
    }
}
