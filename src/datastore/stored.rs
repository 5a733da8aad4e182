//! What the record holds: stores, schemas, heads, the changelog, pages of tuples.

use std::sync::Arc;

use crate::revision::{DatabaseId, Revision, StoreId, WriteId};
use crate::time::Timestamp;
use crate::tuple::{Attributes, Tuple, TupleKey};

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

/// A version of a schema without what it says, which may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSchema {
    /// Its identity.
    pub id: SchemaId,
    /// The revision that put it in force.
    pub revision: Revision,
    /// When, by the database's clock.
    pub written_at: Timestamp,
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

/// A page of tuples in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuplePage {
    /// The head when the page was read, in the same snapshot.
    pub head: Revision,
    /// The write that made it; nil before the first write. A database that failed over may have
    /// given the same number to another one.
    pub write_id: WriteId,
    /// The tuples, ascending by key bytes.
    pub tuples: Vec<Tuple>,
    /// Whether tuples follow the last one.
    pub more: bool,
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
