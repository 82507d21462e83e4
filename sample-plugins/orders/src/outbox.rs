//! The table of records that wait for the broker, and what the relay does with it.

use std::{fs::File, path::PathBuf};

use devour::{
    Record, RecordParts,
    outbox::{OutboxEntry, OutboxStore},
    serde_json,
};
use diesel::{prelude::*, result::Error as QueryError};

use crate::{Connection, ModelError, Place, on};

diesel::table! {
    outbox (id) {
        id -> BigInt,
        topic -> Text,
        key -> Nullable<Binary>,
        payload -> Nullable<Binary>,
        headers -> Text,
        partition -> Nullable<Integer>,
        timestamp_ms -> Nullable<BigInt>,
    }
}

/// A record before it has a number.
#[derive(Insertable)]
#[diesel(table_name = outbox)]
struct NewRow {
    topic: String,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: String,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = outbox)]
struct Row {
    id: i64,
    topic: String,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: String,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
}

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// The relay's own way to the database.
pub struct Outbox {
    place: Place,
    connection: Option<Connection>,
    claim: Option<Claim>,
}

/// Held for as long as this is the database's only relay.
enum Claim {
    /// A lock on a file beside SQLite's, which the kernel drops when this process ends. (Not on SQLite's own: see
    /// `tests/locks.rs`.)
    File { _locked: File },
    /// A lock of the connection's session.
    #[cfg(feature = "postgres")]
    Session,
}

#[cfg(feature = "postgres")]
#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    locked: bool,
}

/// Writes a record into the table.
pub(crate) fn insert(connection: &mut Connection, record: Record) -> Result<(), ModelError> {
    let RecordParts {
        topic,
        partition,
        key,
        payload,
        headers,
        timestamp_ms,
    } = record.into_parts();
    let row = NewRow {
        topic,
        key,
        payload,
        headers: serde_json::to_string(&headers)
            .map_err(|error| QueryError::SerializationError(error.into()))?,
        partition,
        timestamp_ms,
    };
    let insert = diesel::insert_into(outbox::table).values(&row);
    on!(connection, inner => insert.execute(inner))?;
    Ok(())
}

// === impl Outbox ===

impl Outbox {
    /// The outbox of the database at `place`, not yet connected.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            connection: None,
            claim: None,
        }
    }

    /// How many records wait.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn waiting(&mut self) -> Result<i64, ModelError> {
        self.run(|connection| {
            let count = outbox::table.count();
            on!(connection, inner => count.get_result(inner))
        })
    }

    /// Runs `work` on the connection; after an error the next one is a new one.
    fn run<T>(&mut self, work: impl FnOnce(&mut Connection) -> QueryResult<T>) -> Result<T, ModelError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.place.connect()?,
        };
        match work(&mut connection) {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Err(error) => {
                // What was locked with the connection is not any more.
                self.claim = None;
                Err(error.into())
            }
        }
    }

    fn take_claim(&mut self) -> Result<Option<Claim>, ModelError> {
        match &self.place {
            Place::File(path) => {
                let beside = lock_file(path);
                let file = File::create(&beside).and_then(|file| match file.try_lock() {
                    Ok(()) => Ok(Some(file)),
                    Err(std::fs::TryLockError::WouldBlock) => Ok(None),
                    Err(std::fs::TryLockError::Error(error)) => Err(error),
                });
                let file = file.map_err(|error| {
                    QueryError::QueryBuilderError(format!("{}: {error}", beside.display()).into())
                })?;
                Ok(file.map(|file| Claim::File { _locked: file }))
            }
            #[cfg(feature = "postgres")]
            Place::Server(_) => {
                let ask = "SELECT pg_try_advisory_lock(7163874022) AS locked";
                let answer = self.run(
                    |connection| on!(connection, inner => diesel::sql_query(ask).get_result::<Answer>(inner)),
                )?;
                Ok(answer.locked.then_some(Claim::Session))
            }
        }
    }
}

fn lock_file(database: &std::path::Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".relay");
    name.into()
}

impl OutboxStore for Outbox {
    type Error = ModelError;

    fn claim(&mut self) -> Result<bool, ModelError> {
        if self.claim.is_none() {
            self.claim = self.take_claim()?;
        }
        Ok(self.claim.is_some())
    }

    fn oldest(&mut self, most: usize) -> Result<Vec<OutboxEntry>, ModelError> {
        let rows = self.run(|connection| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            on!(connection, inner => {
                let oldest = outbox::table.order(outbox::id).limit(most);
                oldest.select(Row::as_select()).load(inner)
            })
        })?;
        rows.into_iter().map(Row::into_entry).collect()
    }

    fn delete(&mut self, ids: &[i64]) -> Result<(), ModelError> {
        self.run(|connection| {
            let done = outbox::table.filter(outbox::id.eq_any(ids));
            on!(connection, inner => diesel::delete(done).execute(inner))
        })?;
        Ok(())
    }
}

// === impl Row ===

impl Row {
    fn into_entry(self) -> Result<OutboxEntry, ModelError> {
        let headers: Headers = serde_json::from_str(&self.headers)
            .map_err(|error| QueryError::DeserializationError(error.into()))?;
        let record = Record::from(RecordParts {
            topic: self.topic,
            partition: self.partition,
            key: self.key,
            payload: self.payload,
            headers,
            timestamp_ms: self.timestamp_ms,
        });
        Ok(OutboxEntry { id: self.id, record })
    }
}
