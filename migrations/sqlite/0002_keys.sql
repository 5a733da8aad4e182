-- API keys, by digest only. The first form of this table was never used: no key could be made.
-- Several keys may bear one name: a new one is made and handed out before the old one is revoked,
-- and whoever writes stays the same principal. Rows are never removed: they say who could do what, when.
DROP TABLE key;
CREATE TABLE key (
    id         TEXT    NOT NULL PRIMARY KEY,    -- the public part of the key's text
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),  -- BLAKE3 of the whole text
    name       TEXT    NOT NULL,
    grants     TEXT    NOT NULL,                -- STORE:RIGHT,RIGHT between spaces
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    revoked_by TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX key_name ON key (name, id);
CREATE INDEX key_live ON key (id) WHERE revoked_at IS NULL;

-- Random, and new with every change of the keys: a node whose keys are of this stamp has them all.
ALTER TABLE database ADD COLUMN keys_stamp BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
