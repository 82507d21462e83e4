//! The embedded broker: librdkafka's mock cluster, in a process of its own, for the demo and for tests. It keeps
//! messages in memory: at most 5 MiB or 100,000 batches a partition, the oldest go first.

use std::ffi::CString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::ptr::NonNull;

use rdkafka::config::ClientConfig;
use rdkafka_sys as sys;
use serde::{Deserialize, Serialize};

use super::callbacks::ignore_log;
use super::errors::{ErrorCode, text_of};

/// A running embedded broker; dropping it ends it.
pub struct EmbeddedBroker {
    child: Child,
    bootstrap: String,
}

/// Why there is no embedded broker.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("the embedded broker cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("the embedded broker said `{0}` instead of its address")]
    Answer(String),
    #[error("librdkafka cannot make the embedded broker: {0}")]
    Cluster(String),
    #[error("the embedded broker cannot make the topic {topic}: {reason}")]
    Topic { topic: String, reason: String },
    #[error("the embedded broker cannot tell its address: {0}")]
    Tell(#[source] io::Error),
}

/// The one line that the broker's process writes.
#[derive(Serialize, Deserialize)]
struct Ready {
    bootstrap: String,
}

/// Nobody waits three seconds, as a real broker would, for a second member of a new group.
const REBALANCE_DELAY_MS: i32 = 50;

// === impl EmbeddedBroker ===

impl EmbeddedBroker {
    /// Starts `command`, which has to call [`serve_embedded`] with its standard streams, and waits for its address.
    pub fn spawn(mut command: Command) -> Result<Self, EmbeddedError> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(EmbeddedError::Start)?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped above");
        let read = BufReader::new(stdout).take(4096).read_line(&mut line);
        let ready = read.map_err(EmbeddedError::Start).and_then(|_| {
            serde_json::from_str::<Ready>(&line)
                .map_err(|_| EmbeddedError::Answer(line.trim_end().to_owned()))
        });
        match ready {
            Ok(Ready { bootstrap }) => Ok(Self { child, bootstrap }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// `host:port`, for `hosts`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The broker's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// It holds nothing worth an orderly end.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs a broker in this process: makes the topics (name, partitions), writes its address to `ready` as one line
/// (`{"bootstrap":"127.0.0.1:40001"}`) and ends when `stop` does. Messages may be as large as a client allows.
pub fn serve_embedded(
    topics: &[(String, i32)],
    ready: &mut dyn Write,
    stop: &mut dyn Read,
) -> Result<(), EmbeddedError> {
    let cluster = Cluster::new(1)?;
    for (topic, partitions) in topics {
        cluster.make_topic(topic, *partitions)?;
    }
    let mut line = serde_json::to_string(&Ready {
        bootstrap: cluster.bootstrap(),
    })
    .map_err(|error| EmbeddedError::Tell(error.into()))?;
    line.push('\n');
    ready
        .write_all(line.as_bytes())
        .and_then(|()| ready.flush())
        .map_err(EmbeddedError::Tell)?;
    // An error of the pipe means, as its end does, that nobody wants the broker any more.
    let _ = io::copy(stop, &mut io::sink());
    Ok(())
}

/// The mock cluster and the client that it lives in.
pub(super) struct Cluster {
    client: NonNull<sys::rd_kafka_t>,
    mock: NonNull<sys::rd_kafka_mock_cluster_t>,
}

// SAFETY: the mock cluster is driven by messages to its own thread; its functions may be called from any.
unsafe impl Send for Cluster {}

impl Cluster {
    pub(super) fn new(brokers: i32) -> Result<Self, EmbeddedError> {
        let config = ClientConfig::new()
            .create_native_config()
            .map_err(|error| EmbeddedError::Cluster(error.to_string()))?;
        let mut buffer = [0 as std::ffi::c_char; 512];
        // SAFETY: `rd_kafka_new` owns the configuration on success, else it stays ours; the cluster lives in the
        // client, which is destroyed after it, in `drop`.
        unsafe {
            // It would complain, on stderr, that it knows no broker.
            sys::rd_kafka_conf_set_log_cb(config.ptr(), Some(ignore_log));
            let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let client = sys::rd_kafka_new(kind, config.ptr(), buffer.as_mut_ptr(), buffer.len());
            let Some(client) = NonNull::new(client) else {
                return Err(EmbeddedError::Cluster(text_of(buffer.as_ptr())));
            };
            std::mem::forget(config);
            let Some(mock) = NonNull::new(sys::rd_kafka_mock_cluster_new(client.as_ptr(), brokers)) else {
                sys::rd_kafka_destroy(client.as_ptr());
                return Err(EmbeddedError::Cluster("it gives no reason".into()));
            };
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(mock.as_ptr(), REBALANCE_DELAY_MS);
            Ok(Self { client, mock })
        }
    }

    pub(super) fn make_topic(&self, topic: &str, partitions: i32) -> Result<(), EmbeddedError> {
        let failed = |reason: String| EmbeddedError::Topic {
            topic: topic.to_owned(),
            reason,
        };
        let name = CString::new(topic).map_err(|_| failed("its name holds a NUL byte".into()))?;
        // SAFETY: a live cluster and a terminated name.
        let code =
            unsafe { sys::rd_kafka_mock_topic_create(self.mock.as_ptr(), name.as_ptr(), partitions, 1) };
        match ErrorCode::from(code) {
            ErrorCode::NONE => Ok(()),
            code => Err(failed(code.text())),
        }
    }

    pub(super) fn bootstrap(&self) -> String {
        // SAFETY: a live cluster; the text is terminated and lives as long.
        unsafe { text_of(sys::rd_kafka_mock_cluster_bootstraps(self.mock.as_ptr())) }
    }

    #[cfg(test)]
    pub(super) fn broker_down(&self, id: i32) {
        // SAFETY: a live cluster.
        unsafe { sys::rd_kafka_mock_broker_set_down(self.mock.as_ptr(), id) };
    }

    #[cfg(test)]
    pub(super) fn broker_up(&self, id: i32) {
        // SAFETY: a live cluster.
        unsafe { sys::rd_kafka_mock_broker_set_up(self.mock.as_ptr(), id) };
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: both are owned; the cluster goes before its client.
        unsafe {
            sys::rd_kafka_mock_cluster_destroy(self.mock.as_ptr());
            sys::rd_kafka_destroy(self.client.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_broker_says_its_address_and_ends_with_its_input() {
        let mut ready = Vec::new();
        serve_embedded(&[("t".into(), 3)], &mut ready, &mut io::empty()).unwrap();
        let ready: Ready = serde_json::from_slice(&ready).unwrap();
        assert!(ready.bootstrap.starts_with("127.0.0.1:"), "{}", ready.bootstrap);
    }

    #[test]
    fn a_command_that_is_no_broker_is_an_error() {
        let mut command = Command::new("echo");
        command.arg("hello");
        let error = EmbeddedBroker::spawn(command).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the embedded broker said `hello` instead of its address"
        );
    }
}
