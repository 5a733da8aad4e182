//! Why a store cannot be answered from memory, or not at the revision asked.

use std::sync::Arc;

use crate::datastore::{DatastoreError, SchemaId};
use crate::graph::IndexFull;
use crate::revision::Revision;

/// Why the feed cannot give what was asked. Clones share the cause: several requests may wait for
/// one load.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum FeedError {
    /// The store does not exist or has been deleted.
    #[error("the store does not exist")]
    StoreNotFound,
    /// Memory and database had parted: memory is going back to where they did, or being loaded
    /// anew. Retrying helps.
    #[error("this node's copy of the store is not part of the database's history and is being put right")]
    HistoryDiverged,
    /// The write asked about was here, and the database lost it. `fork` is the newest revision
    /// before it that was kept, if this node knows.
    #[error("the write asked about was lost by the database")]
    HistoryLost { fork: Option<Revision> },
    /// The changelog could not be followed for another reason: the store is being loaded anew.
    /// Retrying helps.
    #[error("this node's copy of the store is being loaded anew")]
    Reloading,
    /// The revision did not arrive in time. Retrying may help.
    #[error("revision {wanted} has not arrived, the newest is {newest}")]
    Behind { wanted: Revision, newest: Revision },
    /// The revision is beyond what can still be asked about.
    #[error("revision {revision} is too long ago: ask for a newer one")]
    OutOfRange { revision: Revision },
    /// A stored schema cannot be compiled by this version of Relata.
    #[error("schema {} cannot be read: {reason}", .schema.0)]
    Schema { schema: SchemaId, reason: Arc<str> },
    /// The store is being loaded, and has not arrived in time. Retrying helps.
    #[error("the store is being loaded into this node's memory")]
    Loading,
    /// The store left memory to make room for others. Asking for it loads it again.
    #[error("the store has left this node's memory and is being loaded again")]
    Evicted,
    /// There is no room at the moment: what other stores are to leave is still in use. Retrying
    /// helps.
    #[error("there is no room in this node's memory for the store at the moment")]
    Crowded,
    /// The store does not fit into the memory budget, whatever else leaves.
    #[error(
        "the store does not fit into this node's memory budget: it takes {} or more of {}{}; an operator can raise the budget",
        mebibytes(*.bytes), mebibytes(*.limit),
        if *.pinned > 0 { format!(", of which pinned stores take {}", mebibytes(*.pinned)) } else { String::new() },
    )]
    TooLarge { bytes: usize, limit: usize, pinned: usize },
    /// The store is larger than one graph can be.
    #[error(transparent)]
    Full(#[from] IndexFull),
    /// The database could not answer.
    #[error("the changelog cannot be read")]
    Datastore(#[source] Arc<DatastoreError>),
    /// The database did not answer in time. Retrying may help.
    #[error("the database did not answer in time")]
    Timeout,
    /// The node is going down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// A size as people read it.
fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl From<DatastoreError> for FeedError {
    fn from(error: DatastoreError) -> Self {
        if matches!(error, DatastoreError::StoreNotFound) {
            Self::StoreNotFound
        } else {
            Self::Datastore(Arc::new(error))
        }
    }
}

impl FeedError {
    /// Whether what is in memory is still good and asking again may succeed.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Timeout | Self::ShuttingDown => true,
            Self::Datastore(error) => !matches!(
                **error,
                DatastoreError::Corrupt(_) | DatastoreError::Trimmed { .. } | DatastoreError::StoreNotFound
            ),
            Self::StoreNotFound
            | Self::HistoryDiverged
            | Self::HistoryLost { .. }
            | Self::Reloading
            | Self::Loading
            | Self::Evicted
            | Self::Crowded
            | Self::TooLarge { .. }
            | Self::Behind { .. }
            | Self::OutOfRange { .. }
            | Self::Schema { .. }
            | Self::Full(_) => false,
        }
    }

    /// Whether it says to a client why a store is silent; a database's error is for the log.
    pub(super) fn is_telling(&self) -> bool {
        !matches!(self, Self::Datastore(_) | Self::Timeout)
    }

    /// Whether changes that were to be read have been trimmed.
    pub(super) fn is_trimmed(&self) -> bool {
        matches!(self, Self::Datastore(error) if matches!(**error, DatastoreError::Trimmed { .. }))
    }
}
