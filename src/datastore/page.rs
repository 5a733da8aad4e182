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

use super::{Datastore, DatastoreError, TupleFilter};
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
    /// The database failed over and has another write at this revision.
    #[error("revision {at} is of a history that the database has left")]
    Lost { at: Revision },
    /// More has changed since than is undone.
    #[error("revision {at} is out of reach: more than {reach} changes have been made since")]
    OutOfReach { at: Revision, reach: usize },
    /// The database failed, or the log has been trimmed.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
}

/// The first bytes of a write id, as zookies and cursors carry them.
type WriteTag = [u8; 8];

/// A page of tuples as they were at the revision that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedPage {
    /// The tuples, ascending by key bytes.
    pub tuples: Vec<Tuple>,
    /// Whether tuples follow the last one.
    pub more: bool,
}

/// Tuples of one store that match a filter, as they were at one revision, page by page.
#[derive(Debug)]
pub struct PinnedReader {
    datastore: Arc<dyn Datastore>,
    store: StoreId,
    filter: TupleFilter,
    at: Revision,
    /// By which writes the revisions from `at` on were made, as far as `undo` goes.
    made_by: Vec<WriteTag>,
    reach: usize,
    /// What matching tuples that have changed since `at` carried then.
    undo: BTreeMap<TupleKey, Option<Attributes>>,
    /// How many changes that took, matching or not.
    changes: usize,
}

impl PinnedReader {
    /// Reads revision `at` of the history in which a certain write made it, undoing at most `reach`
    /// changes.
    #[must_use]
    pub fn new(
        datastore: Arc<dyn Datastore>,
        store: StoreId,
        at: (Revision, WriteTag),
        filter: TupleFilter,
        reach: usize,
    ) -> Self {
        let (at, write) = at;
        Self { datastore, store, filter, at, made_by: vec![write], reach, undo: BTreeMap::new(), changes: 0 }
    }

    /// The tuples after a key, at most `limit`, exactly as they were.
    ///
    /// # Errors
    /// [`PageError`]; [`DatastoreError::Trimmed`] in it if the log does not reach back.
    pub async fn page(&mut self, after: Option<&TupleKey>, limit: u32) -> Result<PinnedPage, PageError> {
        let mut tuples: Vec<Tuple> = Vec::new();
        let mut from = after.cloned();
        loop {
            // One more than fits shows that there is more, usually in one round.
            let ask = limit.saturating_add(1);
            let page = self.datastore.tuples(self.store, &self.filter, from.as_ref(), ask).await?;
            self.undo_to(page.head, page.write_id.tag()).await?;
            // The page speaks for every key up to its last tuple, or for all that follow.
            let end = if page.more { page.tuples.last().map(|tuple| tuple.key.clone()) } else { None };
            tuples.extend(self.restore(page.tuples, from.as_ref(), end.as_ref()));
            if tuples.len() > limit as usize || end.is_none() {
                let more = tuples.len() > limit as usize;
                tuples.truncate(limit as usize);
                return Ok(PinnedPage { tuples, more });
            }
            from = end;
        }
    }

    /// Learns what changed up to the head of a page, which a certain write made.
    ///
    /// Page and log are read one after the other, and the database may be replaced by one that lacks
    /// its last writes before, between and after. So both must lead to the same write at the page's
    /// head, and the log must begin after the write that made the last revision known here: then
    /// all three are of one history.
    async fn undo_to(&mut self, head: Revision, write: WriteTag) -> Result<(), PageError> {
        if head < self.at {
            return Err(PageError::Ahead { at: self.at, head });
        }
        if self.undone_to() < head {
            let known = self.undone_to();
            while self.undone_to() < head {
                self.undo_more(head).await?;
            }
            self.meet(known).await?;
        }
        match self.write_at(head) {
            Some(known) if known == write => Ok(()),
            _ => Err(PageError::Lost { at: self.at }),
        }
    }

    /// Reads the next part of the log.
    async fn undo_more(&mut self, head: Revision) -> Result<(), PageError> {
        let entries = self.datastore.log(self.store, self.undone_to().next(), LOG_CHUNK).await?;
        if entries.is_empty() {
            // The page had more a moment ago.
            return Err(PageError::Lost { at: self.at });
        }
        for entry in entries {
            if entry.revision != self.undone_to().next() {
                let missing = format!("the changelog lacks revisions before {head}");
                return Err(DatastoreError::Corrupt(missing).into());
            }
            self.made_by.push(entry.write_id.tag());
            for change in entry.changes {
                self.changes += 1;
                if self.filter.matches(&change.key) {
                    self.undo.entry(change.key).or_insert(change.before);
                }
            }
        }
        if self.changes > self.reach {
            return Err(PageError::OutOfReach { at: self.at, reach: self.reach });
        }
        Ok(())
    }

    /// Sees that the database has the write at a known revision. One that has been trimmed is taken
    /// on trust, and so is the beginning of all histories.
    async fn meet(&self, known: Revision) -> Result<(), PageError> {
        if known == Revision::ZERO {
            return Ok(());
        }
        let found = self.datastore.write_ids(self.store, known, 1).await?;
        match found.first() {
            Some((revision, _)) if *revision > known => Ok(()),
            Some((_, write_id)) if Some(write_id.tag()) == self.write_at(known) => Ok(()),
            _ => Err(PageError::Lost { at: self.at }),
        }
    }

    /// How far `undo` goes.
    fn undone_to(&self) -> Revision {
        Revision(self.at.0 + self.made_by.len() as u64 - 1)
    }

    /// By which write a revision was made, from `at` on and as far as `undo` goes.
    fn write_at(&self, revision: Revision) -> Option<WriteTag> {
        let index = usize::try_from(revision.0.checked_sub(self.at.0)?).ok()?;
        self.made_by.get(index).copied()
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
