//! A consumer that keeps its offsets itself, as a sink with a database of its own does: a line of its ledger says that a
//! message is digested *and* that its partition goes on behind it, so the two can never differ. What the group has
//! committed does not matter to it.

mod book;

use std::{path::PathBuf, thread, time::Duration};

use devour::prelude::*;
use devour_test_ledger::record::{Outcome, Record, Writer, monotonic_ns, number};

use book::Book;

/// Settings of a [`Keeper`].
#[settings]
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// Where every digest is appended, and where `assigned` looks how far it came.
    pub file: PathBuf,
    /// How long each digest takes, in microseconds.
    #[serde(default)]
    pub work_us: u64,
}

/// Writes down every digest, and goes on behind what is written.
pub struct Keeper {
    settings: KeeperSettings,
    writer: Writer,
    book: Book,
    pid: u32,
}

#[consumer(consumer_type = "balanced_consumer", dump_obj, keeps_offsets, settings = KeeperSettings)]
impl Keeper {
    fn construct(settings: KeeperSettings) -> Result<Self, DigestError> {
        let writer = Writer::open(&settings.file).or_fatal()?;
        Ok(Self {
            settings,
            writer,
            book: Book::default(),
            pid: std::process::id(),
        })
    }

    fn assigned(&mut self, partitions: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError> {
        self.book = Book::read(&self.settings.file).or_fatal()?;
        let start = |at: &AssignedPartition| StartOffset {
            topic: at.topic.clone(),
            partition: at.partition,
            offset: self.book.next(&at.topic, at.partition),
        };
        Ok(partitions.iter().map(start).collect())
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        if self.book.holds(message.topic(), message.partition(), offset) {
            // Written by another lane that was ahead, before a start that begins behind the first gap.
            return Ok(());
        }
        thread::sleep(Duration::from_micros(self.settings.work_us));
        let record = Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset,
            n: message.payload().and_then(number),
            attempt: message.attempt(),
            pid: self.pid,
            at: monotonic_ns(),
            outcome: Outcome::Ok,
        };
        self.writer.write(&record)?;
        Ok(())
    }
}
