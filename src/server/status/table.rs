//! The table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::error::Error;
use super::reason::Reason;
use crate::condition::ErrorCause;
use crate::datastore::{DatastoreError, SchemaId, WriteError};
use crate::engine::EngineError;
use crate::feed::FeedError;
use crate::proto;
use crate::revision::ZookieError;
use crate::schema::rules::{TupleError, TupleFault};
use crate::schema::{Diagnostics, Style};
use crate::server::access::Rights;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "relata";

/// Most bytes of one message: a status travels in header fields, and clients refuse more than
/// 16 KiB of them. A message is sent twice, in two encodings that each lengthen it.
const MAX_MESSAGE: usize = 2_048;
/// Most bytes of all violations together, for the same reason.
const MAX_VIOLATIONS: usize = 3_072;

/// What the client sees of an error.
#[derive(Debug)]
pub struct Row {
    /// The gRPC status code.
    pub code: Code,
    /// What programs branch on.
    pub reason: Reason,
    /// What people read.
    pub message: Cow<'static, str>,
    /// What programs read.
    pub metadata: Vec<(&'static str, String)>,
    /// The fields at fault.
    pub violations: Vec<FieldViolation>,
    /// When it is worth trying again.
    pub retry: Option<Duration>,
}

impl Row {
    fn new(code: Code, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry: None,
        }
    }

    fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn at(mut self, field: impl Into<String>) -> Self {
        self.violations.push(FieldViolation::new(field, self.message.clone().into_owned()));
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }
}

