//! Schema versions, compiled once and shared by every question that names them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Bytes, Charge};
use super::error::FeedError;
use super::source::Source;
use crate::datastore::{SchemaId, StoredSchema};
use crate::revision::{Revision, StoreId};
use crate::schema::{self, Rules, Schema};

/// The most that versions not in force may take: so small a part of the budget.
const SHARE: usize = 16;

/// Bytes that a schema takes compiled, for each of its text.
const COMPILED: usize = 20;

/// A schema version, ready to answer with. Immutable.
#[derive(Debug)]
pub struct SchemaVersion {
    /// Its identity.
    pub id: SchemaId,
    /// The revision that put it in force.
    pub revision: Revision,
    /// What was uploaded, resolved.
    pub schema: Arc<Schema>,
    /// What the engine runs.
    pub rules: Arc<Rules>,
    /// As stored: the text and the JSON form.
    pub stored: StoredSchema,
}

/// Versions that are not in force and were asked for lately, over all stores: at most so many, and
/// counted against the budget.
#[derive(Debug)]
pub(super) struct Schemas {
    capacity: usize,
    kept: Mutex<Kept>,
    charge: Charge,
}

#[derive(Debug, Default)]
struct Kept {
    versions: HashMap<(StoreId, SchemaId), (u64, Arc<SchemaVersion>)>,
    /// Counts uses; the version with the lowest count goes first.
    uses: u64,
    /// Counts forks. What was read before one may be of the branch that was left.
    forks: u64,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.versions.values().map(|(_, version)| version.bytes()).sum()
    }
}

impl SchemaVersion {
    /// About what it takes on the heap.
    pub(super) fn bytes(&self) -> usize {
        COMPILED * self.stored.text.len() + self.stored.text.len() + self.stored.json.len()
    }
}

impl Schemas {
    pub(super) fn new(capacity: usize, budget: &Arc<Budget>) -> Self {
        Self { capacity, kept: Mutex::default(), charge: budget.shared_charge() }
    }

    /// A version of a store's schema; `None`: the store has none of that id. It is kept for whoever
    /// asks next.
    pub(super) async fn version(
        &self,
        source: &Source,
        store: StoreId,
        id: SchemaId,
    ) -> Result<Option<Arc<SchemaVersion>>, FeedError> {
        if let Some(version) = self.kept(store, id) {
            return Ok(Some(version));
        }
        let forks = self.lock().forks;
        let version = read(source, store, id).await?;
        if let Some(version) = &version {
            self.keep(store, version, forks);
        }
        Ok(version)
    }

    /// The version in force, if one is. Whoever follows the store holds it for as long as it is, so
    /// it is not kept here, where it would be counted a second time.
    pub(super) async fn in_force(
        &self,
        source: &Source,
        store: StoreId,
        id: Option<SchemaId>,
    ) -> Result<Option<Arc<SchemaVersion>>, FeedError> {
        let Some(id) = id else { return Ok(None) };
        let version = match self.kept(store, id) {
            Some(version) => Some(version),
            None => read(source, store, id).await?,
        };
        match version {
            Some(version) => Ok(Some(version)),
            None => Err(FeedError::Schema { schema: id, reason: "it is not stored".into() }),
        }
    }

    /// Forgets the versions that a store's history has no longer: those put in force after a
    /// revision. Two branches may even have given the same id to different versions.
    pub(super) fn forget_after(&self, store: StoreId, revision: Revision) {
        let mut kept = self.lock();
        kept.forks += 1;
        kept.versions.retain(|(of, _), (_, version)| *of != store || version.revision <= revision);
        self.count(&kept);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, store: StoreId, id: SchemaId) -> Option<Arc<SchemaVersion>> {
        let mut kept = self.lock();
        kept.uses += 1;
        let now = kept.uses;
        let (last_use, version) = kept.versions.get_mut(&(store, id))?;
        *last_use = now;
        Some(Arc::clone(version))
    }

    /// Keeps a version that was read when there had been so many forks.
    fn keep(&self, store: StoreId, version: &Arc<SchemaVersion>, forks: u64) {
        let mut kept = self.lock();
        if kept.forks != forks {
            return;
        }
        kept.uses += 1;
        let now = kept.uses;
        kept.versions.insert((store, version.id), (now, Arc::clone(version)));
        while kept.versions.len() > self.capacity.max(1) || kept.bytes() > self.charge.most() / SHARE {
            let oldest = kept.versions.iter().min_by_key(|(_, (last_use, _))| *last_use).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            kept.versions.remove(&oldest);
        }
        self.count(&kept);
    }

    fn count(&self, kept: &Kept) {
        self.charge.set(Bytes { schemas: kept.bytes(), ..Bytes::default() });
    }
}

async fn read(
    source: &Source,
    store: StoreId,
    id: SchemaId,
) -> Result<Option<Arc<SchemaVersion>>, FeedError> {
    let Some(stored) = source.ask(source.datastore.schema(store, id)).await? else { return Ok(None) };
    // A schema may be a mebibyte long: too much work for a thread that others wait for.
    let version = tokio::task::spawn_blocking(move || compile(stored))
        .await
        .map_err(|_| FeedError::Schema { schema: id, reason: "compiling it failed".into() })?;
    Ok(Some(Arc::new(version?)))
}

/// What was accepted once is compiled again, so a mistake here is a difference between versions of
/// Relata, not the user's.
fn compile(stored: StoredSchema) -> Result<SchemaVersion, FeedError> {
    let schema = schema::parse(&stored.text)
        .map_err(|mistakes| FeedError::Schema { schema: stored.id, reason: mistakes.to_string().into() })?;
    Ok(SchemaVersion {
        id: stored.id,
        revision: stored.revision,
        rules: Arc::new(Rules::compile(&schema)),
        schema: Arc::new(schema),
        stored,
    })
}
