//! From the store a request names to the node's copy of it.

use std::sync::Arc;

use dashmap::DashMap;

use super::node::Node;
use super::status::Error;
use crate::feed::{FeedError, Replica};
use crate::revision::StoreId;

/// Stores that were asked for, by name and by id as the request had it. Only texts that named a
/// store are kept, and each store has two, so the size is bounded by the number of stores.
#[derive(Debug, Default)]
pub struct Registry {
    replicas: DashMap<Box<str>, Arc<Replica>>,
}

impl Registry {
    /// The replica of the store that a text names, loaded if it is the first to be asked.
    pub async fn replica(&self, node: &Node, text: &str) -> Result<Arc<Replica>, Error> {
        // The guard ends with the statement: it must not be held across an await.
        let known = self.replicas.get(text).map(|entry| Arc::clone(&entry));
        if let Some(replica) = known {
            match replica.published() {
                // Deleted; by now the name may belong to another store.
                Err(FeedError::StoreNotFound) => self.forget(replica.store()),
                _ => return Ok(replica),
            }
        }
        Box::pin(self.load(node, text)).await
    }

    async fn load(&self, node: &Node, text: &str) -> Result<Arc<Replica>, Error> {
        let store = node.look_up(text).await?;
        let feed = Arc::clone(node.feed());
        let replica = node.in_background(async move { feed.replica(store.id).await }).await??;
        // An id has many spellings; only the one that Relata prints is kept.
        if text == store.name || text == store.id.to_string() {
            self.replicas.insert(text.into(), Arc::clone(&replica));
        }
        Ok(replica)
    }

    /// The store that a text names, if it has been asked for by it and still exists.
    pub fn known(&self, text: &str) -> Option<StoreId> {
        let replica = self.replicas.get(text).map(|entry| Arc::clone(&entry))?;
        let deleted = matches!(replica.published(), Err(FeedError::StoreNotFound));
        (!deleted).then(|| replica.store())
    }

    /// Forgets a store under all its texts.
    pub fn forget(&self, store: StoreId) {
        self.replicas.retain(|_, replica| replica.store() != store);
    }
}
