//! One idempotent producer of a cluster, shared by all routes that produce to it, so that records of all of them travel in
//! the same batches. A thread of its own takes what became of the records and puts it into the box of the route that sent
//! them, whose eventfd it signals.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    errors::{ClientError, Errno},
    producer::Record,
    properties::ClientProperties,
    sender::{Sender, SenderReport, Ticket},
};
use crate::{
    os::{EventFd, wait_readable},
    settings::RouteName,
};

/// A route's part of the producer of a cluster.
pub struct SenderShare {
    shared: Arc<Shared>,
    number: u16,
    mailbox: Arc<Mailbox>,
}

/// The producer.
struct Shared {
    sender: Sender,
    /// librdkafka has something to say, or the last share is gone.
    wake: EventFd,
    /// By the number of the share.
    mailboxes: Mutex<Vec<Option<Arc<Mailbox>>>>,
    shares: AtomicUsize,
    /// What has ended the client.
    fatal: OnceLock<ClientError>,
}

/// What became of the records of one route.
struct Mailbox {
    reports: Mutex<Vec<SenderReport>>,
    /// There are reports; the eventfd was signalled.
    full: AtomicBool,
    wake: Arc<EventFd>,
    /// Records that were sent and not told of.
    outstanding: AtomicUsize,
    /// Nobody reads it any more.
    left: AtomicBool,
}

/// The producers of this process, by what they are made of.
static ALL: Mutex<Vec<(ClientProperties, Arc<Shared>)>> = Mutex::new(Vec::new());

/// Bits of a ticket that say which record of its share it is.
const NUMBER_BITS: u32 = 48;
/// A share's number is below this.
const MOST_SHARES: usize = 1 << (u64::BITS - NUMBER_BITS);
/// The thread looks at a client this often that says nothing: whether a fatal error has ended it.
const LOOK: Duration = Duration::from_secs(1);

// === impl SenderShare ===

impl SenderShare {
    /// A share of the producer with these properties, which is made if there is none. Nothing is contacted that this would
    /// wait for. `wake` becomes readable when there is something to [`take`](Self::take).
    ///
    /// # Errors
    /// When the client cannot be made, or the process has no descriptor or thread left.
    pub fn join(properties: &ClientProperties, wake: &Arc<EventFd>) -> Result<Self, ClientError> {
        let mailbox = Arc::new(Mailbox {
            reports: Mutex::default(),
            full: AtomicBool::new(false),
            wake: Arc::clone(wake),
            outstanding: AtomicUsize::new(0),
            left: AtomicBool::new(false),
        });
        let mut all = lock(&ALL);
        let known = all.iter().find(|(of, _)| of == properties);
        let shared = match known {
            Some((_, shared)) => Arc::clone(shared),
            None => {
                let shared = Shared::start(properties)?;
                all.push((properties.clone(), Arc::clone(&shared)));
                shared
            }
        };
        let number = shared.add(&mailbox)?;
        shared.shares.fetch_add(1, Ordering::AcqRel);
        Ok(Self {
            shared,
            number,
            mailbox,
        })
    }

