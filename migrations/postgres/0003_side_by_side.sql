-- What programs need that work side by side on one database: who does what nobody waits for, and
-- which of them know these tables well enough.

-- Who does a duty of the upkeep, such as sweeping expired tuples, and until when: one node of those
-- on this database. By this database's clock, so that nodes need not agree on the time. A lease
-- saves double work and guards nothing: no duty does harm if two nodes do it at once.
CREATE TABLE relata.lease (
    duty   text   COLLATE "C" PRIMARY KEY,
    holder uuid   NOT NULL,          -- a random id that a node takes at its start
    until  bigint NOT NULL
);

-- Programs that know this version of the tables or a later one can work on them, although they may
-- be of a later version still: a migration that only adds leaves this as it is, and one that takes
-- something away raises it. So old and new programs run together while nodes are replaced.
ALTER TABLE relata.database ADD COLUMN usable_from bigint NOT NULL DEFAULT 3;
