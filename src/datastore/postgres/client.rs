//! [`Postgres`]: the datastore's methods, each on the lane of connections it belongs to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use super::failure::Failure;
use super::lane::{Lane, Planning};
use super::notify::{Notifier, listen};
use super::sessions::Sessions;
use super::settings::UPKEEP_CONNECTIONS;
use super::{PostgresSettings, commit, history, keys, migrate, reads, stores};
use crate::datastore::{
    Datastore, DatastoreError, GroupError, Head, History, HistoryQuery, Identity, KeyFilter, KeyId,
    KeysStamp, ListedSchema, LiveKeys, LogEntry, NewKey, Outcome, SchemaId, Store, StoredKey, StoredSchema,
    TupleFilter, TuplePage, Upkeep, Write,
};
use crate::metrics::{self, Metrics};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::TupleKey;

/// Hints that may wait for a receiver. One that falls behind polls.
const HINTS: usize = 1024;

/// Prepared statements kept per connection: more than there are.
const STATEMENTS: usize = 100;

/// The record on PostgreSQL.
///
/// Its connections and background tasks live on the runtime on which it was made. Give it one
/// that CPU-bound work does not share: whoever holds a store's lock must be able to go on.
pub struct Postgres {
    settings: PostgresSettings,
    sessions: Sessions,
    runtime: Handle,
    commits: Arc<Lane>,
    feed: Arc<Lane>,
    general: Arc<Lane>,
    upkeep: Arc<Lane>,
    notifications: Arc<Lane>,
    notifier: Arc<Notifier>,
    hints: broadcast::Sender<StoreId>,
    /// Whether the last probe of the listener was heard.
    hearing: Arc<AtomicBool>,
    listener: OnceLock<AbortHandle>,
    sender: AbortHandle,
}

impl Postgres {
    /// Connects, which proves that the database is there and takes writes. Whether it is
    /// migrated is another question: [`Datastore::ping`].
    pub async fn connect(settings: PostgresSettings, metrics: Arc<Metrics>) -> Result<Self, DatastoreError> {
        let (capacity, options) = (settings.statement_cache_capacity, settings.options());
        let sessions = Sessions::find_out(&options, capacity, settings.round_trip).await?;
        tell(sessions, &settings);
        let options = options.statement_cache_capacity(match sessions {
            Sessions::Own | Sessions::SharedAndPrepared => capacity.unwrap_or(STATEMENTS),
            Sessions::Shared => 0,
        });
        let lane = |name, planning, size| {
            let (options, metrics) = (options.clone(), Arc::clone(&metrics));
            Lane::new(name, options, planning, sessions, size, settings.round_trip, metrics)
        };
        let notifications = lane(metrics::Lane::Notify, Planning::Once, 1);
        let notifier = Arc::new(Notifier::new(Arc::clone(&notifications)));
        let postgres = Self {
            runtime: Handle::current(),
            commits: lane(metrics::Lane::Commit, Planning::Once, settings.commit_connections),
            feed: lane(metrics::Lane::Feed, Planning::Once, settings.feed_connections),
            general: lane(metrics::Lane::General, Planning::Each, settings.read_connections),
            upkeep: lane(metrics::Lane::Upkeep, Planning::Each, UPKEEP_CONNECTIONS),
            notifications,
            sender: tokio::spawn(Arc::clone(&notifier).run()).abort_handle(),
            notifier,
            hints: broadcast::channel(HINTS).0,
            hearing: Arc::new(AtomicBool::new(false)),
            listener: OnceLock::new(),
            sessions,
            settings,
        };
        reads::now(&postgres.general).await?;
        Ok(postgres)
    }

