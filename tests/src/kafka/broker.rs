//! A broker of our own, started and stopped at will: the only one of its cluster, or one of several.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Fetch, KafkaError, Tls, jars,
    node::{Node, Seat, free_ports},
    request_log,
};
use crate::{
    process::{Exit, Process},
    undertaker, wait, workspace,
};

/// What a scenario may want of its broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerOptions {
    /// Write down every request, so that [`Broker::fetches`] can tell what a client asked for.
    pub request_log: bool,
    /// Ask what a client may do: whoever comes to the plain listener everything, the client of the fixture's
    /// certificate nothing but what [`Broker::allow`] says.
    pub acls: bool,
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

const DOWN_WITHIN: Duration = Duration::from_secs(30);

// === impl Broker ===

impl Broker {
    /// Formats and starts a broker that is a cluster by itself, and returns once it answers.
    pub(super) fn start(options: BrokerOptions) -> Result<Self, KafkaError> {
        let ports = free_ports()?;
        let mut broker = Self::format(ports, &Seat::alone(ports), options)?;
        broker.start_again()?;
        Ok(broker)
    }

    /// One that has not been started.
    pub(super) fn format(ports: [u16; 3], seat: &Seat, options: BrokerOptions) -> Result<Self, KafkaError> {
        let dir =
            workspace::target_dir()
                .join("kafka/nodes")
                .join(format!("{}-{}", std::process::id(), ports[0]));
        if !workspace::keep_files() {
            fs::create_dir_all(&dir)?;
            undertaker::sweep(&dir)?;
        }
        let node = Node::format(&jars::ensure()?, &dir, ports, seat, options)?;
        Ok(Self { node, process: None })
    }

    /// Starts a stopped broker on the same ports and data and returns once it answers.
    pub fn start_again(&mut self) -> Result<(), KafkaError> {
        self.begin()?;
        self.await_answer()
    }

    /// Starts its process, unless it runs.
    pub(super) fn begin(&mut self) -> Result<(), KafkaError> {
        if self.process.is_none() {
            self.process = Some(Process::spawn(&mut self.node.command(&jars::ensure()?)?)?);
        }
        Ok(())
    }

    /// Returns once it answers.
    pub(super) fn await_answer(&mut self) -> Result<(), KafkaError> {
        let process = &mut self.process;
        let answered = self
            .node
            .await_answer(|| process.as_mut().is_some_and(Process::is_alive));
        if answered.is_err() {
            self.process = None;
        }
        answered
    }

    /// Gives it one more property, such as `offset.metadata.max.bytes=16`, from its next start on.
    pub fn configure(&self, property: &str) -> Result<(), KafkaError> {
        let text = fs::read_to_string(self.node.properties())?;
        Ok(fs::write(self.node.properties(), format!("{text}{property}\n"))?)
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

    /// From now on it has its connections and says nothing on them (SIGSTOP).
    pub fn freeze(&mut self) -> Result<(), KafkaError> {
        self.signal(Signal::STOP)
    }

    /// It goes on where it was.
    pub fn thaw(&mut self) -> Result<(), KafkaError> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), KafkaError> {
        if let Some(process) = &mut self.process {
            process.signal(signal)?;
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
        let node = Node::format(
            &classpath,
            &dir,
            ports,
            &Seat::alone(ports),
            BrokerOptions::default(),
        )?;
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
