//! What keeps the record from growing without end: work that no request waits for.
//!
//! Each method does a bounded piece of a duty, so that writers get their turn between two, and
//! does no harm if another node does the same at that moment. What is left can always be found
//! again in the database alone: work that was broken off is taken up by whoever comes next.

use std::time::Duration;

use uuid::Uuid;

use super::DatastoreError;
use crate::revision::{Revision, StoreId};
use crate::tuple::TupleKey;

/// The upkeep of a database. [`crate::upkeep`] decides what is done when.
#[async_trait::async_trait]
pub trait Upkeep: Send + Sync + std::fmt::Debug {
    /// Takes or prolongs the lease of a duty for `term`, by the database's clock; whether
    /// `holder` has it now.
    async fn take_lease(&self, duty: &str, holder: Uuid, term: Duration) -> Result<bool, DatastoreError>;

    /// Gives a lease back, so that another node need not wait for its end.
    async fn return_lease(&self, duty: &str, holder: Uuid) -> Result<(), DatastoreError>;

    /// Live stores that hold a tuple which has expired by the database's clock, in order of their
    /// ids, after one, at most `limit`.
    async fn stores_with_expired(
        &self,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError>;

    /// Tuples of a store that have expired by the database's clock, those that did so first in
    /// front, at most `limit`. Read without a lock: [`super::Update::Expire`] judges each again.
    async fn expired(&self, store: StoreId, limit: u32) -> Result<Vec<TupleKey>, DatastoreError>;

    /// Deleted stores whose rows are still there, in order of their ids, after one, at most
    /// `limit`.
    async fn deleted_stores(
        &self,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError>;

    /// Removes at most `limit` rows of a deleted store, and in the end the store itself. A live
    /// store is left alone.
    async fn purge(&self, store: StoreId, from: PurgeMark, limit: u32) -> Result<Purge, DatastoreError>;

    /// Live stores whose log begins with a revision older than `age`, by the database's clock,
    /// that is not their newest; in order of their ids, after one, at most `limit`.
    async fn stores_with_old_log(
        &self,
        age: Duration,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError>;

    /// Removes revisions older than `age` from the beginning of a store's log, whole ones, until
    /// about `limit` rows, and moves its floor above them, under the lock that writers take. The
    /// newest revision always stays.
    async fn trim(&self, store: StoreId, age: Duration, limit: u32) -> Result<Trim, DatastoreError>;

    /// Forgets idempotency keys that need not be remembered any longer, of any store, at most
    /// `limit`; how many.
    async fn forget_keys(&self, limit: u32) -> Result<u64, DatastoreError>;
}

/// What one step of a purge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Rows removed.
    pub rows: u64,
    /// Where to go on; `None`: nothing is left of the store.
    pub next: Option<PurgeMark>,
}

/// Where a purge stands. One that begins anew passes over what is gone already, which takes
/// longer and changes nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeMark {
    /// In the tuples, after this one.
    Tuples(Option<TupleKey>),
    /// In the changes, at this revision.
    Changes(Revision),
    /// In the revisions, at this one.
    Revisions(Revision),
    /// In what is little: idempotency keys, schemas, and the store itself.
    Rest,
}

impl PurgeMark {
    /// The beginning.
    pub const START: Self = Self::Tuples(None);
}

/// What one step of trimming did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trim {
    /// Revisions removed.
    pub revisions: u64,
    /// Changes removed with them.
    pub changes: u64,
    /// Whether there may be more to remove.
    pub more: bool,
}
