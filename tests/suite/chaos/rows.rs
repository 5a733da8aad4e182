//! The log as it lies in a database, read past the server.

use crate::history::fact::Fact;
use crate::history::journal::numbered;
use crate::history::lineage::{Entry, digest, schema_digest};
use crate::history::model::Viewing;
use crate::history::point::Point;

/// The rows of the default store's revisions after one, in order.
pub const REVISIONS: &str = "
SELECT revision.revision, revision.write_id, revision.committed_at, revision.note, revision.schema, schema.text
FROM {tables}revision AS revision
LEFT JOIN {tables}schema AS schema ON schema.store = revision.store AND schema.id = revision.schema
WHERE revision.revision > $1
  AND revision.store = (SELECT id FROM {tables}store WHERE name = 'default' AND deleted_at IS NULL)
ORDER BY revision.revision";

/// The rows of their changes, in order.
pub const CHANGES: &str = "
SELECT revision, object_type, object_id, relation, subject_type, subject_id, subject_relation,
       before IS NULL, after IS NULL
FROM {tables}change
WHERE revision > $1
  AND store = (SELECT id FROM {tables}store WHERE name = 'default' AND deleted_at IS NULL)
ORDER BY revision, ordinal";

/// The stored tuples of the default store.
pub const TUPLES: &str = "
SELECT object_type, object_id, relation, subject_type, subject_id, subject_relation
FROM {tables}tuple
WHERE store = (SELECT id FROM {tables}store WHERE name = 'default' AND deleted_at IS NULL)";

/// The columns of a tuple.
pub type Tuple = (String, String, String, String, String, String);

/// A row of [`REVISIONS`].
pub struct Revision {
    pub number: u64,
    pub write_id: [u8; 16],
    pub committed_at: i64,
    pub note: String,
    pub schema: Option<String>,
    pub text: Option<String>,
}

/// A row of [`CHANGES`].
pub struct Change {
    pub revision: u64,
    pub tuple: Tuple,
    pub before: bool,
    pub after: bool,
}

/// What a database holds.
#[derive(Debug, Default)]
pub struct Held {
    pub entries: Vec<Entry>,
    pub tuples: Vec<Fact>,
}

/// Puts rows together.
pub fn entries(revisions: Vec<Revision>, changes: Vec<Change>) -> Vec<Entry> {
    let mut changes = changes.into_iter().peekable();
    let mut entries = Vec::with_capacity(revisions.len());
    for row in revisions {
        let mut made = Vec::new();
        while let Some(change) = changes.next_if(|change| change.revision == row.number) {
            assert_ne!(change.before, change.after, "revision {} changes nothing about a tuple", row.number);
            made.push((fact(&change.tuple), change.after));
        }
        let schema = row.schema.as_deref().unwrap_or_default();
        entries.push(Entry {
            point: Point::of_row(row.number, row.write_id),
            write: numbered(&row.note),
            committed_at: row.committed_at,
            schema: row.text.map(|text| {
                let viewing = Viewing::of_schema(&text).expect("a schema of this run");
                (viewing, schema_digest(schema))
            }),
            digest: digest(&row.note, row.committed_at, schema, &made),
            changes: made.into(),
        });
    }
    assert!(changes.next().is_none(), "a change belongs to no revision");
    entries
}

pub fn fact((object_type, object_id, relation, subject_type, subject_id, subject_relation): &Tuple) -> Fact {
    let mut subject = format!("{subject_type}:{subject_id}");
    if !subject_relation.is_empty() {
        subject = format!("{subject}#{subject_relation}");
    }
    Fact::of(&format!("{object_type}:{object_id}"), relation, &subject).expect("a tuple of this run")
}
