//! From the store a request names to the node's copy of it.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::time::timeout_at;

use super::deadline::Deadline;
use super::node::Node;
use super::status::Error;
use crate::feed::{FeedError, Replica};
use crate::revision::StoreId;

/// Texts kept before those of stores that are not in memory are forgotten.
const MOST: usize = 20_000;

/// Stores that were asked for, by name and by id as the request had it. Only texts that named a
/// store are kept, and each store has two, so the size is bounded by the stores in memory or by a
/// constant.
#[derive(Debug, Default)]
pub struct Registry {
    replicas: DashMap<Box<str>, Arc<Replica>>,
}

impl Registry {
    /// The replica of the store that a text names, loaded if it is not in memory. A little of the
    /// deadline is left for saying that it is being loaded.
    pub async fn replica(&self, node: &Node, text: &str, deadline: Deadline) -> Result<Arc<Replica>, Error> {
        // The guard ends with the statement: it must not be held across an await.
        let known = self.replicas.get(text).map(|entry| Arc::clone(&entry));
        let store = match known {
            None => None,
            Some(replica) => match replica.published() {
                // Deleted; by now the name may belong to another store.
                Err(FeedError::StoreNotFound) => {
                    self.forget(replica.store());
                    None
                }
                Err(FeedError::Evicted | FeedError::TooLarge { .. }) => Some(replica.store()),
                _ => {
                    replica.touch();
                    return Ok(replica);
                }
            },
        };
        Box::pin(self.load(node, text, store, deadline)).await
    }

    async fn load(
        &self,
        node: &Node,
        text: &str,
        known: Option<StoreId>,
        deadline: Deadline,
    ) -> Result<Arc<Replica>, Error> {
        if let Some(store) = known {
            match resident(node, store, deadline).await {
                Err(Error::Feed(FeedError::StoreNotFound)) => self.forget(store),
                outcome => {
                    let replica = outcome?;
                    self.keep(text, &replica);
                    return Ok(replica);
                }
            }
        }
        let store = node.look_up(text).await?;
        if node.config().pinned_stores.contains(&store.name) {
            node.feed().pin(store.id);
        }
        let replica = resident(node, store.id, deadline).await?;
        // An id has many spellings; only the one that Relata prints is kept.
        if text == store.name || text == store.id.to_string() {
            self.keep(text, &replica);
        }
        Ok(replica)
    }

    fn keep(&self, text: &str, replica: &Arc<Replica>) {
        self.replicas.insert(text.into(), Arc::clone(replica));
        if self.replicas.len() > MOST {
            self.replicas.retain(|_, replica| replica.published().is_ok());
        }
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

/// A store's replica once it is in memory.
async fn resident(node: &Node, store: StoreId, deadline: Deadline) -> Result<Arc<Replica>, Error> {
    let feed = Arc::clone(node.feed());
    let loading = node.in_background(async move { feed.replica(store).await });
    match timeout_at(deadline.early(), loading).await {
        Ok(replica) => Ok(replica??),
        Err(_) => Err(Error::Feed(FeedError::Loading)),
    }
}
