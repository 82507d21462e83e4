//! What most scenarios begin with: a topic and a group of their own, a home for the daemon, a ledger, and what the judge
//! expects in it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;

use crate::{
    daemon::{Home, Route, Settings},
    judge::{Expected, Order, Verdict, judge},
    kafka::{Admin, Kafka, Load, unique},
    ledger::Ledger,
    scale,
    scenario::Isolation,
    variant,
};

/// One topic, one group, one ledger.
#[derive(Debug)]
pub struct Stage<'k> {
    /// The cluster.
    pub kafka: &'k Kafka,
    /// Its admin client.
    pub admin: Admin,
    /// The daemon's home.
    pub home: Home,
    /// The topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The group.
    pub group: String,
    /// What the plugin writes down.
    pub ledger: Ledger,
    /// What was produced.
    pub expected: Expected,
}

/// Name of the route of a stage.
pub const ROUTE: &str = "ledger";

/// How long digesting may take at the counts of CI.
pub const DIGESTING: Duration = Duration::from_secs(90);

// === impl Stage ===

impl<'k> Stage<'k> {
    /// Creates the topic.
    pub fn new(kafka: &'k Kafka, name: &str, partitions: i32) -> Result<Self, Failed> {
        let admin = kafka.admin()?;
        let topic = unique(name);
        admin.create_topic(&topic, partitions)?;
        Self::without_topic(kafka, name, topic, partitions)
    }

    /// A stage of a route that keeps this order, whatever the run's variant.
    pub fn in_order_of(order: Order, kafka: &'k Kafka, name: &str, partitions: i32) -> Result<Self, Failed> {
        let mut stage = Self::new(kafka, name, partitions)?;
        stage.expected = Expected::in_order_of(order);
        Ok(stage)
    }

    /// A stage whose topic comes later.
    pub fn without_topic(
        kafka: &'k Kafka,
        name: &str,
        topic: String,
        partitions: i32,
    ) -> Result<Self, Failed> {
        let home = Home::new(name)?;
        let ledger = Ledger::at(home.file("ledger"));
        let group = unique(name);
        let admin = kafka.admin()?;
        Ok(Self {
            kafka,
            admin,
            home,
            topic,
            partitions,
            group,
            ledger,
            expected: Expected::in_order_of(variant::order()),
        })
    }

    /// Produces the messages of these numbers, round the partitions, 100 bytes each.
    pub fn produce(&mut self, numbers: Range<u64>) -> Result<(), Failed> {
        self.expected.extend(
            self.kafka
                .producer()?
                .numbered(&self.topic, self.partitions, numbers, 100)?,
        );
        Ok(())
    }

    /// Produces the messages of these numbers with the key that `key` says for each, 100 bytes each.
    pub fn produce_by(
        &mut self,
        numbers: Range<u64>,
        key: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), Failed> {
        let producer = self.kafka.producer()?;
        self.expected
            .extend(producer.numbered_by(&self.topic, self.partitions, numbers, 100, key)?);
        Ok(())
    }

    /// A load on the topic, whose messages go on from those produced so far; see [`Stage::take_load`].
    pub fn load(&self, per_second: u64) -> Result<Load, Failed> {
        let (producer, first) = (self.kafka.producer()?, self.expected.count());
        Ok(Load::start(
            producer,
            &self.topic,
            self.partitions,
            first,
            per_second,
        ))
    }

    /// Ends a load: what it produced is expected.
    pub fn take_load(&mut self, load: Load) -> Result<(), Failed> {
        self.expected.extend(load.stop()?);
        Ok(())
    }

    /// For a route that begins at the end of its only partition, whose log ends at offset `end`: sends messages one by
    /// one until the first of them is digested, and returns its offset. (Where the end is, the client asks the broker at
    /// some moment after it was assigned the partition, and nobody hears of the answer.)
    pub fn first_from_the_end(&mut self, end: u64) -> Result<i64, Failed> {
        let mut next = end;
        let before = self.ledger.lines()?.records.len();
        let begin = Instant::now();
        while self.ledger.lines()?.records.len() == before {
            if begin.elapsed() > scale::patience(DIGESTING) {
                return Err(format!("nothing of the messages from {end} to {next} was digested").into());
            }
            self.produce(next..next + 1)?;
            next += 1;
        }
        let first = &self.ledger.lines()?.records[before];
        if first.offset < end as i64 {
            return Err(format!("the route began with {first}, before the end of the log, {end}").into());
        }
        Ok(first.offset)
    }

    /// The ledger route.
    pub fn route(&self, isolation: Isolation) -> Route {
        Route::ledger(isolation, &self.topic, &self.group, self.ledger.path())
    }

    /// Settings with this one route, named [`ROUTE`].
    pub fn settings(&self, route: Route) -> Settings {
        Settings::of(self.kafka.bootstrap()).route(ROUTE, route)
    }

    /// Waits until so many different messages were digested.
    pub fn await_digested(&mut self, count: u64) -> Result<(), Failed> {
        self.ledger.await_digested(count, scale::patience(DIGESTING))?;
        Ok(())
    }

    /// Waits until everything produced was digested.
    pub fn await_all(&mut self) -> Result<(), Failed> {
        self.await_digested(self.expected.count())
    }

    /// Checks that the group's committed offsets are the ends of all partitions: all that was produced is finished.
    pub fn all_is_committed(&self) -> Result<(), Failed> {
        let committed = self.admin.committed(&self.group, &self.topic, self.partitions)?;
        for partition in 0..self.partitions {
            let (low, high) = self.admin.watermarks(&self.topic, partition)?;
            let there = committed.get(&partition).copied().unwrap_or(low);
            if there != high {
                return Err(
                    format!("partition {partition}: {there} is committed of {high}: {committed:?}").into(),
                );
            }
        }
        Ok(())
    }

    /// What the judge says, once all writers have ended.
    pub fn verdict(self) -> Result<Verdict, Failed> {
        Ok(judge(&self.expected, &self.ledger.close()?))
    }
}
