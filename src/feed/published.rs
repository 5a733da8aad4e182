//! A store at one revision, as requests see it: tuples, schema and recent past as one value.

use std::sync::Arc;

use super::error::FeedError;
use super::residence::Residence;
use super::ring::Ring;
use super::schemas::SchemaVersion;
use super::settings::FeedSettings;
use crate::datastore::{LogEntry, SchemaId};
use crate::graph::{Binding, QuestionView, Snapshot};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;

/// A store at the newest revision a node has. Frozen: the next revision is another value.
#[derive(Debug)]
pub struct Published {
    /// Which store.
    pub store: StoreId,
    /// Which revision.
    pub revision: Revision,
    /// Of which history.
    pub write_id: WriteId,
    /// When it was committed, by the database's clock.
    pub committed_at: Timestamp,
    /// Its tuples.
    pub snapshot: Snapshot,
    /// The schema in force; `None` before the first one.
    pub schema: Option<Arc<SchemaVersion>>,
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) ring: Ring,
    pub(super) residence: Arc<Residence>,
    pub(super) settings: Arc<FeedSettings>,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.residence.bury(std::mem::take(&mut self.ring));
    }
}

impl Published {
    /// The tag of a revision's write id, as zookies carry it; `None` if the revision is newer than
    /// this, or too old to be known in memory.
    #[must_use]
    pub fn write_tag(&self, revision: Revision) -> Option<[u8; 8]> {
        self.ring.tag(revision)
    }

    /// The next log entries after a revision, oldest first, with about so many changes; `None`: they
    /// do not lie in memory, read them from the database. Who keeps them keeps them in memory for
    /// longer than the store does.
    #[must_use]
    pub fn changes_after(&self, revision: Revision, changes: usize) -> Option<Vec<Arc<LogEntry>>> {
        let entries = self.ring.after(revision)?;
        let enough = entries.scan(0, |taken, entry| {
            let next = (*taken < changes).then(|| Arc::clone(entry));
            // A change of schema is one without tuples.
            *taken += entry.changes.len().max(1);
            next
        });
        Some(enough.collect())
    }

    /// The schema in force at a revision.
    ///
    /// # Errors
    /// [`FeedError::OutOfRange`] if the revision is not within memory.
    pub fn schema_at(&self, revision: Revision) -> Result<Option<SchemaId>, FeedError> {
        self.ring.schema_at(revision)
    }

    /// The tuples of this revision under a schema, usually [`Published::schema`].
    #[must_use]
    pub fn view(&self, schema: &SchemaVersion, now: Timestamp) -> QuestionView {
        let binding = match &self.binding {
            Some(binding) if Arc::ptr_eq(binding.rules(), &schema.rules) => Arc::clone(binding),
            _ => Arc::new(Binding::new(Arc::clone(&schema.rules), &self.snapshot)),
        };
        QuestionView::new(self.snapshot.clone(), binding, now)
    }
}

/// A store at a revision, the newest or an earlier one, with the schema in force there.
#[derive(Debug, Clone)]
pub struct At {
    /// Which revision.
    pub revision: Revision,
    /// The tag of its write id, as zookies carry it.
    pub write_tag: [u8; 8],
    /// The schema in force at it.
    pub schema: Option<Arc<SchemaVersion>>,
    pub(super) published: Arc<Published>,
    /// What to take back, newest first.
    pub(super) undone: Vec<Arc<LogEntry>>,
}

impl From<Arc<Published>> for At {
    /// The revision that is published.
    fn from(published: Arc<Published>) -> Self {
        Self {
            revision: published.revision,
            write_tag: published.write_id.tag(),
            schema: published.schema.clone(),
            undone: Vec::new(),
            published,
        }
    }
}

impl At {
    /// The tuples of the revision under a schema, usually [`At::schema`].
    #[must_use]
    pub fn view(&self, schema: &SchemaVersion, now: Timestamp) -> QuestionView {
        let changes = self.undone.iter().flat_map(|entry| entry.changes.iter().rev());
        self.published
            .view(schema, now)
            .with_undo(changes.map(|change| (&change.key, change.before.as_ref())))
    }

    /// The published state it is seen from.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }
}
