-- The record: the only place where a fact lives. Moments are microseconds since 1970-01-01T00:00:00Z
-- by this database's clock. Text compares as bytes. No row here points at a transaction id or anything
-- else that ties it to this server: dump and restore keep everything.

-- One row: what ties this database to the zookies and cursors handed out for it.
CREATE TABLE relata.database (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id          uuid    NOT NULL,
    cursor_keys bytea[] NOT NULL  -- the newest first
);

CREATE TABLE relata.store (
    id         uuid   PRIMARY KEY,
    name       text   COLLATE "C" NOT NULL,
    schema     text   COLLATE "C",         -- the schema in force
    created_at bigint NOT NULL,
    deleted_at bigint,                     -- a tombstone: the rows of the store are removed later
    floor      bigint NOT NULL DEFAULT 0   -- the oldest revision whose changes are retained
);
CREATE UNIQUE INDEX store_live_name ON relata.store (name) WHERE deleted_at IS NULL;

CREATE TABLE relata.schema (
    store      uuid   NOT NULL,
    id         text   COLLATE "C" NOT NULL,  -- a ULID: the newest is the greatest
    revision   bigint NOT NULL,
    written_at bigint NOT NULL,
    text       text   COLLATE "C" NOT NULL,
    json       text   COLLATE "C" NOT NULL,
    PRIMARY KEY (store, id)
);

-- Live tuples only. The primary key reads an object's relations in key order, the subject index a
-- subject's in key order.
--
-- The condition of tuple_written always holds. It keeps the index out of every statement that does
-- not repeat it: a plan to find one tuple, made while the table was small and kept, has been seen to
-- take this index and read the whole store for each tuple once it was large.
CREATE TABLE relata.tuple (
    store             uuid   NOT NULL,
    object_type       text   COLLATE "C" NOT NULL,
    object_id         text   COLLATE "C" NOT NULL,
    relation          text   COLLATE "C" NOT NULL,
    subject_type      text   COLLATE "C" NOT NULL,
    subject_id        text   COLLATE "C" NOT NULL,   -- '*' for the wildcard
    subject_relation  text   COLLATE "C" NOT NULL,   -- '' for none
    condition_name    text   COLLATE "C",
    condition_context text   COLLATE "C",
    expires_at        bigint,
    revision          bigint NOT NULL,               -- when it was last written, and where in that
    ordinal           integer NOT NULL,              -- revision
    PRIMARY KEY (store, object_type, object_id, relation, subject_type, subject_id, subject_relation)
);
CREATE INDEX tuple_subject ON relata.tuple
    (store, subject_type, subject_id, subject_relation, object_type, object_id, relation);
CREATE INDEX tuple_written ON relata.tuple (store, revision, ordinal) WHERE revision > 0;
CREATE INDEX tuple_expiry ON relata.tuple (store, expires_at) WHERE expires_at IS NOT NULL;

-- A revision's number is one above the newest row's: trimming always keeps that row.
CREATE TABLE relata.revision (
    store        uuid    NOT NULL,
    revision     bigint  NOT NULL,
    write_id     uuid    NOT NULL,
    committed_at bigint  NOT NULL,   -- strictly increasing
    principal    text    COLLATE "C" NOT NULL,
    note         text    COLLATE "C" NOT NULL,
    changes      integer NOT NULL,   -- how many rows of `change` belong to it
    schema       text    COLLATE "C",
    PRIMARY KEY (store, revision)
);

-- Absolute states, so that a change can be replayed and undone.
CREATE TABLE relata.change (
    store            uuid    NOT NULL,
    revision         bigint  NOT NULL,
    ordinal          integer NOT NULL,
    object_type      text    COLLATE "C" NOT NULL,
    object_id        text    COLLATE "C" NOT NULL,
    relation         text    COLLATE "C" NOT NULL,
    subject_type     text    COLLATE "C" NOT NULL,
    subject_id       text    COLLATE "C" NOT NULL,
    subject_relation text    COLLATE "C" NOT NULL,
    before           text    COLLATE "C",   -- what the tuple carried; null: it was absent
    after            text    COLLATE "C",
    PRIMARY KEY (store, revision, ordinal)
);

CREATE TABLE relata.idempotency (
    store     uuid   NOT NULL,
    principal text   COLLATE "C" NOT NULL,
    key       text   COLLATE "C" NOT NULL,
    request   bytea  NOT NULL,   -- digest of the request
    revision  bigint NOT NULL,   -- its result
    write_id  uuid   NOT NULL,
    schema    text   COLLATE "C",
    at        bigint NOT NULL,
    PRIMARY KEY (store, principal, key)
);
CREATE INDEX idempotency_age ON relata.idempotency (store, at);

-- API keys, by digest only.
CREATE TABLE relata.key (
    digest     bytea  PRIMARY KEY,
    name       text   COLLATE "C" NOT NULL UNIQUE,
    rights     text   COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint
);