    /// Queues a copy of a record. What becomes of it is told under `ticket`, below 2^48.
    ///
    /// # Errors
    /// Where it cannot be queued; then nothing more comes of it.
    pub fn send(&self, record: &Record<'_>, ticket: Ticket) -> Result<(), ClientError> {
        if let Some(error) = self.fatal_error() {
            return Err(error.clone());
        }
        let wire = Ticket((u64::from(self.number) << NUMBER_BITS) | ticket.0);
        // Before: its report may come before the call returns.
        self.mailbox.outstanding.fetch_add(1, Ordering::AcqRel);
        self.shared.sender.send(record, wire).inspect_err(|_| {
            self.mailbox.outstanding.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// Whether there is something to take.
    pub fn has_reports(&self) -> bool {
        self.mailbox.full.load(Ordering::Acquire)
    }

    /// What became of this share's records since the last call, in order.
    pub fn take(&self) -> Vec<SenderReport> {
        let mut reports = lock(&self.mailbox.reports);
        if self.mailbox.full.swap(false, Ordering::AcqRel) {
            // Under the lock, as it was signalled: nothing stays that says what is not there.
            self.mailbox.wake.drain();
        }
        std::mem::take(&mut *reports)
    }

    /// Records were sent that are not told of, or whose reports are not taken.
    pub fn is_waited_for(&self) -> bool {
        self.mailbox.outstanding.load(Ordering::Acquire) > 0 || self.has_reports()
    }

    /// What has ended the client, if anything has: all its records are told of, and a new share is of a new client.
    pub fn fatal_error(&self) -> Option<&ClientError> {
        self.shared.fatal.get()
    }
}

impl Drop for SenderShare {
    fn drop(&mut self) {
        self.mailbox.left.store(true, Ordering::Release);
        self.shared.shares.fetch_sub(1, Ordering::AcqRel);
        self.shared.wake.signal();
    }
}

// === impl Shared ===

impl Shared {
    fn start(properties: &ClientProperties) -> Result<Arc<Self>, ClientError> {
        let wake = EventFd::new().map_err(system)?;
        // What its log lines are said to be of.
        let name: RouteName = "outputs".parse().expect("it has the letters of a name");
        let shared = Arc::new(Self {
            sender: Sender::create_strict(properties, name, &wake)?,
            wake,
            mailboxes: Mutex::default(),
            shares: AtomicUsize::new(0),
            fatal: OnceLock::new(),
        });
        let thread = std::thread::Builder::new().name("outputs".into());
        let served = Arc::clone(&shared);
        thread.spawn(move || served.serve()).map_err(system)?;
        Ok(shared)
    }

    fn add(&self, mailbox: &Arc<Mailbox>) -> Result<u16, ClientError> {
        let mut mailboxes = lock(&self.mailboxes);
        // A number is used again only when nothing more comes for it.
        let is_over = |entry: &Arc<Mailbox>| {
            entry.left.load(Ordering::Acquire) && entry.outstanding.load(Ordering::Acquire) == 0
        };
        let free = mailboxes
            .iter()
            .position(|entry| entry.as_ref().is_none_or(is_over));
        let at = free.unwrap_or(mailboxes.len());
        let number = u16::try_from(at).map_err(|_| {
            ClientError::Create(format!(
                "it is shared by {MOST_SHARES} routes, which is as many as can"
            ))
        })?;
        if at == mailboxes.len() {
            mailboxes.push(None);
        }
        mailboxes[at] = Some(Arc::clone(mailbox));
        Ok(number)
    }

    /// The thread: until nobody has a share any more.
    fn serve(self: Arc<Self>) {
        loop {
            // A failed wait only means another turn.
            let _ = wait_readable(self.wake.as_fd(), Some(Instant::now() + LOOK));
            self.wake.drain();
            self.hand_over(self.sender.take());
            if self.fatal.get().is_none()
                && let Some(error) = self.sender.fatal_error()
            {
                tracing::error!(%error, "the producer of what plugins produce is finished; a new one is made");
                // Before its records are told of, so that whoever hears of them knows why.
                let _ = self.fatal.set(error);
                lock(&ALL).retain(|(_, shared)| !Arc::ptr_eq(shared, &self));
                self.sender.purge();
            }
            let mut all = lock(&ALL);
            if self.shares.load(Ordering::Acquire) == 0 {
                all.retain(|(_, shared)| !Arc::ptr_eq(shared, &self));
                return;
            }
        }
    }

    fn hand_over(&self, reports: Vec<SenderReport>) {
        if reports.is_empty() {
            return;
        }
        let mailboxes = lock(&self.mailboxes);
        let mut rest = reports.into_iter().map(SenderReport::of_share).peekable();
        // They come in runs of one route.
        while let Some((number, first)) = rest.next() {
            let Some(Some(mailbox)) = mailboxes.get(usize::from(number)) else {
                continue;
            };
            let mut count = 1;
            let mut into = lock(&mailbox.reports);
            into.push(first);
            while let Some((_, report)) = rest.next_if(|(next, _)| *next == number) {
                into.push(report);
                count += 1;
            }
            if mailbox.left.load(Ordering::Acquire) {
                // Nobody hears of it.
                into.clear();
                mailbox.outstanding.fetch_sub(count, Ordering::AcqRel);
                continue;
            }
            mailbox.outstanding.fetch_sub(count, Ordering::AcqRel);
            if !mailbox.full.load(Ordering::Acquire) {
                mailbox.wake.signal();
                mailbox.full.store(true, Ordering::Release);
            }
            drop(into);
        }
    }
}

// === impl SenderReport ===

impl SenderReport {
    /// Whose it is, and as the share knows it.
    fn of_share(self) -> (u16, Self) {
        let split = |ticket: Ticket| {
            let number = (ticket.0 >> NUMBER_BITS) as u16;
            (number, Ticket(ticket.0 & ((1 << NUMBER_BITS) - 1)))
        };
        match self {
            Self::Delivered {
                ticket,
                partition,
                offset,
            } => {
                let (number, ticket) = split(ticket);
                let report = Self::Delivered {
                    ticket,
                    partition,
                    offset,
                };
                (number, report)
            }
            Self::Failed { ticket, code } => {
                let (number, ticket) = split(ticket);
                (number, Self::Failed { ticket, code })
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn system(error: io::Error) -> ClientError {
    ClientError::System {
        what: "making a producer",
        source: Errno(error.raw_os_error().unwrap_or_default()),
    }
}

#[cfg(test)]
#[path = "shared_sender_tests.rs"]
mod tests;
