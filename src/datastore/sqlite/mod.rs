//! The record in one SQLite file: what serves when nothing is configured.
//!
//! SQLite is synchronous, so its connections live on threads of their own: one that writes and
//! a few that read, one of them for the feed alone ([`threads`]). A job handed to a thread runs to its end, whatever becomes of
//! the future that waits for it. The file belongs to one process at a time; a lock file beside
//! it says so ([`mod@file`]).
//!
//! | File | Does |
//! |---|---|
//! | [`file`] | opens connections with every setting spelled out; holds the lock file |
//! | [`threads`] | runs jobs on the connections |
//! | [`time_limit`] | ends statements that take too long |
//! | [`migrate`] | makes and upgrades the tables, and the identity |
//! | [`commit`] | the transaction of a group of writes |
//! | [`read`] | heads, log and schemas |
//! | [`history`] | the log as people ask for it |
//! | [`scan`] | pages of tuples by filter |
//! | [`stores`] | stores |
//! | [`keys`] | API keys |
//! | [`upkeep`] | what expired, was deleted, or is too old, step by step |
//! | [`survey`](mod@survey) | what can be seen of a file, for `relata doctor` |
//! | [`rows`] | columns from and to values, errors |

mod commit;
mod file;
mod history;
mod keys;
mod migrate;
mod read;
mod rows;
mod scan;
mod stores;
mod survey;
mod threads;
mod time_limit;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::broadcast;

use self::file::DatabaseFile;
pub use self::survey::{FileFacts, FileSystem, Place, SqliteSurvey, survey};
use self::threads::Threads;
use super::{
    Datastore, DatastoreError, GroupError, Head, History, HistoryQuery, Identity, KeyFilter, KeyId,
    KeysStamp, ListedSchema, LiveKeys, LogEntry, NewKey, Outcome, SchemaId, Store, StoredKey, StoredSchema,
    TupleFilter, TuplePage, Upkeep, Write,
};
use crate::metrics::Metrics;
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::TupleKey;

/// Hints kept for a receiver that lags; a lost hint costs one polling interval.
const HINTS: usize = 1024;

/// The record in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    metrics: Arc<Metrics>,
    threads: Threads,
    hints: broadcast::Sender<StoreId>,
}

impl Sqlite {
    /// Opens a file, or creates an empty one that [`Datastore::migrate`] then fills. Blocks for
    /// as long as the file system takes.
    ///
    /// # Errors
    /// [`DatastoreError::InUse`] if another process serves the file;
    /// [`DatastoreError::Unavailable`] if it cannot be opened or is no SQLite database.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<Self, DatastoreError> {
        Self::start(DatabaseFile::at(path)?, metrics)
    }

    /// Opens an empty database in a new directory, which is removed after [`Datastore::close`]
    /// or when the value is dropped. Nothing of it survives a crash of the machine.
    pub fn temporary(metrics: Arc<Metrics>) -> Result<Self, DatastoreError> {
        Self::start(DatabaseFile::temporary()?, metrics)
    }

    fn start(file: DatabaseFile, metrics: Arc<Metrics>) -> Result<Self, DatastoreError> {
        let path = file.path().to_owned();
        let threads = Threads::start(file, Arc::clone(&metrics))?;
        Ok(Self { path, metrics, threads, hints: broadcast::Sender::new(HINTS) })
    }

    /// The absolute path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a job on the connection that writes, on migrated tables.
    async fn write<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        self.threads.write(move |connection| migrate::ensure(connection).and_then(|()| job(connection))).await
    }

    /// Runs a job on a connection that reads, on migrated tables, in one snapshot.
    async fn read<R: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        self.threads.read(in_one_snapshot(job)).await
    }

    /// The same for what a node must know to go on, on a connection that nothing else keeps busy.
    async fn follow<R: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        self.threads.follow(in_one_snapshot(job)).await
    }
}

/// The job on migrated tables, in one snapshot.
fn in_one_snapshot<R>(
    job: impl FnOnce(&Connection) -> Result<R, DatastoreError> + Send + 'static,
) -> impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static {
    move |connection| {
        migrate::ensure(connection)?;
        let snapshot = connection.transaction().map_err(rows::failed)?;
        let result = job(&snapshot)?;
        snapshot.finish().map_err(rows::failed)?;
        Ok(result)
    }
}

