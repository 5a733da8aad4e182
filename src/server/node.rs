//! What every method shares: the record, the feed, the committers, and the settings.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::{Request, Status};

use super::access::{Addressed, KeyRing, StoreName, is_store};
use super::call::Call;
use super::convert::clip;
use super::cursor::CursorKeys;
use super::deadline::Deadline;
use super::journal::Journal;
use super::lifecycle::RunError;
use super::machine;
use super::pool::{Bounds, Pool};
use super::registry::Registry;
use super::status::Error;
use super::store::DEFAULT;
use crate::config::{Access, Config, RequestLimits};
use crate::datastore::committer::{CommitError, CommitterSettings, Committers};
use crate::datastore::{Committed, Datastore, DatastoreError, SchemaId, Store, Write};
use crate::feed::{Feed, FeedSettings, Replica, SchemaVersion};
use crate::metrics::Metrics;
use crate::revision::{DatabaseId, Revision, StoreId};
use crate::trace;
use crate::upkeep::Upkeep;

/// How long a stop waits for the rest of the decision log to be written.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(2);

/// One server of possibly many on one record.
#[derive(Debug)]
pub struct Node {
    config: Config,
    datastore: Arc<dyn Datastore>,
    database: DatabaseId,
    cursors: CursorKeys,
    committers: Committers,
    feed: Arc<Feed>,
    registry: Registry,
    /// Names of stores that grants name by id. Only stores that existed are in it.
    names: DashMap<StoreId, Box<str>>,
    /// The API keys, and the task that follows them, where they are asked for.
    keys: Option<(Arc<KeyRing>, AbortHandle)>,
    pool: Pool,
    upkeep: Upkeep,
    metrics: Arc<Metrics>,
    journal: Arc<Journal>,
    /// The runtime of everything that is not gRPC. Whatever may open a connection to the database
    /// runs there, so that no connection hangs on the reactor of a shard.
    background: Handle,
    stopping: watch::Receiver<bool>,
}

