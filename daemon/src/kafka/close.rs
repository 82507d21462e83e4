//! The bounded end of a consumer: librdkafka may wait for a broker that never answers, the daemon does not.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rdkafka_sys as sys;

use super::batch::Batch;
use super::callbacks;
use super::consumer::{Consumer, Farewell};
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
const TURN: Duration = Duration::from_millis(10);
/// What is kept of the deadline for closing, once the group was told or could not be.
const CLOSE: Duration = Duration::from_secs(2);
/// How long a client that was answered may take to make something of it: to ask again, or to be a member.
const HEARD: Duration = Duration::from_millis(100);
/// How long a coordinator that was last seen down may take to prove that it is not.
const PROBE: Duration = Duration::from_millis(300);
/// What is kept of the deadline for destroying the client.
const DESTROY: Duration = Duration::from_millis(500);

impl Consumer {
    /// Ends the client within `deadline`. `handler` gets its last `revoked` for whatever is still assigned; what was
    /// fetched and not given out is dropped. A static member stays a member ([`Consumer::leave_at_close`] else).
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
        let stays = self.is_static && !self.leaves_at_close.get();
        if self.leaves.get() || !(stays || self.self_assigned.get()) {
            self.say_goodbye(end, handler);
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
        self.farewell.set(Farewell::Asked);
        let closed = self.serve_until(end, handler, Self::is_closed);
        self.revoke_rest(handler, Revocation::Lost);
        closed
    }

    /// Unsubscribes and waits until the group was told. librdkafka's close alone tells it nothing where the member has no
    /// partitions (`rd_kafka_cgrp_revoke_all_rejoin` returns early), nor where it waits for the answer to a JoinGroup: the
    /// broker reads a LeaveGroup behind it when the group has rebalanced, and by then nobody is there. In either case
    /// the others would wait for it until its session ends.
    fn say_goodbye(&self, end: Instant, handler: &mut dyn Rebalance) {
        if self.fatal_error().is_some() {
            return;
        }
        let left = end.saturating_duration_since(Instant::now());
        let end = end.checked_sub(CLOSE.min(left / 2)).unwrap_or(end);
        // Once: librdkafka takes a second time for a bug of its own. Where it fails there is nothing to leave.
        if !self.leaves.get() {
            self.await_answer(end, handler);
            if self.unsubscribe().is_err() {
                return;
            }
        }
        self.serve_until(end, handler, |client| {
            !client.is_member() || client.handle.context().coordinator_down()
        });
    }

    /// Waits for the answer to what the client asked its group, if it has: before the first one librdkafka sees nothing
    /// to leave, but the group counts on the client already (by an id that it made up, KIP-394; a static member or one of
    /// KIP-848 by its own), and would until its session ends.
    fn await_answer(&self, end: Instant, handler: &mut dyn Rebalance) {
        let context = self.handle.context();
        let heard: Cell<Option<Instant>> = Cell::new(None);
        self.serve_until(end, handler, |client| {
            if !context.joining().has_asked() || context.coordinator_down() {
                return true;
            }
            if context.joining().is_owed() {
                heard.set(None);
                return false;
            }
            let since = heard.get().unwrap_or_else(Instant::now);
            heard.set(Some(since));
            // The first answer may be an id alone, with which it asks again.
            client.is_member_of_generation() || since.elapsed() >= HEARD
        });
    }

    /// It was answered as a member. (After it left, or was put out, librdkafka keeps the generation and drops the id.)
    fn is_member_of_generation(&self) -> bool {
        self.group_member()
            .is_some_and(|member| !member.member.is_empty() && member.generation > 0)
    }

    /// The group counts on this client, as far as librdkafka knows.
    pub(super) fn is_member(&self) -> bool {
        // Under KIP-848 the id is the client's own and stays; the epoch goes.
        self.group_member()
            .is_some_and(|member| !member.member.is_empty() && (!self.is_kip_848 || member.generation > 0))
    }

    /// Serves librdkafka, dropping messages, until `done` or `end`; says which.
    fn serve_until(&self, end: Instant, handler: &mut dyn Rebalance, done: impl Fn(&Self) -> bool) -> bool {
        let mut batch = Batch::with_capacity(64);
        let mut events = Vec::new();
        callbacks::serving(self, handler, || {
            while !done(self) && Instant::now() < end {
                let left = end.saturating_duration_since(Instant::now()).min(TURN);
                batch.fill(&self.handle, 64, super::consumer::millis(left), &mut events);
                batch.clear();
                events.clear();
            }
        });
        done(self)
    }

    fn is_closed(&self) -> bool {
        // SAFETY: a live client.
        unsafe { sys::rd_kafka_consumer_closed(self.handle.rk()) != 0 }
    }
}