impl Error {
    /// The gRPC status code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.row().code
    }

    /// The row of the table.
    #[must_use]
    pub fn row(&self) -> Row {
        use Code::{
            Aborted, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound,
            OutOfRange, ResourceExhausted, Unauthenticated, Unavailable, Unimplemented,
        };
        const SOON: Duration = Duration::from_millis(250);
        const LATER: Duration = Duration::from_secs(2);
        match self {
            Self::Field { field, reason, message } => {
                Row::new(InvalidArgument, *reason, message.clone()).at(field)
            }
            Self::TooMuch { field, actual, limit, unit } => {
                Row::new(InvalidArgument, Reason::LimitExceeded, format!("{actual} {unit} in `{field}`, at most {limit} are allowed"))
                    .with("limit", limit)
                    .with("actual", actual)
                    .at(field)
            }
            Self::MessageTooLarge { detail } => Row::new(
                ResourceExhausted,
                Reason::LimitExceeded,
                format!("the request message is too large ({detail}); send several smaller ones"),
            ),
            Self::MalformedMessage => Row::new(
                InvalidArgument,
                Reason::MalformedMessage,
                "the request cannot be decoded: is the client built from this server's protos?",
            ),
            Self::DuplicateTuple { list, first, second, key } => Row::new(
                InvalidArgument,
                Reason::DuplicateTuple,
                format!("`{list}[{first}]` and `{list}[{second}]` are both of tuple `{key}`; a tuple may be named once"),
            )
            .at(format!("{list}[{second}]")),
            Self::Zookie { field, source } => {
                let reason = match source {
                    ZookieError::Malformed => Reason::ZookieMalformed,
                    ZookieError::OtherDatabase => Reason::ZookieOtherDatabase,
                    ZookieError::OtherStore => Reason::ZookieOtherStore,
                };
                Row::new(InvalidArgument, reason, source.to_string()).at(*field)
            }
            Self::HistoryLost { field, fork } => {
                let row = Row::new(
                    FailedPrecondition,
                    Reason::ZookieHistoryLost,
                    "the write this zookie names was lost when the database failed over or was restored; read again without it and repair what depends on it",
                )
                .with("field", field);
                match fork {
                    Some(fork) => row.with("zookie", fork),
                    None => row,
                }
            }
            Self::ZookieAhead { asked, newest } => Row::new(
                Unavailable,
                Reason::ZookieAhead,
                format!("revision {asked} has not arrived in time; the newest here is {newest}"),
            )
            .with("asked", asked)
            .with("newest", newest)
            .retry(SOON),
            Self::Cursor(source) => {
                Row::new(InvalidArgument, Reason::CursorInvalid, source.to_string()).at("cursor")
            }
            Self::LogTrimmed { floor } => Row::new(
                OutOfRange,
                Reason::LogTrimmed,
                format!("changes before revision {floor} are no longer kept; read everything and watch from there"),
            )
            .with("floor", floor),
            Self::Stale { age, bound } => Row::new(
                Unavailable,
                Reason::ReplicaStale,
                format!("this node has not reached the database for {:.1} s, and answers older than {:.1} s are not given", age.as_secs_f64(), bound.as_secs_f64()),
            )
            .with("age_ms", age.as_millis())
            .retry(LATER),
            Self::Forked { fork } => Row::new(
                DataLoss,
                Reason::HistoryDiverged,
                "the database lost revisions that this stream has shown; undo them and watch again from the zookie given",
            )
            .with("zookie", fork),
            Self::NoSchema => Row::new(
                FailedPrecondition,
                Reason::NoSchema,
                "the store has no schema yet; write one first",
            ),
            Self::SchemaNotFound { id } => Row::new(
                NotFound,
                Reason::SchemaNotFound,
                format!("the store has no schema `{}`", id.0),
            )
            .at("schema_id"),
            Self::StoreNotFound { store } => {
                Row::new(NotFound, Reason::StoreNotFound, format!("there is no store `{store}`")).at("store")
            }
            Self::QueueFull { queue } => Row::new(
                ResourceExhausted,
                Reason::QueueFull,
                format!("the {queue} queue is full; try again later or on another node"),
            )
            .retry(SOON),
            Self::Overloaded { resource, retry } => Row::new(
                ResourceExhausted,
                Reason::Overloaded,
                format!("this node has more to do than it can (too many {resource}); try again later or on another node"),
            )
            .with("resource", resource)
            .retry(*retry),
            Self::ReaderStalled { idle } => Row::new(
                ResourceExhausted,
                Reason::ReaderStalled,
                format!("nothing was read from this stream for {} s, so it was ended; go on from the last cursor or zookie, or read faster", idle.as_secs()),
            ),
            Self::DeadlineExceeded => Row::new(
                DeadlineExceeded,
                Reason::DeadlineExceeded,
                "the call did not finish within its deadline",
            ),
            Self::StreamTooOld { age, cursor } => {
                let row = Row::new(
                    Aborted,
                    Reason::StreamTooOld,
                    format!("the list was not read to its end within {age:?}, and what it is made from is held no longer; read it in pages"),
                );
                match cursor {
                    Some(cursor) => row.with("cursor", cursor),
                    None => row,
                }
            }
            Self::ShuttingDown => Row::new(
                Unavailable,
                Reason::ShuttingDown,
                "the server is stopping; connect again and continue from the last zookie",
            )
            .retry(SOON),
            Self::NoCredential => Row::new(
                Unauthenticated,
                Reason::Unauthenticated,
                "a credential is needed: send metadata `authorization: Bearer KEY`",
            ),
            Self::UnknownCredential => Row::new(
                Unauthenticated,
                Reason::Unauthenticated,
                "the key or token is not known to this server: it may be mistyped, revoked or expired",
            ),
            Self::MistypedKey => Row::new(
                Unauthenticated,
                Reason::Unauthenticated,
                "the API key is mistyped or incomplete: its checksum does not fit",
            ),
            Self::KeysStale { age, bound } => Row::new(
                Unavailable,
                Reason::KeysStale,
                format!("the API keys were last known {age:.1?} ago, more than {bound:?}: whether one has been revoked cannot be told"),
            )
            .retry(LATER),
            Self::KeyNotFound { key } => {
                Row::new(NotFound, Reason::KeyNotFound, format!("there is no API key `{key}`")).at("key")
            }
            Self::KeyAmbiguous { name, ids } => {
                let ids: Vec<&str> = ids.iter().map(|id| &*id.0).collect();
                Row::new(
                    FailedPrecondition,
                    Reason::KeyAmbiguous,
                    format!("several live keys are named `{name}`: name one of {} by its id, or revoke all", ids.join(", ")),
                )
                .with("ids", ids.join(","))
                .at("key")
            }
            Self::Token(error) => Row::new(Unauthenticated, Reason::Unauthenticated, error.to_string()),
            Self::IssuerUnavailable => Row::new(
                Unavailable,
                Reason::IssuerUnavailable,
                "the keys of the token's issuer could not be fetched; try again later or on another node",
            )
            .retry(SOON),
            Self::CredentialEnded => Row::new(
                Unauthenticated,
                Reason::Unauthenticated,
                "the key or token of this stream was revoked or has expired; continue with another one from the last zookie",
            ),
            Self::Denied { wanted, store } => denied_row(*wanted, store.as_deref()),
            Self::UnknownMethod => {
                Row::new(Unimplemented, Reason::UnknownMethod, "this server has no such method")
            }
            Self::SchemaInvalid(diagnostics) => schema_row(diagnostics),
            Self::Orphans(orphans) => orphans_row(orphans),
            Self::Tuple { field, source } => tuple_row(field, source),
            Self::UnknownType { field, name } => {
                Row::new(InvalidArgument, Reason::UnknownType, format!("the schema has no type `{name}`"))
                    .with("type", name)
                    .at(*field)
            }
            Self::UnknownRelation { field, object_type, name } => Row::new(
                InvalidArgument,
                Reason::UnknownRelation,
                format!("type `{object_type}` has no relation `{name}`"),
            )
            .with("type", object_type)
            .with("relation", name)
            .at(*field),
            Self::Engine(error) => engine_row(error),
            Self::Feed(error) => feed_row(error),
            Self::Write(error) => write_row(error),
            Self::Record(error) => record_row(error),
            Self::Commit(error) => record_row(error),
            Self::Internal(_) => {
                Row::new(Internal, Reason::Internal, "a defect in the server; its log says more")
            }
        }
    }

    /// The status the client gets.
    #[must_use]
    pub fn into_status(self) -> Status {
        let row = self.row();
        let mut details = ErrorDetails::new();
        details.set_error_info(
            row.reason.as_str(),
            DOMAIN,
            row.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<HashMap<_, _>>(),
        );
        let mut room = MAX_VIOLATIONS;
        for violation in row.violations {
            let size = violation.field.len() + violation.description.len();
            if size > room {
                break;
            }
            room -= size;
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if row.retry.is_some() {
            details.set_retry_info(row.retry);
        }
        Status::with_error_details(row.code, shorten(row.message, MAX_MESSAGE), details)
    }
}

