//! A database of one test, and what is needed to talk about it briefly.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::sqlite::Sqlite;
use relata::datastore::{
    Action, Committed, Datastore, LogEntry, Outcome, Precondition, TupleFilter, Update, Write, WriteError,
};
use relata::metrics::Metrics;
use relata::revision::{Revision, StoreId, WriteId};
use relata::time::Timestamp;
use relata::tuple::{Attributes, Tuple, TupleKey};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::postgres_server::fresh_database;

/// Runs each test on a place for a database of either kind, in which nothing is yet.
macro_rules! on_each_place {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let directory = tempfile::tempdir().expect("a directory");
                let path = directory.path().join("relata.db").to_str().expect("a path").to_owned();
                super::$name(crate::datastore::fixture::Place::Sqlite(path)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database);
                // Says so where PostgreSQL is switched off, and fails where it is missing.
                let Some(url) = url.await.expect("a cluster") else { return };
                super::$name(crate::datastore::fixture::Place::Postgres(url)).await;
            })+
        }
    };
}
pub(crate) use on_each_place;

/// A fresh, migrated database with its `default` store.
pub struct Fixture {
    pub place: Place,
    pub datastore: Arc<dyn Datastore>,
    pub store: StoreId,
    /// Removed with the fixture.
    directory: Option<tempfile::TempDir>,
}

/// Where a database is. As text, so that it can be handed to another process.
#[derive(Clone, Debug)]
pub enum Place {
    Sqlite(String),
    Postgres(String),
}

impl Place {
    pub async fn open(&self) -> Arc<dyn Datastore> {
        match self {
            Self::Sqlite(path) => {
                Arc::new(Sqlite::open(Path::new(path), Metrics::new()).expect("an open database"))
            }
            Self::Postgres(url) => {
                let settings = PostgresSettings::new(url.parse().expect("a URL"));
                Arc::new(Postgres::connect(settings, Metrics::new()).await.expect("a connection"))
            }
        }
    }

    /// Runs SQL that both databases understand, behind the datastore's back. Tables are named
    /// as in `{tuple}`.
    pub async fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).expect("a connection");
                connection.execute_batch(&sql.replace(['{', '}'], "")).expect("executed");
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("a connection");
                let sql = sql.replace('{', "relata.").replace('}', "");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("executed");
            }
        }
    }

    /// The number that a query in both dialects answers, tables named as for [`Self::execute`].
    pub async fn number(&self, sql: &str) -> i64 {
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).expect("a connection");
                connection.query_row(&sql.replace(['{', '}'], ""), [], |row| row.get(0)).expect("a number")
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("a connection");
                let sql = sql.replace('{', "relata.").replace('}', "");
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect("a number")
            }
        }
    }

    /// Keeps every commit waiting until released.
    pub async fn hold(&self) -> Held {
        match self {
            Self::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).expect("a connection");
                connection.execute_batch("BEGIN IMMEDIATE").expect("the lock");
                Held::Sqlite(connection)
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("a connection");
                let sql = "BEGIN; SELECT 1 FROM relata.store FOR UPDATE";
                sqlx::raw_sql(sql).execute(&mut connection).await.expect("the locks");
                Held::Postgres(connection)
            }
        }
    }
}

