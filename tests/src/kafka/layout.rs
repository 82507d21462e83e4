//! Where things are in a cluster: which broker leads a partition, which one coordinates a group, and whether all
//! replicas are in sync.

use rdkafka::consumer::Consumer;

use super::{
    Admin, AdminError,
    admin::{TIMEOUT, error_in},
    groups,
};

impl Admin {
    /// The broker that leads a partition now; -1 if none does.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32, AdminError> {
        let what = format!("the leader of {topic}/{partition}");
        let metadata = self
            .questions
            .fetch_metadata(Some(topic), TIMEOUT)
            .map_err(error_in(&what))?;
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let one = partitions.find(|one| one.id() == partition);
        Ok(one.map_or(-1, |one| one.leader()))
    }

    /// The broker that coordinates a group now: it leads the group's partition of `__consumer_offsets`. -1 if none does.
    pub fn coordinator(&self, group: &str) -> Result<i32, AdminError> {
        let what = format!("the coordinator of group {group}");
        let metadata = self
            .questions
            .fetch_metadata(Some(groups::TOPIC), TIMEOUT)
            .map_err(error_in(&what))?;
        let count: usize = metadata
            .topics()
            .iter()
            .map(|topic| topic.partitions().len())
            .sum();
        if count == 0 {
            return Ok(-1);
        }
        self.leader(groups::TOPIC, groups::home_of(group, count as i32))
    }

    /// Ok if `brokers` brokers are there and every partition has all its replicas in sync; else what is missing.
    pub(super) fn is_whole(&self, brokers: usize) -> Result<(), String> {
        let metadata = self
            .questions
            .fetch_metadata(None, TIMEOUT)
            .map_err(|error| error.to_string())?;
        let there = metadata.brokers().len();
        if there < brokers {
            return Err(format!("{there} brokers"));
        }
        for topic in metadata.topics() {
            for one in topic.partitions() {
                if one.leader() < 0 || one.isr().len() < one.replicas().len() {
                    return Err(format!(
                        "{}/{} is led by {} and in sync on {:?} of {:?}",
                        topic.name(),
                        one.id(),
                        one.leader(),
                        one.isr(),
                        one.replicas()
                    ));
                }
            }
        }
        Ok(())
    }
}
