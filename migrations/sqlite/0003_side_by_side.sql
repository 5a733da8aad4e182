-- What PostgreSQL needs for programs that work side by side on one database. One server at a time
-- works on this file, but the next one may be of another version.

-- Who does a duty of the upkeep, such as sweeping expired tuples, and until when.
CREATE TABLE lease (
    duty   TEXT    NOT NULL PRIMARY KEY,
    holder BLOB    NOT NULL CHECK (length(holder) = 16),   -- a random id that a server takes at its start
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Programs that know this version of the tables or a later one can work on them, although they may
-- be of a later version still: a migration that only adds leaves this as it is, and one that takes
-- something away raises it.
ALTER TABLE database ADD COLUMN usable_from INTEGER NOT NULL DEFAULT 3;
