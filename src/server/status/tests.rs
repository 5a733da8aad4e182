//! A test per row: what a client branches on does not change by accident.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt as _;

use super::{DOMAIN, Error, Reason};
use crate::condition::{ErrorCause, EvaluationError};
use crate::datastore::{DatastoreError, Expectation, KeyId, SchemaId, WriteError};
use crate::engine::{EngineError, LimitKind, Work};
use crate::feed::FeedError;
use crate::proto;
use crate::revision::{DatabaseId, Revision, StoreId, WriteId, Zookie, ZookieError};
use crate::schema::Rules;
use crate::server::access::Rights;
use crate::server::access::oidc::TokenError;
use crate::server::cursor::CursorError;
use crate::tuple::{ConditionName, RelationName, Tuple, TupleCondition, TupleKey, TypeName};

const SCHEMA: &str = "model
  schema 1.1
type user
type doc
  relations
    define owner: [user]
    define viewer: owner
";

fn key(text: &str) -> TupleKey {
    text.parse().expect("a tuple")
}

/// What the schema says of a tuple it does not allow.
fn fault(text: &str, condition: Option<&str>) -> Error {
    let rules = Rules::compile(&crate::schema::parse(SCHEMA).expect("a schema"));
    let mut tuple = Tuple::from(key(text));
    tuple.attributes.condition = condition.map(|name| TupleCondition {
        name: ConditionName::new(name).expect("a name"),
        context: Arc::default(),
    });
    let source = Box::new(rules.validate(&tuple).expect_err("not allowed"));
    Error::Tuple { field: "updates[0].tuple".into(), source }
}

fn unavailable() -> DatastoreError {
    DatastoreError::Unavailable(anyhow::anyhow!("connection refused to db.internal"))
}

fn limit(limit: LimitKind) -> EngineError {
    EngineError::LimitExceeded { limit, allowed: 7, work: Work::default() }
}

