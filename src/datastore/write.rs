//! What is asked of the record: writes, and what becomes of them.

use std::sync::Arc;

use super::{Expectation, Precondition, SchemaId};
use crate::revision::{Revision, WriteId};
use crate::tuple::{Tuple, TupleKey};

/// One write waiting to be committed.
#[derive(Debug, Clone)]
pub struct Write {
    /// Its write id, chosen before the transaction, so that an unknown outcome can be looked up.
    pub write_id: WriteId,
    /// Who writes, as authenticated; empty without authentication.
    pub principal: Arc<str>,
    /// Kept in the changelog.
    pub note: Arc<str>,
    /// Makes a retry return the first result.
    pub idempotency: Option<Idempotency>,
    /// What it does.
    pub action: Action,
}

/// An idempotency key, in the scope of (store, principal).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// What the client chose.
    pub key: Arc<str>,
    /// Digest of the whole request, so that a key is never reused for another one.
    pub request: [u8; 32],
}

/// What a write does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Changes tuples.
    Tuples {
        /// Each key at most once.
        updates: Vec<Update>,
        /// See the state before the updates.
        preconditions: Vec<Precondition>,
        /// The schema the tuples were validated against. If another one is in force under
        /// the lock, the write fails with [`WriteError::SchemaChanged`] and is validated anew.
        /// `None`: there was nothing to validate, as in deletions, and any schema will do.
        validated_against: Option<SchemaId>,
    },
    /// Puts a schema in force. Its id is made under the lock.
    Schema {
        /// The text as uploaded.
        text: Arc<str>,
        /// OpenFGA's JSON form.
        json: Arc<str>,
        /// The version that must be in force; `None`: any.
        expected: Option<SchemaId>,
        /// What the stored tuples were held against; `None`: whatever is stored, it is put in
        /// force.
        judged: Option<Judged>,
    },
}

/// The stored tuples of one revision were held against a schema, and it allows all of them. Those
/// that were written since are held against it under the lock, so that no tuple slips in
/// between.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The revision …
    pub revision: Revision,
    /// … of the history in which a write with this tag made it.
    pub tag: [u8; 8],
    /// Judges one tuple.
    pub judge: Judge,
}

/// Tells whether a schema allows a tuple, as far as the record has to know.
#[derive(Clone)]
pub struct Judge(Arc<dyn Fn(&Tuple) -> bool + Send + Sync>);

impl Judge {
    /// Judges by a function, which must be quick: writers wait meanwhile.
    pub fn new(allows: impl Fn(&Tuple) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allows))
    }

    /// Whether the tuple is allowed.
    #[must_use]
    pub fn allows(&self, tuple: &Tuple) -> bool {
        (self.0)(tuple)
    }
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judge")
    }
}

/// One change to one tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Writes it, replacing condition and expiry.
    Touch(Tuple),
    /// Writes it; an existing, unexpired one is an error.
    Create(Tuple),
    /// Removes it.
    Delete {
        /// What to remove.
        key: TupleKey,
        /// Whether its absence is an error.
        must_exist: bool,
    },
    /// Removes it if it has expired, by the database's clock under the lock. One that still
    /// counts, because it was written anew, is left alone; so is an absent one.
    Expire(TupleKey),
}

impl Update {
    /// The tuple it concerns.
    #[must_use]
    pub fn key(&self) -> &TupleKey {
        match self {
            Self::Touch(tuple) | Self::Create(tuple) => &tuple.key,
            Self::Delete { key, .. } | Self::Expire(key) => key,
        }
    }
}

/// What a successful write returns.
///
/// A write that changes nothing (TOUCH of an identical tuple, DELETE of an absent one) takes no
/// revision: it returns the head, which already shows what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its revision: the head, if the write changed nothing and took none.
    pub revision: Revision,
    /// The write id of that revision.
    pub write_id: WriteId,
    /// How many tuples it changed; zero for a schema, and for a write that was done before.
    pub changes: u32,
    /// Whether an idempotency key had been used before.
    pub replayed: bool,
    /// The schema id made, for a schema write.
    pub schema: Option<SchemaId>,
}

/// Why one write of a group failed. It failed alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum WriteError {
    /// A CREATE met a live tuple.
    #[error("tuple `{key}` already exists")]
    AlreadyExists { key: TupleKey },
    /// A DELETE that insists met no live tuple.
    #[error("tuple `{key}` does not exist")]
    NotFound { key: TupleKey },
    /// A precondition does not hold.
    #[error("precondition {index} does not hold: {}", match .expectation { Expectation::Match => "no tuple matches", Expectation::NoMatch => "a tuple matches" })]
    PreconditionFailed { index: usize, expectation: Expectation },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// Another schema is in force than the one expected or validated against.
    #[error("another schema is in force")]
    SchemaChanged { in_force: Option<SchemaId> },
    /// Since the stored tuples were held against a schema, others were written that it does not
    /// allow, or more than are looked at under the lock.
    #[error("tuples were written while the stored ones were held against the schema; try again")]
    TuplesChanged,
}

/// What became of one write of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Committed(Committed),
    /// It failed, alone.
    Failed(WriteError),
    /// It depends on what the group wrote and was not decided: it goes first in the next group.
    /// Never the first of a group, so the next one decides it.
    Deferred,
}
