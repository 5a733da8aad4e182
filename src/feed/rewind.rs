//! Going back to where the database's history and this node's part.
//!
//! ```text
//!   in memory    … 98 ── 99 ── 100 ── 101 ── 102 ── 103      lost: the database has not these
//!                               │
//!   database     … 98 ── 99 ── 100 ── 101'── 102'            the fork is 100
//! ```
//!
//! Histories that part once stay apart, so the fork is found by halving: the newest revision of
//! the ring that the database made by the same write. What came after it is taken back, newest
//! first, by the states before; then the store is followed from there as always. Nothing depends
//! on the search being right: following begins with reading the fork's own revision again, and if
//! that is no longer the same write, because the database changed once more meanwhile, the search
//! begins anew.

use std::sync::Arc;

use super::error::FeedError;
use super::follower::{Follower, Position};
use super::ring::Tags;
use super::schemas::SchemaVersion;
use super::shared::Shared;
use crate::datastore::Head;
use crate::revision::{Revision, StoreId, WriteId};

/// Where to go back to, and what is in force there.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) at: Position,
    pub(super) schema: Option<Arc<SchemaVersion>>,
}

impl Shared {
    /// The newest state that a follower can go back to and that the database has; `None` if there
    /// is none: the histories part before the ring begins, or before the log does.
    pub(super) async fn fork(&self, follower: &Follower) -> Result<Option<Fork>, FeedError> {
        let store = follower.store;
        let head = self.head(store).await?;
        let Some(revision) = self.newest_shared(follower, head).await? else { return Ok(None) };
        let Some(at) = follower.position_at(revision, head.committed_at) else { return Ok(None) };
        // A schema of the lost branch may have the id of one of the new branch.
        self.schemas.forget_after(store, revision);
        let schema = follower.ring.schema_at(revision)?;
        let schema = self.schemas.in_force(&self.source, store, schema).await?;
        Ok(Some(Fork { at, schema }))
    }

    /// By steps that double from the head downwards, since forks are usually young, and then by
    /// halving. Each step is a look at a primary key.
    async fn newest_shared(&self, follower: &Follower, head: Head) -> Result<Option<Revision>, FeedError> {
        let ring = &follower.ring;
        // What the log no longer has cannot be compared.
        let oldest = ring.before().max(Revision(head.floor.0.saturating_sub(1)));
        let mut low = oldest.0;
        let mut high = ring.newest().0.min(head.revision.0);
        let mut step = 1;
        // All up to `low` is shared, or not known to be; nothing after `high` is.
        while low < high {
            let middle =
                if step == 0 { low + (high - low).div_ceil(2) } else { high.saturating_sub(step - 1) };
            let middle = Revision(middle.max(low + 1));
            if self.is_shared(follower, middle).await? {
                low = middle.0;
                step = 0;
            } else {
                high = middle.0 - 1;
                step *= 2;
            }
        }
        let found = Revision(low);
        // Every history has revision zero in common, and no other that was not compared.
        let compared = found > oldest || found == Revision::ZERO;
        Ok(compared.then_some(found))
    }

    async fn is_shared(&self, follower: &Follower, revision: Revision) -> Result<bool, FeedError> {
        let held = follower.ring.write_id(revision);
        Ok(held.is_some() && held == self.source.write_id(follower.store, revision).await?)
    }

    /// The head of one store.
    async fn head(&self, store: StoreId) -> Result<Head, FeedError> {
        let heads = self.source.ask(self.source.datastore.heads(&[store])).await?;
        let head = heads.into_iter().find_map(|(found, head)| (found == store).then_some(head));
        head.ok_or(FeedError::StoreNotFound)
    }
}

/// Why what came after a fork could not be taken back. The follower is of no further use.
#[derive(Debug, thiserror::Error)]
pub(super) enum UndoError {
    /// The graph does not hold what the log says it should.
    #[error("the graph does not hold what revision {0} left")]
    Mismatch(Revision),
    /// The fork is not in the ring.
    #[error("revision {0} is not in memory")]
    NotHeld(Revision),
    /// A state before does not fit into the graph.
    #[error(transparent)]
    Full(#[from] crate::graph::IndexFull),
}

impl Follower {
    /// Takes back everything after a fork, newest first. Returns the tags of what is lost, the
    /// oldest first.
    pub(super) fn rewind(&mut self, fork: Fork) -> Result<Tags, UndoError> {
        let Fork { at, schema } = fork;
        let lost = self.ring.after(at.revision).ok_or(UndoError::NotHeld(at.revision))?;
        for entry in lost.rev() {
            for change in entry.changes.iter().rev() {
                // A tuple that is not as its revision left it would not be put right by going on.
                if self.index.tuple(&change.key) != change.after {
                    return Err(UndoError::Mismatch(entry.revision));
                }
                self.index.apply(&change.key, change.before.as_ref())?;
            }
        }
        let tags = self.ring.cut(at.revision);
        self.position = at;
        self.schema = schema;
        Ok(tags)
    }

    /// The position of a revision of the ring; `created_at` stands in for the moment of revision
    /// zero, which no write made.
    fn position_at(&self, revision: Revision, created_at: crate::time::Timestamp) -> Option<Position> {
        if revision == Revision::ZERO {
            return Some(Position { revision, write_id: WriteId::NIL, committed_at: created_at });
        }
        self.ring.entry(revision).map(|entry| Position::of(entry))
    }
}
