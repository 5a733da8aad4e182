//! The record: the only place where a fact lives.
//!
//! [`Datastore`] is what PostgreSQL and SQLite both do. Everything that decides, as opposed to
//! storing, is written once above it:
//!
//! ```text
//! a Write:  Committers::write     waits in the store's queue, leaves it in a group
//!             Datastore::commit   one transaction: locks the store,
//!               decide::Needs     reads what the group depends on,
//!               decide::decide    decides each write in order, against an overlay,
//!               decide::Plan      and stores the net effect with its log entries
//!           Datastore::notify     after the commit, coalesced
//!
//! a Read of an earlier revision:  page::PinnedReader
//!             Datastore::tuples   a page of the newest state
//!             Datastore::log      and the changes since, undone
//! ```
//!
//! How values become columns is shared as well: [`encoding`].

pub mod committer;
pub mod decide;
pub mod encoding;
pub mod page;
pub mod postgres;
pub mod sqlite;

use std::sync::Arc;

use crate::revision::{DatabaseId, Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Attributes, Object, ObjectId, RelationName, Subject, Tuple, TupleKey, TypeName};

/// A schema version: a ULID, so that the newest is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub ulid::Ulid);

/// A store as the record knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Its identity.
    pub id: StoreId,
    /// Unique among live stores.
    pub name: String,
    /// When it was created, by the database's clock.
    pub created_at: Timestamp,
    /// The schema in force.
    pub schema: Option<SchemaId>,
}

/// A schema version as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchema {
    /// Its identity.
    pub id: SchemaId,
    /// The revision that put it in force.
    pub revision: Revision,
    /// When, by the database's clock.
    pub written_at: Timestamp,
    /// The text as it was uploaded.
    pub text: Arc<str>,
    /// OpenFGA's JSON form.
    pub json: Arc<str>,
}

/// The newest revision of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number; zero before the first write.
    pub revision: Revision,
    /// Its write id; nil before the first write.
    pub write_id: WriteId,
    /// The oldest revision whose changes are retained.
    pub floor: Revision,
    /// The schema in force.
    pub schema: Option<SchemaId>,
    /// When it was committed; before the first write, when the store was created.
    pub committed_at: Timestamp,
}

/// One write waiting to be committed.
#[derive(Debug, Clone)]
pub struct Write {
    /// Its write id, chosen before the transaction, so that an unknown outcome can be looked up.
    pub write_id: WriteId,
    /// Who writes, as authenticated; empty without authentication.
    pub principal: Arc<str>,
    /// Kept in the changelog.
    pub note: Arc<str>,
    /// Makes a retry return the first result.
    pub idempotency: Option<Idempotency>,
    /// What it does.
    pub action: Action,
}

/// An idempotency key, in the scope of (store, principal).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// What the client chose.
    pub key: Arc<str>,
    /// Digest of the whole request, so that a key is never reused for another one.
    pub request: [u8; 32],
}

/// What a write does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Changes tuples.
    Tuples {
        /// Each key at most once.
        updates: Vec<Update>,
        /// See the state before the updates.
        preconditions: Vec<Precondition>,
        /// The schema the tuples were validated against. If another one is in force under
        /// the lock, the write fails with [`WriteError::SchemaChanged`] and is validated anew.
        /// `None`: there was nothing to validate, as in deletions, and any schema will do.
        validated_against: Option<SchemaId>,
    },
    /// Puts a schema in force. Its id is made under the lock.
    Schema {
        /// The text as uploaded.
        text: Arc<str>,
        /// OpenFGA's JSON form.
        json: Arc<str>,
        /// The version that must be in force; `None`: any.
        expected: Option<SchemaId>,
    },
}

/// One change to one tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Writes it, replacing condition and expiry.
    Touch(Tuple),
    /// Writes it; an existing, unexpired one is an error.
    Create(Tuple),
    /// Removes it.
    Delete {
        /// What to remove.
        key: TupleKey,
        /// Whether its absence is an error.
        must_exist: bool,
    },
}

impl Update {
    /// The tuple it concerns.
    #[must_use]
    pub fn key(&self) -> &TupleKey {
        match self {
            Self::Touch(tuple) | Self::Create(tuple) => &tuple.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// A fact about the state before a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// What must or must not be there.
    pub filter: TupleFilter,
    /// Which of the two.
    pub expectation: Expectation,
}

/// Whether a precondition wants a tuple or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// At least one live tuple matches.
    Match,
    /// No live tuple matches.
    NoMatch,
}

/// Tuples by their parts; an absent part matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TupleFilter {
    /// Type of the object.
    pub object_type: Option<TypeName>,
    /// Id of the object.
    pub object_id: Option<Arc<str>>,
    /// The relation.
    pub relation: Option<RelationName>,
    /// Type of the subject.
    pub subject_type: Option<TypeName>,
    /// Id of the subject; `*` for the wildcard.
    pub subject_id: Option<Arc<str>>,
    /// Relation of a userset subject; `Some(None)`: no relation.
    pub subject_relation: Option<Option<RelationName>>,
}