impl Node {
    /// Puts a node together on the current runtime. The record must have been migrated.
    pub async fn start(
        config: Config,
        datastore: Arc<dyn Datastore>,
        metrics: Arc<Metrics>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, RunError> {
        let identity = datastore.identity().await?;
        let keys = match &config.access {
            Access::Guarded(credentials) if credentials.api_keys => {
                // Not `allow_stale`: that is for answers, and a key may do more than ask.
                let bound = config.feed.max_staleness;
                Some(KeyRing::follow(Arc::clone(&datastore), bound).await?)
            }
            Access::Guarded(_) | Access::OpenOnLoopback | Access::Insecure => None,
        };
        ensure_default_store(&*datastore).await?;
        let bounds = Bounds {
            usual: config.usual_searches,
            most: config.max_searches,
            waiting: config.search_queue,
            waiting_of_store: config.search_queue_of_store,
        };
        let pool =
            Pool::start(config.search_threads, bounds, Arc::clone(&metrics)).map_err(RunError::Start)?;
        let feed = Feed::start(Arc::clone(&datastore), feed_settings(&config), Arc::clone(&metrics));
        let committers =
            Committers::new(Arc::clone(&datastore), committer_settings(&config.limits), Arc::clone(&metrics));
        let journal = Journal::start(&config.journal, &metrics)?;
        let upkeep = Upkeep::start(&datastore, &committers, &config.upkeep, &metrics);
        Ok(Arc::new(Self {
            config,
            database: identity.database,
            cursors: CursorKeys::new(&identity),
            committers,
            feed,
            registry: Registry::default(),
            names: DashMap::new(),
            keys,
            pool,
            upkeep,
            metrics,
            journal,
            background: Handle::current(),
            stopping,
            datastore,
        }))
    }

    /// Lets what was begun finish, and ends the background work.
    pub async fn stop(&self) {
        self.upkeep.stop().await;
        if let Some((_, following)) = &self.keys {
            following.abort();
        }
        self.committers.close().await;
        self.feed.shutdown().await;
        let journal = Arc::clone(&self.journal);
        // A disk that does not answer keeps the thread, and not the server.
        let _ = tokio::task::spawn_blocking(move || journal.close(JOURNAL_PATIENCE)).await;
    }

    /// Begins a call that has one answer.
    pub async fn unary<Q: Addressed>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<(Call, Q), Status> {
        Call::begin(self, method, request, Some(self.config.default_deadline)).await
    }

    /// Begins a call whose answers end by themselves.
    pub async fn listing<Q: Addressed>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<(Call, Q), Status> {
        Call::begin(self, method, request, Some(self.config.stream_deadline)).await
    }

    /// Begins a call whose answers have no end.
    pub async fn following<Q: Addressed>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<(Call, Q), Status> {
        Call::begin(self, method, request, None).await
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The record. Use [`Self::ask`] from a call.
    pub fn datastore(&self) -> &Arc<dyn Datastore> {
        &self.datastore
    }

    /// The identity of the database, which zookies carry.
    pub fn database(&self) -> DatabaseId {
        self.database
    }

    /// What seals and opens cursors.
    pub fn cursors(&self) -> &CursorKeys {
        &self.cursors
    }

    /// What follows the changelog.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What is counted and measured.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is told of single questions.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Where long searches go.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The API keys that calls may present, where they are asked for.
    pub fn keys(&self) -> Option<&Arc<KeyRing>> {
        self.keys.as_ref().map(|(ring, _)| ring)
    }

    /// Makes this node know at once that keys were changed. Others notice by themselves.
    pub async fn keys_changed(&self) {
        if let Some(ring) = self.keys() {
            // Whoever is late notices by itself too.
            let _ = ring.renew().await;
        }
    }

    /// Becomes true when the server is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// Runs work on the background runtime. Dropping the answer does not stop the work.
    pub async fn in_background<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        self.background
            .spawn(trace::carried(work))
            .await
            .map_err(|error| Error::Internal(anyhow::Error::new(error)))
    }

    /// Asks the record something.
    pub async fn ask<T, F>(&self, question: impl FnOnce(Arc<dyn Datastore>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DatastoreError>> + Send + 'static,
    {
        Ok(self.in_background(question(Arc::clone(&self.datastore))).await??)
    }

    /// The store of a call.
    pub async fn store(&self, call: &Call) -> Result<Store, Error> {
        self.look_up(call.store()?).await
    }

    /// The replica of the store of a call, loaded if it has to be.
    pub async fn replica(&self, call: &Call) -> Result<Arc<Replica>, Error> {
        self.registry.replica(self, call.store()?, call.deadline).await
    }

    /// Has a store in memory before the first call needs it.
    pub async fn preload(&self, text: &str, patience: Duration) -> Result<(), Error> {
        self.registry.replica(self, text, Deadline::within(patience)).await.map(drop)
    }

    /// A live store by name or id. For the registry; a method has [`Self::store`].
    pub(super) async fn look_up(&self, text: &str) -> Result<Store, Error> {
        let store = match StoreName::of(text) {
            StoreName::Id(id) => self.ask(move |record| async move { record.store(id).await }).await?,
            StoreName::Name(name) if !is_store(&name) => None,
            StoreName::Name(name) => {
                self.ask(move |record| async move { record.store_named(&name).await }).await?
            }
        };
        store.ok_or_else(|| Error::StoreNotFound { store: clip(text) })
    }

    /// The name of a store that a grant names by id, if it exists: for access control, which
    /// never asks it of a store that only a request names. No store is ever renamed.
    pub(super) async fn name_of(&self, id: StoreId) -> Result<Option<Box<str>>, Error> {
        if let Some(name) = self.names.get(&id) {
            return Ok(Some(name.clone()));
        }
        let store = self.ask(move |record| async move { record.store(id).await }).await?;
        Ok(store.map(|store| {
            let name: Box<str> = store.name.into();
            self.names.insert(id, name.clone());
            name
        }))
    }

    /// The id of the store that has a name which a grant names, if there is one.
    pub(super) async fn id_of(&self, name: &str) -> Result<Option<StoreId>, Error> {
        if let Some(id) = self.registry.known(name) {
            return Ok(Some(id));
        }
        let name = name.to_owned();
        let store = self.ask(move |record| async move { record.store_named(&name).await }).await?;
        Ok(store.map(|store| store.id))
    }

    /// Makes the node forget what it knows of a deleted store.
    pub fn forget_store(&self, id: StoreId) {
        self.registry.forget(id);
        self.names.remove(&id);
        self.feed.drop_store(id);
    }

    /// A schema version of a store, compiled.
    pub async fn schema_version(
        &self,
        replica: &Arc<Replica>,
        id: SchemaId,
    ) -> Result<Arc<SchemaVersion>, Error> {
        let replica = Arc::clone(replica);
        let version = self.in_background(async move { replica.schema(id).await }).await??;
        version.ok_or(Error::SchemaNotFound { id })
    }

    /// Commits a write, then waits a moment until this node's memory has it, so that one node
    /// reads its own writes without asking. Not having it by then is no failure: the zookie of
    /// the answer makes any node wait.
    pub async fn commit(
        &self,
        call: &Call,
        replica: &Arc<Replica>,
        write: Write,
    ) -> Result<Committed, Error> {
        let committed = self.commit_unseen(call, replica.store(), write).await?;
        self.see(call, replica, committed.revision).await;
        Ok(committed)
    }

    /// Commits a write to a store that need not be in memory.
    pub async fn commit_unseen(&self, call: &Call, store: StoreId, write: Write) -> Result<Committed, Error> {
        // Early, so that a write that is in doubt at the deadline can be told so.
        let committed = self.committers.write(store, write, call.deadline.early().into_std()).await;
        let committed = committed.map_err(refused)?;
        match self.feed.resident(store) {
            Some(replica) => self.feed.committed(&replica, committed.revision, committed.write_id),
            None => self.feed.hint(store),
        }
        Ok(committed)
    }

    /// Waits a moment until this node's memory has a revision, if it has the store.
    pub async fn wait_a_moment(&self, call: &Call, store: StoreId, revision: Revision) {
        if let Some(replica) = self.feed.resident(store) {
            self.see(call, &replica, revision).await;
        }
    }

    async fn see(&self, call: &Call, replica: &Replica, revision: Revision) {
        let patience = call.deadline.at_most(self.config.write_visibility).early();
        let _ = replica.at_least(revision, patience.into_std()).await;
    }
}

/// The largest write that is let in fits into one transaction.
fn committer_settings(limits: &RequestLimits) -> CommitterSettings {
    let defaults = CommitterSettings::default();
    let group_tuples = defaults.group_tuples.max(limits.updates + limits.preconditions);
    CommitterSettings { group_tuples, ..defaults }
}

fn refused(error: CommitError) -> Error {
    match error {
        CommitError::Write(error) => Error::Write(error),
        CommitError::TooLarge { tuples, limit } => Error::TooMuch {
            field: "updates".to_owned(),
            actual: tuples,
            limit,
            unit: "tuples and preconditions",
        },
        CommitError::QueueFull => Error::QueueFull { queue: "write" },
        CommitError::DeadlinePassed => Error::DeadlineExceeded,
        CommitError::Datastore(error) => Error::Commit(error),
        CommitError::ShuttingDown => Error::ShuttingDown,
    }
}

/// The settings of the feed, with the share of this machine's memory that it may use.
fn feed_settings(config: &Config) -> FeedSettings {
    let memory_budget = config.memory_budget.bytes(machine::memory());
    if let Some(bytes) = memory_budget {
        tracing::info!(bytes, "memory budget for stores");
    } else {
        tracing::warn!("stores in memory are not bounded; set a memory budget");
    }
    FeedSettings { memory_budget, ..config.feed.clone() }
}

/// The store that requests mean when they name none. Several nodes may start at once.
async fn ensure_default_store(datastore: &dyn Datastore) -> Result<(), DatastoreError> {
    if datastore.store_named(DEFAULT).await?.is_some() {
        return Ok(());
    }
    match datastore.create_store(DEFAULT).await {
        Ok(_) | Err(DatastoreError::StoreExists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
