//! A record to follow, and a datastore in front of it that fails when told to.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relata::datastore::sqlite::Sqlite;
use relata::datastore::{
    Action, Committed, Datastore, DatastoreError, GroupError, Head, History, HistoryQuery, Identity,
    KeyFilter, KeyId, KeysStamp, ListedSchema, LiveKeys, LogEntry, NewKey, Outcome, SchemaId, Store,
    StoredKey, StoredSchema, TupleFilter, TuplePage, Update, Upkeep, Write,
};
use relata::feed::FeedSettings;
use relata::graph::{Met, Ordinal, QuestionView, View};
use relata::metrics::Metrics;
use relata::revision::{Revision, StoreId, WriteId};
use relata::schema::{KindId, RelationId, SubjectKind};
use relata::time::Timestamp;
use relata::tuple::{Subject, Tuple, TupleKey};
use tokio::sync::{Notify, broadcast};

pub const SCHEMA: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
type doc
  relations
    define owner: [user]
    define viewer: [group#member] or owner
";

/// As above, with users as viewers.
pub const WIDER_SCHEMA: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
type doc
  relations
    define owner: [user]
    define viewer: [user, user:*, group#member] or owner
";

/// Settings under which a test need not wait long for a poll.
pub fn quick() -> FeedSettings {
    FeedSettings {
        poll_interval: Duration::from_millis(10),
        max_backoff: Duration::from_millis(40),
        ..FeedSettings::default()
    }
}

/// Fails the test instead of letting it hang.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens soon")
}

/// Every tuple a view shows, in text, found from the objects.
pub fn shown(view: &mut QuestionView) -> Vec<String> {
    let rules = Arc::clone(view.rules());
    let mut found = BTreeSet::new();
    for (id, relation) in rules.relations().iter().enumerate() {
        let relation_id = RelationId(u16::try_from(id).unwrap());
        let object_type = &rules.types()[usize::from(relation.object_type.0)];
        for object in OBJECTS.iter().map(|id| format!("{object_type}:{id}")) {
            let object = QuestionView::object(view, &object.parse().unwrap());
            for kind in 0..rules.kind_count() {
                let kind = KindId(u16::try_from(kind).unwrap());
                for edge in view.members(object, relation_id, kind, Ordinal(0)).filter_map(Met::edge) {
                    let subject = match rules.subject_kind(kind) {
                        SubjectKind::Object(_) => Subject::Object(View::object(view, edge.node)),
                        SubjectKind::Wildcard(id) => {
                            Subject::Wildcard(rules.types()[usize::from(id.0)].clone())
                        }
                        SubjectKind::Userset(id) => Subject::Userset(
                            View::object(view, edge.node),
                            rules.relations()[usize::from(id.0)].name.clone(),
                        ),
                    };
                    let object = View::object(view, object);
                    found.insert(format!("{object}#{}@{subject}", relation.name));
                }
            }
        }
    }
    found.into_iter().collect()
}

const OBJECTS: &[&str] = &["plan", "0", "1", "2", "3", "4", "5", "6", "7"];

/// A store of a record of its own, and ways to change it.
#[derive(Clone)]
pub struct Record {
    datastore: Arc<dyn Datastore>,
    pub store: StoreId,
}

impl Record {
    pub async fn temporary() -> Self {
        Self::of(Arc::new(Sqlite::temporary(Metrics::new()).expect("a database"))).await
    }

    pub async fn at(path: &Path) -> Self {
        Self::of(Arc::new(Sqlite::open(path, Metrics::new()).expect("a database"))).await
    }

    pub async fn of(datastore: Arc<dyn Datastore>) -> Self {
        datastore.migrate().await.expect("migrated");
        let store = datastore.create_store("feed").await.expect("a store").id;
        Self { datastore, store }
    }

    /// Another store of the same record.
    pub async fn another(&self, name: &str) -> Self {
        let store = self.datastore.create_store(name).await.expect("a store").id;
        Self { datastore: self.datastore(), store }
    }

    /// The record of a file as it is now, once more, going its own way from here.
    pub fn copied(&self, from: &Path, to: &Path) -> Self {
        let connection = rusqlite::Connection::open(from).expect("the file");
        connection.execute("VACUUM INTO ?", [to.to_str().expect("a path")]).expect("a copy");
        Self { datastore: Arc::new(Sqlite::open(to, Metrics::new()).expect("a database")), store: self.store }
    }

    pub fn datastore(&self) -> Arc<dyn Datastore> {
        Arc::clone(&self.datastore)
    }

    pub fn faults(&self) -> Arc<Faults> {
        Arc::new(Faults {
            inner: Mutex::new(self.datastore()),
            down: AtomicBool::new(false),
            panic: AtomicBool::new(false),
            hide_revision: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            hold: Mutex::new(None),
            hold_log: Mutex::new(None),
            next: Mutex::new(None),
            stuck: Mutex::new(None),
            deaf: AtomicBool::new(false),
            clock_ahead: AtomicI64::new(0),
        })
    }

    async fn commit(&self, action: Action) -> Committed {
        let write = Write {
            write_id: WriteId::fresh(),
            principal: "test".into(),
            note: "".into(),
            idempotency: None,
            action,
        };
        let outcomes = self.datastore.commit(self.store, Arc::from([write])).await.expect("committed");
        match outcomes.as_slice() {
            [Outcome::Committed(committed)] => *committed,
            other => panic!("not committed: {other:?}"),
        }
    }

    /// Writes tuples, `+` before what is added and `-` before what is removed, one revision.
    pub async fn write(&self, text: &str) -> Committed {
        let updates = text.split_whitespace().map(|update| {
            let (sign, key) = update.split_at(1);
            let key: TupleKey = key.parse().expect("a tuple");
            match sign {
                "+" => Update::Touch(Tuple::from(key)),
                _ => Update::Delete { key, must_exist: false },
            }
        });
        let updates = updates.collect();
        self.commit(Action::Tuples { updates, preconditions: Vec::new(), validated_against: None }).await
    }

    pub async fn write_schema(&self, text: &str) -> SchemaId {
        let action = Action::Schema { text: text.into(), json: "{}".into(), expected: None, judged: None };
        self.commit(action).await.schema.expect("a schema id")
    }

    /// Writes and removes a few of a small world's tuples, different ones for each seed; returns
    /// the revision.
    pub async fn scramble(&self, seed: u64) -> Revision {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        let mut roll = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        let mut updates = std::collections::BTreeMap::new();
        for _ in 0..=roll(5) {
            let subject = match roll(4) {
                0 => format!("group:{}#member", roll(4)),
                1 => "user:*".to_owned(),
                _ => format!("user:{}", roll(6)),
            };
            let on = match roll(3) {
                0 => format!("group:{}#member", roll(4)),
                1 => format!("doc:{}#owner", roll(8)),
                _ => format!("doc:{}#viewer", roll(8)),
            };
            updates.insert(format!("{on}@{subject}"), if roll(3) == 0 { "-" } else { "+" });
        }
        // A tuple that is new each time, so that there is always a revision.
        let mut text = format!("+doc:plan#viewer@user:seed{seed}");
        for (key, sign) in updates {
            text.extend([" ", sign, &key]);
        }
        self.write(&text).await.revision
    }

    pub async fn head(&self) -> Head {
        self.datastore.heads(&[self.store]).await.expect("heads").first().expect("a live store").1
    }

    pub async fn write_id(&self, revision: Revision) -> WriteId {
        self.datastore
            .log(self.store, revision, 1)
            .await
            .expect("the log")
            .first()
            .expect("an entry")
            .write_id
    }

    /// Every tuple of the record, in text.
    pub async fn tuples(&self) -> BTreeSet<String> {
        let all = TupleFilter::default();
        let page = self.datastore.tuples(self.store, &all, None, 100_000).await.expect("tuples");
        assert!(!page.more);
        page.tuples.iter().map(|tuple| format!("{} {:?}", tuple.key, tuple.attributes)).collect()
    }
}

/// One head query whose answer waits.
#[derive(Debug, Default)]
pub struct HeldBack {
    /// The query has read the database.
    pub read: Notify,
    /// The answer may go.
    pub go: Notify,
}

/// A datastore that fails when told to.
#[derive(Debug)]
pub struct Faults {
    inner: Mutex<Arc<dyn Datastore>>,
    /// Every query fails.
    pub down: AtomicBool,
    /// The next reading of the log panics.
    pub panic: AtomicBool,
    /// Not zero: the next reading of the log that would show the revision does not.
    pub hide_revision: AtomicU64,
    /// Pages of tuples read.
    pub pages: AtomicU64,
    hold: Mutex<Option<Arc<HeldBack>>>,
    hold_log: Mutex<Option<Arc<HeldBack>>>,
    /// The log of this store cannot be read to the end.
    pub stuck: Mutex<Option<StoreId>>,
    /// Hints are said not to arrive.
    pub deaf: AtomicBool,
    /// Microseconds that the database's clock is ahead.
    pub clock_ahead: AtomicI64,
    /// Another database, and the queries it still waits for.
    next: Mutex<Option<(u32, Arc<dyn Datastore>)>>,
}

impl Faults {
    /// From now on another database answers.
    pub fn replace(&self, datastore: Arc<dyn Datastore>) {
        *self.inner.lock().unwrap() = datastore;
    }

    /// After so many more queries another database answers.
    pub fn replace_after(&self, queries: u32, datastore: Arc<dyn Datastore>) {
        *self.next.lock().unwrap() = Some((queries, datastore));
    }

    /// The next head query is read at once but answered only when told.
    pub fn hold_next_heads(&self) -> Arc<HeldBack> {
        let held_back = Arc::new(HeldBack::default());
        *self.hold.lock().unwrap() = Some(Arc::clone(&held_back));
        held_back
    }

    /// The next part of the log is read at once but answered only when told.
    pub fn hold_next_log(&self) -> Arc<HeldBack> {
        let held_back = Arc::new(HeldBack::default());
        *self.hold_log.lock().unwrap() = Some(Arc::clone(&held_back));
        held_back
    }

    fn inner(&self) -> Result<Arc<dyn Datastore>, DatastoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(DatastoreError::Unavailable(anyhow::anyhow!("pulled the plug")));
        }
        let mut inner = self.inner.lock().unwrap();
        let mut next = self.next.lock().unwrap();
        match next.take() {
            Some((0, other)) => *inner = other,
            Some((queries, other)) => *next = Some((queries - 1, other)),
            None => {}
        }
        Ok(Arc::clone(&inner))
    }
}

