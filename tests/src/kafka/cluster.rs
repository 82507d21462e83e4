//! A cluster of three brokers, shared by the scenarios that lose one: each has it for itself while it runs, and finds it
//! whole.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use super::{
    Broker, BrokerOptions, Kafka, KafkaError,
    node::{Seat, free_ports, random_uuid},
};
use crate::wait;

/// Three brokers and how to reach them.
#[derive(Debug)]
pub struct Cluster {
    kafka: Kafka,
    nodes: Nodes,
}

/// The brokers of a cluster, by their numbers (from 1).
#[derive(Debug)]
pub struct Nodes {
    brokers: Vec<Broker>,
}

const NODES: usize = 3;
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

static CLUSTER: OnceLock<Result<Mutex<Cluster>, KafkaError>> = OnceLock::new();

/// The shared cluster, for one scenario at a time; started at the first call, and mended if the scenario before left a
/// broker dead.
pub fn cluster() -> Result<MutexGuard<'static, Cluster>, KafkaError> {
    let cluster = CLUSTER.get_or_init(|| Cluster::start().map(Mutex::new));
    let mut cluster = cluster
        .as_ref()
        .map_err(Clone::clone)?
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    cluster.mend()?;
    Ok(cluster)
}

// === impl Cluster ===

impl Cluster {
    fn start() -> Result<Self, KafkaError> {
        let ports: [u16; 3 * NODES] = free_ports()?;
        let of_node = |node: usize| [ports[3 * node], ports[3 * node + 1], ports[3 * node + 2]];
        let controllers: Vec<u16> = (0..NODES).map(|node| of_node(node)[2]).collect();
        let cluster = random_uuid();
        let format = |node: usize| {
            let seat = Seat {
                id: node as u16 + 1,
                controllers: controllers.clone(),
                cluster: cluster.clone(),
            };
            Broker::format(of_node(node), &seat, BrokerOptions::default())
        };
        // Each waits for a Java of its own: side by side.
        let brokers: Result<Vec<Broker>, KafkaError> = std::thread::scope(|scope| {
            let format = &format;
            let at_work: Vec<_> = (0..NODES).map(|node| scope.spawn(move || format(node))).collect();
            let panicked = |_| KafkaError::Broken("formatting a node panicked".to_owned());
            at_work
                .into_iter()
                .map(|one| one.join().map_err(panicked)?)
                .collect()
        });
        let nodes = Nodes { brokers: brokers? };
        let bootstrap: Vec<String> = nodes.brokers.iter().map(Broker::bootstrap).collect();
        let kafka = Kafka {
            bootstrap: bootstrap.join(","),
            own: None,
        };
        Ok(Self { kafka, nodes })
    }

    /// The cluster to talk to, and its brokers to end and start.
    pub fn parts(&mut self) -> (&Kafka, &mut Nodes) {
        (&self.kafka, &mut self.nodes)
    }

    fn mend(&mut self) -> Result<(), KafkaError> {
        for broker in &mut self.nodes.brokers {
            broker.begin()?;
        }
        for broker in &mut self.nodes.brokers {
            broker.await_answer()?;
        }
        self.nodes.await_whole(&self.kafka)
    }
}

// === impl Nodes ===

impl Nodes {
    /// One of them.
    pub fn broker(&mut self, id: i32) -> Result<&mut Broker, KafkaError> {
        usize::try_from(id - 1)
            .ok()
            .and_then(|index| self.brokers.get_mut(index))
            .ok_or_else(|| KafkaError::Broken(format!("the cluster has no broker {id}")))
    }

    /// Waits until every broker is there and every replica is in sync: the next one may be lost.
    pub fn await_whole(&self, kafka: &Kafka) -> Result<(), KafkaError> {
        let broken = |error: &dyn std::fmt::Display| KafkaError::Broken(error.to_string());
        let admin = kafka.admin().map_err(|error| broken(&error))?;
        wait::until_told("a whole cluster", WHOLE_WITHIN, || {
            admin.is_whole(self.brokers.len())
        })
        .map_err(|error| broken(&error))
    }
}
