//! Topics, groups and committed offsets of a cluster, asked through librdkafka.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError as ClientError,
};

use super::groups::{self, Generation};
use crate::wait;

/// A client for questions and orders to one cluster. It joins no group.
pub struct Admin {
    pub(super) bootstrap: String,
    pub(super) orders: AdminClient<DefaultClientContext>,
    pub(super) questions: BaseConsumer,
}

/// A group as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// `Stable`, `Empty`, `PreparingRebalance`, `Dead`, ...
    pub state: String,
    /// Its members, by id.
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: String,
    /// The `client.id` it came with.
    pub client_id: String,
    /// The address it came from, as `/127.0.0.1`.
    pub host: String,
}

/// What the cluster or the client said no to.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The request failed.
    #[error("{what}: {source}")]
    Client {
        /// What was asked.
        what: String,
        /// librdkafka's error.
        source: ClientError,
    },
    /// The cluster refused the order for this topic.
    #[error("{what}: {code}")]
    Refused {
        /// What was ordered.
        what: String,
        /// Kafka's error code.
        code: rdkafka::types::RDKafkaErrorCode,
    },
    /// It was ordered, and the cluster never showed it.
    #[error(transparent)]
    TimedOut(#[from] wait::TimedOut),
}

/// The broker's `default.replication.factor`.
const CLUSTERS_OWN: i32 = -1;
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const SETTLE: Duration = Duration::from_secs(30);

fn client_of(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "devour-tests-admin");
    config
}

// === impl Admin ===

