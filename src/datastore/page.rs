//! Pages of an earlier revision: the newest page with the changes since then undone.
//!
//! The database holds the newest tuples only. A change carries the state before it, so what a
//! tuple was at revision z is what the *first* change after z found there; without such a change
//! it is what it is now. The log may be read further than the page was: a change after the page
//! found what the page shows.
//!
//! ```text
//! revision       z ······· head of the page ······· end of the log read
//! tuple a                  written                             at z: absent (before: none)
//! tuple b                               written                at z: as in the page
//! tuple c  no change                                           at z: as in the page
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Datastore, DatastoreError, TupleFilter, TuplePage};
use crate::revision::{Revision, StoreId};
use crate::tuple::{Attributes, Tuple, TupleKey};

/// Changes fetched from the log at once.
const LOG_CHUNK: u32 = 1_000;

/// Why a page of an earlier revision cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum PageError {
    /// The revision is newer than the database's newest.
    #[error("revision {at} does not exist yet, the newest is {head}")]
    Ahead { at: Revision, head: Revision },
    /// More has changed since than is undone.
    #[error("revision {at} is out of reach: more than {reach} changes have been made since")]
    OutOfReach { at: Revision, reach: usize },
    /// The database failed, or the log has been trimmed.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
}

/// Tuples of one store that match a filter, as they were at one revision, page by page.
#[derive(Debug)]
pub struct PinnedReader {
    datastore: Arc<dyn Datastore>,
    store: StoreId,
    filter: TupleFilter,
    at: Revision,
    reach: usize,
    /// What matching tuples that have changed since `at` carried then.
    undo: BTreeMap<TupleKey, Option<Attributes>>,
    /// How far `undo` goes.
    undone_to: Revision,
    /// How many changes that took, matching or not.
    changes: usize,
}

impl PinnedReader {
    /// Reads revision `at`, undoing at most `reach` changes.
    #[must_use]
    pub fn new(
        datastore: Arc<dyn Datastore>,
        store: StoreId,
        at: Revision,
        filter: TupleFilter,
        reach: usize,
    ) -> Self {
        Self { datastore, store, filter, at, reach, undo: BTreeMap::new(), undone_to: at, changes: 0 }
    }

    /// The tuples after a key, at most `limit`, exactly as they were. The page's head is the
    /// revision asked for.
    ///
    /// # Errors
    /// [`PageError`]; [`DatastoreError::Trimmed`] in it if the log does not reach back.
    pub async fn page(&mut self, after: Option<&TupleKey>, limit: u32) -> Result<TuplePage, PageError> {
        let mut tuples: Vec<Tuple> = Vec::new();
        let mut from = after.cloned();
        loop {
            // One more than fits shows that there is more, usually in one round.
            let ask = limit.saturating_add(1);
            let page = self.datastore.tuples(self.store, &self.filter, from.as_ref(), ask).await?;
            self.undo_to(page.head).await?;
            // The page speaks for every key up to its last tuple, or for all that follow.
            let end = if page.more { page.tuples.last().map(|tuple| tuple.key.clone()) } else { None };
            tuples.extend(self.restore(page.tuples, from.as_ref(), end.as_ref()));
            if tuples.len() > limit as usize || end.is_none() {
                let more = tuples.len() > limit as usize;
                tuples.truncate(limit as usize);
                return Ok(TuplePage { head: self.at, tuples, more });
            }
            from = end;
        }
    }

    /// Learns what changed up to `head`.
    async fn undo_to(&mut self, head: Revision) -> Result<(), PageError> {
        if head < self.at {
            return Err(PageError::Ahead { at: self.at, head });
        }
        while self.undone_to < head {
            let entries = self.datastore.log(self.store, self.undone_to.next(), LOG_CHUNK).await?;
            let end = entries.last().map(|entry| entry.revision);
            let changes = entries.into_iter().flat_map(|entry| entry.changes);
            for change in changes {
                self.changes += 1;
                if self.filter.matches(&change.key) {
                    self.undo.entry(change.key).or_insert(change.before);
                }
            }
            if self.changes > self.reach {
                return Err(PageError::OutOfReach { at: self.at, reach: self.reach });
            }
            let missing = || DatastoreError::Corrupt(format!("the changelog ends before revision {head}"));
            self.undone_to = end.ok_or_else(missing)?;
        }
        Ok(())
    }

    /// The tuples of the key range `(from, end]` as they were at `at`, from what they are now.
    fn restore(&self, now: Vec<Tuple>, from: Option<&TupleKey>, end: Option<&TupleKey>) -> Vec<Tuple> {
        let range =
            (from.map_or(Bound::Unbounded, Bound::Excluded), end.map_or(Bound::Unbounded, Bound::Included));
        let mut restored: Vec<Tuple> =
            now.into_iter().filter(|tuple| !self.undo.contains_key(&tuple.key)).collect();
        for (key, before) in self.undo.range::<TupleKey, _>(range) {
            if let Some(attributes) = before {
                restored.push(Tuple { key: key.clone(), attributes: attributes.clone() });
            }
        }
        restored.sort_by(|a, b| a.key.cmp(&b.key));
        restored
    }
}
