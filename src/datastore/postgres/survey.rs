//! Looks a PostgreSQL over for `relata doctor`, as a server would reach it.
//!
//! Nothing is changed: the commits that are timed hold a message that no table keeps, and the
//! notification is one that servers pass over. A standby, or a server of a version that Relata
//! does not work on, is looked over as well, because that is what the survey is to find out.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use sqlx::{Connection as _, FromRow, PgConnection, Row as _};
use tokio::time::{timeout, timeout_at};
use uuid::Uuid;

use super::failure::Failure;
use super::{PostgresSettings, migrate, notify};
use crate::datastore::DatastoreError;
use crate::datastore::survey::{Samples, Seen, StoreSize, TablesVersion, machine_now};

/// Round trips timed.
const ROUND_TRIPS: usize = 20;
/// Commits timed; each waits for the disk, or for a standby.
const COMMITS: usize = 5;
/// How long tuples are counted before an estimate has to do.
const COUNTING: Duration = Duration::from_secs(3);
/// How long a notification may take, as in a server.
const HEARING: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Clone)]
pub struct PostgresSurvey {
    /// How long it took to connect.
    pub connect: Duration,
    /// What the server is.
    pub server: Seen<ServerFacts>,
    /// What its commits survive.
    pub durability: Seen<DurabilityFacts>,
    /// Of a standby: how it follows.
    pub standby: Option<Seen<StandbyFacts>>,
    /// Of a primary: who follows it.
    pub followers: Seen<Vec<Follower>>,
    /// What keeps the write-ahead log from being removed.
    pub slots: Seen<Vec<Slot>>,
    /// How long one statement takes.
    pub round_trips: Option<Samples>,
    /// How far the database's clock is ahead of this machine's, in microseconds, and how far off
    /// that may be.
    pub clock: Option<(i64, i64)>,
    /// How long a COMMIT takes.
    pub commits: Seen<Samples>,
    /// Whether a notification arrives, and after how long.
    pub notifications: Seen<Option<Duration>>,
    /// Connections.
    pub connections: Seen<ConnectionFacts>,
    /// For how many seconds the oldest transaction has been open.
    pub oldest_transaction: Seen<Option<f64>>,
    /// The version of the tables.
    pub tables: Seen<TablesVersion>,
    /// Tables that the role may not read and write.
    pub forbidden: Seen<Option<String>>,
    /// Sizes.
    pub sizes: Seen<SizeFacts>,
    /// Live stores.
    pub stores: Seen<Vec<StoreSize>>,
    /// How far the newest commit of any store is ahead of the database's clock, in microseconds;
    /// negative in the usual case.
    pub newest_ahead: Seen<Option<i64>>,
}

/// What a server is.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct ServerFacts {
    /// Such as 150004.
    pub version_number: i64,
    /// Such as `15.4 (Debian …)`.
    pub version: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether transactions may not write.
    pub read_only: bool,
    /// Such as `UTF8`.
    pub encoding: String,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Whether it does not leave the machine.
    pub local: bool,
}

/// What commits survive.
#[derive(Debug, Clone)]
pub struct DurabilityFacts {
    /// Whether commits are flushed at all.
    pub fsync: bool,
    /// Whether torn pages are mended after a crash.
    pub full_page_writes: bool,
    /// What a COMMIT waits for.
    pub synchronous_commit: String,
    /// Which standbys it waits for.
    pub synchronous_standby_names: String,
    /// Whether dead rows are removed.
    pub autovacuum: bool,
}

/// How a standby follows.
#[derive(Debug, Clone)]
pub struct StandbyFacts {
    /// Seconds since the commit that was replayed last.
    pub behind: Option<f64>,
    /// Whether it receives anything.
    pub receiving: bool,
}

/// A standby of the primary.
#[derive(Debug, Clone)]
pub struct Follower {
    /// Its name.
    pub name: String,
    /// Such as `streaming`; absent if the role may not know.
    pub state: Option<String>,
    /// Such as `async` or `sync`.
    pub sync_state: Option<String>,
    /// Bytes of log that it has not replayed.
    pub behind_bytes: Option<i64>,
}

/// A replication slot.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody uses it.
    pub active: bool,
    /// Bytes of log that are kept for it.
    pub kept_bytes: Option<i64>,
}

/// Connections.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    /// As many as the server, the database and the role let this role have.
    pub most: i64,
    /// Open now, without this one.
    pub open: i64,
}

