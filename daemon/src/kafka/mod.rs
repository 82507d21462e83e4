//! Everything that touches librdkafka: the batch consumer, a small producer, the embedded broker, and the way from
//! a settings file to librdkafka's properties. Nothing outside this module sees a pointer of librdkafka.
//!
//! A [`Consumer`] is one thin client on `rdkafka_sys`: messages come in batches from its one queue, rebalances are
//! served inside [`Consumer::batch`] by the calling thread, every commit is ours, and closing is bounded.

// librdkafka is a C library: its batch call, its callbacks and its messages can only be had through pointers.
#![allow(unsafe_code)]

mod batch;
mod broker_watch;
mod callbacks;
mod close;
mod commit;
mod consumer;
mod embedded;
mod errors;
mod joining;
mod membership;
mod native;
mod producer;
mod properties;
mod property_check;
mod query;
mod reader;
mod rebalance;
mod sender;
mod shared_sender;
mod statistics;
mod topics;
mod transaction;

#[cfg(test)]
mod mock_tests;

pub use batch::{Batch, Headers, Message, Timestamp, TopicHandle};
pub use broker_watch::Connectivity;
pub use close::CloseOutcome;
pub use commit::{CommitOffset, CommitResult, CommitTicket, PartitionCommit};
pub use consumer::{BatchInfo, Consumer, GroupMember, TopicPartition};
pub use embedded::{EmbeddedBroker, EmbeddedError, serve_embedded};
pub use errors::{ClientError, ClientEvent, CommitAdvice, ErrorClass, ErrorCode};
pub use membership::group_instance_id;
pub use native::live_clients;
pub use producer::{Producer, ProducerError, Record};
pub use properties::{
    ClientProperties, PropertyFinding, Protocol, consumer_properties, output_properties, producer_properties,
    sender_properties, transaction_properties,
};
pub use property_check::{check, check_sender, check_topics};
pub use query::{Committed, TopicMetadata, Watermarks};
pub use reader::{Extent, Reader, reader_properties};
pub use rebalance::{Rebalance, Revocation, Start, StartOffset};
pub use sender::{Sender, SenderReport, Ticket};
pub use shared_sender::SenderShare;
pub use statistics::{PartitionStatistics, Statistics};
pub use topics::{InternalTopics, PatternError, TopicPattern, is_internal, is_pattern};
pub use transaction::{GroupMetadata, Remedy, Step, Stepped, TransactionError, TransactionalProducer};