impl TupleFilter {
    /// Whether a tuple matches.
    #[must_use]
    pub fn matches(&self, key: &TupleKey) -> bool {
        fn part<T: AsRef<str>>(wanted: Option<&T>, actual: &str) -> bool {
            wanted.is_none_or(|wanted| wanted.as_ref() == actual)
        }
        part(self.object_type.as_ref(), key.object.object_type().as_str())
            && part(self.object_id.as_ref(), key.object.id().as_str())
            && part(self.relation.as_ref(), key.relation.as_str())
            && part(self.subject_type.as_ref(), key.subject.subject_type().as_str())
            && part(self.subject_id.as_ref(), key.subject.id())
            && self.subject_relation.as_ref().is_none_or(|wanted| wanted.as_ref() == key.subject.relation())
    }

    /// The one key that can match, if every part is given and they make a key.
    #[must_use]
    pub fn exact(&self) -> Option<TupleKey> {
        let object = Object::new(self.object_type.clone()?, ObjectId::new(self.object_id.as_deref()?).ok()?);
        let (subject_type, subject_id) = (self.subject_type.clone()?, self.subject_id.as_deref()?);
        let subject = match (subject_id, self.subject_relation.clone()?) {
            ("*", None) => Subject::Wildcard(subject_type),
            (id, relation) => {
                let object = Object::new(subject_type, ObjectId::new(id).ok()?).ok()?;
                match relation {
                    Some(relation) => Subject::Userset(object, relation),
                    None => Subject::Object(object),
                }
            }
        };
        Some(TupleKey { object: object.ok()?, relation: self.relation.clone()?, subject })
    }
}

/// What a successful write returns.
///
/// A write that changes nothing (TOUCH of an identical tuple, DELETE of an absent one) takes no
/// revision: it returns the head, which already shows what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its revision: the head, if the write changed nothing and took none.
    pub revision: Revision,
    /// The write id of that revision.
    pub write_id: WriteId,
    /// Whether an idempotency key had been used before.
    pub replayed: bool,
    /// The schema id made, for a schema write.
    pub schema: Option<SchemaId>,
}

/// Why one write of a group failed. It failed alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum WriteError {
    /// A CREATE met a live tuple.
    #[error("tuple `{key}` already exists")]
    AlreadyExists { key: TupleKey },
    /// A DELETE that insists met no live tuple.
    #[error("tuple `{key}` does not exist")]
    NotFound { key: TupleKey },
    /// A precondition does not hold.
    #[error("precondition {index} does not hold: {}", match .expectation { Expectation::Match => "no tuple matches", Expectation::NoMatch => "a tuple matches" })]
    PreconditionFailed { index: usize, expectation: Expectation },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// Another schema is in force than the one expected or validated against.
    #[error("another schema is in force")]
    SchemaChanged { in_force: Option<SchemaId> },
}

/// What became of one write of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Committed(Committed),
    /// It failed, alone.
    Failed(WriteError),
    /// It depends on what the group wrote and was not decided: it goes first in the next group.
    /// Never the first of a group, so the next one decides it.
    Deferred,
}

/// One revision of the changelog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub revision: Revision,
    /// Which history it belongs to.
    pub write_id: WriteId,
    /// The database's clock under the lock; strictly increasing.
    pub committed_at: Timestamp,
    /// Who wrote it.
    pub principal: Arc<str>,
    /// The note given.
    pub note: Arc<str>,
    /// The schema it put in force.
    pub schema: Option<SchemaId>,
    /// What it changed, in order.
    pub changes: Vec<Change>,
}

/// What one revision did to one tuple: absolute states, so that it can be replayed over a
/// state that already has it, and undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The tuple.
    pub key: TupleKey,
    /// What it carried before; `None`: it was absent.
    pub before: Option<Attributes>,
    /// What it carries after; `None`: it is absent.
    pub after: Option<Attributes>,
}