/// Sizes.
#[derive(Debug, Clone)]
pub struct SizeFacts {
    /// Of the whole database.
    pub database_bytes: i64,
    /// Of Relata's tables and indexes.
    pub tables_bytes: i64,
    /// Live tuples, as the planner believes; negative if it has never looked.
    pub tuples_estimate: f64,
}

/// A row as a struct whose fields are named like its columns.
macro_rules! from_row {
    ($($facts:ident { $($field:ident),+ })+) => {
        $(impl FromRow<'_, PgRow> for $facts {
            fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.try_get(stringify!($field))?,)+ })
            }
        })+
    };
}

from_row! {
    ServerFacts { version_number, version, in_recovery, read_only, encoding, encrypted, local }
    DurabilityFacts { fsync, full_page_writes, synchronous_commit, synchronous_standby_names, autovacuum }
    StandbyFacts { behind, receiving }
    Follower { name, state, sync_state, behind_bytes }
    Slot { name, active, kept_bytes }
    ConnectionFacts { most, open }
    SizeFacts { database_bytes, tables_bytes, tuples_estimate }
}

const SERVER: &str = "SELECT current_setting('server_version_num')::bigint AS version_number,
        current_setting('server_version') AS version,
        pg_is_in_recovery() AS in_recovery,
        current_setting('transaction_read_only')::boolean AS read_only,
        current_setting('server_encoding') AS encoding,
        coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted,
        inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1'
            AS local";

const DURABILITY: &str = "SELECT current_setting('fsync')::boolean AS fsync,
        current_setting('full_page_writes')::boolean AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit,
        current_setting('synchronous_standby_names') AS synchronous_standby_names,
        current_setting('autovacuum')::boolean AS autovacuum";

const STANDBY: &str = "SELECT
        extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS behind,
        EXISTS (SELECT FROM pg_stat_wal_receiver) AS receiving";

const FOLLOWERS: &str = "SELECT coalesce(application_name, '') AS name, state, sync_state,
        pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS behind_bytes
    FROM pg_stat_replication ORDER BY 1";

const SLOTS: &str = "SELECT slot_name::text AS name, active,
        pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                             ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS kept_bytes
    FROM pg_replication_slots ORDER BY 1";

/// A limit of -1 is none.
const CONNECTIONS: &str = "SELECT least(
            current_setting('max_connections')::bigint
                - current_setting('superuser_reserved_connections')::bigint,
            (SELECT nullif(rolconnlimit, -1)::bigint FROM pg_roles WHERE rolname = current_user),
            (SELECT nullif(datconnlimit, -1)::bigint FROM pg_database
             WHERE datname = current_database())) AS most,
        (SELECT count(*) FROM pg_stat_activity
         WHERE datid IS NOT NULL AND pid <> pg_backend_pid()) AS open";

const OLDEST: &str = "SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::float8
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

const MIGRATED: &str = "SELECT to_regclass('relata.migration') IS NOT NULL";
const VERSION: &str = "SELECT coalesce(max(version), 0)::bigint FROM relata.migration WHERE success";
const SAYS_FROM: &str = "SELECT EXISTS (SELECT FROM information_schema.columns
    WHERE table_schema = 'relata' AND table_name = 'database' AND column_name = 'usable_from')";
const USABLE_FROM: &str = "SELECT usable_from FROM relata.database";

const FORBIDDEN: &str = "SELECT string_agg(relname::text, ', ' ORDER BY relname)
    FROM pg_class WHERE relnamespace = 'relata'::regnamespace AND relkind = 'r' AND relname <> 'migration'
        AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                 AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))";

const SIZES: &str = "SELECT pg_database_size(current_database()) AS database_bytes,
        coalesce(sum(pg_total_relation_size(oid)), 0)::bigint AS tables_bytes,
        coalesce(max(reltuples) FILTER (WHERE relname = 'tuple'), -1)::float8 AS tuples_estimate
    FROM pg_class WHERE relnamespace = 'relata'::regnamespace AND relkind = 'r'";

const STORES: &str = "SELECT id, name,
        coalesce((SELECT max(revision) FROM relata.revision WHERE store = id), 0)::bigint
    FROM relata.store WHERE deleted_at IS NULL ORDER BY name";
const COUNTS: &str = "SELECT store, count(*) FROM relata.tuple GROUP BY store";

const NEWEST: &str = "SELECT max(newest.committed_at)
        - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM relata.store, LATERAL (SELECT committed_at FROM relata.revision
        WHERE store = id ORDER BY revision DESC LIMIT 1) AS newest";

