//! Everything that can go wrong with a call, in one type.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::reason::Reason;
use crate::datastore::{DatastoreError, KeyId, SchemaId, WriteError};
use crate::engine::EngineError;
use crate::feed::FeedError;
use crate::proto;
use crate::revision::{Revision, Zookie, ZookieError};
use crate::schema::Diagnostics;
use crate::schema::rules::TupleError;
use crate::server::access::Rights;
use crate::server::access::oidc::TokenError;
use crate::server::cursor::CursorError;
use crate::tuple::{ParseError, RelationName, TupleKey, TypeName};

/// Why a call failed: everything that can, in one type.
#[derive(Debug)]
pub enum Error {
    /// A field does not hold what it should.
    Field { field: String, reason: Reason, message: String },
    /// A list or text is too long.
    TooMuch { field: String, actual: usize, limit: usize, unit: &'static str },
    /// The message is larger than the server takes.
    MessageTooLarge { detail: String },
    /// The message cannot be decoded.
    MalformedMessage,
    /// A write names a tuple twice.
    DuplicateTuple { list: &'static str, first: usize, second: usize, key: Box<TupleKey> },
    /// A zookie cannot be used here.
    Zookie { field: &'static str, source: ZookieError },
    /// A zookie or cursor is of a history that is gone; `fork` is the newest revision before it
    /// that was kept, if it is known.
    HistoryLost { field: &'static str, fork: Option<Zookie> },
    /// A zookie is still ahead of the database after waiting.
    ZookieAhead { asked: Revision, newest: Revision },
    /// A cursor cannot be used here.
    Cursor(CursorError),
    /// The changes after a revision are no longer kept.
    LogTrimmed { floor: Revision },
    /// The node may be behind.
    Stale { age: Duration, bound: Duration },
    /// The database lost revisions that a stream has shown; `fork` is the last one that counts.
    Forked { fork: Zookie },
    /// No schema has been written yet.
    NoSchema,
    /// There is no such schema version.
    SchemaNotFound { id: SchemaId },
    /// There is no such store.
    StoreNotFound { store: String },
    /// Too much is waiting already.
    QueueFull { queue: &'static str },
    /// There is more to do than can be done in time; `retry` says when there may be less.
    Overloaded { resource: &'static str, retry: Duration },
    /// The reader of a stream took nothing for so long.
    ReaderStalled { idle: Duration },
    /// The deadline passed.
    DeadlineExceeded,
    /// A stream held what it was made from for as long as it may, or its reader took nothing for as
    /// long. The cursor begins the same list in pages.
    StreamTooOld { age: Duration, cursor: Option<String> },
    /// The server stops.
    ShuttingDown,
    /// The call carries no credential.
    NoCredential,
    /// The call carries a credential that is not known here, or no longer.
    UnknownCredential,
    /// The call carries a text that was meant to be an API key and never was one.
    MistypedKey,
    /// The node has not heard of revocations for too long to take any API key.
    KeysStale { age: Duration, bound: Duration },
    /// There is no such API key, or no live one of that name.
    KeyNotFound { key: String },
    /// Several live API keys have that name.
    KeyAmbiguous { name: String, ids: Vec<KeyId> },
    /// The call carries a token that its issuer signed, and that does not let anybody in.
    Token(TokenError),
    /// The keys of the token's issuer are not known.
    IssuerUnavailable,
    /// The credential that a stream was opened with was taken back or has expired.
    CredentialEnded,
    /// The caller has none of these rights, on a store or on all of them.
    Denied { wanted: Rights, store: Option<String> },
    /// There is no such method.
    UnknownMethod,
    /// The text is not a schema.
    SchemaInvalid(Diagnostics),
    /// Stored tuples would no longer count.
    Orphans(Vec<proto::Orphans>),
    /// A tuple is not one the schema allows.
    Tuple { field: String, source: Box<TupleError> },
    /// The schema lacks the type of an object or subject.
    UnknownType { field: &'static str, name: TypeName },
    /// The type lacks the relation.
    UnknownRelation { field: &'static str, object_type: TypeName, name: RelationName },
    /// A search could not end.
    Engine(EngineError),
    /// The store cannot be answered from memory, or not at the revision asked.
    Feed(FeedError),
    /// A write was refused.
    Write(WriteError),
    /// The record could not be asked.
    Record(DatastoreError),
    /// The record could not be changed; every write of the group failed for this.
    Commit(Arc<DatastoreError>),
    /// A defect.
    Internal(anyhow::Error),
}

impl Error {
    /// A field that does not hold what it should.
    pub fn field(field: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason, message: message.into() }
    }

    /// The same error of a field further in: `tuple.object` becomes `updates[3].tuple.object`.
    #[must_use]
    pub fn within(mut self, outer: fmt::Arguments<'_>) -> Self {
        if let Self::Field { field, .. } | Self::TooMuch { field, .. } = &mut self {
            *field = format!("{outer}.{field}");
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().message)
    }
}

impl std::error::Error for Error {
    /// What the client does not see. The sources of other variants are in their messages.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Record(source) = self {
            Some(source)
        } else if let Self::Commit(source) = self {
            Some(source)
        } else if let Self::Feed(source) = self {
            Some(source)
        } else if let Self::Internal(source) = self {
            Some(source.as_ref())
        } else {
            None
        }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<DatastoreError> for Error {
    fn from(error: DatastoreError) -> Self {
        Self::Record(error)
    }
}

impl From<FeedError> for Error {
    fn from(error: FeedError) -> Self {
        Self::Feed(error)
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<CursorError> for Error {
    fn from(error: CursorError) -> Self {
        Self::Cursor(error)
    }
}

/// Refuses a list that names a tuple twice.
pub fn refuse_duplicates<'a>(
    list: &'static str,
    keys: impl Iterator<Item = &'a TupleKey>,
) -> Result<(), Error> {
    let mut seen = HashMap::new();
    for (second, key) in keys.enumerate() {
        if let Some(first) = seen.insert(key, second) {
            return Err(Error::DuplicateTuple { list, first, second, key: Box::new(key.clone()) });
        }
    }
    Ok(())
}

/// Names the field whose text could not be parsed.
pub trait At<T> {
    /// The error of that field.
    fn at(self, field: &'static str) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, ParseError> {
    fn at(self, field: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error::field(field, Reason::InvalidField, error.to_string()))
    }
}