#[async_trait::async_trait]
impl Datastore for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn migrate(&self) -> Result<(), DatastoreError> {
        self.threads.write(migrate::migrate).await
    }

    async fn ping(&self) -> Result<(), DatastoreError> {
        self.write(migrate::takes_writes).await
    }

    async fn identity(&self) -> Result<Identity, DatastoreError> {
        self.read(migrate::identity).await
    }

    async fn renew_identity(&self) -> Result<Identity, DatastoreError> {
        self.write(migrate::renew_identity).await
    }

    async fn now(&self) -> Result<Timestamp, DatastoreError> {
        Ok(file::now())
    }

    async fn create_store(&self, name: &str) -> Result<Store, DatastoreError> {
        let name = name.to_owned();
        self.write(move |connection| stores::create(connection, name)).await
    }

    async fn store(&self, id: StoreId) -> Result<Option<Store>, DatastoreError> {
        self.read(move |snapshot| stores::by_id(snapshot, id)).await
    }

    async fn store_named(&self, name: &str) -> Result<Option<Store>, DatastoreError> {
        let name = name.to_owned();
        self.read(move |snapshot| stores::by_name(snapshot, &name)).await
    }

    async fn stores(&self, after: Option<&str>, limit: u32) -> Result<Vec<Store>, DatastoreError> {
        let after = after.map(str::to_owned);
        self.read(move |snapshot| stores::list(snapshot, after.as_deref(), limit)).await
    }

    async fn delete_store(&self, id: StoreId) -> Result<(), DatastoreError> {
        self.write(move |connection| stores::delete(connection, id)).await
    }

    async fn create_key(&self, key: NewKey) -> Result<StoredKey, DatastoreError> {
        self.write(move |connection| keys::create(connection, &key)).await
    }

    async fn revoke_key(&self, id: &KeyId, by: &str) -> Result<Option<StoredKey>, DatastoreError> {
        let (id, by) = (id.clone(), by.to_owned());
        self.write(move |connection| keys::revoke(connection, &id, &by)).await
    }

    async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&(Arc<str>, KeyId)>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, DatastoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.read(move |snapshot| keys::list(snapshot, &filter, after.as_ref(), limit)).await
    }

    async fn live_keys(&self, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, DatastoreError> {
        self.follow(move |snapshot| keys::live(snapshot, known)).await
    }

    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, GroupError> {
        let (metrics, asked) = (Arc::clone(&self.metrics), Instant::now());
        let job = move |connection: &mut Connection| {
            let transaction = commit::begin(connection)?;
            metrics.record.commit_lock_wait_seconds.since(asked);
            Ok(commit::commit(transaction, store, &group))
        };
        self.write(job).await?
    }

    async fn settle(
        &self,
        store: StoreId,
        revision: Revision,
        write: WriteId,
    ) -> Result<bool, DatastoreError> {
        // What the connection believes after an error at COMMIT is not what a new one would read.
        self.threads.reopen(move |connection| commit::settle(connection, store, revision, write)).await
    }

    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError> {
        let stores = stores.to_vec();
        self.follow(move |snapshot| read::heads(snapshot, &stores)).await
    }

    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError> {
        self.follow(move |snapshot| read::log(snapshot, store, from, limit)).await
    }

    async fn write_ids(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<(Revision, WriteId)>, DatastoreError> {
        self.follow(move |snapshot| read::write_ids(snapshot, store, from, limit)).await
    }

    async fn history(&self, store: StoreId, query: HistoryQuery) -> Result<History, DatastoreError> {
        self.read(move |snapshot| history::history(snapshot, store, &query)).await
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.read(move |snapshot| scan::page(snapshot, store, &filter, after.as_ref(), limit)).await
    }

    async fn key_after(
        &self,
        store: StoreId,
        after: Option<&TupleKey>,
        distance: u32,
    ) -> Result<Option<TupleKey>, DatastoreError> {
        let after = after.cloned();
        self.read(move |snapshot| scan::key_after(snapshot, store, after.as_ref(), distance)).await
    }

    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError> {
        self.read(move |snapshot| read::schema(snapshot, store, id)).await
    }

    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<ListedSchema>, DatastoreError> {
        self.read(move |snapshot| read::schemas(snapshot, store, before, limit)).await
    }

    async fn notify(&self, stores: &[StoreId]) {
        for store in stores {
            // An error means that nobody listens, and then nobody needs to be told.
            let _ = self.hints.send(*store);
        }
    }

    fn hints(&self) -> broadcast::Receiver<StoreId> {
        self.hints.subscribe()
    }

    fn upkeep(self: Arc<Self>) -> Arc<dyn Upkeep> {
        self
    }

    async fn close(&self) {
        self.threads.stop().await;
    }
}