/// Looks the database over that a server with these settings would use.
///
/// # Errors
/// Only if it cannot be reached at all: everything else is part of what is found.
pub async fn survey(settings: &PostgresSettings) -> Result<PostgresSurvey, DatastoreError> {
    let begun = Instant::now();
    let mut talk = Talk::begin(&settings.options(), settings.round_trip).await?;
    let connect = begun.elapsed();
    let server: Seen<ServerFacts> = talk.row(SERVER).await;
    let is_standby = server.as_ref().is_ok_and(|server| server.in_recovery);
    let writes = server.as_ref().is_ok_and(|server| !server.in_recovery && !server.read_only);
    let skipped = || "not looked at: the server takes no writes".to_owned();
    let (round_trips, clock) = talk.round_trips().await;
    let migrated = talk.scalar(MIGRATED).await;
    let with_tables = |seen: &Seen<bool>| match seen {
        Ok(true) => Ok(()),
        Ok(false) => Err("there are no tables yet".to_owned()),
        Err(why) => Err(why.clone()),
    };
    let ready = with_tables(&migrated);
    let survey = PostgresSurvey {
        connect,
        durability: talk.row(DURABILITY).await,
        standby: if is_standby { Some(talk.row(STANDBY).await) } else { None },
        followers: if is_standby { Ok(Vec::new()) } else { talk.rows(FOLLOWERS).await },
        slots: talk.rows(SLOTS).await,
        round_trips,
        clock,
        connections: talk.row(CONNECTIONS).await,
        oldest_transaction: talk.scalar(OLDEST).await,
        tables: match migrated {
            Ok(true) => talk.version().await,
            Ok(false) => Ok(TablesVersion { found: 0, known: migrate::NEEDED, usable_from: None }),
            Err(why) => Err(why),
        },
        forbidden: match &ready {
            Ok(()) => talk.scalar(FORBIDDEN).await,
            Err(why) => Err(why.clone()),
        },
        sizes: match &ready {
            Ok(()) => talk.row(SIZES).await,
            Err(why) => Err(why.clone()),
        },
        stores: match &ready {
            Ok(()) => talk.stores().await,
            Err(why) => Err(why.clone()),
        },
        newest_ahead: match &ready {
            Ok(()) => talk.scalar(NEWEST).await,
            Err(why) => Err(why.clone()),
        },
        // The last ones, because a commit that waits for a standby in vain leaves the connection
        // useless. To notify is to commit.
        commits: if writes { talk.commits().await } else { Err(skipped()) },
        notifications: if writes { talk.notifications(settings).await } else { Err(skipped()) },
        server,
    };
    talk.end().await;
    Ok(survey)
}

/// A connection, each of whose round trips has a time limit. After a limit was passed it is of no
/// more use.
struct Talk {
    connection: Option<PgConnection>,
    patience: Duration,
}

impl Talk {
    async fn begin(options: &PgConnectOptions, patience: Duration) -> Result<Self, Failure> {
        match timeout(patience, PgConnection::connect_with(options)).await {
            Ok(connected) => {
                Ok(Self { connection: Some(connected.map_err(Failure::from_connecting)?), patience })
            }
            Err(_elapsed) => Err(Failure::TimedOut(patience)),
        }
    }

    async fn end(self) {
        if let Some(connection) = self.connection {
            // Nothing depends on how it ends.
            let _ = timeout(self.patience, connection.close()).await;
        }
    }

