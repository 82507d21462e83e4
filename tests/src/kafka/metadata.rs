//! What a partition holds and what a group has beside its offsets, read and written by hand.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError as ClientError,
    types::RDKafkaErrorCode,
};

use super::admin::{Admin, AdminError, error_in};

const TIMEOUT: Duration = Duration::from_secs(30);

impl Admin {
    /// Commits `offset` with `metadata` beside it, for a group without members.
    pub fn commit(
        &self,
        group: &str,
        (topic, partition): (&str, i32),
        offset: i64,
        metadata: &str,
    ) -> Result<(), AdminError> {
        let what = format!("commit {topic}/{partition}@{offset} for group {group}");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(error_in(&what))?;
        if let Some(mut entry) = list.find_partition(topic, partition) {
            entry.set_metadata(metadata);
        }
        self.member(group)
            .and_then(|member| member.commit(&list, CommitMode::Sync))
            .map_err(error_in(&what))
    }

    /// The group's committed offset, and the text beside it.
    pub fn committed_with_metadata(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<Option<(i64, String)>, AdminError> {
        let mut found = self.all_committed_with_metadata(group, topic, partition..partition + 1)?;
        Ok(found.remove(&partition))
    }

    /// The group's committed offset, and the text beside it, of every one of these partitions that has one.
    pub fn all_committed_with_metadata(
        &self,
        group: &str,
        topic: &str,
        partitions: Range<i32>,
    ) -> Result<BTreeMap<i32, (i64, String)>, AdminError> {
        let what = format!("committed offsets of {topic} {partitions:?} in group {group}");
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(topic, partition);
        }
        let answer = self
            .member(group)
            .and_then(|member| member.committed_offsets(asked, TIMEOUT))
            .map_err(error_in(&what))?;
        let entries = answer.elements();
        let committed = entries.iter().filter_map(|entry| match entry.offset() {
            Offset::Offset(offset) => Some((entry.partition(), (offset, entry.metadata().to_owned()))),
            _ => None,
        });
        Ok(committed.collect())
    }

    /// The offsets of the messages that a consumer gets of a partition now.
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<Vec<i64>, AdminError> {
        let what = format!("messages of {topic}/{partition}");
        let read = || {
            let reader: BaseConsumer = self
                .config("devour-tests-reader")
                .set("enable.partition.eof", "true")
                .create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
            reader.assign(&list)?;
            let mut offsets = Vec::new();
            loop {
                match reader.poll(TIMEOUT) {
                    Some(Ok(message)) => offsets.push(message.offset()),
                    Some(Err(ClientError::PartitionEOF(_))) => return Ok(offsets),
                    Some(Err(error)) => return Err(error),
                    None => {
                        return Err(ClientError::MessageConsumption(
                            RDKafkaErrorCode::OperationTimedOut,
                        ));
                    }
                }
            }
        };
        read().map_err(error_in(&what))
    }

    /// A client that speaks for a group and joins none.
    fn member(&self, group: &str) -> Result<BaseConsumer, ClientError> {
        self.config(group).create()
    }

    fn config(&self, group: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("client.id", "devour-tests-offsets")
            .set("group.id", group)
            .set("enable.auto.commit", "false");
        config
    }
}
