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
//!           Datastore::settle     if COMMIT was not answered: what became of it
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
mod error;
pub mod faulty;
mod filter;
mod history;
mod keys;
pub mod page;
pub mod postgres;
pub mod sqlite;
mod stored;
pub mod survey;
pub mod traced;
mod upkeep;
mod whole;
mod write;

use std::sync::Arc;

pub use error::{DatastoreError, GroupError};
pub use filter::{Expectation, Precondition, TupleFilter};
pub use history::{History, HistoryQuery, Order};
pub use keys::{KeyDigest, KeyFilter, KeyId, KeysStamp, LiveKey, LiveKeys, NewKey, StoredKey};
pub use stored::{Change, Head, Identity, ListedSchema, LogEntry, SchemaId, Store, StoredSchema, TuplePage};
pub use upkeep::{Purge, PurgeMark, Trim, Upkeep};
pub use write::{Action, Committed, Idempotency, Judge, Judged, Outcome, Update, Write, WriteError};

use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::TupleKey;

/// The record as the rest of Relata sees it. PostgreSQL and SQLite pass one and the same suite.
///
/// A store that does not exist, or has been deleted, is [`DatastoreError::StoreNotFound`] where
/// the answer has no other way to say so.
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

    /// Gives the database a new identity, for one that was copied from another: zookies and
    /// cursors handed out by the original are refused from then on. Servers read the identity
    /// when they start, so none may be running.
    async fn renew_identity(&self) -> Result<Identity, DatastoreError>;

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

    /// Stores an API key, by its digest.
    async fn create_key(&self, key: NewKey) -> Result<StoredKey, DatastoreError>;

    /// Takes a key back for ever; `None` if there is none of that id. The first to do so stays
    /// the one who did.
    async fn revoke_key(&self, id: &KeyId, by: &str) -> Result<Option<StoredKey>, DatastoreError>;

    /// Keys by name and id, after one, at most `limit`.
    async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&(Arc<str>, KeyId)>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, DatastoreError>;

    /// All keys that a call may present, in one snapshot; `None` if they are still those of the
    /// stamp.
    async fn live_keys(&self, known: Option<KeysStamp>) -> Result<Option<LiveKeys>, DatastoreError>;

    /// Commits a group of writes of one store in one transaction, decided in order by
    /// [`decide::decide`]; one outcome for each write. The error is the whole group's.
    async fn commit(&self, store: StoreId, group: Arc<[Write]>) -> Result<Vec<Outcome>, GroupError>;

    /// What became of a commit that was not answered: whether `revision` is `write`'s. One revision
    /// speaks for its whole group, which was one transaction.
    ///
    /// Takes the lock that the commit held, and so waits until that is over: a look without the
    /// lock may find nothing while the COMMIT is still on its way. Once this says no, the write
    /// will never appear, and may be committed again under the same write id.
    ///
    /// # Errors
    /// [`DatastoreError::Trimmed`] if the revision is no longer in the log: then nobody can say.
    async fn settle(
        &self,
        store: StoreId,
        revision: Revision,
        write: WriteId,
    ) -> Result<bool, DatastoreError>;

    /// The heads of several stores in one round trip; deleted stores are absent.
    async fn heads(&self, stores: &[StoreId]) -> Result<Vec<(StoreId, Head)>, DatastoreError>;

    /// Log entries from revision `from` on, itself included, in order, whole revisions, until
    /// about `limit` changes, at least one entry if there is any. Revision zero has no entry.
    /// [`DatastoreError::Trimmed`] if `from` is below the floor; empty if it is above the head.
    async fn log(&self, store: StoreId, from: Revision, limit: u32) -> Result<Vec<LogEntry>, DatastoreError>;

    /// The write ids of the revisions that the log has from `from` on, in order, at most `limit`.
    /// None for revision zero, which no write made, nor for a store that does not exist.
    async fn write_ids(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<(Revision, WriteId)>, DatastoreError>;

    /// Log entries as people ask for them, whole revisions. What has been trimmed is left out.
    async fn history(&self, store: StoreId, query: HistoryQuery) -> Result<History, DatastoreError>;

    /// Live tuples that match, in key order, after a key, at most `limit`. Expired tuples that
    /// have not been swept are included.
    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
    ) -> Result<TuplePage, DatastoreError>;

    /// The key of the live tuple that is `distance` tuples after a key, in key order; the `distance`th
    /// tuple of all if no key is given, and `None` if there are fewer. It reads no tuples, and costs a
    /// small part of what reading them would.
    async fn key_after(
        &self,
        store: StoreId,
        after: Option<&TupleKey>,
        distance: u32,
    ) -> Result<Option<TupleKey>, DatastoreError>;

    /// A schema version.
    async fn schema(&self, store: StoreId, id: SchemaId) -> Result<Option<StoredSchema>, DatastoreError>;

    /// Schema versions, the newest first, older than `before`, at most `limit`.
    async fn schemas(
        &self,
        store: StoreId,
        before: Option<SchemaId>,
        limit: u32,
    ) -> Result<Vec<ListedSchema>, DatastoreError>;

    /// Tells other nodes that these stores have new revisions. A hint: it may be lost.
    async fn notify(&self, stores: &[StoreId]);

    /// Hints from other nodes. Polling is the truth.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<StoreId>;

    /// Whether hints seem to arrive at present. While they do not, it is worth polling more often.
    fn hints_arrive(&self) -> bool {
        true
    }

    /// The same database, for the work that keeps it small.
    fn upkeep(self: Arc<Self>) -> Arc<dyn Upkeep>;

    /// Ends connections and background tasks; nothing that was acknowledged is lost.
    async fn close(&self);
}