    /// Asks something, unless an answer failed to come before.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Seen<T> {
        let Some(mut connection) = self.connection.take() else {
            return Err("the connection was lost before".to_owned());
        };
        let patience = self.patience;
        match timeout(patience, question(&mut connection)).await {
            Ok(answer) => {
                // An error of the statement leaves the connection usable; a broken one fails again.
                self.connection = Some(connection);
                answer.map_err(|error| error.to_string())
            }
            Err(_elapsed) => Err(format!("no answer within {patience:?}")),
        }
    }

    async fn rows<T>(&mut self, sql: &'static str) -> Seen<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.ask(async |connection| sqlx::query_as(sql).fetch_all(connection).await).await
    }

    async fn row<T>(&mut self, sql: &'static str) -> Seen<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.ask(async |connection| sqlx::query_as(sql).fetch_one(connection).await).await
    }

    async fn scalar<T>(&mut self, sql: &'static str) -> Seen<T>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
        T: Send + Unpin,
    {
        self.row::<(T,)>(sql).await.map(|(value,)| value)
    }

    /// Times round trips. Of all, the fastest tells most exactly how far the clocks are apart.
    async fn round_trips(&mut self) -> (Option<Samples>, Option<(i64, i64)>) {
        const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        let mut best: Option<(Duration, i64)> = None;
        // The first one also has the statement prepared.
        let _: Seen<i64> = self.scalar(NOW).await;
        for _ in 0..ROUND_TRIPS {
            let (before, begun) = (machine_now(), Instant::now());
            let answer: Seen<i64> = self.scalar(NOW).await;
            let took = begun.elapsed();
            let Ok(told) = answer else { break };
            times.push(took);
            let half = i64::try_from(took.as_micros() / 2).unwrap_or(i64::MAX);
            let ahead = told.saturating_sub(before.as_micros().saturating_add(half));
            if best.is_none_or(|(fastest, _)| took < fastest) {
                best = Some((took, ahead));
            }
        }
        let clock =
            best.map(|(took, ahead)| (ahead, i64::try_from(took.as_micros() / 2).unwrap_or(i64::MAX)));
        (Samples::of(times), clock)
    }

    async fn version(&mut self) -> Seen<TablesVersion> {
        let found = self.scalar(VERSION).await?;
        let says: bool = self.scalar(SAYS_FROM).await?;
        let usable_from = if says { Some(self.scalar(USABLE_FROM).await?) } else { None };
        Ok(TablesVersion { found, known: migrate::NEEDED, usable_from })
    }

    async fn stores(&mut self) -> Seen<Vec<StoreSize>> {
        let stores: Vec<(Uuid, String, i64)> = self.rows(STORES).await?;
        let counts = self.counts().await;
        let size = |(id, name, revision): (Uuid, String, i64)| {
            let counted = counts.as_ref().map(|counts| {
                counts.iter().find_map(|(store, count)| (*store == id).then_some(*count)).unwrap_or(0)
            });
            StoreSize {
                name,
                revision: u64::try_from(revision).unwrap_or(0),
                tuples: counted.and_then(|count| u64::try_from(count).ok()),
            }
        };
        Ok(stores.into_iter().map(size).collect())
    }

    /// Tuples by store, if they can be counted in a few seconds.
    async fn counts(&mut self) -> Option<Vec<(Uuid, i64)>> {
        let script = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", COUNTING.as_millis());
        self.script(script).await.ok()?;
        let counts = self.rows(COUNTS).await;
        // Whether it was counted or cut short, the transaction ends.
        self.script("ROLLBACK".to_owned()).await.ok()?;
        counts.ok()
    }

    async fn script(&mut self, sql: String) -> Seen<()> {
        let run = async |connection: &mut PgConnection| {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
        };
        self.ask(run).await
    }

    /// Times commits that must reach the disk, and the standbys if they are waited for.
    async fn commits(&mut self) -> Seen<Samples> {
        let mut times = Vec::with_capacity(COMMITS);
        for _ in 0..COMMITS {
            self.script("BEGIN; SELECT pg_logical_emit_message(true, 'relata', 'doctor')".to_owned()).await?;
            let begun = Instant::now();
            self.script("COMMIT".to_owned()).await?;
            times.push(begun.elapsed());
        }
        Samples::of(times).ok_or_else(|| "nothing was measured".to_owned())
    }

    /// Sends a notification to itself, the way a server does: heard past a pooler if there is a
    /// way past it, sent through it. `None`: it did not arrive.
    async fn notifications(&mut self, settings: &PostgresSettings) -> Seen<Option<Duration>> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(settings.round_trip)
            .connect_lazy_with(settings.direct_options());
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(notify::CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        let listener = match timeout(settings.round_trip, listening).await {
            Ok(listener) => listener.map_err(|error| error.to_string())?,
            Err(_elapsed) => return Err(format!("no answer to LISTEN within {:?}", settings.round_trip)),
        };
        let mut heard = Box::pin(listener.into_stream());
        let payload = format!("{}{}", notify::PROBE, Uuid::new_v4());
        let sent = Instant::now();
        let sending = async |connection: &mut PgConnection| {
            sqlx::query("SELECT pg_notify($1, $2)")
                .bind(notify::CHANNEL)
                .bind(&payload)
                .execute(connection)
                .await
                .map(drop)
        };
        self.ask(sending).await?;
        let deadline = (sent + HEARING).into();
        loop {
            match timeout_at(deadline, heard.next()).await {
                Ok(Some(Ok(notification))) if notification.payload() == payload => {
                    return Ok(Some(sent.elapsed()));
                }
                // Somebody else's.
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}
