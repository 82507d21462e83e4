//! A formatted node of a cluster: its files and ports, which are all that a start needs, and a second start on the same
//! data. Each node is a broker and a controller (KRaft) on the loopback, with a plain listener and a TLS listener that
//! asks for a client certificate.

use std::{
    fmt::Write as _,
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{Admin, BrokerOptions, KafkaError, Tls, jars};
use crate::wait;

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) dir: PathBuf,
    /// Plain, TLS, controller.
    pub(super) ports: [u16; 3],
    pub(super) tls: Tls,
}

/// Where a node sits among its like.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// Its number, from 1.
    pub(super) id: u16,
    /// The controller ports of all nodes, in the order of their numbers.
    pub(super) controllers: Vec<u16>,
    /// What makes them one cluster.
    pub(super) cluster: String,
}

const UP_WITHIN: Duration = Duration::from_secs(60);

/// What Kafka would take its time for, so that a scenario need not: a node that died is known to be dead (9 s), a new
/// controller is chosen, a member of the new group protocol hears of a change (5 s), a log is compacted (15 s).
const QUICK: &str = "broker.session.timeout.ms=3000\n\
                     broker.heartbeat.interval.ms=500\n\
                     controller.quorum.fetch.timeout.ms=1500\n\
                     controller.quorum.election.timeout.ms=500\n\
                     controller.quorum.election.backoff.max.ms=500\n\
                     group.consumer.min.heartbeat.interval.ms=500\n\
                     group.consumer.heartbeat.interval.ms=500\n\
                     log.cleaner.backoff.ms=500\n";

// === impl Node ===

impl Node {
    /// Makes the files of a node in `dir`.
    pub(super) fn format(
        classpath: &str,
        dir: &Path,
        ports: [u16; 3],
        seat: &Seat,
        options: BrokerOptions,
    ) -> Result<Self, KafkaError> {
        fs::create_dir_all(dir)?;
        let node = Self {
            dir: dir.to_owned(),
            ports,
            tls: Tls::make(&dir.join("tls"))?,
        };
        let requests = options.request_log.then(|| node.request_log());
        fs::write(node.log_config(), jars::log_settings(requests.as_deref()))?;
        let mut properties = node.properties_text(seat);
        if options.acls {
            properties += "\nauthorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                           super.users=User:ANONYMOUS\n";
        }
        fs::write(node.properties(), properties)?;
        let format = jars::java(classpath, &node.log_config())
            .args(["kafka.tools.StorageTool", "format", "-t", &seat.cluster, "-c"])
            .arg(node.properties())
            .output()?;
        if !format.status.success() {
            let said = String::from_utf8_lossy(&format.stderr).into_owned();
            return Err(KafkaError::Broken(format!(
                "StorageTool cannot format {}: {said}",
                dir.display()
            )));
        }
        Ok(node)
    }

    pub(super) fn command(&self, classpath: &str) -> Result<Command, KafkaError> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut java = jars::java(classpath, &self.log_config());
        java.arg("kafka.Kafka")
            .arg(self.properties())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(java)
    }

    pub(super) fn await_answer(&self, mut alive: impl FnMut() -> bool) -> Result<(), KafkaError> {
        let admin = Admin::new(&self.bootstrap()).map_err(|error| KafkaError::Broken(error.to_string()))?;
        wait::until_told("the broker's answer", UP_WITHIN, || {
            if !alive() {
                return Ok(Err(KafkaError::Broken(format!(
                    "the broker ended at its start: {}",
                    self.log_tail()
                ))));
            }
            admin.answers().map(Ok).map_err(|error| error.to_string())
        })
        .map_err(|error| KafkaError::Broken(format!("{error}; its log ends: {}", self.log_tail())))?
    }

    fn properties_text(&self, seat: &Seat) -> String {
        let [plain, tls, controller] = self.ports;
        let dir = self.dir.display();
        let server = self.tls.server.display();
        let ca = self.tls.ca.display();
        let id = seat.id;
        let voters: Vec<String> = (1..)
            .zip(&seat.controllers)
            .map(|(id, port)| format!("{id}@127.0.0.1:{port}"))
            .collect();
        let voters = voters.join(",");
        // Three copies where there are three nodes, so that one may be lost without a write being refused.
        let replicas = seat.controllers.len();
        let in_sync = replicas.div_ceil(2);
        format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
             ssl.keystore.type=PEM\n\
             ssl.keystore.location={server}\n\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={ca}\n\
             ssl.client.auth=required\n\
             log.dirs={dir}/data\n\
             num.io.threads=4\n\
             auto.create.topics.enable=false\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=8\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=8\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             group.initial.rebalance.delay.ms=0\n\
             log.cleaner.backoff.ms=500\n\
             message.max.bytes=10485760\n\
             {QUICK}"
        )
    }

    pub(super) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub(super) fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    pub(super) fn log_config(&self) -> PathBuf {
        self.dir.join("log4j2.yaml")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn request_log(&self) -> PathBuf {
        self.dir.join("requests")
    }

    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

// === impl Seat ===

impl Seat {
    /// The only node of a new cluster.
    pub(super) fn alone([_, _, controller]: [u16; 3]) -> Self {
        Self {
            id: 1,
            controllers: vec![controller],
            cluster: random_uuid(),
        }
    }
}

/// Free ports below the kernel's ephemeral range: a port of that range could be taken by some client's outgoing
/// connection while the broker is stopped, and a client that knocks at its own port even connects to itself.
pub(super) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT], KafkaError> {
    const RANGE: std::ops::Range<u64> = 20_000..32_000;
    let mut held = Vec::new();
    for _ in 0..1_000 {
        let port = (RANGE.start + random() % (RANGE.end - RANGE.start)) as u16;
        // Held until all are found, or one could be found twice.
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
        let ports: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
        if let Ok(ports) = ports.try_into() {
            return Ok(ports);
        }
    }
    Err(KafkaError::Broken(format!(
        "no {COUNT} free ports on 127.0.0.1 in {RANGE:?}"
    )))
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A KRaft cluster id: 16 bytes as 22 characters of URL-safe base64, whose last holds two bits only.
pub(super) fn random_uuid() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (high, low) = (random(), random());
    // A leading dash would look like an option.
    let mut text = String::from("D");
    for place in 0..20 {
        let bits = if place < 10 {
            high >> (6 * place)
        } else {
            low >> (6 * (place - 10))
        };
        let _ = text.write_char(char::from(ALPHABET[(bits & 63) as usize]));
    }
    text.push('A');
    text
}
