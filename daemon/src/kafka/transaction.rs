//! A transactional producer for a thread that sleeps in an epoll. Records are sent as by a [`Sender`]; what waits for
//! brokers (to begin with an id, to commit, to abort) is done by a thread of its own, and what became of it comes back
//! through the same descriptor.
//!
//! The rules are Kafka's: one id for one route's instance, the group's metadata taken anew for each transaction, a
//! transaction that asks to be aborted is never committed, and a producer that is fenced is finished.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka_sys as sys;

use super::commit::CommitOffset;
use super::consumer::{Consumer, millis};
use super::errors::{ClientError, Errno, ErrorCode, text_of};
use super::native::List;
use super::producer::Record;
use super::properties::ClientProperties;
use super::sender::{Sender, SenderReport, Ticket};
use crate::settings::RouteName;

/// A producer with a `transactional.id`.
pub struct TransactionalProducer {
    sender: Arc<Sender>,
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

/// What takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The id is ours: who had it before is fenced, and what it had begun is aborted.
    Init,
    /// The offsets and records of the transaction count.
    Commit,
    /// Nothing of it does.
    Abort,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The step.
    pub step: Step,
    /// Whether it was done.
    pub outcome: Result<(), TransactionError>,
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {text} ({code})")]
pub struct TransactionError {
    /// What was tried.
    pub what: &'static str,
    /// librdkafka's or the broker's code.
    pub code: ErrorCode,
    /// Its text.
    pub text: String,
    /// What is to be done.
    pub remedy: Remedy,
}

/// What is to be done about a [`TransactionError`]. (What only has to be tried again never comes here.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Abort the transaction, and begin another.
    Abort,
    /// Make a new producer: this one is finished.
    Renew,
}

