//! The tables and their version.
//!
//! Everything lives in the schema `relata`, so that a database shared with a service's own tables
//! has no name twice. Migration is one transaction under an advisory lock that ends with it:
//! several nodes may start it at once, and a failed one leaves nothing.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqlSafeStr as _};
use tokio::time::timeout;
use uuid::Uuid;

use super::failure::Failure;
use super::lane::Session;
use crate::datastore::{DatastoreError, Identity};
use crate::revision::DatabaseId;

/// The migrations in order: version, name, text. Never edit one that was released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "record", include_str!("../../../migrations/postgres/0001_record.sql")),
    (2, "keys", include_str!("../../../migrations/postgres/0002_keys.sql")),
    (3, "side by side", include_str!("../../../migrations/postgres/0003_side_by_side.sql")),
];

/// The version this binary needs.
pub(super) const NEEDED: i64 = match MIGRATIONS.last() {
    Some((version, ..)) => *version,
    None => 0,
};

const VERSIONS_TABLE: &str = "relata.migration";

/// Names the advisory lock: `relata` in hexadecimal.
const LOCK: i64 = 0x7265_6c61_7461;

/// Building an index on a large table takes its time, and so does waiting for another node.
const TIME_LIMIT: Duration = Duration::from_hours(1);

/// The store a request without a store uses.
const DEFAULT_STORE: &str = "default";

/// Refuses tables that this binary cannot work on.
pub(super) async fn check(session: &mut Session) -> Result<(), Failure> {
    let found = version(session).await?;
    match found.cmp(&NEEDED) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(DatastoreError::NotMigrated { found, needed: NEEDED }.into()),
        std::cmp::Ordering::Greater => {
            let usable_from: i64 = session.scalar(USABLE_FROM).await?;
            judge_newer(found, usable_from)
        }
    }
}

/// The version of the database: zero without tables.
async fn version(session: &mut Session) -> Result<i64, Failure> {
    // Two statements, because one that names a missing table fails even where it is not read.
    let migrated: bool = session.scalar("SELECT to_regclass('relata.migration') IS NOT NULL").await?;
    if !migrated {
        return Ok(0);
    }
    session.scalar("SELECT coalesce(max(version), 0) FROM relata.migration WHERE success").await
}

/// The oldest version whose programs can work on these tables. Every version above ours has it.
const USABLE_FROM: &str = "SELECT usable_from FROM relata.database";

/// Whether this binary can work on tables of a later version than it knows.
fn judge_newer(found: i64, usable_from: i64) -> Result<(), Failure> {
    if usable_from <= NEEDED { Ok(()) } else { Err(DatastoreError::TooNew { found, known: NEEDED }.into()) }
}

/// Creates or upgrades the tables, the identity and the default store.
pub(super) async fn run(options: &PgConnectOptions) -> Result<(), Failure> {
    match timeout(TIME_LIMIT, migrate(options)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Failure::TimedOut(TIME_LIMIT)),
    }
}

async fn migrate(options: &PgConnectOptions) -> Result<(), Failure> {
    let mut connection = PgConnection::connect_with(options).await.map_err(Failure::from_connecting)?;
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    forget_prepared(&mut transaction).await?;
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *transaction).await?;
    if standby {
        return Err(Failure::ReadOnly);
    }
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // Asking first: CREATE SCHEMA IF NOT EXISTS needs the right to create one even if it exists.
    let prepared: bool = sqlx::query_scalar("SELECT to_regnamespace('relata') IS NOT NULL")
        .fetch_one(&mut *transaction)
        .await?;
    if !prepared {
        sqlx::query("CREATE SCHEMA relata").execute(&mut *transaction).await?;
    }
    let applied: bool = sqlx::query_scalar("SELECT to_regclass('relata.migration') IS NOT NULL")
        .fetch_one(&mut *transaction)
        .await?;
    if applied {
        let found: i64 =
            sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM relata.migration WHERE success")
                .fetch_one(&mut *transaction)
                .await?;
        if found > NEEDED {
            // A newer program has migrated it; there is nothing left to do for this one.
            let usable_from: i64 = sqlx::query_scalar(USABLE_FROM).fetch_one(&mut *transaction).await?;
            return judge_newer(found, usable_from);
        }
    }
    migrator().run_direct(None, &mut *transaction, false).await?;
    establish(&mut transaction).await?;
    forget_prepared(&mut transaction).await?;
    transaction.commit().await?;
    // The work is done; a connection that ends badly now changes nothing.
    let _ = connection.close().await;
    Ok(())
}

/// Drops what the driver has prepared in this session. It counts its names from one on each
/// connection, and a session that a pooler lends may have met another one before. Poolers that
/// follow prepared statements give them names of their own, which are left alone.
async fn forget_prepared(connection: &mut PgConnection) -> Result<(), Failure> {
    let statement = "SELECT 'DEALLOCATE ' || quote_ident(name) FROM pg_prepared_statements
                     WHERE name LIKE 'sqlx\\_s\\_%'";
    let rows = sqlx::raw_sql(statement).fetch_all(&mut *connection).await?;
    for row in &rows {
        let statement: String = row.try_get(0)?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, text)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, (*text).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // The transaction above holds a lock already; the driver's would be the session's, which a
    // pooler hands to somebody else.
    migrator.set_locking(false);
    migrator.dangerous_set_table_name(VERSIONS_TABLE);
    migrator
}

/// Makes the identity and the default store, once in the life of the database.
async fn establish(connection: &mut PgConnection) -> Result<(), Failure> {
    let cursor_key: [u8; 32] = rand::random();
    let made =
        sqlx::query("INSERT INTO relata.database (id, cursor_keys) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(Uuid::new_v4())
            .bind(vec![cursor_key.to_vec()])
            .execute(&mut *connection)
            .await?;
    if made.rows_affected() == 1 {
        sqlx::query(
            "INSERT INTO relata.store (id, name, created_at)
             VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
        )
        .bind(Uuid::new_v4())
        .bind(DEFAULT_STORE)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Another identity for a database that was copied from another one.
pub(super) async fn renew_identity(options: &PgConnectOptions) -> Result<Identity, Failure> {
    let mut connection = PgConnection::connect_with(options).await.map_err(Failure::from_connecting)?;
    let identity = Identity { database: DatabaseId(Uuid::new_v4()), cursor_keys: vec![rand::random()] };
    let keys: Vec<Vec<u8>> = identity.cursor_keys.iter().map(|key| key.to_vec()).collect();
    // A transaction and no name: a pooler may lend another session to each statement.
    let mut transaction = connection.begin().await?;
    let renewed = sqlx::query("UPDATE relata.database SET id = $1, cursor_keys = $2")
        .persistent(false)
        .bind(identity.database.0)
        .bind(keys)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let _ = connection.close().await;
    match renewed.rows_affected() {
        1 => Ok(identity),
        _ => Err(DatastoreError::Corrupt("the identity of the database is missing".to_owned()).into()),
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
            return Self::from(error);
        }
        DatastoreError::Other(error.into()).into()
    }
}
