//! One broker of our own: KRaft, one node, loopback, a plain listener and a TLS listener that asks for a client
//! certificate.

use std::{
    fmt::Write as _,
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Admin, Fetch, KafkaError, Tls, jars, request_log};
use crate::{
    process::{Exit, Process},
    undertaker, wait, workspace,
};

/// What a scenario may want of its broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerOptions {
    /// Write down every request, so that [`Broker::fetches`] can tell what a client asked for.
    pub request_log: bool,
}

/// A broker that ends when dropped, and with this process at the latest.
#[derive(Debug)]
pub struct Broker {
    node: Node,
    process: Option<Process>,
}

/// A broker that goes on after this process: `cargo xtask kafka start`.
#[derive(Debug)]
pub struct Detached {
    node: Node,
}

/// A formatted node's files and ports: all that a start needs, and a second start on the same data.
#[derive(Clone, Debug)]
struct Node {
    dir: PathBuf,
    ports: [u16; 3],
    tls: Tls,
}

const UP_WITHIN: Duration = Duration::from_secs(60);
const DOWN_WITHIN: Duration = Duration::from_secs(30);

// === impl Broker ===

impl Broker {
    /// Formats and starts a broker and returns once it answers.
    pub(super) fn start(options: BrokerOptions) -> Result<Self, KafkaError> {
        let classpath = jars::ensure()?;
        let ports = free_ports()?;
        let dir =
            workspace::target_dir()
                .join("kafka/nodes")
                .join(format!("{}-{}", std::process::id(), ports[0]));
        let node = Node::format(&classpath, &dir, ports, options)?;
        if !workspace::keep_files() {
            undertaker::sweep(&dir)?;
        }
        let mut broker = Self { node, process: None };
        broker.start_again()?;
        Ok(broker)
    }

    /// Starts a stopped broker on the same ports and data and returns once it answers.
    pub fn start_again(&mut self) -> Result<(), KafkaError> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut process = Process::spawn(&mut self.node.command(&jars::ensure()?)?)?;
        self.node.await_answer(|| process.is_alive())?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it as an operator would (SIGTERM) and returns once it has ended.
    pub fn stop(&mut self) -> Result<(), KafkaError> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(Signal::TERM)?;
        match process.wait(DOWN_WITHIN)? {
            Exit::Status(0 | 143) | Exit::Signal(15) => Ok(()),
            other => Err(KafkaError::Broken(format!(
                "the broker ended with {other:?}: {}",
                self.node.log_tail()
            ))),
        }
    }

    /// Ends it without a word (SIGKILL).
    pub fn kill(&mut self) -> Result<(), KafkaError> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// `host:port` of the plain listener.
    pub fn bootstrap(&self) -> String {
        self.node.bootstrap()
    }

    /// `host:port` of the TLS listener.
    pub fn tls_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.node.ports[1])
    }

    /// The certificates to talk to it.
    pub fn tls(&self) -> &Tls {
        &self.node.tls
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Every fetch since the start by clients whose id begins with `client_id`, in the order in which the broker
    /// answered them. Empty unless started with [`BrokerOptions::request_log`].
    pub fn fetches(&self, client_id: &str) -> Result<Vec<Fetch>, KafkaError> {
        Ok(request_log::fetches(&self.node.request_log(), client_id)?)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process = None;
        if !workspace::keep_files() {
            let _ = fs::remove_dir_all(&self.node.dir);
        }
    }
}

// === impl Detached ===

impl Detached {
    /// Starts a broker on `port` (TLS on the next, its controller on the one after) with files in
    /// `target/kafka/dev-<port>`; what was there before is gone.
    pub fn start(port: u16) -> Result<Self, KafkaError> {
        let dir = Self::dir(port);
        if let Some(pid) = Self::running(&dir) {
            return Err(KafkaError::Broken(format!(
                "a broker runs on port {port} already (process {pid}); stop it first"
            )));
        }
        let classpath = jars::ensure()?;
        let ports = [port, port + 1, port + 2];
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|error| KafkaError::Broken(format!("port {port} is not free: {error}")))?;
        }
        let _ = fs::remove_dir_all(&dir);
        let node = Node::format(&classpath, &dir, ports, BrokerOptions::default())?;
        // A session of its own, so that closing the terminal does not end it.
        let mut child = node.command(&classpath)?.process_group(0).spawn()?;
        fs::write(dir.join("pid"), child.id().to_string())?;
        node.await_answer(|| matches!(child.try_wait(), Ok(None)))?;
        Ok(Self { node })
    }

    /// Stops the broker on `port`; false if none runs.
    pub fn stop(port: u16) -> Result<bool, KafkaError> {
        let dir = Self::dir(port);
        let Some(pid) = Self::running(&dir) else {
            return Ok(false);
        };
        kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
        wait::until("the broker's end", DOWN_WITHIN, || {
            Self::running(&dir).is_none().then_some(())
        })
        .map_err(|error| KafkaError::Broken(error.to_string()))?;
        Ok(true)
    }

    /// `host:port` of the plain listener.
    pub fn bootstrap(&self) -> String {
        self.node.bootstrap()
    }

    fn dir(port: u16) -> PathBuf {
        workspace::target_dir().join("kafka").join(format!("dev-{port}"))
    }

    /// The broker of `dir`, unless it ended and its number went to another program.
    fn running(dir: &Path) -> Option<Pid> {
        let pid: i32 = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours =
            String::from_utf8_lossy(&words).contains(&*dir.join("server.properties").to_string_lossy());
        if ours { Pid::from_raw(pid) } else { None }
    }
}

// === impl Node ===

impl Node {
    fn format(
        classpath: &str,
        dir: &Path,
        ports: [u16; 3],
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
        fs::write(node.properties(), node.properties_text())?;
        let format = jars::java(classpath, &node.log_config())
            .args([
                "kafka.tools.StorageTool",
                "format",
                "--standalone",
                "-t",
                &random_uuid(),
                "-c",
            ])
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

    fn command(&self, classpath: &str) -> Result<Command, KafkaError> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut java = jars::java(classpath, &self.log_config());
        java.arg("kafka.Kafka")
            .arg(self.properties())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(java)
    }

    fn await_answer(&self, mut alive: impl FnMut() -> bool) -> Result<(), KafkaError> {
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

    fn properties_text(&self) -> String {
        let [plain, tls, controller] = self.ports;
        let dir = self.dir.display();
        let server = self.tls.server.display();
        let ca = self.tls.ca.display();
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
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
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=8\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=8\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             message.max.bytes=10485760\n"
        )
    }

    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn log_config(&self) -> PathBuf {
        self.dir.join("log4j2.yaml")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn request_log(&self) -> PathBuf {
        self.dir.join("requests")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Three free ports below the kernel's ephemeral range: a port of that range could be taken by some client's outgoing
/// connection while the broker is stopped, and a client that knocks at its own port even connects to itself.
fn free_ports() -> Result<[u16; 3], KafkaError> {
    const RANGE: std::ops::Range<u64> = 20_000..32_000;
    let mut held = Vec::new();
    for _ in 0..1_000 {
        let port = (RANGE.start + random() % (RANGE.end - RANGE.start)) as u16;
        // Held until all three are found, or one could be found twice.
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
        if let [(one, _), (two, _), (three, _)] = held[..] {
            return Ok([one, two, three]);
        }
    }
    Err(KafkaError::Broken(format!(
        "no three free ports on 127.0.0.1 in {RANGE:?}"
    )))
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A KRaft cluster id: 16 bytes as 22 characters of URL-safe base64, whose last holds two bits only.
fn random_uuid() -> String {
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