/// Who a consumer is in its group at one moment: what fences a member that is not in it any more.
pub struct GroupMetadata(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

enum Order {
    Init,
    Commit {
        offsets: Vec<CommitOffset>,
        group: GroupMetadata,
        /// The offsets are not tried longer than this.
        until: Instant,
    },
    Abort,
}

/// Between the producer's thread and its owner.
struct Shared {
    stepped: Mutex<Vec<Stepped>>,
    /// The owner has gone: nothing is tried again.
    closed: AtomicBool,
    wake: OwnedFd,
}

/// What a call into librdkafka said.
struct Said {
    code: ErrorCode,
    text: String,
    is_fatal: bool,
    is_retriable: bool,
    requires_abort: bool,
}

/// How long one call may wait before it is looked whether anybody still wants it. Called again, librdkafka goes on with
/// what it was at. (It waits half a second itself before it sends offsets again.)
const TURN: Duration = Duration::from_millis(1500);

// === impl TransactionalProducer ===

impl TransactionalProducer {
    /// Makes the producer, of properties with a `transactional.id`, and its thread. Nothing is contacted before
    /// [`init`](Self::init). `wake`, an eventfd, becomes readable when there is something to take.
    pub fn create(
        properties: &ClientProperties,
        route: RouteName,
        wake: impl AsFd,
    ) -> Result<Self, ClientError> {
        let system = |what| {
            move |error: std::io::Error| ClientError::System {
                what,
                source: Errno(error.raw_os_error().unwrap_or_default()),
            }
        };
        let copy = wake.as_fd().try_clone_to_owned();
        let copy = copy.map_err(system("copying the descriptor that a producer wakes"))?;
        let sender = Arc::new(Sender::create_mixed(properties, route.clone(), &wake)?);
        let shared = Arc::new(Shared {
            stepped: Mutex::default(),
            closed: AtomicBool::new(false),
            wake: copy,
        });
        let (orders, taken) = mpsc::channel();
        let work = {
            let (sender, shared) = (Arc::clone(&sender), Arc::clone(&shared));
            move || {
                for order in taken {
                    let (step, outcome) = obey(&sender, &shared, order);
                    shared.tell(Stepped { step, outcome });
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("txn {route}"))
            .spawn(work)
            .map_err(system("starting the thread of a transactional producer"))?;
        Ok(Self {
            sender,
            orders,
            shared,
        })
    }

    /// Takes the id. Answered as [`Step::Init`].
    pub fn init(&self) {
        self.order(Order::Init);
    }

    /// Begins a transaction; waits for no broker.
    ///
    /// # Errors
    /// Where none can be begun now.
    pub fn begin(&self) -> Result<(), TransactionError> {
        // SAFETY: a live client; a returned error is ours.
        let said = unsafe { said(sys::rd_kafka_begin_transaction(self.sender.rk())) };
        match said {
            None => Ok(()),
            Some(said) => Err(said.error("beginning a transaction")),
        }
    }

    /// Commits these offsets and all that was sent since [`begin`](Self::begin), all or nothing. Answered as
    /// [`Step::Commit`]; after an error that asks for it, the transaction has to be aborted.
    pub fn commit(&self, offsets: Vec<CommitOffset>, group: GroupMetadata, until: Instant) {
        self.order(Order::Commit {
            offsets,
            group,
            until,
        });
    }

    /// Aborts what was begun; what waits to be sent is given up. Answered as [`Step::Abort`].
    pub fn abort(&self) {
        self.order(Order::Abort);
    }

    /// Queues a copy of a record of the transaction. Its partition is an order. Tickets are below 2^63.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), ClientError> {
        self.sender.send(record, ticket)
    }

    /// As [`send`](Self::send); its partition is a wish, and its ticket comes back as [`Ticket::wished`] of it. Tickets are
    /// below 2^39.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_wished(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), ClientError> {
        self.sender.send_wished(record, ticket)
    }

    /// What became of records.
    pub fn take_reports(&self) -> Vec<SenderReport> {
        self.sender.take()
    }

    /// What became of steps.
    pub fn take_steps(&self) -> Vec<Stepped> {
        std::mem::take(&mut self.shared.stepped())
    }

    /// What has ended this producer, if anything has.
    pub fn fatal_error(&self) -> Option<ClientError> {
        self.sender.fatal_error()
    }

    fn order(&self, order: Order) {
        // Its thread lives as long as this does.
        let _ = self.orders.send(order);
    }
}

impl Drop for TransactionalProducer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.sender.purge();
    }
}

fn obey(sender: &Sender, shared: &Shared, order: Order) -> (Step, Result<(), TransactionError>) {
    let rk = sender.rk();
    let turn = millis(TURN);
    match order {
        Order::Init => {
            let done = shared.persist("taking the transactional id", None, || {
                // SAFETY: a live client; a returned error is ours.
                unsafe { said(sys::rd_kafka_init_transactions(rk, turn)) }
            });
            (Step::Init, done)
        }
        Order::Commit {
            offsets,
            group,
            until,
        } => (Step::Commit, commit(sender, shared, &offsets, &group, until)),
        Order::Abort => {
            let done = shared.persist("aborting a transaction", None, || {
                // SAFETY: a live client; a returned error is ours.
                unsafe { said(sys::rd_kafka_abort_transaction(rk, turn)) }
            });
            // What cannot be aborted ends with its producer.
            let renew = |error| TransactionError {
                remedy: Remedy::Renew,
                ..error
            };
            (Step::Abort, done.map_err(renew))
        }
    }
}

