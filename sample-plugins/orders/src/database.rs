//! The database that models are saved in: transactions whose rows and messages are there together or not at all.

use std::fmt;

use devour::{DigestError, ProduceError, Record, outbox::Waker};
use diesel::{ConnectionError, result::Error as QueryError};

use crate::{Connection, Place, Producers, outbox};

/// A database, connected when it is needed.
pub struct Database {
    place: Place,
    connection: Option<Connection>,
    /// How deep transactions stand in one another.
    depth: u32,
    /// Records were written in the present transaction.
    has_records: bool,
    producers: Producers,
    waker: Option<Waker>,
}

/// What can go wrong when a model is saved or deleted.
#[derive(Debug)]
pub enum ModelError {
    /// There is no connection.
    Connection(ConnectionError),
    /// The database's word.
    Query(QueryError),
    /// Its message cannot be written.
    Produce(ProduceError),
}

// === impl Database ===

impl Database {
    /// The database at `place`.
    #[must_use]
    pub fn new(place: Place, producers: Producers) -> Self {
        Self {
            place,
            connection: None,
            depth: 0,
            has_records: false,
            producers,
            waker: None,
        }
    }

    /// Wakes this relay after each commit that has records.
    pub fn waking(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }

    /// What is produced automatically.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Runs `work` in a transaction: all that it saves, deletes and produces is there if it returns `Ok`, nothing of it
    /// else. Within another transaction it is a part of that.
    ///
    /// # Errors
    /// What `work` says, or that the transaction could not be committed.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        if self.depth > 0 {
            return work(self);
        }
        self.has_records = false;
        self.connection()?.begin()?;
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        let done = match done {
            Ok(value) => self
                .connection()?
                .commit()
                .map(|()| value)
                .map_err(ModelError::from),
            Err(error) => Err(error),
        };
        match &done {
            Ok(_) => {
                if let (true, Some(waker)) = (self.has_records, &self.waker) {
                    waker.wake();
                }
            }
            // A connection that cannot even roll back is of no use any more; the next one is a new one.
            Err(_) if self.connection()?.roll_back().is_err() => self.connection = None,
            Err(_) => {}
        }
        done
    }

    /// The connection, for queries. Within [`transaction`](Self::transaction) they belong to it.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn connection(&mut self) -> Result<&mut Connection, ModelError> {
        if self.connection.is_none() {
            self.connection = Some(self.place.connect()?);
        }
        // It was put there.
        self.connection
            .as_mut()
            .ok_or_else(|| ModelError::Connection(ConnectionError::BadConnection(String::new())))
    }

    /// Writes a record that is produced once the transaction is committed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn produce(&mut self, record: Record) -> Result<(), ModelError> {
        self.transaction(|database| {
            outbox::insert(database.connection()?, record)?;
            database.has_records = true;
            Ok(())
        })
    }
}

// === impl ModelError ===

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "no connection to the database: {error}"),
            Self::Query(error) => write!(f, "the database: {error}"),
            Self::Produce(error) => error.fmt(f),
        }
    }
}

impl From<ConnectionError> for ModelError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<QueryError> for ModelError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<ProduceError> for ModelError {
    fn from(error: ProduceError) -> Self {
        Self::Produce(error)
    }
}

// What the database says may be over in a moment; what a payload is wrong in is not.
impl From<ModelError> for DigestError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Produce(error) => Self::from(error),
            error => Self::retry(error.to_string()),
        }
    }
}