impl Fixture {
    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("relata.db").to_str().expect("a path").to_owned();
        Self::at(Place::Sqlite(path), Some(directory)).await
    }

    pub async fn postgres() -> Option<Self> {
        Some(Self::at(Place::Postgres(fresh_database()?), None).await)
    }

    async fn at(place: Place, directory: Option<tempfile::TempDir>) -> Self {
        let datastore = place.open().await;
        datastore.migrate().await.expect("migrated");
        let store = datastore.store_named("default").await.expect("an answer").expect("the default store").id;
        Self { place, datastore, store, directory }
    }

    /// The same database, closed and opened again.
    pub async fn reopen(self) -> Self {
        let Self { place, datastore, store, directory } = self;
        datastore.close().await;
        drop(datastore);
        let datastore = place.open().await;
        Self { place, datastore, store, directory }
    }

    /// Every node there may be: two on PostgreSQL, one on SQLite.
    pub async fn nodes(&self) -> Vec<Arc<dyn Datastore>> {
        match &self.place {
            Place::Sqlite(_) => vec![self.datastore.clone()],
            Place::Postgres(_) => vec![self.datastore.clone(), self.place.open().await],
        }
    }

    /// As [`Place::execute`].
    pub async fn execute(&self, sql: &str) {
        self.place.execute(sql).await;
    }

    /// As [`Place::number`].
    pub async fn number(&self, sql: &str) -> i64 {
        self.place.number(sql).await
    }

    /// As [`Place::hold`].
    pub async fn hold(&self) -> Held {
        self.place.hold().await
    }

    /// Commits a group in one transaction.
    pub async fn commit(&self, group: Vec<Write>) -> Vec<Outcome> {
        let writes = group.len();
        let outcomes = self.datastore.commit(self.store, group.into()).await.expect("a commit");
        assert_eq!(outcomes.len(), writes);
        outcomes
    }

    /// Commits one write.
    pub async fn write(&self, write: Write) -> Result<Committed, WriteError> {
        match self.commit(vec![write]).await.remove(0) {
            Outcome::Committed(committed) => Ok(committed),
            Outcome::Failed(error) => Err(error),
            Outcome::Deferred => panic!("the only write of a group was deferred"),
        }
    }

    /// Commits updates that succeed.
    pub async fn update(&self, updates: Vec<Update>) -> Committed {
        self.write(updates_of(updates)).await.expect("committed")
    }

    pub async fn head(&self) -> Revision {
        let heads = self.datastore.heads(&[self.store]).await.expect("heads");
        assert_eq!(heads.len(), 1);
        heads[0].1.revision
    }

    /// Every stored tuple.
    pub async fn tuples(&self) -> Vec<Tuple> {
        let page = self.datastore.tuples(self.store, &TupleFilter::default(), None, u32::MAX).await;
        let page = page.expect("a page");
        assert!(!page.more);
        page.tuples
    }

    /// The whole log, asked for in pieces.
    pub async fn log(&self) -> Vec<LogEntry> {
        let mut log: Vec<LogEntry> = Vec::new();
        loop {
            let from = log.last().map_or(Revision::ZERO, |entry| entry.revision.next());
            let piece = self.datastore.log(self.store, from, 100).await.expect("the log");
            if piece.is_empty() {
                return log;
            }
            log.extend(piece);
        }
    }
}

/// A lock that keeps commits waiting.
pub enum Held {
    Sqlite(rusqlite::Connection),
    Postgres(PgConnection),
}

impl Held {
    pub async fn release(self) {
        match self {
            Self::Sqlite(connection) => connection.execute_batch("ROLLBACK").expect("released"),
            Self::Postgres(mut connection) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.expect("released");
            }
        }
    }
}

pub fn key(text: &str) -> TupleKey {
    text.parse().expect("a tuple")
}

pub fn plain(text: &str) -> Tuple {
    Tuple::from(key(text))
}

pub fn expiring(text: &str, expires_at: Timestamp) -> Tuple {
    let attributes = Attributes { condition: None, expires_at: Some(expires_at) };
    Tuple { attributes, ..plain(text) }
}

pub fn touch(text: &str) -> Update {
    Update::Touch(plain(text))
}

pub fn create(text: &str) -> Update {
    Update::Create(plain(text))
}

pub fn delete(text: &str) -> Update {
    Update::Delete { key: key(text), must_exist: false }
}

pub fn delete_existing(text: &str) -> Update {
    Update::Delete { key: key(text), must_exist: true }
}

pub fn updates_of(updates: Vec<Update>) -> Write {
    conditional(updates, Vec::new())
}

pub fn conditional(updates: Vec<Update>, preconditions: Vec<Precondition>) -> Write {
    action(Action::Tuples { updates, preconditions, validated_against: None })
}

pub fn action(action: Action) -> Write {
    Write { write_id: WriteId::fresh(), principal: "ann".into(), note: "".into(), idempotency: None, action }
}

/// A filter from `object_type object_id relation subject_type subject_id subject_relation`, each
/// part `_` if it is not given, and `''` for a subject without relation.
pub fn filter(parts: &str) -> TupleFilter {
    let parts: Vec<Option<&str>> =
        parts.split(' ').map(|part| Some(part).filter(|part| *part != "_")).collect();
    let [object_type, object_id, relation, subject_type, subject_id, subject_relation] = parts[..] else {
        panic!("six parts")
    };
    TupleFilter {
        object_type: object_type.map(|part| part.parse().expect("a type")),
        object_id: object_id.map(Into::into),
        relation: relation.map(|part| part.parse().expect("a relation")),
        subject_type: subject_type.map(|part| part.parse().expect("a type")),
        subject_id: subject_id.map(Into::into),
        subject_relation: subject_relation
            .map(|part| (part != "''").then(|| part.parse().expect("a relation"))),
    }
}

/// A deadline that is not the point of the test.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}
