//! What the route's thread and its two senders, of outputs and of dead letters, share: the producer, and how far the
//! transaction is. One thread uses it.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    time::Instant,
};

use devour_abi::Delivered;

use crate::{
    kafka::{
        ClientError, ErrorCode, Record, SenderReport, Stepped, Ticket, TransactionError,
        TransactionalProducer,
    },
    os::EventFd,
    worker::outputs::{Outcomes, Outlet, OutputError, OutputErrorKind, OutputId},
};

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Phase {
    /// There is no producer that has its id.
    Starting,
    /// None is open; the next message or record opens one.
    Ready,
    /// Messages are read and digested.
    Open,
    /// Nothing more is read; what is in hand is finished.
    Closing,
    /// Nothing is in hand; what was sent is acknowledged.
    Flushing,
    /// The brokers were asked to let it count.
    Committing,
    /// It will be aborted, once nothing of it is in hand.
    Doomed,
    /// The brokers were asked to drop it.
    Aborting,
    /// It is dropped; the next one waits for its time.
    Waiting,
}

/// The producer and its transaction.
pub(in crate::worker) struct Link {
    producer: RefCell<Option<TransactionalProducer>>,
    phase: Cell<Phase>,
    begun: Cell<Option<Instant>>,
    /// Records that were sent and not told of.
    in_flight: Cell<usize>,
    /// What became of outputs, and of letters.
    outputs: RefCell<Vec<SenderReport>>,
    letters: RefCell<Vec<SenderReport>>,
    wake: EventFd,
}

/// Outputs in a transaction.
pub(in crate::worker) struct TransactionalOutlet(pub Rc<Link>);

// === impl Link ===

