//! What was read of a changelog must be whole: no revision missing, none with fewer or more changes
//! than it had. Whoever follows the log would be wrong for ever after skipping one.

use super::{DatastoreError, LogEntry};
use crate::revision::{Revision, StoreId};

/// The entries, if they begin with `from` and leave nothing out. Beside each stands how many
/// changes its revision is recorded to have.
pub(super) fn whole(
    store: StoreId,
    from: Revision,
    read: Vec<(LogEntry, i64)>,
) -> Result<Vec<LogEntry>, DatastoreError> {
    let mut entries = Vec::with_capacity(read.len());
    // Revision zero has no entry.
    let mut expected = from.max(Revision::ZERO.next());
    for (entry, promised) in read {
        if entry.revision != expected {
            return Err(DatastoreError::Corrupt(format!(
                "revision {expected} of store {store} is missing from the changelog, revision {} is there",
                entry.revision
            )));
        }
        expected = expected.next();
        entries.push(complete(store, entry, promised)?);
    }
    Ok(entries)
}

/// An entry, if it has as many changes as its revision is recorded to have.
pub(super) fn complete(store: StoreId, entry: LogEntry, promised: i64) -> Result<LogEntry, DatastoreError> {
    if i64::try_from(entry.changes.len()) == Ok(promised) {
        return Ok(entry);
    }
    Err(DatastoreError::Corrupt(format!(
        "revision {} of store {store} has {} changes instead of {promised}",
        entry.revision,
        entry.changes.len()
    )))
}