/// Every row: the error, its code, its reason, and the field at fault (empty for none).
#[expect(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<(Error, Code, Reason, &'static str)> {
    use Code::{
        Aborted, AlreadyExists, DataLoss, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
        NotFound, OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable,
        Unimplemented,
    };
    let id = SchemaId(ulid::Ulid(7));
    let zookie =
        Zookie::new(DatabaseId(uuid::Uuid::nil()), StoreId(uuid::Uuid::nil()), Revision(7), WriteId::NIL);
    let type_name = || TypeName::new("doc").expect("a name");
    let relation = || RelationName::new("viewer").expect("a name");
    let mistakes = crate::schema::parse("model\n  schema 1.1\ntype doc\n  relations\n    define a: [x]\n");
    let orphans = proto::Orphans {
        relation: "doc#owner".into(),
        subject: "user".into(),
        count: 3,
        sample: vec!["doc:1#owner@user:a".into()],
    };
    let condition = |cause| {
        let condition = ConditionName::new("small").expect("a name");
        let error = EvaluationError { condition, cause, reason: "overflow".into() };
        Error::Engine(EngineError::Condition { error, tuple: "doc:1#owner@user:a".into() })
    };
    let write = |error: WriteError| Error::Write(error);
    let record = |error: DatastoreError| Error::Record(error);
    let feed = |error: FeedError| Error::Feed(error);
    vec![
        (
            Error::field("subject", Reason::InvalidField, "no"),
            InvalidArgument,
            Reason::InvalidField,
            "subject",
        ),
        (
            Error::TooMuch { field: "updates".into(), actual: 2, limit: 1, unit: "updates" },
            InvalidArgument,
            Reason::LimitExceeded,
            "updates",
        ),
        (Error::MessageTooLarge { detail: "5 > 4".into() }, ResourceExhausted, Reason::LimitExceeded, ""),
        (Error::MalformedMessage, InvalidArgument, Reason::MalformedMessage, ""),
        (
            Error::DuplicateTuple {
                list: "updates",
                first: 0,
                second: 2,
                key: Box::new(key("doc:1#owner@user:a")),
            },
            InvalidArgument,
            Reason::DuplicateTuple,
            "updates[2]",
        ),
        (
            Error::Zookie { field: "after", source: ZookieError::Malformed },
            InvalidArgument,
            Reason::ZookieMalformed,
            "after",
        ),
        (
            Error::Zookie { field: "after", source: ZookieError::OtherStore },
            InvalidArgument,
            Reason::ZookieOtherStore,
            "after",
        ),
        (
            Error::Zookie { field: "after", source: ZookieError::OtherDatabase },
            InvalidArgument,
            Reason::ZookieOtherDatabase,
            "after",
        ),
        (
            Error::HistoryLost { field: "after", fork: Some(zookie) },
            FailedPrecondition,
            Reason::ZookieHistoryLost,
            "",
        ),
        (
            Error::HistoryLost { field: "after", fork: None },
            FailedPrecondition,
            Reason::ZookieHistoryLost,
            "",
        ),
        (
            Error::ZookieAhead { asked: Revision(9), newest: Revision(7) },
            Unavailable,
            Reason::ZookieAhead,
            "",
        ),
        (Error::Cursor(CursorError::Invalid), InvalidArgument, Reason::CursorInvalid, "cursor"),
        (Error::Cursor(CursorError::OtherRequest), InvalidArgument, Reason::CursorInvalid, "cursor"),
        (Error::LogTrimmed { floor: Revision(5) }, OutOfRange, Reason::LogTrimmed, ""),
        (
            Error::Stale { age: Duration::from_secs(12), bound: Duration::from_secs(10) },
            Unavailable,
            Reason::ReplicaStale,
            "",
        ),
        (Error::Forked { fork: zookie }, DataLoss, Reason::HistoryDiverged, ""),
        (Error::NoSchema, FailedPrecondition, Reason::NoSchema, ""),
        (Error::SchemaNotFound { id }, NotFound, Reason::SchemaNotFound, "schema_id"),
        (Error::StoreNotFound { store: "x".into() }, NotFound, Reason::StoreNotFound, "store"),
        (Error::QueueFull { queue: "write" }, ResourceExhausted, Reason::QueueFull, ""),
        (
            Error::Overloaded { resource: "searches", retry: Duration::from_millis(50) },
            ResourceExhausted,
            Reason::Overloaded,
            "",
        ),
        (
            Error::ReaderStalled { idle: Duration::from_secs(30) },
            ResourceExhausted,
            Reason::ReaderStalled,
            "",
        ),
        (Error::DeadlineExceeded, DeadlineExceeded, Reason::DeadlineExceeded, ""),
        (
            Error::StreamTooOld { age: Duration::from_secs(30), cursor: Some("abc".into()) },
            Aborted,
            Reason::StreamTooOld,
            "",
        ),
        (
            Error::StreamTooOld { age: Duration::from_secs(30), cursor: None },
            Aborted,
            Reason::StreamTooOld,
            "",
        ),
        (Error::ShuttingDown, Unavailable, Reason::ShuttingDown, ""),
        (Error::Token(TokenError::Expired), Unauthenticated, Reason::Unauthenticated, ""),
        (Error::IssuerUnavailable, Unavailable, Reason::IssuerUnavailable, ""),
        (Error::NoCredential, Unauthenticated, Reason::Unauthenticated, ""),
        (Error::UnknownCredential, Unauthenticated, Reason::Unauthenticated, ""),
        (Error::MistypedKey, Unauthenticated, Reason::Unauthenticated, ""),
        (
            Error::KeysStale { age: Duration::from_secs(11), bound: Duration::from_secs(10) },
            Unavailable,
            Reason::KeysStale,
            "",
        ),
        (Error::KeyNotFound { key: "ci".into() }, NotFound, Reason::KeyNotFound, "key"),
        (
            Error::KeyAmbiguous { name: "ci".into(), ids: vec![KeyId("1a".into()), KeyId("2b".into())] },
            FailedPrecondition,
            Reason::KeyAmbiguous,
            "key",
        ),
        (Error::CredentialEnded, Unauthenticated, Reason::Unauthenticated, ""),
        (Error::Denied { wanted: Rights::ALL, store: None }, PermissionDenied, Reason::PermissionDenied, ""),
        (
            Error::Denied { wanted: Rights::ALL, store: Some("a".into()) },
            PermissionDenied,
            Reason::PermissionDenied,
            "",
        ),
        (Error::UnknownMethod, Unimplemented, Reason::UnknownMethod, ""),
        (
            Error::SchemaInvalid(mistakes.expect_err("no schema")),
            InvalidArgument,
            Reason::SchemaInvalid,
            "text:5:16",
        ),
        (Error::Orphans(vec![orphans]), FailedPrecondition, Reason::SchemaOrphansTuples, ""),
        (fault("file:1#owner@user:a", None), InvalidArgument, Reason::UnknownType, "updates[0].tuple"),
        (fault("doc:1#editor@user:a", None), InvalidArgument, Reason::UnknownRelation, "updates[0].tuple"),
        (
            fault("doc:1#owner@user:a", Some("x")),
            InvalidArgument,
            Reason::UnknownCondition,
            "updates[0].tuple",
        ),
        (fault("doc:1#viewer@user:a", None), InvalidArgument, Reason::TupleNotAllowed, "updates[0].tuple"),
        (fault("doc:1#owner@user:*", None), InvalidArgument, Reason::TupleNotAllowed, "updates[0].tuple"),
        (
            Error::UnknownType { field: "object", name: type_name() },
            InvalidArgument,
            Reason::UnknownType,
            "object",
        ),
        (
            Error::UnknownRelation { field: "relation", object_type: type_name(), name: relation() },
            InvalidArgument,
            Reason::UnknownRelation,
            "relation",
        ),
        (Error::Engine(limit(LimitKind::Goals)), ResourceExhausted, Reason::LimitExceeded, ""),
        (
            Error::Engine(EngineError::DepthExceeded { limit: 25 }),
            ResourceExhausted,
            Reason::LimitExceeded,
            "",
        ),
        (condition(ErrorCause::Context), InvalidArgument, Reason::ConditionFailed, "context"),
        (condition(ErrorCause::Expression), FailedPrecondition, Reason::ConditionFailed, ""),
        (condition(ErrorCause::Fuel), ResourceExhausted, Reason::LimitExceeded, ""),
        (feed(FeedError::StoreNotFound), NotFound, Reason::StoreNotFound, ""),
        (feed(FeedError::HistoryDiverged), Unavailable, Reason::HistoryDiverged, ""),
        (feed(FeedError::HistoryLost { fork: None }), FailedPrecondition, Reason::ZookieHistoryLost, ""),
        (feed(FeedError::Reloading), Unavailable, Reason::StoreLoading, ""),
        (feed(FeedError::Loading), Unavailable, Reason::StoreLoading, ""),
        (feed(FeedError::Evicted), Unavailable, Reason::StoreLoading, ""),
        (feed(FeedError::Crowded), Unavailable, Reason::StoreLoading, ""),
        (
            feed(FeedError::TooLarge { bytes: 9 << 20, limit: 8 << 20, pinned: 1 << 20 }),
            ResourceExhausted,
            Reason::StoreTooLarge,
            "",
        ),
        (
            feed(FeedError::Behind { wanted: Revision(9), newest: Revision(7) }),
            Unavailable,
            Reason::ZookieAhead,
            "",
        ),
        (feed(FeedError::OutOfRange { revision: Revision(1) }), OutOfRange, Reason::RevisionOutOfRange, ""),
        (feed(FeedError::Schema { schema: id, reason: "x".into() }), Internal, Reason::Internal, ""),
        (feed(FeedError::Datastore(Arc::new(unavailable()))), Unavailable, Reason::DatabaseUnavailable, ""),
        (feed(FeedError::Timeout), Unavailable, Reason::DatabaseUnavailable, ""),
        (feed(FeedError::ShuttingDown), Unavailable, Reason::ShuttingDown, ""),
        (
            write(WriteError::AlreadyExists { key: key("doc:1#owner@user:a") }),
            AlreadyExists,
            Reason::TupleExists,
            "",
        ),
        (write(WriteError::NotFound { key: key("doc:1#owner@user:a") }), NotFound, Reason::TupleNotFound, ""),
        (
            write(WriteError::PreconditionFailed { index: 0, expectation: Expectation::Match }),
            FailedPrecondition,
            Reason::PreconditionFailed,
            "",
        ),
        (write(WriteError::IdempotencyKeyReused), FailedPrecondition, Reason::IdempotencyKeyReused, ""),
        (
            write(WriteError::SchemaChanged { in_force: Some(id) }),
            FailedPrecondition,
            Reason::SchemaChanged,
            "",
        ),
        (write(WriteError::TuplesChanged), Aborted, Reason::TuplesChanged, ""),
        (record(unavailable()), Unavailable, Reason::DatabaseUnavailable, ""),
        (
            record(DatastoreError::OutcomeUnknown(anyhow::anyhow!("reset by db.internal"))),
            Unavailable,
            Reason::OutcomeUnknown,
            "",
        ),
        (
            record(DatastoreError::NotMigrated { found: 0, needed: 1 }),
            Unavailable,
            Reason::DatabaseUnavailable,
            "",
        ),
        (record(DatastoreError::TooNew { found: 9, known: 1 }), Unavailable, Reason::DatabaseUnavailable, ""),
        (record(DatastoreError::Corrupt("row of db.internal".into())), Internal, Reason::Internal, ""),
        (record(DatastoreError::Trimmed { floor: Revision(5) }), OutOfRange, Reason::LogTrimmed, ""),
        (
            record(DatastoreError::TooCostly { limit: Duration::from_secs(1) }),
            ResourceExhausted,
            Reason::LimitExceeded,
            "",
        ),
        (record(DatastoreError::StoreNotFound), NotFound, Reason::StoreNotFound, ""),
        (record(DatastoreError::StoreExists("x".into())), AlreadyExists, Reason::StoreExists, ""),
        (record(DatastoreError::InUse("/db.internal".into())), Internal, Reason::Internal, ""),
        (record(DatastoreError::Other(anyhow::anyhow!("db.internal"))), Internal, Reason::Internal, ""),
        (Error::Commit(Arc::new(unavailable())), Unavailable, Reason::DatabaseUnavailable, ""),
        (Error::Internal(anyhow::anyhow!("db.internal")), Internal, Reason::Internal, ""),
    ]
}

