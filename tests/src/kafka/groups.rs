//! The history of a classic consumer group, read from `__consumer_offsets`: the admin protocol shows a group's members
//! but not its generation, and a snapshot cannot prove that no rebalance happened between two of them.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
};

/// Where Kafka keeps groups and their offsets.
pub(super) const TOPIC: &str = "__consumer_offsets";
const TIMEOUT: Duration = Duration::from_secs(30);
/// The version of a record's key that says "metadata of a classic group" (0 and 1 are committed offsets).
const GROUP_METADATA_KEY: i16 = 2;

/// One generation of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number; 0 before the first member.
    pub number: i32,
    /// The chosen assignor, if any member is left.
    pub assignor: Option<String>,
    /// The members, by id.
    pub members: Vec<GroupMember>,
}

/// A member of a generation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMember {
    /// The id that the coordinator gave it; a new one after every restart of a dynamic *or* static member's client.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// The address it came from.
    pub host: String,
}

/// All generations of `group` that the coordinator wrote down. A record that repeats its predecessor is left out; a
/// static member that comes back is a record of its own (same number, another member id).
pub(super) fn generations(bootstrap: &str, group: &str) -> KafkaResult<Vec<Generation>> {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "devour-tests-history")
        .set("client.id", "devour-tests-history")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()?;
    let metadata = reader.fetch_metadata(Some(TOPIC), TIMEOUT)?;
    let partitions = metadata
        .topics()
        .iter()
        .map(|topic| topic.partitions().len())
        .sum::<usize>();
    if partitions == 0 {
        return Ok(Vec::new());
    }
    let partition = home_of(group, partitions as i32);
    let (low, high) = reader.fetch_watermarks(TOPIC, partition, TIMEOUT)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, partition, Offset::Offset(low))?;
    reader.assign(&from)?;

    let mut history: Vec<Generation> = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    let mut next = low;
    // The last offset may be a transaction marker, which no consumer sees; the position still passes it.
    while next < high {
        if Instant::now() > deadline {
            return Err(KafkaError::ConsumerCommit(
                rdkafka::types::RDKafkaErrorCode::OperationTimedOut,
            ));
        }
        let Some(message) = reader.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        next = message.offset() + 1;
        let generation = message
            .key()
            .and_then(|key| belongs_to(key, group))
            .and_then(|()| decode(message.payload()?));
        history.extend(generation.filter(|one| history.last() != Some(one)));
    }
    Ok(history)
}

/// The partition of `__consumer_offsets` that holds a group: Java's `String.hashCode` (over UTF-16), made positive.
pub(super) fn home_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0) % partitions
}

fn belongs_to(key: &[u8], group: &str) -> Option<()> {
    let mut key = Fields::fixed(key);
    (key.int16()? == GROUP_METADATA_KEY && key.text()?? == group).then_some(())
}

/// `GroupMetadataValue`, versions 0 to 4 (4 has compact lengths and tagged fields).
fn decode(value: &[u8]) -> Option<Generation> {
    let version = Fields::fixed(value).int16()?;
    let mut fields = if version >= 4 {
        Fields::flexible(&value[2..])
    } else {
        Fields::fixed(&value[2..])
    };
    fields.text()?; // protocol type: always "consumer"
    let number = fields.int32()?;
    let assignor = fields.text()?.map(str::to_owned);
    fields.text()?; // leader
    if version >= 2 {
        fields.take(8)?; // time of the state
    }
    let mut members = Vec::new();
    for _ in 0..fields.length()?? {
        let id = fields.text()??.to_owned();
        let instance_id = if version >= 3 {
            fields.text()?.map(str::to_owned)
        } else {
            None
        };
        let client_id = fields.text()??.to_owned();
        let host = fields.text()??.to_owned();
        fields.take(if version >= 1 { 8 } else { 4 })?; // rebalance and session timeout
        fields.bytes()?; // subscription
        fields.bytes()?; // assignment
        fields.tags()?;
        members.push(GroupMember {
            id,
            instance_id,
            client_id,
            host,
        });
    }
    members.sort();
    Some(Generation {
        number,
        assignor,
        members,
    })
}

/// Kafka's wire format, old and flexible. Each reader gives `None` where the bytes end too soon, and `Some(None)` for
/// Kafka's null.
struct Fields<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Fields<'a> {
    fn fixed(rest: &'a [u8]) -> Self {
        Self {
            rest,
            flexible: false,
        }
    }

    fn flexible(rest: &'a [u8]) -> Self {
        Self { rest, flexible: true }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn int16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The length of a list or of bytes.
    fn length(&mut self) -> Option<Option<usize>> {
        if self.flexible {
            Some(self.varint()?.checked_sub(1))
        } else {
            Some(usize::try_from(self.int32()?).ok())
        }
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        let length = if self.flexible {
            self.varint()?.checked_sub(1)
        } else {
            usize::try_from(self.int16()?).ok()
        };
        let Some(length) = length else { return Some(None) };
        Some(Some(std::str::from_utf8(self.take(length)?).ok()?))
    }

    fn bytes(&mut self) -> Option<()> {
        let length = self.length()?.unwrap_or(0);
        self.take(length).map(|_| ())
    }

    fn tags(&mut self) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(length)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lives_where_kafka_puts_it() {
        // "test".hashCode() is 3556498; a hash of Integer.MIN_VALUE counts as 0.
        assert_eq!(home_of("test", 50), 48);
        assert_eq!(home_of("polygenelubricants", 8), 0);
    }

    #[test]
    fn a_record_that_ends_too_soon_is_no_generation() {
        let mut value = vec![0, 3, 0, 8];
        value.extend(b"consumer");
        value.extend([0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]); // generation 7, no assignor, no leader
        value.extend([0; 8]);
        value.extend([0, 0, 0, 0]); // no members
        assert_eq!(
            decode(&value),
            Some(Generation {
                number: 7,
                assignor: None,
                members: Vec::new()
            })
        );
        for length in 0..value.len() {
            assert_eq!(decode(&value[..length]), None, "{length} bytes");
        }
    }
}
