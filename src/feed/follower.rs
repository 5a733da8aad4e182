//! The one that changes a store's graph: applies log entries in order, and checks that they
//! continue the history it holds.

use std::sync::Arc;

use super::budget::Bytes;
use super::error::FeedError;
use super::published::Published;
use super::residence::Residence;
use super::ring::Ring;
use super::schemas::SchemaVersion;
use super::settings::FeedSettings;
use crate::datastore::LogEntry;
use crate::graph::{Binding, Index};
use crate::revision::{Revision, StoreId, WriteId};
use crate::time::Timestamp;

/// What a store takes that is the same for every one: the replica, its places in maps, empty trees.
const OVERHEAD: usize = 8 << 10;

/// A revision of one history, and when it was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) revision: Revision,
    pub(super) write_id: WriteId,
    pub(super) committed_at: Timestamp,
}

impl Position {
    /// The position after an entry.
    pub(super) fn of(entry: &LogEntry) -> Self {
        Self { revision: entry.revision, write_id: entry.write_id, committed_at: entry.committed_at }
    }
}

/// How a changelog fails to continue a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Break {
    /// The position is not part of the history: it forked, or lost its end.
    #[error("history diverged at revision {}: here {}, in the database {}", .held.revision, .held.write_id,
        .found.map_or_else(|| "nothing".to_owned(), |found| found.to_string()))]
    Diverged { held: Position, found: Option<WriteId> },
    /// Revisions are missing or out of order.
    #[error("the changelog jumps: revision {expected} should follow, {found} does")]
    Gap { expected: Revision, found: Revision },
}

/// The entries after a position, from entries read with the position's own revision first.
///
/// The position's revision is read again each time to see that it is still the same write: a
/// number alone would not tell a restored or promoted database from the one followed so far.
pub(super) fn continuation(held: Position, mut entries: Vec<LogEntry>) -> Result<Vec<LogEntry>, Break> {
    if held.revision > Revision::ZERO {
        let found = entries.first().filter(|first| first.revision == held.revision);
        let found = found.map(|first| first.write_id);
        if found != Some(held.write_id) {
            return Err(Break::Diverged { held, found });
        }
        entries.remove(0);
    }
    let mut expected = held.revision.next();
    for entry in &entries {
        if entry.revision != expected {
            return Err(Break::Gap { expected, found: entry.revision });
        }
        expected = expected.next();
    }
    Ok(entries)
}

/// A store's graph and where in the changelog it stands. Only ever touched by the one task that
/// follows the store.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) store: StoreId,
    pub(super) position: Position,
    pub(super) index: Index,
    pub(super) ring: Ring,
    pub(super) schema: Option<Arc<SchemaVersion>>,
    binding: Option<Arc<Binding>>,
    pub(super) residence: Arc<Residence>,
    settings: Arc<FeedSettings>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.residence.bury(std::mem::take(&mut self.ring));
    }
}

impl Follower {
    /// Takes over a loaded graph.
    pub(super) fn new(
        store: StoreId,
        position: Position,
        index: Index,
        ring: Ring,
        schema: Option<Arc<SchemaVersion>>,
        residence: Arc<Residence>,
        settings: Arc<FeedSettings>,
    ) -> Self {
        Self { store, position, index, ring, schema, binding: None, residence, settings }
    }

    /// What the store takes in memory.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes {
            graph: self.index.bytes() + OVERHEAD,
            ring: self.ring.bytes(),
            schemas: self.schema.as_ref().map_or(0, |schema| schema.bytes()),
        }
    }

    /// Applies entries that continue the position. `schema` is the one in force after them.
    ///
    /// # Errors
    /// If the graph is full. The follower must then be dropped: it stands between revisions.
    pub(super) fn apply(
        &mut self,
        entries: Vec<LogEntry>,
        schema: Option<Arc<SchemaVersion>>,
    ) -> Result<(), FeedError> {
        for entry in entries {
            for change in &entry.changes {
                self.index.apply(&change.key, change.after.as_ref())?;
            }
            self.position = Position::of(&entry);
            self.ring.push(entry, &self.settings);
        }
        self.schema = schema;
        Ok(())
    }

    /// The store as it stands, frozen.
    pub(super) fn publish(&mut self) -> Arc<Published> {
        let snapshot = self.index.snapshot();
        self.binding = match (&self.schema, self.binding.take()) {
            (Some(schema), Some(binding))
                if Arc::ptr_eq(binding.rules(), &schema.rules) && binding.fits(&snapshot) =>
            {
                Some(binding)
            }
            (Some(schema), _) => Some(Arc::new(Binding::new(Arc::clone(&schema.rules), &snapshot))),
            (None, _) => None,
        };
        Arc::new(Published {
            store: self.store,
            revision: self.position.revision,
            write_id: self.position.write_id,
            committed_at: self.position.committed_at,
            snapshot,
            schema: self.schema.clone(),
            binding: self.binding.clone(),
            ring: self.ring.clone(),
            residence: Arc::clone(&self.residence),
            settings: Arc::clone(&self.settings),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn entry(revision: u64, write: u128) -> LogEntry {
        LogEntry {
            revision: Revision(revision),
            write_id: WriteId(Uuid::from_u128(write)),
            committed_at: Timestamp::from_micros(0),
            principal: "".into(),
            note: "".into(),
            schema: None,
            changes: Vec::new(),
        }
    }

    fn check(held: (u64, u128), entries: &[(u64, u128)], expected: Result<&[u64], &str>) {
        let held = Position::of(&entry(held.0, held.1));
        let entries = entries.iter().map(|(revision, write)| entry(*revision, *write)).collect();
        let found = continuation(held, entries)
            .map(|fresh| fresh.iter().map(|entry| entry.revision.0).collect::<Vec<_>>())
            .map_err(|broken| broken.to_string());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn only_what_follows_the_same_write_continues_it() {
        check((0, 0), &[], Ok(&[]));
        check((0, 0), &[(1, 1), (2, 2)], Ok(&[1, 2]));
        check((5, 50), &[(5, 50)], Ok(&[]));
        check((5, 50), &[(5, 50), (6, 60), (7, 70)], Ok(&[6, 7]));
    }

    #[test]
    fn another_write_of_the_same_number_is_another_history() {
        check((5, 50), &[(5, 51), (6, 60)], Err("diverged at revision 5"));
        check((5, 50), &[(6, 60)], Err("in the database nothing"));
        check((5, 50), &[], Err("in the database nothing"));
    }

    #[test]
    fn a_jump_is_no_continuation() {
        check((0, 0), &[(2, 2)], Err("revision 1 should follow, 2 does"));
        check((5, 50), &[(5, 50), (7, 70)], Err("revision 6 should follow, 7 does"));
        check((5, 50), &[(5, 50), (6, 60), (6, 61)], Err("revision 7 should follow, 6 does"));
    }
}