#[test]
fn every_row_is_as_published() {
    for (error, code, reason, field) in rows() {
        let shown = format!("{error:?}");
        let retry = error.row().retry.is_some();
        let status = error.into_status();
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((status.code(), info.reason.as_str()), (code, reason.as_str()), "{shown}");
        assert_eq!(info.domain, DOMAIN);
        let named = details.bad_request().and_then(|bad| bad.field_violations.first());
        assert_eq!(named.map_or("", |violation| &violation.field), field, "{shown}");
        assert_eq!(details.retry_info().is_some(), retry, "{shown}");
        // Trying again is said to help exactly where time alone can change the outcome.
        let passes = matches!(code, Code::Unavailable)
            || matches!(reason, Reason::QueueFull | Reason::Overloaded | Reason::TuplesChanged);
        assert_eq!(retry, passes, "{shown}");
        // As messages of this project are: lower case, no full stop.
        assert!(!status.message().ends_with('.'), "{status}");
        assert!(!status.message().starts_with(char::is_uppercase), "{status}");
        // What is inside stays inside.
        assert!(!format!("{status:?}").contains("db.internal"), "{status:?}");
    }
}

#[test]
fn every_reason_has_a_row() {
    let used: HashSet<Reason> = rows().into_iter().map(|(_, _, reason, _)| reason).collect();
    let unused: Vec<_> = Reason::ALL.iter().filter(|reason| !used.contains(reason)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_documents_name_every_reason_and_its_codes() {
    let document = include_str!("../../../docs/errors.md");
    for (_, code, reason, _) in rows() {
        let line = document.lines().find(|line| line.starts_with(&format!("| `{}`", reason.as_str())));
        let line = line.unwrap_or_else(|| panic!("docs/errors.md lacks {}", reason.as_str()));
        let name = serde_json::to_string(&format!("{code:?}")).expect("JSON");
        let snake: String = name
            .trim_matches('"')
            .chars()
            .enumerate()
            .flat_map(|(at, c)| {
                (c.is_uppercase() && at > 0).then_some('_').into_iter().chain(c.to_uppercase())
            })
            .collect();
        assert!(line.contains(&snake), "docs/errors.md: {} should list {snake}", reason.as_str());
    }
}

/// A status travels in header fields, of which clients take 16 KiB.
#[test]
fn no_status_is_too_large_for_a_client() {
    let long = "ü\n".repeat(100_000);
    let error = Error::field("text", Reason::InvalidField, long);
    let status = error.into_status();
    assert!(status.message().ends_with("(shortened)"));
    assert!(status.message().len() <= 2_048 && status.details().len() < 6_000, "{}", status.details().len());
    let headers = status.into_http::<()>();
    let bytes: usize =
        headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(bytes < 16 << 10, "{bytes}");
}