#[async_trait::async_trait]
impl Datastore for Faults {
    fn name(&self) -> &'static str {
        "faults"
    }

    async fn migrate(&self) -> Result<(), DatastoreError> {
        self.inner()?.migrate().await
    }

    async fn ping(&self) -> Result<(), DatastoreError> {
        self.inner()?.ping().await
    }

    async fn identity(&self) -> Result<Identity, DatastoreError> {
        self.inner()?.identity().await
    }

    async fn renew_identity(&self) -> Result<Identity, DatastoreError> {
        self.inner()?.renew_identity().await
    }

    async fn now(&self) -> Result<Timestamp, DatastoreError> {
        let now = self.inner()?.now().await?;
        Ok(Timestamp::from_micros(now.as_micros() + self.clock_ahead.load(Ordering::SeqCst)))
    }

    async fn create_store(&self, name: &str) -> Result<Store, DatastoreError> {
        self.inner()?.create_store(name).await
    }

    async fn store(&self, id: StoreId) -> Result<Option<Store>, DatastoreError> {
        self.inner()?.store(id).await
    }

    async fn store_named(&self, name: &str) -> Result<Option<Store>, DatastoreError> {
        self.inner()?.store_named(name).await
    }

    async fn stores(&self, after: Option<&str>, limit: u32) -> Result<Vec<Store>, DatastoreError> {
        self.inner()?.stores(after, limit).await
    }

    async fn delete_store(&self, id: StoreId) -> Result<(), DatastoreError> {
        self.inner()?.delete_store(id).await
    }

    async fn create_key(&self, key: NewKey) -> Result<StoredKey, DatastoreError> {
        self.inner()?.create_key(key).await
    }

    async fn revoke_key(&self, id: &KeyId, by: &str) -> Result<Option<StoredKey>, DatastoreError> {
        self.inner()?.revoke_key(id, by).await
    }

    async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&(Arc<str>, KeyId)>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, DatastoreError> {
        self.inner()?.keys(filter, after, limit).await
    }

    async fn live_keys(&self, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, DatastoreError> {
        self.inner()?.live_keys(known).await
    }

    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, GroupError> {
        self.inner()?.commit(store, group).await
    }

    async fn settle(
        &self,
        store: StoreId,
        revision: Revision,
        write: WriteId,
    ) -> Result<bool, DatastoreError> {
        self.inner()?.settle(store, revision, write).await
    }

    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError> {
        let heads = self.inner()?.heads(stores).await;
        let held_back = self.hold.lock().unwrap().take();
        if let Some(held_back) = held_back {
            held_back.read.notify_one();
            held_back.go.notified().await;
        }
        heads
    }

    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError> {
        assert!(!self.panic.swap(false, Ordering::SeqCst), "told to panic");
        let stuck = *self.stuck.lock().unwrap() == Some(store);
        if stuck {
            std::future::pending::<()>().await;
        }
        let mut entries = self.inner()?.log(store, from, limit).await?;
        let hidden = self.hide_revision.load(Ordering::SeqCst);
        if entries.last().is_some_and(|last| hidden > 0 && last.revision.0 > hidden) {
            self.hide_revision.store(0, Ordering::SeqCst);
            entries.retain(|entry| entry.revision.0 != hidden);
        }
        let held_back = self.hold_log.lock().unwrap().take();
        if let Some(held_back) = held_back {
            held_back.read.notify_one();
            held_back.go.notified().await;
        }
        Ok(entries)
    }

    async fn write_ids(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<(Revision, WriteId)>, DatastoreError> {
        self.inner()?.write_ids(store, from, limit).await
    }

    async fn history(&self, store: StoreId, query: HistoryQuery) -> Result<History, DatastoreError> {
        self.inner()?.history(store, query).await
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        self.inner()?.tuples(store, filter, after, limit).await
    }

    async fn key_after(
        &self,
        store: StoreId,
        after: Option<&TupleKey>,
        distance: u32,
    ) -> Result<Option<TupleKey>, DatastoreError> {
        self.inner()?.key_after(store, after, distance).await
    }

    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError> {
        self.inner()?.schema(store, id).await
    }

    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<ListedSchema>, DatastoreError> {
        self.inner()?.schemas(store, before, limit).await
    }

    async fn notify(&self, stores: &[StoreId]) {
        if let Ok(inner) = self.inner() {
            inner.notify(stores).await;
        }
    }

    fn hints(&self) -> broadcast::Receiver<StoreId> {
        self.inner.lock().unwrap().hints()
    }

    fn hints_arrive(&self) -> bool {
        !self.deaf.load(Ordering::SeqCst) && self.inner.lock().unwrap().hints_arrive()
    }

    fn upkeep(self: Arc<Self>) -> Arc<dyn Upkeep> {
        Arc::clone(&self.inner.lock().unwrap()).upkeep()
    }

    async fn close(&self) {
        let inner = Arc::clone(&self.inner.lock().unwrap());
        inner.close().await;
    }
}
