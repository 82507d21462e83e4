//! A group's committed offsets, moved from outside, and records that are deleted before their time.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::AdminOptions,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use super::{
    Admin, AdminError,
    admin::{SETTLE, TIMEOUT, block_on, error_in, options},
};
use crate::wait;

impl Admin {
    /// Sets the committed offsets of a group without members, as an operator's tool does.
    pub fn set_committed(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<(), AdminError> {
        let what = format!("set the offsets of group {group}");
        let stranger = self.member_of(group, &[])?;
        let offsets = list_of(topic, offsets, &what)?;
        // A coordinator that is new in its office refuses at first.
        wait::until_told(&what, SETTLE, || {
            stranger
                .commit(&offsets, CommitMode::Sync)
                .map_err(|error| error.to_string())
        })?;
        Ok(())
    }

    /// Sets committed offsets of a group that has members: only another member may, so this one joins for `its_topic`,
    /// which must exist, commits for `topic`, and leaves.
    pub fn set_committed_as_member(
        &self,
        group: &str,
        its_topic: &str,
        topic: &str,
        offsets: &[(i32, i64)],
    ) -> Result<(), AdminError> {
        let what = format!("set the offsets of group {group} as a member");
        let member = self.member_of(group, &[("partition.assignment.strategy", "cooperative-sticky")])?;
        member.subscribe(&[its_topic]).map_err(error_in(&what))?;
        wait::until(&format!("partitions of {its_topic}"), SETTLE, || {
            let _ = member.poll(Duration::from_millis(50));
            member
                .assignment()
                .ok()
                .filter(|assigned| assigned.count() > 0)
                .map(|_| ())
        })?;
        let offsets = list_of(topic, offsets, &what)?;
        // Refused while the group rebalances.
        wait::until_told(&what, SETTLE, || {
            let _ = member.poll(Duration::from_millis(50));
            member
                .commit(&offsets, CommitMode::Sync)
                .map_err(|error| error.to_string())
        })?;
        Ok(())
    }

    /// Deletes the records of a partition below `before`: its log begins there.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<(), AdminError> {
        let what = format!("delete records of {topic}/{partition}");
        let offsets = list_of(topic, &[(partition, before)], &what)?;
        let options: AdminOptions = options();
        block_on(self.orders.delete_records(&offsets, &options)).map_err(error_in(&what))?;
        Ok(wait::until_told(
            &format!("{topic}/{partition} to begin at {before}"),
            TIMEOUT,
            || match self.watermarks(topic, partition) {
                Ok((low, _)) if low == before => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )?)
    }

    fn member_of(&self, group: &str, properties: &[(&str, &str)]) -> Result<BaseConsumer, AdminError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("client.id", "devour-tests-offsets")
            .set("enable.auto.commit", "false");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        config
            .create()
            .map_err(error_in(&format!("a client of group {group}")))
    }
}

fn list_of(topic: &str, offsets: &[(i32, i64)], what: &str) -> Result<TopicPartitionList, AdminError> {
    let mut list = TopicPartitionList::new();
    for &(partition, offset) in offsets {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(error_in(what))?;
    }
    Ok(list)
}
