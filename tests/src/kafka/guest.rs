//! A second consumer in a group: librdkafka's own, on a thread, writing down what it got for the judge.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::KafkaError as ClientError,
    message::BorrowedMessage,
};

use crate::ledger::{Lines, Outcome, Record, monotonic_ns};

/// A member of a group until it leaves. It commits what it got whenever it gives a partition up, and when it leaves.
#[derive(Debug)]
pub struct Guest {
    got: Arc<Mutex<Lines>>,
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is written down and not yet committed: the next offset of each partition. All commits are ours: the client's own
/// would include what it polls and throws away while it closes.
#[derive(Default)]
struct Positions {
    topic: String,
    next: Mutex<BTreeMap<i32, i64>>,
}

const LEAVE_WITHIN: Duration = Duration::from_secs(20);

// === impl Guest ===

impl Guest {
    /// Subscribes to `topic` in `group` with client id `name`, `assignor` (`cooperative-sticky`, `range`, ...) and
    /// further properties.
    pub fn join(
        bootstrap: &str,
        (group, name, topic): (&str, &str, &str),
        assignor: &str,
        properties: &[(&str, &str)],
    ) -> Result<Self, ClientError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("client.id", name)
            .set("partition.assignment.strategy", assignor)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        let positions = Positions {
            topic: topic.to_owned(),
            ..Positions::default()
        };
        let consumer: BaseConsumer<Positions> = config.create_with_context(positions)?;
        consumer.subscribe(&[topic])?;
        let got = Arc::new(Mutex::new(Lines::default()));
        let leave = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (got, leave) = (got.clone(), leave.clone());
            move || {
                let mut leave_by = None;
                loop {
                    if leave.load(Ordering::Relaxed) {
                        // A commit is refused while the group rebalances: the next poll brings that forward.
                        let deadline = *leave_by.get_or_insert_with(|| Instant::now() + LEAVE_WITHIN);
                        if consumer.context().commit(&consumer, |_| true).is_ok() || Instant::now() > deadline
                        {
                            break;
                        }
                    }
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                        got.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .records
                            .push(written_down(&message));
                        consumer
                            .context()
                            .next()
                            .insert(message.partition(), message.offset() + 1);
                    }
                }
            }
        });
        Ok(Self {
            got,
            leave,
            thread: Some(thread),
        })
    }

    /// What it got so far, as ledger lines of process 0.
    pub fn lines(&self) -> Lines {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves the group, with a commit, and returns what it got.
    pub fn leave(mut self) -> Lines {
        self.end();
        self.lines()
    }

    fn end(&mut self) {
        self.leave.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

// === impl Positions ===

impl Positions {
    fn next(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits the positions of these partitions, and forgets them once they are committed.
    fn commit(&self, consumer: &BaseConsumer<Self>, wanted: impl Fn(i32) -> bool) -> Result<(), ClientError> {
        let mut offsets = TopicPartitionList::new();
        for (&partition, &next) in self.next().iter().filter(|(partition, _)| wanted(**partition)) {
            offsets.add_partition_offset(&self.topic, partition, Offset::Offset(next))?;
        }
        if offsets.count() > 0 {
            consumer.commit(&offsets, CommitMode::Sync)?;
            self.next().retain(|&partition, _| !wanted(partition));
        }
        Ok(())
    }
}

impl ClientContext for Positions {}

impl ConsumerContext for Positions {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(revoked) = rebalance {
            let revoked = revoked.to_topic_map();
            let is_revoked = |partition| revoked.contains_key(&(self.topic.clone(), partition));
            // Where it fails the next member reads them again, and the judge sees it.
            let _ = self.commit(consumer, is_revoked);
            self.next().retain(|&partition, _| !is_revoked(partition));
        }
    }
}

fn written_down(message: &BorrowedMessage<'_>) -> Record {
    let payload = message
        .payload()
        .and_then(|payload| serde_json::from_slice::<serde_json::Value>(payload).ok());
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        n: payload.and_then(|payload| payload["n"].as_u64()),
        attempt: 1,
        pid: 0,
        at: monotonic_ns(),
        outcome: Outcome::Ok,
    }
}
