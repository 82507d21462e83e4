//! What a relay of the ledger's library produces, before the same judge as its digests: each record of the output topic
//! stands for the message that it came from.

use libtest_mimic::Failed;

use crate::{
    daemon::Route,
    judge::{Expected, Verdict, judge},
    kafka::{Kafka, Kept, unique},
    ledger::{Lines, Outcome, Record},
    scenario::Isolation,
    stage::Stage,
};
use devour_test_ledger::record::number;
use serde_json::json;

/// The topic that a relay produces to.
#[derive(Debug)]
pub struct Outputs {
    /// Its name.
    pub topic: String,
    partitions: i32,
}

// === impl Outputs ===

impl Outputs {
    /// Creates the topic, with as many partitions as the stage's.
    pub fn of(stage: &Stage<'_>, name: &str) -> Result<Self, Failed> {
        let outputs = Self::not_there(stage, name);
        stage.admin.create_topic(&outputs.topic, stage.partitions)?;
        Ok(outputs)
    }

    /// The topic comes later.
    pub fn not_there(stage: &Stage<'_>, name: &str) -> Self {
        Self {
            topic: unique(name),
            partitions: stage.partitions,
        }
    }

    /// A route that relays to it: `symbol` is `Relay`, `AsyncRelay` or `BufferRelay`.
    pub fn route(&self, stage: &Stage<'_>, symbol: &str, isolation: Isolation) -> Route {
        Route::of(symbol, isolation, &stage.topic, &stage.group, stage.ledger.path())
            .with("settings", json!({"to": self.topic}))
    }

    /// All records of the topic.
    pub fn read(&self, kafka: &Kafka) -> Result<Vec<Kept>, Failed> {
        Ok(kafka.read(&self.topic, self.partitions)?)
    }

    /// What the judge says of them: lost is what was produced to the stage and has no record here.
    pub fn verdict(&self, stage: &Stage<'_>) -> Result<Verdict, Failed> {
        self.judge(stage.kafka, &stage.topic, &stage.expected)
    }

    /// What the judge says of those that a reader of committed records sees.
    pub fn committed(&self, stage: &Stage<'_>) -> Result<Verdict, Failed> {
        self.judge_committed(stage.kafka, &stage.topic, &stage.expected)
    }

    /// The same of messages of `topic`.
    pub fn judge_committed(
        &self,
        kafka: &Kafka,
        topic: &str,
        expected: &Expected,
    ) -> Result<Verdict, Failed> {
        let records = kafka.read_committed(&self.topic, self.partitions)?;
        self.judge_records(&records, topic, expected)
    }

    /// What the judge says of all records, for messages of `topic`.
    pub fn judge(&self, kafka: &Kafka, topic: &str, expected: &Expected) -> Result<Verdict, Failed> {
        self.judge_records(&self.read(kafka)?, topic, expected)
    }

    fn judge_records(&self, records: &[Kept], topic: &str, expected: &Expected) -> Result<Verdict, Failed> {
        let records = records.iter().map(|kept| Self::line(topic, kept));
        let lines = Lines {
            records: records.collect::<Result<_, Failed>>()?,
            torn: 0,
        };
        Ok(judge(expected, &lines))
    }

    /// A record as the digest that produced it; records of a partition are in the order of its log.
    fn line(topic: &str, kept: &Kept) -> Result<Record, Failed> {
        // What a process repeats that another had produced is a replay; what it repeats itself is not.
        let pid = kept.text("pid").and_then(|pid| pid.parse().ok());
        // The sample `enrich` says it in its own words, and nothing of its process.
        let enriched = kept.text("source_offset");
        let pid = pid.or(enriched.is_some().then_some(0));
        let offset = kept.text("offset").or(enriched);
        let offset = offset.and_then(|offset| offset.parse().ok());
        let partition = kept
            .text("source_partition")
            .and_then(|partition| partition.parse().ok());
        Ok(Record {
            topic: topic.to_owned(),
            partition: partition.unwrap_or(kept.partition),
            offset: offset.ok_or_else(|| format!("a record without its offset: {kept:?}"))?,
            n: kept.payload.as_deref().and_then(number),
            attempt: 1,
            pid: pid.ok_or_else(|| format!("a record without its process: {kept:?}"))?,
            at: kept.offset as u64,
            outcome: Outcome::Ok,
        })
    }
}