/// The same for a store that exists and for one that does not.
fn denied_row(wanted: Rights, store: Option<&str>) -> Row {
    let rights = wanted.iter().map(|right| format!("`{right}`")).collect::<Vec<_>>().join(" or ");
    let place = match store {
        Some(store) => format!("store `{store}`"),
        None => "all stores".to_owned(),
    };
    Row::new(
        Code::PermissionDenied,
        Reason::PermissionDenied,
        format!("the right {rights} on {place} is needed"),
    )
    .with("rights", wanted)
    .with("store", store.unwrap_or("*"))
}

/// The text as people read it, and each mistake for programs: the field is the place.
fn schema_row(diagnostics: &Diagnostics) -> Row {
    let rendered = diagnostics.render(None, Style::Plain);
    let mut row = Row::new(
        Code::InvalidArgument,
        Reason::SchemaInvalid,
        format!("the schema is not valid\n\n{rendered}"),
    )
    .with("mistakes", diagnostics.items().len() + diagnostics.omitted());
    row.violations = diagnostics
        .items()
        .iter()
        .map(|item| {
            let place = item.place.as_ref().map(|place| format!(":{}:{}", place.line, place.column));
            FieldViolation::new(
                format!("text{}", place.unwrap_or_default()),
                format!("{}: {}", item.kind, item.message),
            )
        })
        .collect();
    row
}