fn commit(
    sender: &Sender,
    shared: &Shared,
    offsets: &[CommitOffset],
    group: &GroupMetadata,
    until: Instant,
) -> Result<(), TransactionError> {
    let (rk, turn) = (sender.rk(), millis(TURN));
    if !offsets.is_empty() {
        let mut list = List::new(offsets.len());
        for commit in offsets {
            let entry = list.add(&commit.partition.topic, commit.partition.partition);
            let mut entry = entry.map_err(|error| TransactionError {
                what: "naming the offsets of a transaction",
                code: ErrorCode::INVALID_ARG,
                text: error.to_string(),
                remedy: Remedy::Abort,
            })?;
            entry.set_offset(commit.offset);
            entry.set_leader_epoch(commit.leader_epoch);
            entry.set_metadata(&commit.metadata);
        }
        shared.persist("sending the offsets of a transaction", Some(until), || {
            // SAFETY: a live client, list and metadata, which are copied; a returned error is ours.
            unsafe {
                said(sys::rd_kafka_send_offsets_to_transaction(
                    rk,
                    list.as_ptr(),
                    group.0.as_ptr(),
                    turn,
                ))
            }
        })?;
    }
    // From here on only the brokers know whether it counts: asked until they say so.
    shared.persist("committing a transaction", None, || {
        // SAFETY: a live client; a returned error is ours.
        unsafe { said(sys::rd_kafka_commit_transaction(rk, turn)) }
    })
}

// === impl Shared ===

impl Shared {
    fn stepped(&self) -> std::sync::MutexGuard<'_, Vec<Stepped>> {
        self.stepped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, stepped: Stepped) {
        self.stepped().push(stepped);
        wake(&self.wake);
    }

    /// Calls until it is done, or fails in a way that no further try mends, or nobody wants it.
    fn persist(
        &self,
        what: &'static str,
        until: Option<Instant>,
        call: impl Fn() -> Option<Said>,
    ) -> Result<(), TransactionError> {
        /// Between tries that fail at once.
        const PAUSE: Duration = Duration::from_millis(20);
        loop {
            let Some(said) = call() else { return Ok(()) };
            let is_over =
                self.closed.load(Ordering::Relaxed) || until.is_some_and(|until| Instant::now() >= until);
            let again = said.is_retriable && !said.is_fatal && !said.requires_abort;
            if !again || is_over {
                return Err(said.error(what));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Makes an eventfd readable. Full is readable too.
fn wake(descriptor: &OwnedFd) {
    let _ = rustix::io::write(descriptor.as_fd(), &1u64.to_ne_bytes());
}

/// Takes what a call returned: `None` is success.
///
/// # Safety
/// `error` is null, or an error that is ours.
unsafe fn said(error: *mut sys::rd_kafka_error_t) -> Option<Said> {
    if error.is_null() {
        return None;
    }
    // SAFETY: a live error, which is destroyed last; its text lives as long as it does.
    unsafe {
        let said = Said {
            code: ErrorCode::from(sys::rd_kafka_error_code(error)),
            text: text_of(sys::rd_kafka_error_string(error)),
            is_fatal: sys::rd_kafka_error_is_fatal(error) != 0,
            is_retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
        };
        sys::rd_kafka_error_destroy(error);
        Some(said)
    }
}

// === impl Said ===

impl Said {
    fn error(self, what: &'static str) -> TransactionError {
        // What neither asks to be aborted nor may be tried again is a state that only a new producer leaves.
        let abort = !self.is_fatal && (self.requires_abort || self.is_retriable);
        TransactionError {
            what,
            code: self.code,
            text: self.text,
            remedy: if abort { Remedy::Abort } else { Remedy::Renew },
        }
    }
}

// === impl GroupMetadata ===

// SAFETY: a copy of texts and numbers that nothing else points to.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// It is one of the group's members. Brokers take the offsets of who is not, fenced by nothing.
    #[must_use]
    pub fn is_member(&self) -> bool {
        // SAFETY: live; the text lives as long as it does.
        unsafe {
            let member = text_of(sys::rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr()));
            sys::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) > 0 && !member.is_empty()
        }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

impl Consumer {
    /// Who this client is in its group at this moment; `None` without a group.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        // SAFETY: a live client; the returned object is ours.
        NonNull::new(unsafe { sys::rd_kafka_consumer_group_metadata(self.handle.rk()) }).map(GroupMetadata)
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
