//! Why the record fails, told apart by what can be done about it.

use super::Outcome;
use crate::revision::Revision;

/// Why the record could not be asked or changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum DatastoreError {
    /// No connection, or it broke, or a round trip took too long, or the disk is full. Retrying may help.
    #[error("the database is not available")]
    Unavailable(#[source] anyhow::Error),
    /// The connection broke while a commit was under way and the outcome could not be found
    /// out in time. The write may or may not have happened.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown(#[source] anyhow::Error),
    /// The tables are missing or of another version.
    #[error(
        "the database is not migrated: it is at version {found}, this binary needs {needed}; run `relata migrate`"
    )]
    NotMigrated { found: i64, needed: i64 },
    /// The tables are of a version that this binary does not know.
    #[error(
        "the database is at version {found}, this binary knows versions up to {known}; use a newer `relata`"
    )]
    TooNew { found: i64, known: i64 },
    /// A row cannot be what it should be.
    #[error("the database holds a row that is corrupt: {0}")]
    Corrupt(String),
    /// The changes asked for have been trimmed.
    #[error("the changelog before revision {floor} has been trimmed")]
    Trimmed { floor: Revision },
    /// The store does not exist or has been deleted.
    #[error("the store does not exist")]
    StoreNotFound,
    /// A live store of that name exists.
    #[error("a store named `{0}` exists")]
    StoreExists(String),
    /// The database file is served by another process.
    #[error("`{0}` is in use by another process; stop that one or name another file")]
    InUse(String),
    /// A precondition is about more tuples than can be looked through while other writers wait.
    /// Nothing was written.
    #[error(
        "a filter of a precondition was not judged within {limit:?}, while other writers wait; give the object's \
         type and id, or the subject's, so that an index finds what matches"
    )]
    TooCostly { limit: std::time::Duration },
    /// Anything else: a defect or a misconfiguration.
    #[error("the database refused")]
    Other(#[source] anyhow::Error),
}

/// Why a group of writes was not committed, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Nothing was written.
    #[error(transparent)]
    Failed(#[from] DatastoreError),
    /// COMMIT was sent and not answered. Under the store's lock it can be found out what became
    /// of it: [`super::Datastore::settle`].
    #[error("the commit was not answered")]
    InDoubt {
        /// The outcomes, if it turns out that the group was committed.
        decided: Vec<Outcome>,
        /// How the answer was lost.
        #[source]
        cause: anyhow::Error,
    },
}

impl From<GroupError> for DatastoreError {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Failed(error) => error,
            GroupError::InDoubt { cause, .. } => Self::OutcomeUnknown(cause),
        }
    }
}
