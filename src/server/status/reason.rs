//! What programs branch on.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a program branches on. Once published, a reason keeps its name and meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As `google.rpc.ErrorInfo` carries it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// A field does not hold what it should.
    InvalidField = "INVALID_FIELD",
    /// The bytes are not the message the method takes.
    MalformedMessage = "MALFORMED_MESSAGE",
    /// A bound on requests or on work was exceeded.
    LimitExceeded = "LIMIT_EXCEEDED",
    /// The schema has no such type.
    UnknownType = "UNKNOWN_TYPE",
    /// The type has no such relation.
    UnknownRelation = "UNKNOWN_RELATION",
    /// The schema has no such condition.
    UnknownCondition = "UNKNOWN_CONDITION",
    /// The schema does not allow such a tuple.
    TupleNotAllowed = "TUPLE_NOT_ALLOWED",
    /// A write names a tuple twice.
    DuplicateTuple = "DUPLICATE_TUPLE",
    /// CREATE met a live tuple.
    TupleExists = "TUPLE_EXISTS",
    /// DELETE with `must_exist` met none.
    TupleNotFound = "TUPLE_NOT_FOUND",
    /// A precondition does not hold.
    PreconditionFailed = "PRECONDITION_FAILED",
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED",
    /// Another schema is in force than the one named.
    SchemaChanged = "SCHEMA_CHANGED",
    /// The text is not a schema.
    SchemaInvalid = "SCHEMA_INVALID",
    /// The schema would not allow tuples that are stored.
    SchemaOrphansTuples = "SCHEMA_ORPHANS_TUPLES",
    /// Tuples were written faster than they could be held against the new schema.
    TuplesChanged = "TUPLES_CHANGED",
    /// No schema has been written yet.
    NoSchema = "NO_SCHEMA",
    /// There is no such schema version.
    SchemaNotFound = "SCHEMA_NOT_FOUND",
    /// There is no such store.
    StoreNotFound = "STORE_NOT_FOUND",
    /// A store of that name exists.
    StoreExists = "STORE_EXISTS",
    /// Not a zookie.
    ZookieMalformed = "ZOOKIE_MALFORMED",
    /// A zookie of another store.
    ZookieOtherStore = "ZOOKIE_OTHER_STORE",
    /// A zookie of another database.
    ZookieOtherDatabase = "ZOOKIE_OTHER_DATABASE",
    /// A zookie of a write that a failover or a restore lost.
    ZookieHistoryLost = "ZOOKIE_HISTORY_LOST",
    /// A zookie ahead of the database, still after waiting.
    ZookieAhead = "ZOOKIE_AHEAD",
    /// Not a cursor of this request.
    CursorInvalid = "CURSOR_INVALID",
    /// The revision is further back than the server reaches.
    RevisionOutOfRange = "REVISION_OUT_OF_RANGE",
    /// The changes asked for are no longer kept.
    LogTrimmed = "LOG_TRIMMED",
    /// The node has not been proved current for too long.
    ReplicaStale = "REPLICA_STALE",
    /// The node is loading the store.
    StoreLoading = "STORE_LOADING",
    /// The store does not fit into a node.
    StoreTooLarge = "STORE_TOO_LARGE",
    /// The database lost revisions that this node or stream has seen.
    HistoryDiverged = "HISTORY_DIVERGED",
    /// A condition cannot be evaluated.
    ConditionFailed = "CONDITION_FAILED",
    /// Too much is waiting already.
    QueueFull = "QUEUE_FULL",
    /// The node has more to do than it can, and the call would not be answered in time.
    Overloaded = "OVERLOADED",
    /// The reader of a stream took nothing for too long.
    ReaderStalled = "READER_STALLED",
    /// The write may or may not have happened.
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    /// The record cannot be reached.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE",
    /// The deadline passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// A stream held what it was made from for as long as it may.
    StreamTooOld = "STREAM_TOO_OLD",
    /// The server stops; another one, or this one later, will answer.
    ShuttingDown = "SHUTTING_DOWN",
    /// No credential, or not one that holds here.
    Unauthenticated = "UNAUTHENTICATED",
    /// The node cannot know which API keys have been revoked.
    KeysStale = "KEYS_STALE",
    /// There is no such API key.
    KeyNotFound = "KEY_NOT_FOUND",
    /// Several live API keys have the name.
    KeyAmbiguous = "KEY_AMBIGUOUS",
    /// The keys that the token would be verified with cannot be fetched.
    IssuerUnavailable = "ISSUER_UNAVAILABLE",
    /// The caller lacks the right.
    PermissionDenied = "PERMISSION_DENIED",
    /// There is no such method.
    UnknownMethod = "UNKNOWN_METHOD",
    /// A defect.
    Internal = "INTERNAL",
}
