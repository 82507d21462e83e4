//! A connection to either kind of database, and its transactions.

use std::path::PathBuf;

use diesel::{
    Connection as _, ConnectionError, QueryResult, SqliteConnection, connection::SimpleConnection,
    result::Error,
};

/// An open connection. What is done on it is written once, by [`on!`], and compiled for each kind.
pub enum Connection {
    /// SQLite.
    Sqlite(SqliteConnection),
    /// PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Box<Postgres>),
}

/// Diesel's connection over tokio-postgres: no C library, no async code here.
#[cfg(feature = "postgres")]
pub type Postgres =
    diesel_async::async_connection_wrapper::AsyncConnectionWrapper<diesel_async::AsyncPgConnection>;

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// The address of a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Server(String),
}

/// Runs an expression on the connection that there is: `on!(connection, inner => query.execute(inner))`. It is compiled for
/// each kind of database, so the query is built inside.
#[cfg(feature = "postgres")]
#[macro_export]
macro_rules! on {
    ($connection:expr, $inner:ident => $run:expr) => {
        match $connection {
            $crate::Connection::Sqlite($inner) => $run,
            $crate::Connection::Postgres(boxed) => {
                let $inner = &mut **boxed;
                $run
            }
        }
    };
}

/// Runs an expression on the connection: `on!(connection, inner => query.execute(inner))`.
#[cfg(not(feature = "postgres"))]
#[macro_export]
macro_rules! on {
    ($connection:expr, $inner:ident => $run:expr) => {
        match $connection {
            $crate::Connection::Sqlite($inner) => $run,
        }
    };
}

/// The tables, where they are not there yet.
const SQLITE: &str = "
    PRAGMA busy_timeout = 10000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS orders (
        id INTEGER PRIMARY KEY NOT NULL,
        customer TEXT NOT NULL,
        cents BIGINT NOT NULL,
        status TEXT NOT NULL,
        version BIGINT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
        topic TEXT NOT NULL,
        key BLOB,
        payload BLOB,
        headers TEXT NOT NULL,
        partition INTEGER,
        timestamp_ms BIGINT
    );
";

/// Two that make a table at once would meet an error of PostgreSQL's own catalogue: one waits for the other.
#[cfg(feature = "postgres")]
const POSTGRES: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(7163874021);
    CREATE TABLE IF NOT EXISTS orders (
        id BIGINT PRIMARY KEY,
        customer TEXT NOT NULL,
        cents BIGINT NOT NULL,
        status TEXT NOT NULL,
        version BIGINT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS outbox (
        id BIGSERIAL PRIMARY KEY,
        topic TEXT NOT NULL,
        key BYTEA,
        payload BYTEA,
        headers TEXT NOT NULL,
        partition INTEGER,
        timestamp_ms BIGINT
    );
    COMMIT;
";

// === impl Place ===

impl Place {
    /// Reads `sqlite:PATH` or `postgres://...`.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => Ok(Self::Server(text.to_owned())),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                Err("this plugin is built for SQLite alone: build it with `--features postgres`".to_owned())
            }
            // Not what stands there: it may hold a password.
            _ => Err("a database is `sqlite:/path/to/file` or `postgres://user@host/name`".to_owned()),
        }
    }

    /// Connects, and makes the tables.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn connect(&self) -> Result<Connection, ConnectionError> {
        match self {
            Self::File(path) => {
                let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
                connection
                    .batch_execute(SQLITE)
                    .map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok(Connection::Sqlite(connection))
            }
            #[cfg(feature = "postgres")]
            Self::Server(url) => {
                let mut connection = Postgres::establish(url)?;
                connection
                    .batch_execute(POSTGRES)
                    .map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok(Connection::Postgres(Box::new(connection)))
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Begins a transaction. SQLite's takes the lock for writing at once: one that reads first would fail, not wait, where
    /// another has written meanwhile.
    pub(crate) fn begin(&mut self) -> QueryResult<()> {
        match self {
            Self::Sqlite(inner) => inner.batch_execute("BEGIN IMMEDIATE"),
            #[cfg(feature = "postgres")]
            Self::Postgres(inner) => inner.batch_execute("BEGIN"),
        }
    }

    pub(crate) fn commit(&mut self) -> QueryResult<()> {
        self.execute("COMMIT")
    }

    pub(crate) fn roll_back(&mut self) -> QueryResult<()> {
        self.execute("ROLLBACK")
    }

    fn execute(&mut self, sql: &str) -> Result<(), Error> {
        on!(self, inner => inner.batch_execute(sql))
    }
}
