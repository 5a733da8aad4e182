//! Makes and upgrades the tables. The version is SQLite's `user_version`: the number of
//! migrations that have run.

use std::cmp::Ordering;

use anyhow::anyhow;
use rusqlite::{Connection, TransactionBehavior, params};
use uuid::Uuid;

use super::rows::{failed, get};
use super::{DatastoreError, Identity, file};
use crate::revision::DatabaseId;

/// In order; never changed once released, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_record.sql"),
    include_str!("../../../migrations/sqlite/0002_keys.sql"),
    include_str!("../../../migrations/sqlite/0003_side_by_side.sql"),
];

/// Marks a file as Relata's: "Rlta".
pub(super) const APPLICATION_ID: i64 = 0x526c_7461;

/// The store that a request without one means.
const DEFAULT_STORE: &str = "default";

const CURSOR_KEY_BYTES: usize = 32;

/// The version that this program migrates to.
pub(super) fn needed() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn version(connection: &Connection) -> Result<i64, DatastoreError> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)
}

/// Refuses tables that this binary cannot work on. Costs a look at a page that is in memory.
pub(super) fn ensure(connection: &mut Connection) -> Result<(), DatastoreError> {
    let (found, needed) = (version(connection)?, needed());
    match found.cmp(&needed) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(DatastoreError::NotMigrated { found, needed }),
        Ordering::Greater => usable(connection, found, needed),
    }
}

/// Whether programs that know version `known` can work on these tables, which are of a later one.
fn usable(connection: &Connection, found: i64, known: i64) -> Result<(), DatastoreError> {
    let usable_from: i64 =
        connection.query_row("SELECT usable_from FROM database", [], |row| row.get(0)).map_err(failed)?;
    if usable_from <= known { Ok(()) } else { Err(DatastoreError::TooNew { found, known }) }
}

/// Runs the migrations that are missing, all or none, and makes the identity with the first.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), DatastoreError> {
    run(connection, MIGRATIONS)
}

fn run(connection: &mut Connection, migrations: &[&str]) -> Result<(), DatastoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let (found, needed) = (version(&transaction)?, i64::try_from(migrations.len()).unwrap_or(i64::MAX));
    if found > needed {
        // A newer program has migrated it; there is nothing left to do for this one.
        return usable(&transaction, found, needed);
    }
    if found == 0 {
        refuse_foreign(&transaction)?;
    }
    let done = usize::try_from(found).unwrap_or(0);
    for migration in migrations.iter().skip(done) {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    if found == 0 {
        make_identity(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", needed).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// A database of another program also has version zero.
fn refuse_foreign(connection: &Connection) -> Result<(), DatastoreError> {
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))
        .map_err(failed)?;
    if tables > 0 {
        let error = anyhow!("the file holds the tables of another program; name another file");
        return Err(DatastoreError::Other(error));
    }
    Ok(())
}

fn make_identity(connection: &Connection) -> Result<(), DatastoreError> {
    let cursor_key: [u8; CURSOR_KEY_BYTES] = rand::random();
    connection
        .execute(
            "INSERT INTO database (only_row, id, cursor_keys) VALUES (1, ?, ?)",
            params![Uuid::new_v4().as_bytes(), cursor_key],
        )
        .map_err(failed)?;
    connection
        .execute(
            "INSERT INTO store (id, name, created_at) VALUES (?, ?, ?)",
            params![Uuid::new_v4().as_bytes(), DEFAULT_STORE, file::now().as_micros()],
        )
        .map_err(failed)?;
    Ok(())
}

/// Proves that a transaction can be begun that could write.
pub(super) fn takes_writes(connection: &mut Connection) -> Result<(), DatastoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    transaction.rollback().map_err(failed)
}

/// What the first migration made.
pub(super) fn identity(connection: &Connection) -> Result<Identity, DatastoreError> {
    let mut statement = connection.prepare_cached("SELECT id, cursor_keys FROM database").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let missing = || DatastoreError::Corrupt("the database has lost its identity".to_owned());
    let row = rows.next().map_err(failed)?.ok_or_else(missing)?;
    let keys: Vec<u8> = get(row, 1)?;
    let (cursor_keys, rest) = keys.as_chunks::<CURSOR_KEY_BYTES>();
    if cursor_keys.is_empty() || !rest.is_empty() {
        return Err(DatastoreError::Corrupt("the cursor keys are incomplete".to_owned()));
    }
    Ok(Identity { database: DatabaseId(Uuid::from_bytes(get(row, 0)?)), cursor_keys: cursor_keys.to_vec() })
}

/// Another identity for a database that was copied from another one.
pub(super) fn renew_identity(connection: &mut Connection) -> Result<Identity, DatastoreError> {
    let identity = Identity {
        database: DatabaseId(Uuid::new_v4()),
        cursor_keys: vec![rand::random::<[u8; CURSOR_KEY_BYTES]>()],
    };
    let keys = identity.cursor_keys.concat();
    let sql = "UPDATE database SET id = ?, cursor_keys = ?";
    match connection.execute(sql, params![identity.database.0.as_bytes(), keys]).map_err(failed)? {
        1 => Ok(identity),
        _ => Err(DatastoreError::Corrupt("the database has lost its identity".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        let mut statement = connection.prepare(sql).expect("valid");
        let names = statement.query_map([], |row| row.get(0)).expect("names");
        names.collect::<Result<_, _>>().expect("texts")
    }

    #[test]
    fn an_older_database_is_upgraded_and_stays_itself() {
        let mut connection = Connection::open_in_memory().expect("a database");
        assert!(matches!(ensure(&mut connection), Err(DatastoreError::NotMigrated { found: 0, .. })));
        migrate(&mut connection).expect("migrated");
        ensure(&mut connection).expect("as needed");
        let before = identity(&connection).expect("an identity");
        let made = tables(&connection);
        assert_eq!(
            made,
            ["change", "database", "idempotency", "key", "lease", "revision", "schema", "store", "tuple"],
            "the tables of the record"
        );

        let with = |next: &'static str| [MIGRATIONS, &[next]].concat();
        let broken = with("CREATE TABLE more (id INTEGER) STRICT; CREATE TABLE tuple (id INTEGER);");
        run(&mut connection, &broken).expect_err("the table exists");
        assert_eq!(tables(&connection), made, "all or nothing");
        run(&mut connection, &with("CREATE TABLE more (id INTEGER) STRICT;")).expect("upgraded");
        assert_eq!(tables(&connection).len(), made.len() + 1);
        let after = identity(&connection).expect("an identity");
        assert_eq!((after.database, after.cursor_keys), (before.database, before.cursor_keys));

        for usable in [ensure(&mut connection), migrate(&mut connection)] {
            usable.expect("what was only added to can be worked on");
        }
        assert_eq!(version(&connection).expect("a version"), needed() + 1, "and is left alone");
        connection.execute("UPDATE database SET usable_from = ?", [needed() + 1]).expect("updated");
        for refused in [ensure(&mut connection), migrate(&mut connection)] {
            let Err(DatastoreError::TooNew { found, known }) = refused else { panic!("{refused:?}") };
            assert_eq!((found, known), (needed() + 1, needed()));
        }
    }

    #[test]
    fn the_file_of_another_program_is_left_alone() {
        let mut connection = Connection::open_in_memory().expect("a database");
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("made");
        let error = migrate(&mut connection).expect_err("not ours");
        assert!(format!("{error:?}").contains("another program"), "{error:?}");
        assert_eq!(tables(&connection), ["bookmarks"]);
    }
}
