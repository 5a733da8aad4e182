//! A record whose answers are parts of the calls that need them.
//!
//! What is asked for a call that is recorded becomes a span, named after what is asked. On
//! PostgreSQL each round trip is a span below it (`postgres::lane`). What is asked for no call (by
//! the feed, by upkeep) passes through, and so does all of it where nothing is recorded.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::{
    Datastore, DatastoreError, GroupError, Head, History, HistoryQuery, Identity, KeyFilter, KeyId,
    KeysStamp, ListedSchema, LiveKeys, LogEntry, NewKey, Outcome, SchemaId, Store, StoredKey, StoredSchema,
    TupleFilter, TuplePage, Upkeep, Write,
};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::trace::{self, Kind};
use crate::tuple::TupleKey;

/// A record over another.
#[derive(Debug)]
pub struct Traced(Arc<dyn Datastore>);

impl Traced {
    /// Over a record.
    #[must_use]
    pub fn over(datastore: Arc<dyn Datastore>) -> Self {
        Self(datastore)
    }

    /// Asks under a span of its own, if there is a call to be told of it.
    async fn ask<T, E>(
        &self,
        name: &'static str,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(mut span) = trace::child(Kind::Client, name) else { return question.await };
        span.say(
            "db.system.name",
            match self.0.name() {
                "postgres" => "postgresql",
                other => other,
            },
        );
        let answer = trace::under(Some(span.as_parent()), question).await;
        if answer.is_err() {
            span.fail();
        }
        answer
    }
}

#[async_trait::async_trait]
impl Datastore for Traced {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn migrate(&self) -> Result<(), DatastoreError> {
        self.0.migrate().await
    }

    async fn ping(&self) -> Result<(), DatastoreError> {
        self.ask("db.ping", self.0.ping()).await
    }

    async fn identity(&self) -> Result<Identity, DatastoreError> {
        self.ask("db.identity.read", self.0.identity()).await
    }

    async fn renew_identity(&self) -> Result<Identity, DatastoreError> {
        self.ask("db.identity.renew", self.0.renew_identity()).await
    }

    async fn now(&self) -> Result<Timestamp, DatastoreError> {
        self.ask("db.clock.read", self.0.now()).await
    }

    async fn create_store(&self, name: &str) -> Result<Store, DatastoreError> {
        self.ask("db.store.create", self.0.create_store(name)).await
    }

    async fn store(&self, id: StoreId) -> Result<Option<Store>, DatastoreError> {
        self.ask("db.store.read", self.0.store(id)).await
    }

    async fn store_named(&self, name: &str) -> Result<Option<Store>, DatastoreError> {
        self.ask("db.store.find", self.0.store_named(name)).await
    }

    async fn stores(&self, after: Option<&str>, limit: u32) -> Result<Vec<Store>, DatastoreError> {
        self.ask("db.store.list", self.0.stores(after, limit)).await
    }

    async fn delete_store(&self, id: StoreId) -> Result<(), DatastoreError> {
        self.ask("db.store.delete", self.0.delete_store(id)).await
    }

    async fn create_key(&self, key: NewKey) -> Result<StoredKey, DatastoreError> {
        self.ask("db.key.create", self.0.create_key(key)).await
    }

    async fn revoke_key(&self, id: &KeyId, by: &str) -> Result<Option<StoredKey>, DatastoreError> {
        self.ask("db.key.revoke", self.0.revoke_key(id, by)).await
    }

    async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&(Arc<str>, KeyId)>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, DatastoreError> {
        self.ask("db.key.list", self.0.keys(filter, after, limit)).await
    }

    async fn live_keys(&self, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, DatastoreError> {
        self.ask("db.key.follow", self.0.live_keys(known)).await
    }

    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, GroupError> {
        self.ask("db.commit", self.0.commit(store, group)).await
    }

    async fn settle(
        &self,
        store: StoreId,
        revision: Revision,
        write: WriteId,
    ) -> Result<bool, DatastoreError> {
        self.ask("db.commit.settle", self.0.settle(store, revision, write)).await
    }

    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError> {
        self.ask("db.head.read", self.0.heads(stores)).await
    }

    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError> {
        self.ask("db.log.read", self.0.log(store, from, limit)).await
    }

    async fn write_ids(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<(Revision, WriteId)>, DatastoreError> {
        self.ask("db.log.ids", self.0.write_ids(store, from, limit)).await
    }

    async fn history(&self, store: StoreId, query: HistoryQuery) -> Result<History, DatastoreError> {
        self.ask("db.log.search", self.0.history(store, query)).await
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError> {
        self.ask("db.tuple.read", self.0.tuples(store, filter, after, limit)).await
    }

    async fn key_after(
        &self,
        store: StoreId,
        after: Option<&TupleKey>,
        distance: u32,
    ) -> Result<Option<TupleKey>, DatastoreError> {
        self.ask("db.tuple.skip", self.0.key_after(store, after, distance)).await
    }

    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError> {
        self.ask("db.schema.read", self.0.schema(store, id)).await
    }

    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<ListedSchema>, DatastoreError> {
        self.ask("db.schema.list", self.0.schemas(store, before, limit)).await
    }

    async fn notify(&self, stores: &[StoreId]) {
        self.0.notify(stores).await;
    }

    fn hints(&self) -> broadcast::Receiver<StoreId> {
        self.0.hints()
    }

    fn hints_arrive(&self) -> bool {
        self.0.hints_arrive()
    }

    fn upkeep(self: Arc<Self>) -> Arc<dyn Upkeep> {
        Arc::clone(&self.0).upkeep()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
