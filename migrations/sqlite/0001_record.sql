-- The record: the only place where a fact lives. Moments are microseconds since 1970-01-01T00:00:00Z
-- by the clock of this machine. Text compares as bytes (BINARY, the default). Ids of stores,
-- databases and writes are the 16 bytes of a UUID.

-- One row: what ties this database to the zookies and cursors handed out for it.
CREATE TABLE database (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    id          BLOB NOT NULL CHECK (length(id) = 16),
    cursor_keys BLOB NOT NULL CHECK (length(cursor_keys) % 32 = 0)  -- 32 bytes each, the newest first
) STRICT;

CREATE TABLE store (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    schema     TEXT,                          -- the schema in force
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,                       -- a tombstone: the rows of the store are removed later
    floor      INTEGER NOT NULL DEFAULT 0     -- the oldest revision whose changes are retained
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX store_live_name ON store (name) WHERE deleted_at IS NULL;

CREATE TABLE schema (
    store      BLOB    NOT NULL REFERENCES store (id),
    id         TEXT    NOT NULL,              -- a ULID: the newest is the greatest
    revision   INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    text       TEXT    NOT NULL,
    json       TEXT    NOT NULL,
    PRIMARY KEY (store, id)
) STRICT, WITHOUT ROWID;

-- Live tuples only. The primary key yields an object's tuples in key order. In the subject index the
-- relation of the subject comes last, so that what follows type and id is in key order again,
-- whether or not the relation is asked for.
CREATE TABLE tuple (
    store             BLOB    NOT NULL REFERENCES store (id),
    object_type       TEXT    NOT NULL,
    object_id         TEXT    NOT NULL,
    relation          TEXT    NOT NULL,
    subject_type      TEXT    NOT NULL,
    subject_id        TEXT    NOT NULL,       -- '*' for the wildcard
    subject_relation  TEXT    NOT NULL,       -- '' for none
    condition_name    TEXT,
    condition_context TEXT,
    expires_at        INTEGER,
    revision          INTEGER NOT NULL,       -- when it was last written, and where in that
    ordinal           INTEGER NOT NULL,       -- revision
    PRIMARY KEY (store, object_type, object_id, relation, subject_type, subject_id, subject_relation)
) STRICT, WITHOUT ROWID;
CREATE INDEX tuple_subject ON tuple
    (store, subject_type, subject_id, object_type, object_id, relation, subject_relation);
CREATE INDEX tuple_written ON tuple (store, revision, ordinal);
CREATE INDEX tuple_expiry ON tuple (store, expires_at) WHERE expires_at IS NOT NULL;

-- A revision's number is one above the newest row's: trimming always keeps that row.
CREATE TABLE revision (
    store        BLOB    NOT NULL REFERENCES store (id),
    revision     INTEGER NOT NULL,
    write_id     BLOB    NOT NULL CHECK (length(write_id) = 16),
    committed_at INTEGER NOT NULL,            -- strictly increasing
    principal    TEXT    NOT NULL,
    note         TEXT    NOT NULL,
    changes      INTEGER NOT NULL,            -- how many rows of `change` belong to it
    schema       TEXT,                        -- the schema it put in force
    PRIMARY KEY (store, revision)
) STRICT, WITHOUT ROWID;

-- Absolute states, so that a change can be replayed and undone.
CREATE TABLE change (
    store            BLOB    NOT NULL REFERENCES store (id),
    revision         INTEGER NOT NULL,
    ordinal          INTEGER NOT NULL,
    object_type      TEXT    NOT NULL,
    object_id        TEXT    NOT NULL,
    relation         TEXT    NOT NULL,
    subject_type     TEXT    NOT NULL,
    subject_id       TEXT    NOT NULL,
    subject_relation TEXT    NOT NULL,
    before           TEXT,                    -- what the tuple carried; NULL: it was absent
    after            TEXT,
    PRIMARY KEY (store, revision, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    store     BLOB    NOT NULL REFERENCES store (id),
    principal TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    request   BLOB    NOT NULL CHECK (length(request) = 32),  -- digest of the request
    revision  INTEGER NOT NULL,               -- its result
    write_id  BLOB    NOT NULL CHECK (length(write_id) = 16),
    schema    TEXT,
    at        INTEGER NOT NULL,
    PRIMARY KEY (store, principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (store, at);

-- API keys, by digest only.
CREATE TABLE key (
    digest     BLOB    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    rights     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
