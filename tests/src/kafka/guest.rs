//! A second consumer in a group: librdkafka's own, on a thread, writing down what it got for the judge.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
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
            // Stored by us, once written down: the client's close polls on, and would store what it throws away.
            .set("enable.auto.offset.store", "false");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        let got = Arc::new(Mutex::new(Lines::default()));
        let leave = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (got, leave) = (got.clone(), leave.clone());
            move || {
                // Stored offsets are committed on revoke and close.
                while !leave.load(Ordering::Relaxed) {
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                        got.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .records
                            .push(written_down(&message));
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
