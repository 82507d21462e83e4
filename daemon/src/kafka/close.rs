//! The bounded end of a consumer: librdkafka may wait for a broker that never answers, the daemon does not.

use std::time::{Duration, Instant};

use rdkafka_sys as sys;

use super::batch::Batch;
use super::callbacks;
use super::consumer::Consumer;
use super::native::check_error;
use super::rebalance::{Rebalance, Revocation};

/// How a consumer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum CloseOutcome {
    /// The group knows, and the client is destroyed.
    Closed,
    /// The client is destroyed, but its coordinator could not be told (it is down, or too slow): a dynamic member's
    /// partitions are free after the session timeout.
    Abandoned,
    /// The client is still being destroyed by its own thread: it waits for a broker, or a [`Batch`] of it lives. It
    /// counts in [`live_clients`](super::live_clients) until it is gone.
    Leaked,
}

/// How long one turn of serving the queue may last before the deadline is looked at.
const TURN: Duration = Duration::from_millis(50);
/// How long a coordinator that was last seen down may take to prove that it is not.
const PROBE: Duration = Duration::from_millis(300);
/// What is kept of the deadline for destroying the client.
const DESTROY: Duration = Duration::from_millis(500);

impl Consumer {
    /// Ends the client within `deadline`. `handler` gets its last `revoked` for whatever is still assigned; what was
    /// fetched and not given out is dropped. A static member stays a member (unsubscribe first to leave).
    pub fn close(self, deadline: Duration, handler: &mut dyn Rebalance) -> CloseOutcome {
        let end = Instant::now() + deadline;
        let told = self.leave(end, handler);
        let route = self.handle.context().route().clone();
        let gone = self.handle.gone();
        drop(self);
        match (gone.wait_until(end.max(Instant::now() + DESTROY)), told) {
            (true, true) => CloseOutcome::Closed,
            (true, false) => CloseOutcome::Abandoned,
            (false, _) => {
                tracing::warn!(
                    target: "librdkafka", %route, alive = super::live_clients(),
                    "the Kafka client did not end in time and is left to its own thread"
                );
                CloseOutcome::Leaked
            }
        }
    }

    /// Leaves the group in order; says whether that was possible.
    fn leave(&self, end: Instant, handler: &mut dyn Rebalance) -> bool {
        if self.self_assigned.get() {
            self.revoke_rest(handler, Revocation::Ordered);
        }
        // With its coordinator gone librdkafka 2.12 would wait for the session timeout, and may follow a null
        // pointer on the way (fixed in 2.14.2).
        if self.handle.context().coordinator_down() && !self.coordinator_answers(PROBE) {
            self.revoke_rest(handler, Revocation::Lost);
            return false;
        }
        // librdkafka's close tells the group nothing for a member that has no partitions (`rd_kafka_cgrp_revoke_all_rejoin`
        // returns early), and a cooperative group then waits for it until its session ends. Unsubscribing does tell.
        if !self.is_static && !self.self_assigned.get() && self.assignment.borrow().is_empty() {
            // Where it fails there is nothing to leave.
            let _ = self.unsubscribe();
        }
        // SAFETY: a live client and queue; a returned error is ours.
        let closing = unsafe {
            check_error(
                "closing",
                sys::rd_kafka_consumer_close_queue(self.handle.rk(), self.handle.consumer_queue()),
            )
        };
        if closing.is_err() {
            // A fatal error: there is no membership left to give up.
            self.revoke_rest(handler, Revocation::Lost);
            return false;
        }
        let mut batch = Batch::with_capacity(64);
        let mut events = Vec::new();
        callbacks::serving(self, handler, || {
            while !self.is_closed() && Instant::now() < end {
                let left = end.saturating_duration_since(Instant::now()).min(TURN);
                batch.fill(&self.handle, 64, super::consumer::millis(left), &mut events);
                batch.clear();
                events.clear();
            }
        });
        let closed = self.is_closed();
        self.revoke_rest(handler, Revocation::Lost);
        closed
    }

    fn is_closed(&self) -> bool {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_consumer_closed(self.handle.rk()) != 0 }
    }
}