    /// Whether a pooler in transaction mode stands between: nothing can be listened for through it.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.sessions.are_shared()
    }

    /// Where the upkeep holds its conversations.
    pub(super) fn upkeep_lane(&self) -> &Arc<Lane> {
        &self.upkeep
    }

    /// Says what a failure means. A missing table is most likely a missing migration.
    pub(super) async fn told<T>(&self, result: Result<T, Failure>) -> Result<T, DatastoreError> {
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Tables(_)) {
            self.check_version().await?;
        }
        Err(failure.into())
    }

    async fn check_version(&self) -> Result<(), DatastoreError> {
        Ok(self.general.talk(|session| Box::pin(migrate::check(session))).await?)
    }

    fn end_tasks(&self) {
        self.sender.abort();
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

/// Tells the operator what a pooler costs, and what to set.
fn tell(sessions: Sessions, settings: &PostgresSettings) {
    let url = &settings.url;
    match sessions {
        Sessions::Own => return,
        Sessions::SharedAndPrepared => tracing::info!(
            %url, "a pooler in transaction mode stands before the database; it is believed to follow prepared statements"
        ),
        Sessions::Shared => tracing::info!(
            %url, "a pooler in transaction mode stands before the database: each statement is prepared in a transaction \
                   of its own. If the pooler follows prepared statements (PgBouncer from 1.21 on, with \
                   `max_prepared_statements`), `--statement-cache 100` saves three round trips for each"
        ),
    }
    if settings.direct_url.is_none() {
        tracing::warn!(
            %url, "nothing can be listened for through a pooler in transaction mode: polling replaces notifications; \
                   with `--direct-datastore` other servers' writes are seen sooner"
        );
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

#[async_trait::async_trait]
impl Datastore for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn migrate(&self) -> Result<(), DatastoreError> {
        let options = self.settings.direct_options();
        // A task, so that a caller who gives up does not cut the connection in mid-migration.
        let task = self.runtime.spawn(async move { migrate::run(&options).await });
        Ok(task.await.map_err(|error| DatastoreError::Other(error.into()))??)
    }

    async fn ping(&self) -> Result<(), DatastoreError> {
        self.feed
            .talk(|session| {
                Box::pin(async {
                    let statement =
                        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";
                    if session.scalar(statement).await? { Err(Failure::ReadOnly) } else { Ok(()) }
                })
            })
            .await?;
        self.check_version().await
    }

    async fn identity(&self) -> Result<Identity, DatastoreError> {
        self.check_version().await?;
        self.told(reads::identity(&self.general).await).await
    }

    async fn renew_identity(&self) -> Result<Identity, DatastoreError> {
        self.check_version().await?;
        let options = self.settings.direct_options();
        let task = self.runtime.spawn(async move { migrate::renew_identity(&options).await });
        Ok(task.await.map_err(|error| DatastoreError::Other(error.into()))??)
    }

    async fn now(&self) -> Result<Timestamp, DatastoreError> {
        self.told(reads::now(&self.feed).await).await
    }

    async fn create_store(&self, name: &str) -> Result<Store, DatastoreError> {
        self.told(stores::create(&self.general, name).await).await
    }

    async fn store(&self, id: StoreId) -> Result<Option<Store>, DatastoreError> {
        self.told(reads::store(&self.general, id).await).await
    }

    async fn store_named(&self, name: &str) -> Result<Option<Store>, DatastoreError> {
        self.told(reads::store_named(&self.general, name).await).await
    }

    async fn stores(&self, after: Option<&str>, limit: u32) -> Result<Vec<Store>, DatastoreError> {
        self.told(reads::stores(&self.general, after, limit).await).await
    }

    async fn delete_store(&self, id: StoreId) -> Result<(), DatastoreError> {
        self.told(stores::delete(&self.general, id).await).await
    }

    async fn create_key(&self, key: NewKey) -> Result<StoredKey, DatastoreError> {
        self.told(keys::create(&self.general, key).await).await
    }

    async fn revoke_key(&self, id: &KeyId, by: &str) -> Result<Option<StoredKey>, DatastoreError> {
        self.told(keys::revoke(&self.general, id, by).await).await
    }

    async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&(Arc<str>, KeyId)>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, DatastoreError> {
        self.told(keys::list(&self.general, filter, after, limit).await).await
    }

    /// On the lane of the feed, like everything that a node must know to go on.
    async fn live_keys(&self, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, DatastoreError> {
        self.told(keys::live(&self.feed, known).await).await
    }

    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, GroupError> {
        match commit::commit(&self.commits, store, group).await {
            Err(Failure::InDoubt(decided, cause)) => Err(GroupError::InDoubt { decided, cause }),
            result => Ok(self.told(result).await?),
        }
    }

    async fn settle(
        &self,
        store: StoreId,
        revision: Revision,
        write: WriteId,
    ) -> Result<bool, DatastoreError> {
        self.told(commit::settle(&self.commits, store, revision, write).await).await
    }

    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError> {
        self.told(reads::heads(&self.feed, stores).await).await
    }

    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError> {
        self.told(reads::log(&self.feed, store, from, limit).await).await
    }

    async fn write_ids(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<(Revision, WriteId)>, DatastoreError> {
        self.told(reads::write_ids(&self.feed, store, from, limit).await).await
    }

    async fn history(&self, store: StoreId, query: HistoryQuery) -> Result<History, DatastoreError> {
        self.told(history::history(&self.general, store, query).await).await
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError> {
        self.told(reads::tuples(&self.general, store, filter, after, limit).await).await
    }

    async fn key_after(
        &self,
        store: StoreId,
        after: Option<&TupleKey>,
        distance: u32,
    ) -> Result<Option<TupleKey>, DatastoreError> {
        self.told(reads::key_after(&self.general, store, after, distance).await).await
    }

    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError> {
        self.told(reads::schema(&self.general, store, id).await).await
    }

    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<ListedSchema>, DatastoreError> {
        self.told(reads::schemas(&self.general, store, before, limit).await).await
    }

    async fn notify(&self, stores: &[StoreId]) {
        self.notifier.announce(stores);
    }

    /// The first call begins to listen, unless a pooler would swallow what there is to hear.
    fn hints(&self) -> broadcast::Receiver<StoreId> {
        let receiver = self.hints.subscribe();
        if self.is_pooled() && self.settings.direct_url.is_none() {
            return receiver;
        }
        self.listener.get_or_init(|| {
            let (options, hints) = (self.settings.direct_options(), self.hints.clone());
            let (notifier, hearing) = (Arc::clone(&self.notifier), Arc::clone(&self.hearing));
            self.runtime.spawn(listen(options, notifier, hints, hearing)).abort_handle()
        });
        receiver
    }

    fn hints_arrive(&self) -> bool {
        self.hearing.load(Ordering::Relaxed)
    }

    fn upkeep(self: Arc<Self>) -> Arc<dyn Upkeep> {
        self
    }

    async fn close(&self) {
        self.end_tasks();
        for lane in [&self.commits, &self.feed, &self.general, &self.upkeep, &self.notifications] {
            lane.close().await;
        }
    }
}