impl Link {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            producer: RefCell::new(None),
            phase: Cell::new(Phase::Starting),
            begun: Cell::new(None),
            in_flight: Cell::new(0),
            outputs: RefCell::default(),
            letters: RefCell::default(),
            wake: EventFd::new()?,
        })
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        if matches!(phase, Phase::Starting | Phase::Ready | Phase::Waiting) {
            self.begun.set(None);
        }
    }

    /// Since when the transaction is open.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.begun.get()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Readable when there is something to hear.
    pub(in crate::worker) fn wake(&self) -> &EventFd {
        &self.wake
    }

    pub(super) fn has_producer(&self) -> bool {
        self.producer.borrow().is_some()
    }

    pub(super) fn use_producer(&self, producer: TransactionalProducer) {
        self.in_flight.set(0);
        *self.producer.borrow_mut() = Some(producer);
    }

    /// What it had sent is told of by nobody.
    pub(super) fn end_producer(&self) {
        *self.producer.borrow_mut() = None;
        self.in_flight.set(0);
    }

    pub(super) fn with<T>(&self, tell: impl FnOnce(&TransactionalProducer) -> T) -> Option<T> {
        self.producer.borrow().as_ref().map(tell)
    }

    /// Opens a transaction if none is.
    pub(super) fn open(&self) -> Result<(), TransactionError> {
        if self.phase.get() != Phase::Ready {
            return Ok(());
        }
        match self.with(TransactionalProducer::begin) {
            Some(Ok(())) => {
                self.phase.set(Phase::Open);
                self.begun.set(Some(Instant::now()));
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Hears what the producer has to say. What became of steps is for the caller.
    pub(in crate::worker) fn hear(&self) {
        self.wake.drain();
        let reports = self.with(TransactionalProducer::take_reports).unwrap_or_default();
        if reports.is_empty() {
            return;
        }
        self.in_flight
            .set(self.in_flight.get().saturating_sub(reports.len()));
        let (mut outputs, mut letters) = (self.outputs.borrow_mut(), self.letters.borrow_mut());
        for report in reports {
            match unmarked(&report) {
                Some(letter) => letters.push(letter),
                None => outputs.push(report),
            }
        }
    }

    pub(super) fn take_steps(&self) -> Vec<Stepped> {
        self.with(TransactionalProducer::take_steps).unwrap_or_default()
    }

    /// Sends a dead letter, whose partition is a wish.
    pub(in crate::worker) fn send_letter(
        &self,
        record: &Record<'_>,
        ticket: Ticket,
    ) -> Result<(), ClientError> {
        let sent = self.with(|producer| producer.send_wished(record, ticket));
        let sent = sent.unwrap_or(Err(ClientError::Create("there is no producer now".into())));
        if sent.is_ok() {
            self.in_flight.set(self.in_flight.get() + 1);
        }
        sent
    }

    /// What became of dead letters.
    pub(in crate::worker) fn take_letters(&self) -> Vec<SenderReport> {
        self.hear();
        std::mem::take(&mut self.letters.borrow_mut())
    }
}

/// A letter's report, with its own ticket; `None` where it is an output's.
fn unmarked(report: &SenderReport) -> Option<SenderReport> {
    let mut own = report.clone();
    match &mut own {
        SenderReport::Delivered { ticket, .. } | SenderReport::Failed { ticket, .. } => {
            *ticket = ticket.of_wished()?
        }
    }
    Some(own)
}

// === impl TransactionalOutlet ===

impl Outlet for TransactionalOutlet {
    fn send(&mut self, id: OutputId, record: &Record<'_>) -> Result<(), OutputError> {
        let link = &self.0;
        let error = |kind, text: &str| OutputError {
            kind,
            topic: record.topic.to_owned(),
            text: text.to_owned(),
            code: None,
        };
        match link.phase.get() {
            Phase::Doomed | Phase::Aborting => {
                return Err(error(OutputErrorKind::Aborted, "its transaction is aborted"));
            }
            // It belongs to the next one.
            Phase::Starting | Phase::Flushing | Phase::Committing | Phase::Waiting => {
                return Err(error(OutputErrorKind::Full, "no transaction is open"));
            }
            Phase::Ready => {
                if link.open().is_err() || link.phase.get() != Phase::Open {
                    return Err(error(OutputErrorKind::Full, "no transaction can be opened now"));
                }
            }
            Phase::Open | Phase::Closing => {}
        }
        match link.with(|producer| producer.send(record, Ticket(id))) {
            Some(Ok(())) => {
                link.in_flight.set(link.in_flight.get() + 1);
                Ok(())
            }
            Some(Err(ClientError::Call { code, text, .. })) => {
                Err(aborted_if_so(OutputError::of_code(record.topic, code, text)))
            }
            Some(Err(fatal @ ClientError::Fatal { .. })) => {
                Err(error(OutputErrorKind::Aborted, &fatal.to_string()))
            }
            Some(Err(other)) => Err(error(OutputErrorKind::Refused, &other.to_string())),
            None => Err(error(OutputErrorKind::Full, "there is no producer now")),
        }
    }

    fn outcomes(&mut self, into: &mut Outcomes) {
        self.0.hear();
        for report in self.0.outputs.borrow_mut().drain(..) {
            into.push(match report {
                SenderReport::Delivered {
                    ticket,
                    partition,
                    offset,
                } => (ticket.0, Ok(Delivered { partition, offset })),
                SenderReport::Failed { ticket, code } => (ticket.0, Err(of_report(code))),
            });
        }
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

/// A report does not say which topic its record was for.
fn of_report(code: ErrorCode) -> OutputError {
    aborted_if_so(OutputError::of_code("its topic", code, code.text()))
}

/// What fails a record because of its transaction or producer is no failure of its message.
fn aborted_if_so(mut error: OutputError) -> OutputError {
    let of_transaction = matches!(
        error.code,
        Some(
            ErrorCode::PURGE_QUEUE
                | ErrorCode::PURGE_INFLIGHT
                | ErrorCode::STATE
                | ErrorCode::FATAL
                | ErrorCode::FENCED
                | ErrorCode::INVALID_PRODUCER_EPOCH
                | ErrorCode::INVALID_TXN_STATE
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                | ErrorCode::UNKNOWN_PRODUCER_ID
                | ErrorCode::PRODUCER_FENCED
        )
    );
    if of_transaction {
        error.kind = OutputErrorKind::Aborted;
    }
    error
}
