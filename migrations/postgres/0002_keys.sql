-- API keys, by digest only. The first form of this table was never used: no key could be made.
-- Several keys may bear one name: a new one is made and handed out before the old one is revoked,
-- and whoever writes stays the same principal. Rows are never removed: they say who could do what, when.
DROP TABLE relata.key;
CREATE TABLE relata.key (
    id         text   COLLATE "C" PRIMARY KEY,  -- the public part of the key's text
    digest     bytea  NOT NULL,                 -- BLAKE3 of the whole text
    name       text   COLLATE "C" NOT NULL,
    grants     text   COLLATE "C" NOT NULL,     -- STORE:RIGHT,RIGHT between spaces
    created_at bigint NOT NULL,
    created_by text   COLLATE "C" NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    revoked_by text   COLLATE "C"
);
CREATE INDEX key_name ON relata.key (name, id);
CREATE INDEX key_live ON relata.key (id) WHERE revoked_at IS NULL;

-- Random, and new with every change of the keys: a node whose keys are of this stamp has them all.
-- A number would be given out twice when a failover loses the last change.
ALTER TABLE relata.database ADD COLUMN keys_stamp uuid NOT NULL DEFAULT gen_random_uuid();
