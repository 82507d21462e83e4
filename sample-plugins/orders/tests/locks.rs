//! Why `orders` demands a process of its own, and to be swapped after the old version has ended. Each library has a copy of
//! SQLite. A process's lock on a file (`fcntl`) is gone as soon as the process closes *any* descriptor of that file; one copy
//! of SQLite takes care not to, for its own connections. Two copies know nothing of each other: when the second closes the
//! file, the first one's lock is gone, and another process writes into its transaction. In two processes nothing of the kind
//! happens.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use diesel::{Connection, RunQueryDsl, SqliteConnection, connection::SimpleConnection, sql_query};

/// In the other process: the database's file.
const WRITER: &str = "DEVOUR_TEST_WRITER";

#[derive(diesel::QueryableByName)]
struct Total {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    total: i64,
}

/// A rollback journal: its locks are on the database's own file, and easy to follow. (WAL's are on another file, and go the
/// same way.)
fn open(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
    connection
        .batch_execute("PRAGMA journal_mode = DELETE; PRAGMA busy_timeout = 0;")
        .unwrap();
    connection
}

/// Not a test by itself: what the other process does.
#[test]
#[ignore = "run by the others, in a process of its own"]
fn writer() {
    let Some(path) = std::env::var_os(WRITER) else {
        return;
    };
    let path = Path::new(&path);
    let mut connection = open(path);
    connection.batch_execute("INSERT INTO totals VALUES (1)").unwrap();
}

/// Whether another process can write now.
fn another_process_writes(path: &Path) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--ignored"])
        .env(WRITER, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.success()
}

fn locked(meanwhile: impl FnOnce(&Path)) -> (bool, i64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders.db");
    let mut connection = open(&path);
    connection
        .batch_execute("CREATE TABLE totals (n BIGINT NOT NULL)")
        .unwrap();
    assert!(another_process_writes(&path), "nobody holds the lock yet");
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    meanwhile(&path);
    let wrote = another_process_writes(&path);
    // Whether or not the other could, this one believes that it was alone.
    let total = sql_query("SELECT COUNT(*) AS total FROM totals").get_result::<Total>(&mut connection);
    (wrote, total.map_or(-1, |row| row.total))
}

#[test]
fn a_transaction_keeps_other_processes_out() {
    let (wrote, total) = locked(|_| {});
    assert_eq!((wrote, total), (false, 1));
}

#[test]
fn a_second_copy_in_the_same_process_drops_its_lock() {
    // All that the other copy has to do is to look at the file and close it.
    let (wrote, _) = locked(|path| drop(File::open(path).unwrap()));
    assert!(
        wrote,
        "another process wrote into a transaction that believed to be alone"
    );
}

#[test]
fn a_second_connection_of_the_same_copy_does_not() {
    let (wrote, _) = locked(|path| drop(SqliteConnection::establish(&path.to_string_lossy()).unwrap()));
    assert!(!wrote);
}
