//! Heads, the changelog and schemas, each from one snapshot.

use rusqlite::{Connection, Row, params};

use super::rows::{self, bytes, failed, get, number};
use super::{DatastoreError, Head, LogEntry, SchemaId, StoredSchema, stores};
use crate::datastore::whole::whole;
use crate::datastore::{Change, ListedSchema, encoding};
use crate::revision::{Revision, StoreId, WriteId};

/// The heads of the live ones among `stores`.
pub(super) fn heads(
    snapshot: &Connection,
    stores: &[StoreId],
) -> Result<Vec<(StoreId, Head)>, DatastoreError> {
    let mut heads = Vec::with_capacity(stores.len());
    for store in stores {
        match head(snapshot, *store) {
            Ok(head) => heads.push((*store, head)),
            Err(DatastoreError::StoreNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(heads)
}

/// The head of one store.
pub(super) fn head(snapshot: &Connection, store: StoreId) -> Result<Head, DatastoreError> {
    let sql = "SELECT s.floor, s.schema, s.created_at, r.revision, r.write_id, r.committed_at \
               FROM store s LEFT JOIN revision r ON r.store = s.id \
               AND r.revision = (SELECT max(revision) FROM revision WHERE store = s.id) \
               WHERE s.id = ? AND s.deleted_at IS NULL";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query([bytes(store)]).map_err(failed)?;
    let row = found.next().map_err(failed)?.ok_or(DatastoreError::StoreNotFound)?;
    let (floor, schema) = (rows::revision(row, 0)?, rows::optional_schema_id(row, 1)?);
    let written: Option<i64> = get(row, 3)?;
    Ok(match written {
        None => Head {
            revision: Revision::ZERO,
            write_id: WriteId::NIL,
            floor,
            schema,
            committed_at: rows::timestamp(row, 2)?,
        },
        Some(_) => Head {
            revision: rows::revision(row, 3)?,
            write_id: rows::write_id(row, 4)?,
            floor,
            schema,
            committed_at: rows::timestamp(row, 5)?,
        },
    })
}

/// Whole revisions from `from` on.
pub(super) fn log(
    snapshot: &Connection,
    store: StoreId,
    from: Revision,
    limit: u32,
) -> Result<Vec<LogEntry>, DatastoreError> {
    let floor = stores::floor(snapshot, store)?;
    if from < floor {
        return Err(DatastoreError::Trimmed { floor });
    }
    let sql =
        format!("SELECT {ENTRY_COLUMNS} FROM revision r WHERE store = ? AND revision >= ? ORDER BY revision");
    let mut statement = snapshot.prepare_cached(&sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), number(from)]).map_err(failed)?;
    let mut entries: Vec<(LogEntry, i64)> = Vec::new();
    let mut budget = i64::from(limit);
    while budget > 0 || entries.is_empty() {
        let Some(row) = found.next().map_err(failed)? else { break };
        let (entry, count) = entry_and_count(snapshot, store, row)?;
        // A revision without changes costs as much as one with.
        budget -= count.max(1);
        entries.push((entry, count));
    }
    whole(store, from, entries)
}

/// The columns that [`entry_and_count`] reads, of the table `revision` under the name `r`.
pub(super) const ENTRY_COLUMNS: &str =
    "r.revision, r.write_id, r.committed_at, r.principal, r.note, r.schema, r.changes";

/// A revision with its changes, and how many it is recorded to have.
pub(super) fn entry_and_count(
    snapshot: &Connection,
    store: StoreId,
    row: &Row<'_>,
) -> Result<(LogEntry, i64), DatastoreError> {
    let mut entry = entry(row)?;
    entry.changes = changes(snapshot, store, entry.revision)?;
    Ok((entry, get(row, 6)?))
}

fn entry(row: &Row<'_>) -> Result<LogEntry, DatastoreError> {
    Ok(LogEntry {
        revision: rows::revision(row, 0)?,
        write_id: rows::write_id(row, 1)?,
        committed_at: rows::timestamp(row, 2)?,
        principal: rows::text(row, 3)?.into(),
        note: rows::text(row, 4)?.into(),
        schema: rows::optional_schema_id(row, 5)?,
        changes: Vec::new(),
    })
}

fn changes(snapshot: &Connection, store: StoreId, revision: Revision) -> Result<Vec<Change>, DatastoreError> {
    let sql = "SELECT object_type, object_id, relation, subject_type, subject_id, subject_relation, \
               before, after FROM change WHERE store = ? AND revision = ? ORDER BY ordinal";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), number(revision)]).map_err(failed)?;
    let mut changes = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        let key = rows::key(row, 0)?;
        let state = |index| {
            let text: Option<String> = get(row, index)?;
            text.map(|text| encoding::state_from_text(&text, &key)).transpose()
        };
        let (before, after) = (state(6)?, state(7)?);
        changes.push(Change { key, before, after });
    }
    Ok(changes)
}

/// Revisions of a live store and the writes that made them.
pub(super) fn write_ids(
    snapshot: &Connection,
    store: StoreId,
    from: Revision,
    limit: u32,
) -> Result<Vec<(Revision, WriteId)>, DatastoreError> {
    let sql = "SELECT revision, write_id FROM revision WHERE store = ?1 AND revision >= ?2 \
               AND EXISTS (SELECT 1 FROM store WHERE id = ?1 AND deleted_at IS NULL) \
               ORDER BY revision LIMIT ?3";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), number(from), limit]).map_err(failed)?;
    let mut write_ids = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        write_ids.push((rows::revision(row, 0)?, rows::write_id(row, 1)?));
    }
    Ok(write_ids)
}

/// One schema version.
pub(super) fn schema(
    snapshot: &Connection,
    store: StoreId,
    id: SchemaId,
) -> Result<Option<StoredSchema>, DatastoreError> {
    let sql = "SELECT id, revision, written_at, text, json FROM schema WHERE store = ? AND id = ?";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), id.0.to_string()]).map_err(failed)?;
    let Some(row) = found.next().map_err(failed)? else { return Ok(None) };
    Ok(Some(StoredSchema {
        id: rows::schema_id(row, 0)?,
        revision: rows::revision(row, 1)?,
        written_at: rows::timestamp(row, 2)?,
        text: rows::text(row, 3)?.into(),
        json: rows::text(row, 4)?.into(),
    }))
}

/// Schema versions, the newest first.
pub(super) fn schemas(
    snapshot: &Connection,
    store: StoreId,
    before: Option<SchemaId>,
    limit: u32,
) -> Result<Vec<ListedSchema>, DatastoreError> {
    let before = before.map(|id| id.0.to_string());
    let sql = "SELECT id, revision, written_at FROM schema \
               WHERE store = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3";
    let mut statement = snapshot.prepare_cached(sql).map_err(failed)?;
    let mut found = statement.query(params![bytes(store), before, limit]).map_err(failed)?;
    let mut schemas = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        schemas.push(ListedSchema {
            id: rows::schema_id(row, 0)?,
            revision: rows::revision(row, 1)?,
            written_at: rows::timestamp(row, 2)?,
        });
    }
    Ok(schemas)
}