fn orphans_row(orphans: &[proto::Orphans]) -> Row {
    let total: u64 = orphans.iter().map(|kind| kind.count).sum();
    let mut message =
        format!("{total} stored tuples would no longer count; remove them first, or allow orphans:");
    for kind in orphans {
        let sample = kind.sample.join(", ");
        let _ = write!(
            message,
            "\n  {} of `{}` with `{}`, such as {sample}",
            kind.count, kind.relation, kind.subject
        );
    }
    Row::new(Code::FailedPrecondition, Reason::SchemaOrphansTuples, message).with("tuples", total)
}

fn tuple_row(field: &str, error: &TupleError) -> Row {
    let reason = match error.fault {
        TupleFault::UnknownType { .. } => Reason::UnknownType,
        TupleFault::UnknownRelation { .. } => Reason::UnknownRelation,
        TupleFault::UnknownCondition { .. } => Reason::UnknownCondition,
        TupleFault::NotAssignable { .. }
        | TupleFault::SubjectNotAllowed { .. }
        | TupleFault::ConditionMissing { .. }
        | TupleFault::ConditionNotAllowed { .. }
        | TupleFault::Context { .. }
        | TupleFault::Implicit { .. } => Reason::TupleNotAllowed,
    };
    Row::new(Code::InvalidArgument, reason, error.to_string()).with("tuple", &error.tuple).at(field)
}

fn engine_row(error: &EngineError) -> Row {
    let message = error.to_string();
    match error {
        EngineError::LimitExceeded { limit, allowed, work } => {
            Row::new(Code::ResourceExhausted, Reason::LimitExceeded, message)
                .with("limit", limit)
                .with("allowed", allowed)
                .with("goals", work.goals)
                .with("tuples", work.edges)
        }
        EngineError::DepthExceeded { limit } => {
            Row::new(Code::ResourceExhausted, Reason::LimitExceeded, message).with("allowed", limit)
        }
        EngineError::Condition { error, tuple } => {
            let row = match error.cause {
                ErrorCause::Context => {
                    Row::new(Code::InvalidArgument, Reason::ConditionFailed, message).at("context")
                }
                ErrorCause::Expression => {
                    Row::new(Code::FailedPrecondition, Reason::ConditionFailed, message)
                }
                ErrorCause::Fuel => Row::new(Code::ResourceExhausted, Reason::LimitExceeded, message),
            };
            row.with("condition", &error.condition).with("tuple", tuple)
        }
    }
}

fn feed_row(error: &FeedError) -> Row {
    const SOON: Duration = Duration::from_millis(250);
    const LATER: Duration = Duration::from_secs(2);
    let message = error.to_string();
    match error {
        FeedError::StoreNotFound => Row::new(Code::NotFound, Reason::StoreNotFound, message),
        FeedError::HistoryDiverged => {
            Row::new(Code::Unavailable, Reason::HistoryDiverged, message).retry(SOON)
        }
        FeedError::HistoryLost { .. } => {
            Row::new(Code::FailedPrecondition, Reason::ZookieHistoryLost, message)
        }
        FeedError::Reloading => Row::new(Code::Unavailable, Reason::StoreLoading, message).retry(SOON),
        FeedError::Behind { wanted, newest } => Error::ZookieAhead { asked: *wanted, newest: *newest }.row(),
        FeedError::OutOfRange { revision } => {
            Row::new(Code::OutOfRange, Reason::RevisionOutOfRange, message).with("asked", revision)
        }
        FeedError::Schema { .. } => Row::new(
            Code::Internal,
            Reason::Internal,
            "a stored schema cannot be read; the server's log says more",
        ),
        FeedError::Loading | FeedError::Evicted => {
            Row::new(Code::Unavailable, Reason::StoreLoading, message).retry(SOON)
        }
        FeedError::Crowded => Row::new(Code::Unavailable, Reason::StoreLoading, message).retry(LATER),
        FeedError::TooLarge { bytes, limit, .. } => {
            Row::new(Code::ResourceExhausted, Reason::StoreTooLarge, message)
                .with("bytes", bytes)
                .with("budget", limit)
        }
        FeedError::Full(_) => Row::new(Code::ResourceExhausted, Reason::StoreTooLarge, message),
        FeedError::Datastore(error) => record_row(error),
        FeedError::Timeout => Row::new(Code::Unavailable, Reason::DatabaseUnavailable, message).retry(SOON),
        FeedError::ShuttingDown => Error::ShuttingDown.row(),
    }
}