impl Admin {
    /// A client of the cluster at `bootstrap`; connects when first asked.
    pub fn new(bootstrap: &str) -> Result<Self, AdminError> {
        let config = client_of(bootstrap);
        let orders = config.create().map_err(error_in("cannot make an admin client"))?;
        let questions = config.create().map_err(error_in("cannot make a client"))?;
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
            orders,
            questions,
        })
    }

    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic with as many replicas as the cluster gives one, and returns once every partition has a leader.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), AdminError> {
        self.create_topic_with(name, partitions, &[])
    }

    /// As [`Admin::create_topic`], with topic settings such as `("max.message.bytes", "10485760")`.
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), AdminError> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(CLUSTERS_OWN));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let what = format!("create topic {name}");
        let results = block_on(self.orders.create_topics([&topic], &options())).map_err(error_in(&what))?;
        ordered(&what, results)?;
        self.await_partitions(name, partitions)
    }

    /// Raises a topic's number of partitions to `total`.
    pub fn grow_topic(&self, name: &str, total: i32) -> Result<(), AdminError> {
        let what = format!("grow topic {name}");
        let grown = NewPartitions::new(name, total as usize);
        let results =
            block_on(self.orders.create_partitions([&grown], &options())).map_err(error_in(&what))?;
        ordered(&what, results)?;
        self.await_partitions(name, total)
    }

    /// Deletes a topic and returns once the cluster no longer shows it.
    pub fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let what = format!("delete topic {name}");
        let results = block_on(self.orders.delete_topics(&[name], &options())).map_err(error_in(&what))?;
        ordered(&what, results)?;
        wait::until(&format!("topic {name} to go"), SETTLE, || {
            self.leaders(name).ok()?.is_none().then_some(())
        })?;
        Ok(())
    }

    /// Low and high watermark of a partition: the first offset it holds and the next it will give.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), AdminError> {
        let what = format!("watermarks of {topic}/{partition}");
        let mut asked: Option<BaseConsumer> = None;
        Ok(wait::until_told(&what, SETTLE, || {
            let client = asked.as_ref().unwrap_or(&self.questions);
            client
                .fetch_watermarks(topic, partition, TIMEOUT)
                .map_err(|error| {
                    // A leader that has just changed answers that it is none; and what a client has heard of a topic while
                    // its brokers came and went, it may keep for good.
                    asked = client_of(&self.bootstrap).create().ok();
                    error.to_string()
                })
        })?)
    }

    /// The group's committed offset of every partition below `partitions` that has one.
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<BTreeMap<i32, i64>, AdminError> {
        let what = format!("committed offsets of group {group}");
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("client.id", "devour-tests-offsets")
            .create()
            .map_err(error_in(&what))?;
        // A coordinator that has just changed answers that it is none.
        let answer = wait::until_told(&what, SETTLE, || {
            consumer
                .committed_offsets(asked.clone(), TIMEOUT)
                .map_err(|error| error.to_string())
        })?;
        let offset = |offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(answer
            .elements()
            .iter()
            .filter_map(|one| Some((one.partition(), offset(one.offset())?)))
            .collect())
    }

    /// Waits until the group's committed offsets of `topic` add up to `total`.
    pub fn await_committed(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
        total: i64,
        within: Duration,
    ) -> Result<(), AdminError> {
        let what = format!("group {group} to commit {total} messages of {topic}");
        Ok(wait::until_told(&what, within, || {
            let committed = self
                .committed(group, topic, partitions)
                .map_err(|error| error.to_string())?;
            if committed.values().sum::<i64>() == total {
                Ok(())
            } else {
                Err(format!("{committed:?}"))
            }
        })?)
    }

    /// The group and its members now; `None` if the cluster does not know it.
    pub fn group(&self, group: &str) -> Result<Option<GroupView>, AdminError> {
        let what = format!("members of group {group}");
        let list = self
            .questions
            .fetch_group_list(Some(group), TIMEOUT)
            .map_err(error_in(&what))?;
        let view = list.groups().iter().find(|one| one.name() == group).map(|one| {
            let member = |one: &rdkafka::groups::GroupMemberInfo| Member {
                id: one.id().to_owned(),
                client_id: one.client_id().to_owned(),
                host: one.client_host().to_owned(),
            };
            let mut members: Vec<_> = one.members().iter().map(member).collect();
            members.sort();
            GroupView {
                state: one.state().to_owned(),
                members,
            }
        });
        Ok(view.filter(|view| view.state != "Dead"))
    }

    /// Waits until the group is stable with `count` members.
    pub fn await_members(
        &self,
        group: &str,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Member>, AdminError> {
        let what = format!("{count} members in group {group}");
        Ok(wait::until_told(&what, within, || match self.group(group) {
            Ok(Some(view)) if view.state == "Stable" && view.members.len() == count => Ok(view.members),
            other => Err(format!("{other:?}")),
        })?)
    }

    /// Every generation of a classic group, oldest first, as the coordinator wrote them down: a rebalance that
    /// happened is in here, however short it was.
    pub fn generations(&self, group: &str) -> Result<Vec<Generation>, AdminError> {
        groups::generations(&self.bootstrap, group)
            .map_err(error_in(&format!("generations of group {group}")))
    }

    /// Ok if a broker answers now.
    pub(super) fn answers(&self) -> Result<(), AdminError> {
        let metadata = self
            .questions
            .fetch_metadata(None, Duration::from_secs(2))
            .map_err(error_in("metadata"))?;
        if metadata.brokers().is_empty() {
            return Err(error_in("metadata")(ClientError::MetadataFetch(
                rdkafka::types::RDKafkaErrorCode::AllBrokersDown,
            )));
        }
        Ok(())
    }

    /// Waits until a broker answers.
    pub fn await_answer(&self) -> Result<(), AdminError> {
        Ok(wait::until_told("an answer", SETTLE, || {
            self.answers().map_err(|error| error.to_string())
        })?)
    }

    fn await_partitions(&self, name: &str, partitions: i32) -> Result<(), AdminError> {
        let what = format!("leaders of the {partitions} partitions of topic {name}");
        Ok(wait::until_told(&what, SETTLE, || match self.leaders(name) {
            Ok(Some(leaders)) if leaders == partitions => Ok(()),
            other => Err(format!("{other:?}")),
        })?)
    }

    /// How many partitions of a topic have a leader; `None` if there is no such topic.
    fn leaders(&self, name: &str) -> Result<Option<i32>, ClientError> {
        // All topics, as asking for one by name could create it where the broker allows that.
        let metadata = self.questions.fetch_metadata(None, TIMEOUT)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        Ok(topic.map(|topic| topic.partitions().iter().filter(|one| one.leader() >= 0).count() as i32))
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT))
}

fn ordered(what: &str, results: Vec<TopicResult>) -> Result<(), AdminError> {
    for result in results {
        result.map_err(|(_, code)| AdminError::Refused {
            what: what.to_owned(),
            code,
        })?;
    }
    Ok(())
}

pub(super) fn error_in(what: &str) -> impl FnOnce(ClientError) -> AdminError + use<> {
    let what = what.to_owned();
    move |source| AdminError::Client { what, source }
}

/// Runs one future to its end on this thread; librdkafka's own thread wakes it.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}
