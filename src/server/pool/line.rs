//! Who waits behind whom.

use std::sync::Arc;

use crate::revision::StoreId;

/// What a search asks for. Each kind has a line of its own, so that a Check that outlasts its first
/// slice does not stand behind its caller's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// About one object: Check, Expand, `ListRelations`; and reading the text of a schema.
    One,
    /// About any number of them: lists and batches.
    Many,
}

/// Searches that wait behind each other: of one kind, of one caller, on one store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    /// Stores take turns.
    pub store: StoreId,
    /// Within a store its lines take turns.
    pub place: Place,
}

/// A line within its store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// As the changelog names callers; empty without authentication.
    pub caller: Arc<str>,
    /// What is asked for.
    pub kind: Kind,
}

impl Line {
    /// The line of a caller on a store.
    #[must_use]
    pub fn new(store: StoreId, caller: &Arc<str>, kind: Kind) -> Self {
        Self { store, place: Place { caller: Arc::clone(caller), kind } }
    }
}