fn write_row(error: &WriteError) -> Row {
    let message = error.to_string();
    match error {
        WriteError::AlreadyExists { key } => {
            Row::new(Code::AlreadyExists, Reason::TupleExists, message).with("tuple", key)
        }
        WriteError::NotFound { key } => {
            Row::new(Code::NotFound, Reason::TupleNotFound, message).with("tuple", key)
        }
        WriteError::PreconditionFailed { index, .. } => {
            Row::new(Code::FailedPrecondition, Reason::PreconditionFailed, message)
                .with("precondition", index)
        }
        WriteError::IdempotencyKeyReused => {
            Row::new(Code::FailedPrecondition, Reason::IdempotencyKeyReused, message)
        }
        WriteError::SchemaChanged { in_force } => {
            let row = Row::new(Code::FailedPrecondition, Reason::SchemaChanged, message);
            match in_force {
                Some(SchemaId(id)) => row.with("in_force", id),
                None => row,
            }
        }
        WriteError::TuplesChanged => {
            Row::new(Code::Aborted, Reason::TuplesChanged, message).retry(Duration::from_millis(250))
        }
    }
}

fn record_row(error: &DatastoreError) -> Row {
    const LATER: Duration = Duration::from_secs(2);
    match error {
        DatastoreError::Unavailable(_) => {
            Row::new(Code::Unavailable, Reason::DatabaseUnavailable, error.to_string()).retry(LATER)
        }
        DatastoreError::OutcomeUnknown(_) => Row::new(
            Code::Unavailable,
            Reason::OutcomeUnknown,
            "the connection to the database broke while committing: the write may or may not have happened; with an idempotency key it can be repeated safely",
        )
        .retry(LATER),
        // What an operator must do is the operator's business; the caller can only wait.
        DatastoreError::NotMigrated { .. } | DatastoreError::TooNew { .. } => Row::new(
            Code::Unavailable,
            Reason::DatabaseUnavailable,
            "the database is not ready for this server",
        )
        .retry(LATER),
        DatastoreError::Trimmed { floor } => Error::LogTrimmed { floor: *floor }.row(),
        DatastoreError::TooCostly { .. } => {
            Row::new(Code::ResourceExhausted, Reason::LimitExceeded, error.to_string())
        }
        DatastoreError::StoreNotFound => Row::new(Code::NotFound, Reason::StoreNotFound, error.to_string()),
        DatastoreError::StoreExists(name) => {
            Row::new(Code::AlreadyExists, Reason::StoreExists, error.to_string()).with("name", name)
        }
        DatastoreError::Corrupt(_) | DatastoreError::InUse(_) | DatastoreError::Other(_) => {
            Row::new(Code::Internal, Reason::Internal, "a defect in the server or its database; the server's log says more")
        }
    }
}

/// Cuts a message that would not fit into header fields, and says so.
fn shorten(message: Cow<'static, str>, limit: usize) -> String {
    const MARK: &str = " … (shortened)";
    if message.len() <= limit {
        return message.into_owned();
    }
    let room = limit - MARK.len();
    let end = message.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last().unwrap_or(0);
    let mut shortened = message.get(..end).unwrap_or_default().to_owned();
    shortened.push_str(MARK);
    shortened
}