/// What ties a database to its zookies and cursors.
#[derive(Clone)]
pub struct Identity {
    /// Its random id.
    pub database: DatabaseId,
    /// Keys of the MAC on cursors, the newest first.
    pub cursor_keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Identity {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why the record could not be asked or changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum DatastoreError {
    /// No connection, or it broke, or a round trip took too long. Retrying may help.
    #[error("the database cannot be reached")]
    Unavailable(#[source] anyhow::Error),
    /// The connection broke while a commit was under way and the outcome could not be found
    /// out in time. The write may or may not have happened.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown(#[source] anyhow::Error),
    /// The tables are missing or of another version.
    #[error(
        "the database is not migrated: it is at version {found}, this binary needs {needed}; run `relata migrate`"
    )]
    NotMigrated { found: i64, needed: i64 },
    /// The tables are of a version that this binary does not know.
    #[error(
        "the database is at version {found}, this binary knows versions up to {known}; use a newer `relata`"
    )]
    TooNew { found: i64, known: i64 },
    /// A row cannot be what it should be.
    #[error("the database holds a row that is corrupt: {0}")]
    Corrupt(String),
    /// The changes asked for have been trimmed.
    #[error("the changelog before revision {floor} has been trimmed")]
    Trimmed { floor: Revision },
    /// The store does not exist or has been deleted.
    #[error("the store does not exist")]
    StoreNotFound,
    /// A live store of that name exists.
    #[error("a store named `{0}` exists")]
    StoreExists(String),
    /// The database file is served by another process.
    #[error("`{0}` is in use by another process; stop that one or name another file")]
    InUse(String),
    /// Anything else: a defect or a misconfiguration.
    #[error("the database refused")]
    Other(#[source] anyhow::Error),
}

/// A page of tuples in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuplePage {
    /// The head when the page was read, in the same snapshot.
    pub head: Revision,
    /// The tuples, ascending by key bytes.
    pub tuples: Vec<Tuple>,
    /// Whether tuples follow the last one.
    pub more: bool,
}

/// The record as the rest of Relata sees it. PostgreSQL and SQLite pass one and the same suite.
///
/// No method may be cancelled half way with effect: what owns a connection runs in a task or
/// thread of its own, and dropping the future only drops the answer.
#[async_trait::async_trait]
pub trait Datastore: Send + Sync + std::fmt::Debug + 'static {
    /// A word for logs and `relata doctor`: `postgres` or `sqlite`.
    fn name(&self) -> &'static str;

    /// Creates or upgrades the tables. Several nodes may do so at once.
    async fn migrate(&self) -> Result<(), DatastoreError>;

    /// Answers if the database does, and is migrated, and takes writes.
    async fn ping(&self) -> Result<(), DatastoreError>;

    /// The identity made by the first migration.
    async fn identity(&self) -> Result<Identity, DatastoreError>;

    /// The database's clock.
    async fn now(&self) -> Result<Timestamp, DatastoreError>;

    /// Creates a store.
    async fn create_store(&self, name: &str) -> Result<Store, DatastoreError>;

    /// A live store by id.
    async fn store(&self, id: StoreId) -> Result<Option<Store>, DatastoreError>;

    /// A live store by name.
    async fn store_named(&self, name: &str) -> Result<Option<Store>, DatastoreError>;

    /// Live stores by name, after one, at most `limit`.
    async fn stores(&self, after: Option<&str>, limit: u32) -> Result<Vec<Store>, DatastoreError>;

    /// Marks a store deleted; its rows are removed later.
    async fn delete_store(&self, id: StoreId) -> Result<(), DatastoreError>;

    /// Commits a group of writes of one store in one transaction, decided in order by
    /// [`decide::decide`]; one outcome for each write. The error is the whole group's; it means
    /// that nothing was written, except [`DatastoreError::OutcomeUnknown`].
    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, DatastoreError>;

    /// The heads of several stores in one round trip; deleted stores are absent.
    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError>;

    /// Log entries from revision `from` on, itself included, in order, whole revisions, until
    /// about `limit` changes, at least one entry if there is any. Revision zero has no entry.
    /// [`DatastoreError::Trimmed`] if `from` is below the floor; empty if it is above the head.
    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError>;

    /// Live tuples that match, in key order, after a key, at most `limit`. Expired tuples that
    /// have not been swept are included.
    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError>;

    /// A schema version.
    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError>;

    /// Schema versions, the newest first, older than `before`, at most `limit`.
    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<StoredSchema>, DatastoreError>;

    /// Tells other nodes that these stores have new revisions. A hint: it may be lost.
    async fn notify(&self, stores: &[StoreId]);

    /// Hints from other nodes. Polling is the truth.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<StoreId>;

    /// Ends connections and background tasks; nothing that was acknowledged is lost.
    async fn close(&self);
}
